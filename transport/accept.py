"""Accepting connections: one wall around each, so that no exception of one connection reaches another.

trio ends the whole server when an exception leaves a connection's task. Here every handler runs inside `_walled`,
which closes the socket whatever happens and hands what nobody foresaw to `on_error`.
"""

import errno
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from transport.errors import CannotAccept
from transport.places import Places
from transport.sockets import PAUSE_SECONDS

BACKLOG: Final = 1024

Handler = Callable[[trio.socket.SocketType], Awaitable[None]]

# One caller left before it was accepted, or its network failed (accept(2), "Error handling").
_CALLER_LEFT: Final = {
    errno.ECONNABORTED,
    errno.EPERM,
    errno.EPROTO,
    errno.ENETDOWN,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EOPNOTSUPP,
    errno.ENETUNREACH,
}

_NO_IPV6: Final = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


async def listen(host: str, port: int) -> list[trio.SocketListener]:
    """Listen on every address of `host`; port 0 takes a free one. Raises OSError (in use, no such address)."""
    return await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)


async def listen_on_both(ipv4: str, ipv6: str, port: int) -> list[trio.SocketListener]:
    """Listen on one port of an address of each IP version, and on IPv4 alone where this machine has no IPv6.

    Port 0 takes a free one. Raises OSError as listen() does.
    """
    listeners = await listen(ipv4, port)
    try:
        return listeners + await listen(ipv6, listeners[0].socket.getsockname()[1])
    except OSError as error:
        if error.errno in _NO_IPV6:
            return listeners
        for listener in listeners:
            listener.socket.close()
        raise


async def serve(
    listeners: Sequence[trio.SocketListener],
    handler: Handler,
    *,
    nursery: trio.Nursery,
    places: Places,
    on_error: Callable[[Exception], None],
) -> None:
    """Accept until cancelled, and run `handler(socket)` for each connection in `nursery`.

    `places` bounds the connections open at once: where none is left, nobody is accepted and the kernel's backlog
    fills. `on_error` is told what no code foresaw in a handler, and CannotAccept once per pause. Cancelling this call
    ends accepting only; the handlers belong to `nursery`. The listeners are closed at the end.
    """
    async with trio.open_nursery() as accepting:
        for listener in listeners:
            accepting.start_soon(_accept, listener, handler, nursery, places, on_error)


async def _accept(
    listener: trio.SocketListener,
    handler: Handler,
    nursery: trio.Nursery,
    places: Places,
    on_error: Callable[[Exception], None],
) -> None:
    async with listener:
        while True:
            holder = object()
            await trio.lowlevel.wait_readable(listener.socket)  # nobody gives way before there is a newcomer
            await places.take(holder)
            try:
                sock = await _next(listener, on_error)
            except BaseException:
                places.give_back(holder)
                raise
            nursery.start_soon(_walled, sock, handler, places, holder, on_error)


async def _next(listener: trio.SocketListener, on_error: Callable[[Exception], None]) -> trio.socket.SocketType:
    pausing = False
    while True:
        try:
            sock, _ = await listener.socket.accept()
        except OSError as error:
            if error.errno == errno.EBADF:
                raise trio.ClosedResourceError("the listener was closed") from None
            if error.errno not in _CALLER_LEFT:
                if not pausing:
                    on_error(CannotAccept(error.errno, error.strerror))
                pausing = True
                await trio.sleep(PAUSE_SECONDS)
        else:
            return sock


async def _walled(
    sock: trio.socket.SocketType,
    handler: Handler,
    places: Places,
    holder: object,
    on_error: Callable[[Exception], None],
) -> None:
    try:
        await handler(sock)
    except* Exception as group:  # noqa: BLE001  # the wall; except*: a shutdown may mix Cancelled with other errors
        for error in group.exceptions:
            on_error(error)
    finally:
        sock.close()
        places.give_back(holder)
