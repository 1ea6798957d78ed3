"""A thousand slow WebSockets: all of them stay, each of them costs little, and what ends one ends all."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from operator import sub

import trio
from attrs import define, field
from wsproto.events import TextMessage

from examples.demo.local_mesh import LocalMesh, wait_for
from tests.support.applications import Application, serving
from tests.support.http_peers import WebSocket
from tests.support.kernel import more_descriptors
from tests.support.pairs import HTTP_PORT, Pair, start_pair
from tests.support.payloads import KIB
from tests.support.policies import allow_policy, apply
from tests.support.processes import Memory, descriptors

MANY = 1000
OPENING = 20  # handshakes at once
MOST_EACH = 120 * KIB  # resident, for one WebSocket, in each of the two sidecars
FEW = 10  # descriptors that a sidecar may have opened meanwhile for itself
PATIENCE = 280.0
SCATTERING = 60.0  # until a change has reached all of them


async def chatting(_: Application, stream: trio.SocketStream) -> None:
    """Says everything back in capitals."""
    peer = await WebSocket.answering(stream)
    while isinstance(event := await peer.receive(), TextMessage):
        await peer.send(TextMessage(data=event.data.upper()))


@define
class Crowd:
    """The clients' ends of MANY WebSockets. `memory` and `files` are what both sidecars had before them."""

    pair: Pair
    peers: list[WebSocket] = field(factory=list)
    memory: tuple[Memory, Memory] | None = None
    files: list[int] = field(factory=list)

    async def gather(self) -> None:
        """Open them."""
        turns = trio.CapacityLimiter(OPENING)

        async def join() -> None:
            async with turns:
                self.peers.append(await WebSocket.calling(self.pair.http))

        async with trio.open_nursery() as nursery:
            for _ in range(MANY):
                nursery.start_soon(join)

    async def speaks(self, word: str) -> None:
        """Each says something of its own, one after the other; then each hears its answer, and no other."""
        for number, peer in enumerate(self.peers):
            await peer.send(TextMessage(data=f"{word} {number}"))
        for number, peer in enumerate(self.peers):
            event = await peer.receive()
            assert isinstance(event, TextMessage), event
            assert event.data == f"{word} {number}".upper()

    async def is_scattered(self) -> None:
        """Each of them is cut off."""
        cut_off = 0
        with trio.fail_after(SCATTERING):
            for peer in self.peers:
                async with peer.stream:
                    try:
                        assert await peer.receive() is None, "a word that nobody said"
                    except trio.BrokenResourceError:
                        cut_off += 1
        self.peers.clear()
        assert cut_off == MANY


def open_files(pair: Pair) -> list[int]:
    return [descriptors(sidecar) for sidecar in pair.both]


@asynccontextmanager
async def gathered(mesh: LocalMesh) -> AsyncIterator[Crowd]:
    """A crowd that is open, within the patience for the whole test."""
    more_descriptors(4 * MANY)
    with trio.fail_after(PATIENCE):
        async with serving(chatting) as http:
            crowd = Crowd(await start_pair(mesh, "--drain-timeout", "1s", http=http))
            crowd.memory, crowd.files = crowd.pair.memory(), open_files(crowd.pair)
            await crowd.gather()
            yield crowd


async def test_a_thousand_slow_websockets_stay_until_their_policy_goes(mesh: LocalMesh) -> None:
    async with gathered(mesh) as crowd:
        for word in ("hello", "again"):
            await crowd.speaks(word)
        for now, then in zip(crowd.pair.memory(), crowd.memory, strict=True):
            assert now.resident - then.resident < MANY * MOST_EACH
        await apply(mesh, allow_policy("somebody", "payments", HTTP_PORT))
        await crowd.speaks("still here")
        await mesh.doorward("policy", "delete", "shop/checkout-calls-payments")
        await crowd.is_scattered()
        await wait_for(lambda: max(map(sub, open_files(crowd.pair), crowd.files)) < FEW, what="the sidecars to let go")


async def test_a_ban_reaches_a_thousand_websockets(mesh: LocalMesh) -> None:
    async with gathered(mesh) as crowd:
        await mesh.doorward("ban", "add", "shop/checkout", "--reason", "test")
        await crowd.is_scattered()


async def test_a_drain_reaches_a_thousand_websockets(mesh: LocalMesh) -> None:
    async with gathered(mesh) as crowd:
        crowd.pair.server.popen.terminate()
        await crowd.is_scattered()
        assert await trio.to_thread.run_sync(crowd.pair.server.popen.wait) == 0
