"""What only TlsStream has to get right: handshakes, truncation, and the rules for a write that had to wait."""

import socket
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing

from certs.tls import handshake_refusal, server_context
from tests.support.patience import PATIENCE
from tests.support.pki import Pki
from tests.support.streams import break_off, socket_pair, tls_pair
from tests.transport.conftest import Contexts
from transport import NotTls, TlsFailed, TlsStream


async def read_to_the_end(stream: TlsStream) -> bytes:
    received = bytearray()
    while data := await stream.receive_some():
        received += data
    return bytes(received)


async def accept_from(raw: bytes, contexts: Contexts, *, then_end: bool = False) -> TlsStream:
    """A server whose client sends these bytes instead of a handshake; returns the stream after it failed."""
    dialled, accepted = await socket_pair()
    stream = TlsStream(accepted, contexts.server, server_side=True)
    await dialled.send(raw)
    if then_end:
        dialled.shutdown(socket.SHUT_WR)
    try:
        await stream.do_handshake()
    finally:
        dialled.close()
        stream.abort()
    return stream


@pytest.mark.parametrize(
    "raw", [b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"\x80\x2e\x01\x00\x02"]
)
async def test_what_is_no_tls_is_called_so(raw: bytes, contexts: Contexts) -> None:
    with pytest.raises(NotTls):
        await accept_from(raw, contexts)


async def test_garbage_that_begins_like_tls_is_a_tls_failure(contexts: Contexts) -> None:
    with pytest.raises(TlsFailed) as caught:
        await accept_from(b"\x16\x03\x01\xff\xff" + b"garbage" * 100, contexts)
    assert not isinstance(caught.value, NotTls)
    assert caught.value.reason


