"""What PlainStream and TlsStream promise alike: trio's own conformance suite, and what a relay relies on."""

import os
import socket
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import pytest
import trio
import trio.testing

from tests.support.patience import PATIENCE
from tests.support.streams import break_off, plain_pair, tls_pair
from tests.transport.conftest import Contexts
from transport import PlainStream, TlsStream

Ends = tuple[PlainStream | TlsStream, PlainStream | TlsStream]
Maker = Callable[..., Awaitable[Ends]]

MIB = 1024 * 1024


@pytest.fixture(params=["plain", "tls"])
def make_pair(request: pytest.FixtureRequest, contexts: Contexts) -> Maker:
    async def make(*, small: bool = False) -> Ends:
        if request.param == "plain":
            return await plain_pair(small=small)
        return await tls_pair(contexts.client, contexts.server, small=small)

    return make


async def clogged_plain_pair() -> Ends:
    """A pair that cannot send one more byte: Unix sockets, whose buffers do not move on by themselves."""
    ends = trio.socket.socketpair()
    for end in ends:
        with suppress(BlockingIOError):
            while True:
                socket.socket.send(end._sock, bytes(4096))
    return PlainStream(ends[0]), PlainStream(ends[1])


async def test_trio_accepts_it_as_a_half_closeable_stream(make_pair: Maker, request: pytest.FixtureRequest) -> None:
    # TLS cannot be clogged to the byte without a record left half sent; the next two tests do what can be done.
    clogged = clogged_plain_pair if "plain" in request.node.name else None
    await trio.testing.check_half_closeable_stream(make_pair, clogged)


async def test_a_close_wakes_a_blocked_sender(make_pair: Maker) -> None:
    left, right = await make_pair(small=True)

    async def send() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await left.send_all(bytes(4 * MIB))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked(0.05)
        await left.aclose()
    right.abort()


async def test_room_to_send_can_be_waited_for(make_pair: Maker) -> None:
    left, right = await make_pair(small=True)
    blocked = False

    async def fill() -> None:
        nonlocal blocked
        while not blocked:
            await left.send_all(bytes(1024))
            with trio.move_on_after(0.1) as patience:
                await left.wait_send_all_might_not_block()
            blocked = patience.cancelled_caught

    await fill()

    async def drain() -> None:
        while True:
            await right.receive_some()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain)
            await left.wait_send_all_might_not_block()
            nursery.cancel_scope.cancel()
    left.abort()
    right.abort()


async def test_each_direction_ends_by_itself(make_pair: Maker) -> None:
    left, right = await make_pair()
    await left.send_all(b"question")
    await left.send_eof()
    assert await right.receive_some() == b"question"
    assert await right.receive_some() == b""
    await right.send_all(b"answer")
    await right.send_eof()
    assert await left.receive_some() == b"answer"
    assert await left.receive_some() == b""
    assert await left.receive_some() == b"", "an end stays an end"
    await left.aclose()
    await right.aclose()


async def test_an_abort_breaks_the_other_end(make_pair: Maker) -> None:
    left, right = await make_pair()
    left.abort()
    left.abort()
    with pytest.raises(trio.BrokenResourceError):
        await right.receive_some()
    right.abort()


async def test_a_close_that_nobody_ordered_breaks_the_other_end(make_pair: Maker) -> None:
    """The kernel makes one where the process is killed: without TLS it must not look like an orderly end."""
    left, right = await make_pair()
    await left.send_all(b"half of it")
    assert await right.receive_some() == b"half of it"
    os.close(left._socket.detach() if isinstance(left, TlsStream) else left.socket.detach())
    with pytest.raises(trio.BrokenResourceError):
        await right.receive_some()
    right.abort()


async def test_an_abort_wakes_the_own_reader(make_pair: Maker) -> None:
    left, right = await make_pair()

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await left.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        left.abort()
    right.abort()


async def test_much_arrives_intact_both_ways_at_once_and_bounded(make_pair: Maker) -> None:
    left, right = await make_pair()
    payload = os.urandom(64 * 1024) * 128  # 8 MiB

    async def send(end: PlainStream | TlsStream) -> None:
        await end.send_all(payload)
        await end.send_eof()

    async def receive(end: PlainStream | TlsStream) -> None:
        at = 0
        while data := await end.receive_some():
            assert data == payload[at : at + len(data)]
            at += len(data)
        assert at == len(payload)

    tracemalloc.start()
    async with trio.open_nursery() as nursery:
        for end in (left, right):
            nursery.start_soon(send, end)
            nursery.start_soon(receive, end)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * MIB, "a stream holds records, never the whole"
    await left.aclose()
    await right.aclose()


async def test_sending_waits_for_the_reader(make_pair: Maker) -> None:
    left, right = await make_pair(small=True)
    await break_off(partial(left.send_all, bytes(4 * MIB)))  # into small buffers that nobody reads
    left.abort()
    right.abort()


async def test_it_knows_the_other_ends_address(make_pair: Maker) -> None:
    left, right = await make_pair()
    assert left.peername[0] == "127.0.0.1"
    assert right.peername[0] == "127.0.0.1"
    assert left.peername[1] != right.peername[1]
    left.abort()
    right.abort()


async def test_small_writes_go_at_once_and_dead_peers_are_noticed(make_pair: Maker) -> None:
    for end in (ends := await make_pair()):
        sock = end.socket if isinstance(end, PlainStream) else end._socket
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    for end in ends:
        end.abort()
