"""PlainStream: a TCP or Unix socket as a trio stream, with the surface that TlsStream has too."""

import trio

from transport import sockets

RECEIVE_BYTES = 64 * 1024


class PlainStream(trio.abc.HalfCloseableStream):
    """A connected stream socket. Takes the socket over: only this object closes it from now on.

    Without TLS an end looks alike whoever makes it, so only aclose() and send_eof() make one. Where the process is
    killed, the other end sees a reset, and what it has received does not look whole.

    Every method may raise trio.BrokenResourceError (reset), ClosedResourceError (closed here, also while waiting)
    and BusyResourceError (two tasks in one direction).
    """

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self.socket = sock
        self.peername = sockets.peername(sock)
        self._stream = trio.SocketStream(sock)
        sockets.tune(sock)
        sockets.reset_unless_closed(sock)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """At least one byte and at most `max_bytes`, or b"" where the peer has ended its direction."""
        return bytes(await self._stream.receive_some(RECEIVE_BYTES if max_bytes is None else max_bytes))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Hand all of `data` to the kernel, waiting while the peer does not read."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel takes bytes again."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End this direction; the other one goes on."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close both directions; what was sent is still delivered."""
        sockets.close(self.socket)
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        """Close with a reset: the peer sees that the stream was cut off."""
        sockets.reset(self.socket)