@pytest.mark.parametrize("raw", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"])
async def test_a_peer_that_leaves_before_the_end_of_the_handshake_broke_it(raw: bytes, contexts: Contexts) -> None:
    with pytest.raises(trio.BrokenResourceError) as caught:
        await accept_from(raw, contexts, then_end=True)
    assert not isinstance(caught.value, TlsFailed)


async def test_a_socket_that_spoke_no_tls_can_still_be_used(contexts: Contexts) -> None:
    dialled, accepted = await socket_pair()
    stream = TlsStream(accepted, contexts.server, server_side=True)
    await dialled.send(b"hello")
    with pytest.raises(NotTls):
        await stream.do_handshake()
    sock = stream.detach()
    assert await sock.recv(100) == b"hello"
    stream.abort()
    assert sock.fileno() >= 0, "abort() of a detached stream leaves the socket alone"
    sock.close()
    dialled.close()


async def test_the_client_of_a_refused_handshake_learns_why(pki: Pki, contexts: Contexts) -> None:
    stranger = Pki()
    dialled, accepted = await socket_pair()
    server = TlsStream(accepted, server_context(stranger.svid(), stranger.bundle, []), server_side=True)
    client = TlsStream(dialled, contexts.client, server_side=False)

    async def handshake_refused(end: TlsStream) -> None:
        with pytest.raises(TlsFailed):
            await end.do_handshake()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(handshake_refused, client)
        nursery.start_soon(handshake_refused, server)
    refusal = handshake_refusal(client.connection)
    assert refusal is not None
    assert refusal.code == "unknown_issuer"
    client.abort()
    server.abort()


async def test_an_end_without_close_notify_is_no_end(contexts: Contexts) -> None:
    client, server = await tls_pair(contexts.client, contexts.server)
    await client.send_all(b"all but the")
    client._socket.shutdown(socket.SHUT_WR)
    assert await server.receive_some() == b"all but the"
    with pytest.raises(trio.BrokenResourceError):
        await server.receive_some()
    client.abort()
    server.abort()


async def test_bytes_that_openssl_holds_are_read_without_waiting_for_the_kernel(contexts: Contexts) -> None:
    client, server = await tls_pair(contexts.client, contexts.server)
    await client.send_all(b"x" * 16_000)
    received = 0
    while received < 16_000:
        with trio.fail_after(PATIENCE):
            received += len(await server.receive_some(1000))
    client.abort()
    server.abort()


async def test_several_full_records_come_in_one_turn(contexts: Contexts) -> None:
    client, server = await tls_pair(contexts.client, contexts.server)
    await client.send_all(b"x" * 48 * 1024)
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert len(await server.receive_some()) == 48 * 1024
    client.abort()
    server.abort()


@pytest.mark.parametrize(
    "say_more",
    [
        lambda stream: stream.send_all(b"more"),
        lambda stream: stream.send_all(bytes(16 * 1024)),
        lambda stream: stream.send_eof(),
        lambda stream: stream.wait_send_all_might_not_block(),
    ],
)
async def test_after_a_send_was_broken_off_nothing_more_is_said(
    say_more: Callable[[TlsStream], Awaitable[None]], contexts: Contexts
) -> None:
    client, server = await tls_pair(contexts.client, contexts.server, small=True)
    await break_off(partial(client.send_all, bytes(1024 * 1024)))
    with pytest.raises(trio.BrokenResourceError, match="broken off"), trio.fail_after(PATIENCE):
        await say_more(client)
    await client.aclose()
    with pytest.raises(trio.BrokenResourceError):  # a truncated stream must not look complete
        await read_to_the_end(server)
    server.abort()


async def test_a_close_after_a_send_was_broken_off_does_not_look_complete(contexts: Contexts) -> None:
    client, server = await tls_pair(contexts.client, contexts.server, small=True)
    await break_off(partial(client.send_all, bytes(1024 * 1024)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose)
        with pytest.raises(trio.BrokenResourceError):
            await read_to_the_end(server)
    server.abort()


async def test_the_receiving_side_survives_a_send_that_was_broken_off(contexts: Contexts) -> None:
    client, server = await tls_pair(contexts.client, contexts.server, small=True)
    await break_off(partial(client.send_all, bytes(1024 * 1024)))
    await server.send_all(b"still here")
    assert await client.receive_some() == b"still here"
    client.abort()
    server.abort()


async def test_a_blocked_writer_and_a_reader_share_the_connection(contexts: Contexts) -> None:
    client, server = await tls_pair(contexts.client, contexts.server, small=True)
    payload = bytes(range(256)) * 8192  # 2 MiB each way, through buffers of 16 KiB

    async def send(end: TlsStream) -> None:
        await end.send_all(payload)
        await end.send_eof()

    async def receive(end: TlsStream) -> None:
        assert await read_to_the_end(end) == payload

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for end in (client, server):
                nursery.start_soon(send, end)
                nursery.start_soon(receive, end)
    await client.aclose()
    await server.aclose()


async def test_close_waits_for_the_kernel_to_take_the_last_words(contexts: Contexts) -> None:
    client, server = await tls_pair(contexts.client, contexts.server, small=True)
    received = bytearray()

    async def receive_slowly() -> None:
        await trio.sleep(0.1)
        while data := await server.receive_some(4096):
            received.extend(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive_slowly)
        await client.send_all(bytes(200_000))
        await client.aclose()
    assert len(received) == 200_000
    server.abort()


async def test_handshakes_take_turns(contexts: Contexts) -> None:
    """A crowd of handshakes leaves room for others: at most one step is made per turn here (law 31)."""
    turns = trio.CapacityLimiter(1)
    longest = 0

    async def meet() -> None:
        dialled, accepted = await socket_pair()
        ends = [TlsStream(dialled, contexts.client, server_side=False)]
        ends += [TlsStream(accepted, contexts.server, server_side=True)]
        async with trio.open_nursery() as nursery:
            for end in ends:
                nursery.start_soon(end.do_handshake, turns)
        for end in ends:
            end.abort()

    async def count_turns() -> None:
        nonlocal longest
        while True:
            before = turns.statistics().tasks_waiting
            await trio.lowlevel.checkpoint()
            longest = max(longest, before - turns.statistics().tasks_waiting)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        async with trio.open_nursery() as crowd:
            for _ in range(20):
                crowd.start_soon(meet)
        nursery.cancel_scope.cancel()
    assert longest == 1
