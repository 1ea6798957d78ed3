"""Making a TCP connection, with one deadline and one error class per way to fail."""

import errno
import os
import socket
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakValueDictionary

import trio

from transport.errors import ConnectFailed, ConnectRefused, ConnectTimeout, ConnectUnreachable
from transport.plain import PlainStream
from transport.sockets import PAUSE_SECONDS, Peername, plain_address

_IP_BIND_ADDRESS_NO_PORT: Final = 24  # linux/in.h: the port is chosen at connect, for each destination anew


class Dialled:
    """The connections that were dialled from here and are still open, by both their ends.

    An accepted connection that was on its way between the same two was sent back to us. It is known from the moment at
    which the kernel starts to connect, so no such connection can be accepted before. The near end alone would not do:
    the kernel gives the same one to connections that lead to different places.
    """

    def __init__(self) -> None:
        self._open: WeakValueDictionary[tuple[Peername, Peername], trio.socket.SocketType] = WeakValueDictionary()
        self._meant: WeakKeyDictionary[trio.socket.SocketType, Peername] = WeakKeyDictionary()

    def add(self, sock: trio.socket.SocketType, far: Peername, meant: Peername | None = None) -> None:
        """Know a socket that is connecting to `far`, for as long as it is open; see dial() about `meant`."""
        host, port, *_ = sock.getsockname()
        self._open[(plain_address(host), port), far] = sock
        if meant is not None:
            self._meant[sock] = meant

    def __contains__(self, ends: tuple[Peername, Peername]) -> bool:
        """Whether a connection from the first of `ends` to the second one is open."""
        return self._find(ends) is not None

    def meant(self, ends: tuple[Peername, Peername]) -> Peername | None:
        """What was meant by the open connection from the first of `ends` to the second one, where that was said."""
        sock = self._find(ends)
        return None if sock is None else self._meant.get(sock)

    def _find(self, ends: tuple[Peername, Peername]) -> trio.socket.SocketType | None:
        near, (host, port) = ends
        sock = self._open.get((near, (plain_address(host), port)))
        return sock if sock is not None and sock.fileno() != -1 else None


async def dial(
    address: str,
    port: int,
    *,
    deadline: float,
    source: str | None = None,
    dialled: Dialled | None = None,
    meant: Peername | None = None,
) -> PlainStream:
    """Connect to an IP address or host name within `deadline` seconds, trying each address of a name in turn.

    `source` is the local IP address to connect from, the kernel's choice where it is None; `dialled` is told of the
    connection, and for the one who accepts it in this process what it is `meant` for. Where the process may open no
    more files it waits, within the deadline, until it may again. Raises ConnectRefused,
    ConnectTimeout or ConnectUnreachable; the error of the last address tried.
    """
    with trio.move_on_after(deadline):
        failure: ConnectFailed = ConnectUnreachable(f"{address}:{port}: the name has no address")
        for family, target in await _resolve(address, port):
            try:
                return PlainStream(await _connect(family, target, source, dialled, meant))
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


async def _connect(
    family: int, target: tuple[Any, ...], source: str | None, dialled: Dialled | None, meant: Peername | None
) -> trio.socket.SocketType:
    raw = await _socket(family)
    raw.setblocking(False)
    sock = trio.socket.from_stdlib_socket(raw)
    try:
        if source is not None:
            raw.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            raw.bind((source, 0, *target[2:]))  # a link-local address needs the zone too
        # trio's connect() lets others run before the near end has its name, and `dialled` has to come first.
        code = raw.connect_ex(target)
        if code in (0, errno.EINPROGRESS):
            if dialled is not None:
                dialled.add(sock, (plain_address(target[0]), target[1]), meant)
            await trio.lowlevel.wait_writable(raw)
            code = raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock


async def _socket(family: int) -> socket.socket:
    """A new TCP socket; where the process may open no more files, once it may again."""
    while True:
        try:
            return socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        await trio.sleep(PAUSE_SECONDS)


def _translated(error: OSError, address: str, port: int) -> ConnectFailed:
    text = f"{address}:{port}: {error.strerror or error}"
    if error.errno in (errno.ECONNREFUSED, errno.ECONNRESET):
        return ConnectRefused(text)
    if error.errno == errno.ETIMEDOUT:
        return ConnectTimeout(text)
    return ConnectUnreachable(text)
