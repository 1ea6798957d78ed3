"""Every connection and exchange that was let in, so that a new snapshot reaches what is open already (laws 10, 31).

Order matters: register first, decide then. A snapshot that arrives in between either is the one that was decided by,
or finds the connection here. Each snapshot decides all of them again, a slice at a time: the loop is not held, and
new calls follow the new snapshot at once since it was swapped in before.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Final

import trio
from attrs import define, field

from certs.verify import Peer
from mesh.policy import Facts, Reason, decide
from sidecar.view import Mesh, View

SLICE: Final = 100  # connections looked at before other tasks get a turn: about a millisecond of decisions
WATCH_SECONDS: Final = 2.0  # between two looks at who has outlived a certificate


@define(eq=False)
class LiveConnection:
    """One connection or exchange. `peer` is None for a plaintext caller; `facts` is None while there is no decision
    to repeat: before the first one, on an HTTP connection between requests, and outbound. `plaintext_to` is the IP
    address outside the mesh to which it goes as it is, None where it does not.

    `not_after` (aware UTC) is the earlier end of the two certificates that it stands on, None where there are none.
    `ended` tells, once the `with` block of register() was left, whether and why the connection was ended from here.
    """

    peer: Peer | None
    facts: Facts | None = None
    not_after: datetime | None = None
    plaintext_to: str | None = None
    ended: Reason | None = None
    scope: trio.CancelScope = field(factory=trio.CancelScope, init=False, repr=False)

    def end(self, reason: Reason) -> None:
        """Cancel whatever the connection is doing; the first reason stands."""
        if self.ended is None:
            self.ended = reason
            self.scope.cancel()


class LiveConnections:
    """The connections and exchanges that are open now."""

    def __init__(self) -> None:
        self._open: set[LiveConnection] = set()

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def register(self, connection: LiveConnection) -> Iterator[LiveConnection]:
        """Hold the connection here for the `with` block, which end() cancels: look at `ended` after the block."""
        self._open.add(connection)
        try:
            with connection.scope:
                yield connection
        finally:
            self._open.discard(connection)

    async def redecide(self, view: View) -> int:
        """Decide every live connection again by `view`, and end those it no longer allows. Returns how many."""
        return await self._end_where(lambda live: _objection(live, view))

    async def watch(self, mesh: Mesh, every: float = WATCH_SECONDS) -> None:
        """Run for ever: end what has outlived a certificate while the control link is not fresh (law 10)."""
        while True:
            await trio.sleep(every)
            if not mesh.link_fresh():
                await self._end_where(partial(_outlived, now=mesh.now()))

    async def end_all(self, reason: Reason) -> int:
        """End everything that is open, such as at the end of the drain. Returns how many."""
        return await self._end_where(lambda _: reason)

    async def _end_where(self, reason_to: Callable[[LiveConnection], Reason | None]) -> int:
        ended = 0
        for number, live in enumerate(list(self._open), start=1):
            if reason := reason_to(live):
                live.end(reason)
                ended += 1
            if not number % SLICE:
                await trio.lowlevel.checkpoint()
        return ended


def _objection(live: LiveConnection, view: View) -> Reason | None:
    if live.peer is not None and (reason := view.objection(live.peer)):
        return reason
    if live.facts is not None and not decide(view.rules, live.facts).allowed:
        return Reason.POLICY_CHANGED
    if live.plaintext_to is not None and view.is_in_mesh(live.plaintext_to):
        return Reason.POLICY_CHANGED
    return None


def _outlived(live: LiveConnection, now: datetime) -> Reason | None:
    return Reason.CERTIFICATE_RETIRED if live.not_after is not None and live.not_after <= now else None
