"""Gigabytes arrive whole and in order, and no sidecar holds more of them than its buffers."""

import pytest
import trio
from attrs import define, field

from examples.demo.local_mesh import LocalMesh
from tests.support.applications import Application, connect, serving
from tests.support.http_peers import HttpPeer, framed
from tests.support.pairs import Pair, start_pair
from tests.support.payloads import GIB, MIB, Sum, blocks, expected, receive, send

MOST_RESIDENT = 80 * MIB
PATIENCE = 280.0  # for a gigabyte each way on a machine that has other things to do
CHUNKED, LENGTH = "/chunked", "/length"


@define
class Returner:
    """Applications that take a stream, then send one as large, and keep the sums of both."""

    received: list[Sum] = field(factory=list)
    sent: list[Sum] = field(factory=list)

    async def over_tcp(self, _: Application, stream: trio.SocketStream) -> None:
        """Raw TCP: everything up to the half-close."""
        self.received.append(await receive(stream))
        self.sent.append(await send(stream, self.received[-1].size, number=2))

    async def over_http(self, _: Application, stream: trio.SocketStream) -> None:
        """One exchange, answered in chunks where its path says so."""
        peer = HttpPeer.answering(stream)
        head = await peer.receive_head()
        received = await peer.receive_body()
        self.received.append(received)
        await peer.answer(200, framed(received.size, chunked=head.target.decode() == CHUNKED))
        self.sent.append(await peer.send_body(blocks(received.size, number=2)))


async def call_tcp(pair: Pair, size: int) -> tuple[Sum, Sum]:
    """`size` bytes up, a half-close, and as many down: the sums of both."""
    async with await connect(pair.tcp) as stream:
        sent = await send(stream, size, number=1)
        await stream.send_eof()
        return sent, await receive(stream)


async def call_http(pair: Pair, size: int, *, chunked: bool, answer: str) -> tuple[Sum, Sum]:
    """The same as one exchange."""
    peer = await HttpPeer.calling(pair.http)
    async with peer.stream:
        await peer.begin("POST", answer, framed(size, chunked=chunked))
        sent = await peer.send_body(blocks(size, number=1))
        assert (await peer.receive_head()).status_code == 200
        return sent, await peer.receive_body()


def assert_small(pair: Pair) -> None:
    for memory in pair.memory():
        assert memory.peak < MOST_RESIDENT


async def test_a_gibibyte_up_and_one_down_over_tcp_arrive_intact(mesh: LocalMesh) -> None:
    application = Returner()
    async with serving(application.over_tcp) as tcp:
        pair = await start_pair(mesh, tcp=tcp)
        with trio.fail_after(PATIENCE):
            sent, received = await call_tcp(pair, GIB)
        assert application.received == [sent]
        assert application.sent == [received]
        assert sent.size == received.size == GIB
        assert_small(pair)


@pytest.mark.parametrize(
    ("size", "chunked", "answer"),
    [(GIB, False, CHUNKED), (64 * MIB, True, LENGTH)],
    ids=["a GiB by length and back in chunks", "chunks and back by length"],
)
async def test_large_bodies_over_http_arrive_intact(mesh: LocalMesh, size: int, chunked: bool, answer: str) -> None:
    application = Returner()
    async with serving(application.over_http) as http:
        pair = await start_pair(mesh, http=http)
        with trio.fail_after(PATIENCE):
            sent, received = await call_http(pair, size, chunked=chunked, answer=answer)
        assert application.received == [sent]
        assert application.sent == [received]
        assert sent.size == received.size == size
        assert_small(pair)


async def test_many_large_transfers_at_once_arrive_intact(mesh: LocalMesh) -> None:
    each, size, sums = 8, 8 * MIB, []

    async def over_tcp() -> None:
        sums.append(await call_tcp(pair, size))

    async def over_http(chunked: bool, answer: str) -> None:
        sums.append(await call_http(pair, size, chunked=chunked, answer=answer))

    application = Returner()
    async with serving(application.over_tcp) as tcp, serving(application.over_http) as http:
        pair = await start_pair(mesh, tcp=tcp, http=http)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for number in range(each):
                    nursery.start_soon(over_tcp)
                    nursery.start_soon(over_http, number % 2 == 0, CHUNKED if number % 3 else LENGTH)
        up, down = expected(size, number=1), expected(size, number=2)
        assert sums == [(up, down)] * 2 * each
        assert application.received == [up] * 2 * each
        assert_small(pair)
