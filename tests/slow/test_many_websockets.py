"""A thousand slow WebSockets: all of them stay, each of them costs little, and what ends one ends all."""

from contextlib import suppress
from operator import sub

import trio
from attrs import define, field
from wsproto.events import TextMessage

from examples.demo.local_mesh import LocalMesh, wait_for
from tests.support.applications import Application, serving
from tests.support.http_peers import Rejected, WebSocket
from tests.support.kernel import descriptors, more_descriptors
from tests.support.pairs import HTTP_PORT, Pair, start_pair
from tests.support.payloads import KIB
from tests.support.policies import allow_policy, apply

MANY = 1000
OPENING = 20  # handshakes at once
MOST_EACH = 120 * KIB  # resident, for one WebSocket, in each of the two sidecars
FEW = 10  # descriptors that a sidecar may have opened meanwhile for itself
PATIENCE = 280.0


async def chatting(_: Application, stream: trio.SocketStream) -> None:
    """Says everything back in capitals."""
    peer = await WebSocket.answering(stream)
    while isinstance(event := await peer.receive(), TextMessage):
        await peer.send(TextMessage(data=event.data.upper()))


@define
class Crowd:
    """The clients' ends of MANY WebSockets."""

    pair: Pair
    peers: list[WebSocket] = field(factory=list)

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
        for peer in self.peers:
            async with peer.stream:
                try:
                    assert await peer.receive() is None, "a word that nobody said"
                except trio.BrokenResourceError:
                    cut_off += 1
        self.peers.clear()
        assert cut_off == MANY


def open_files(pair: Pair) -> list[int]:
    return [descriptors(sidecar.popen.pid) for sidecar in pair.both]


async def test_a_thousand_slow_websockets_stay_and_whatever_ends_one_ends_all(mesh: LocalMesh) -> None:
    more_descriptors(4 * MANY)
    async with serving(chatting) as http:
        pair = await start_pair(mesh, "--drain-timeout", "1s", http=http)
        crowd, before, files = Crowd(pair), pair.memory(), open_files(pair)
        with trio.fail_after(PATIENCE):
            await crowd.gather()
            for word in ("hello", "again"):
                await crowd.speaks(word)
            now = pair.memory()
            for first, later in zip(before, now, strict=True):
                assert later.resident - first.resident < MANY * MOST_EACH
            await apply(mesh, allow_policy("somebody", "payments", HTTP_PORT))
            await crowd.speaks("still here")

            await mesh.doorward("policy", "delete", "shop/checkout-calls-payments")
            await crowd.is_scattered()
            await wait_for(lambda: max(map(sub, open_files(pair), files)) < FEW, what="the sidecars to let go")

            await apply(mesh, allow_policy("checkout", "payments", HTTP_PORT))
            await crowd.gather()
            await crowd.speaks("back")
            for first, later in zip(now, pair.memory(), strict=True):
                assert later.peak < 1.1 * first.peak, "what the first crowd took is used again"
            banned = await mesh.doorward("ban", "add", "shop/checkout", "--reason", "test")
            assert banned.exit == 0, banned
            await crowd.is_scattered()

            await mesh.doorward("ban", "remove", "shop/checkout")
            await wait_until_let_in(pair)
            await crowd.gather()
            pair.server.popen.terminate()
            await crowd.is_scattered()
            assert await trio.to_thread.run_sync(pair.server.popen.wait) == 0


async def wait_until_let_in(pair: Pair) -> None:
    """Return once one more is let in."""
    while True:
        with suppress(Rejected):
            await trio.aclose_forcefully((await WebSocket.calling(pair.http)).stream)
            return
        await trio.sleep(0.1)
