"""Making a TCP connection, with one deadline and one error class per way to fail."""

import errno
import socket
from typing import Any

import trio

from transport.errors import ConnectFailed, ConnectRefused, ConnectTimeout, ConnectUnreachable
from transport.plain import PlainStream


async def dial(address: str, port: int, *, deadline: float) -> PlainStream:
    """Connect to an IP address or host name within `deadline` seconds, trying each address of a name in turn.

    Raises ConnectRefused, ConnectTimeout or ConnectUnreachable; the error of the last address tried.
    """
    with trio.move_on_after(deadline):
        failure: ConnectFailed = ConnectUnreachable(f"{address}:{port}: the name has no address")
        for family, target in await _resolve(address, port):
            try:
                return PlainStream(await _connect(family, target))
            except OSError as error:
                failure = _translated(error, address, port)
        raise failure
    raise ConnectTimeout(f"{address}:{port}: no answer within {deadline:g} s")


async def _resolve(address: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    try:
        found = await trio.socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConnectUnreachable(f"{address}:{port}: {error}") from None
    return [(family, target) for family, _, _, _, target in found]


async def _connect(family: int, target: tuple[Any, ...]) -> trio.socket.SocketType:
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        await sock.connect(target)
    except BaseException:
        sock.close()
        raise
    return sock


def _translated(error: OSError, address: str, port: int) -> ConnectFailed:
    text = f"{address}:{port}: {error.strerror or error}"
    if error.errno in (errno.ECONNREFUSED, errno.ECONNRESET):
        return ConnectRefused(text)
    if error.errno == errno.ETIMEDOUT:
        return ConnectTimeout(text)
    return ConnectUnreachable(text)
