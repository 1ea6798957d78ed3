"""Two ends of a connection in memory, with the surface of our streams: for tests in virtual time."""

import trio


class _Pipe:
    """One direction, which holds at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.data = bytearray()
        self.ended = False  # by its writer, in order
        self.cut = False  # by its writer's abort
        self.deaf = False  # its reader has closed
        self.moved = trio.lowlevel.ParkingLot()


class MemoryStream:
    """One end. An abort, unlike a close, is a BrokenResourceError at the other end."""

    peername = ("10.0.0.9", 1234)

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        pipe = self._incoming
        while True:
            self._refuse_closed()
            if pipe.cut:
                raise trio.BrokenResourceError("cut off")
            if pipe.data:
                data = bytes(pipe.data[:max_bytes])
                del pipe.data[: len(data)]
                pipe.moved.unpark_all()
                return data
            if pipe.ended:
                return b""
            await pipe.moved.park()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        pipe, left = self._outgoing, bytes(data)
        while left:
            self._refuse_closed()
            if pipe.deaf or pipe.cut:
                raise trio.BrokenResourceError("nobody reads")
            room = pipe.limit - len(pipe.data)
            pipe.data += left[:room]
            left = left[room:]
            pipe.moved.unpark_all()
            if left:
                await pipe.moved.park()

    async def send_eof(self) -> None:
        self._refuse_closed()
        self._outgoing.ended = True
        self._outgoing.moved.unpark_all()

    async def aclose(self) -> None:
        self._close(cut=False)
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        self._close(cut=True)

    def _close(self, *, cut: bool) -> None:
        if not self._closed:
            self._closed = True
            self._outgoing.ended, self._outgoing.cut = True, cut
            self._incoming.deaf = True
            self._outgoing.moved.unpark_all()
            self._incoming.moved.unpark_all()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("closed")


def memory_pair(limit: int = 1 << 30) -> tuple[MemoryStream, MemoryStream]:
    """Two connected ends; each direction holds `limit` bytes."""
    there, back = _Pipe(limit), _Pipe(limit)
    return MemoryStream(there, back), MemoryStream(back, there)
