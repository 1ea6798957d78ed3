"""What inbound and outbound share, in a moment that real sockets do not let a test choose."""

from typing import Any

import pytest
import trio
import trio.testing

from mesh.policy.reasons import Reason
from sidecar.accepting import find_protocol
from sidecar.refused import Refused
from sidecar.settings import Limits
from tests.support.doors import Node
from tests.support.pki import Pki
from transport.places import IN_PEACE_SECONDS


class Caller:
    """A stream whose first bytes come when `speaks` is set."""

    def __init__(self) -> None:
        self.speaks = trio.Event()

    async def receive_some(self, _: int | None = None) -> bytes:
        await self.speaks.wait()
        return b"GET / HTTP/1.1\r\n"


async def test_who_gives_way_leaves_although_it_speaks_in_that_very_moment(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The newcomer counts on its place, and asks nobody else for one."""
    proxy = Node.make(Pki(), "shop/payments", limits=Limits(max_connections=1)).proxy
    caller: Any = Caller()

    async def serve() -> None:
        await proxy.places.take("caller")
        with pytest.raises(Refused) as refused:
            await find_protocol("auto", caller, proxy, patience=60)
        assert refused.value.reason is Reason.OVER_LIMIT
        proxy.places.give_back("caller")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await trio.sleep(IN_PEACE_SECONDS)
        caller.speaks.set()
        await proxy.places.take("newcomer")
