"""Pairs of connected streams over real loopback sockets."""

import socket

import trio
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
