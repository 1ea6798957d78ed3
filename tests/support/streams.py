"""Pairs of connected streams over real loopback sockets."""

import socket
from collections.abc import Awaitable, Callable

import trio
import trio.testing
from OpenSSL import SSL

from transport import PlainStream, TlsStream

SMALL_BUFFER = 16 * 1024


async def socket_pair(*, small: bool = False) -> tuple[trio.socket.SocketType, trio.socket.SocketType]:
    """Two ends of one TCP connection: the dialled one, the accepted one. `small` shrinks the kernel's buffers."""
    listening, dialled = trio.socket.socket(), trio.socket.socket()
    with listening:
        if small:
            for sock in (listening, dialled):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        await listening.bind(("127.0.0.1", 0))
        listening.listen()
        await dialled.connect(listening.getsockname())
        accepted, _ = await listening.accept()
    return dialled, accepted


async def plain_pair(*, small: bool = False) -> tuple[PlainStream, PlainStream]:
    """The dialling and the accepting end, without TLS."""
    dialled, accepted = await socket_pair(small=small)
    return PlainStream(dialled), PlainStream(accepted)


async def tls_pair(client: SSL.Context, server: SSL.Context, *, small: bool = False) -> tuple[TlsStream, TlsStream]:
    """The dialling and the accepting end, after the handshake."""
    dialled, accepted = await socket_pair(small=small)
    ends = TlsStream(dialled, client, server_side=False), TlsStream(accepted, server, server_side=True)
    async with trio.open_nursery() as nursery:
        for end in ends:
            nursery.start_soon(end.do_handshake)
    return ends


async def break_off(call: Callable[[], Awaitable[object]]) -> None:
    """Begin this, and cancel it once it waits for others; raises AssertionError where it comes to its end instead."""
    ended = False

    async def go_on() -> None:
        nonlocal ended
        await call()
        ended = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.cancel_scope.cancel()
    assert not ended
