"""Client: the connection of the one who calls, read message by message, with a deadline on every wait.

Foreign exceptions end here. What a client does wrong is HttpRefused where an answer still makes sense, and Aborted
where nobody is left to read one.
"""

import trio

from mesh.policy.reasons import Reason
from sidecar.http.bodies import End
from sidecar.http.failures import Aborted, HttpRefused, Truncated
from sidecar.http.heads import RequestHead
from sidecar.http.reading import RequestReader
from sidecar.relay import Stream
from sidecar.settings import Limits


class Client:
    """One downstream connection. `first` was read from it before.

    `body_open` says that the current request's body has not been read to its end, `writable` that no message of ours
    was broken off halfway, so that an answer can still be sent.
    """

    def __init__(self, stream: Stream, limits: Limits, first: bytes = b"") -> None:
        self.stream = stream
        self.body_open = False
        self.writable = True
        self._limits = limits
        self._reader = RequestReader(limits.head_bytes)
        self._garbled = False
        self._waiting: trio.CancelScope | None = None
        if first:
            self._reader.feed(first)

    async def next_head(self, patience: float) -> RequestHead | None:
        """The next request's head; None where there is none within `patience` seconds, or after stop_waiting().

        Raises HttpRefused (408 where the head does not come to its end in time) or Aborted.
        """
        if not self._reader.buffered and not await self._first_byte(patience):
            return None
        event = self._next_event()
        if event is None:
            with trio.move_on_after(self._limits.request_head_timeout):
                while event is None:
                    await self._receive()
                    event = self._next_event()
        if event is None:
            raise HttpRefused(Reason.DOWNSTREAM_TIMEOUT, 408, "the request's head did not come to its end in time")
        assert isinstance(event, RequestHead)
        self.body_open = True
        return event

    def stop_waiting(self) -> None:
        """Make a next_head() that has seen no byte yet return None."""
        if self._waiting is not None:
            self._waiting.cancel()

    def body_at_hand(self) -> bytes | End | None:
        """What has arrived of the body; None: receive() more. Raises HttpRefused or Aborted."""
        event = self._next_event()
        assert not isinstance(event, RequestHead)
        if isinstance(event, End):
            self.body_open = False
        return event

    async def receive(self, patience: float) -> None:
        """Wait for more of the body. Raises HttpRefused (408) after `patience` seconds, or Aborted."""
        with trio.move_on_after(patience):
            await self._receive()
            return
        raise HttpRefused(Reason.DOWNSTREAM_TIMEOUT, 408, "the body stopped arriving")

    async def watch(self) -> None:
        """Behind a request's end, see whether the client goes away. Raises Aborted when it does.

        Pipelined requests may arrive meanwhile, so at most head_bytes are kept; returns where more would come. An
        end of the client's direction is no going away: it still reads.
        """
        while self._reader.buffered < self._limits.head_bytes and not self._reader.ended:
            await self._receive()

    async def send(self, data: bytes | bytearray) -> None:
        """Send all of `data`. Raises Aborted where the client is gone or takes nothing for body_idle_timeout."""
        self.writable = False
        with trio.move_on_after(self._limits.body_idle_timeout):
            try:
                await self.stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise Aborted(Reason.DOWNSTREAM_RESET) from None
            self.writable = True
            return
        raise Aborted(Reason.DOWNSTREAM_TIMEOUT)

    def rest(self) -> bytes:
        """What has arrived behind the request, raw: the connection is a tunnel from here."""
        return self._reader.rest()

    async def discard_body(self) -> bool:
        """Read what is left of the body, within the bounds for it. Returns whether its end was reached."""
        read = 0
        with trio.move_on_after(self._limits.drain_body_timeout):
            while self.body_open and not self._garbled and read <= self._limits.drain_body_bytes:
                try:
                    event = self.body_at_hand()
                    if event is None:
                        await self._receive()
                    elif isinstance(event, bytes):
                        read += len(event)
                except (HttpRefused, Aborted):
                    return False
        return not self.body_open

    async def close(self) -> None:
        """Close so that what was sent last is read: what still arrives is read away first, for drain_body_timeout.

        A close with unread bytes is a reset, and a reset can overtake the answer (RFC 9112 §9.6). No number of bytes
        bounds this: one large upload has more under way than any that would be worth stating.
        """
        try:
            with trio.move_on_after(self._limits.drain_body_timeout):
                await self.stream.send_eof()
                while await self.stream.receive_some():
                    pass
            await self.stream.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.stream.abort()

    @property
    def can_go_on(self) -> bool:
        """Whether what follows on this connection can still be understood."""
        return self.writable and not self._garbled

    async def _first_byte(self, patience: float) -> bool:
        with trio.move_on_after(patience) as self._waiting:
            try:
                self._reader.feed(await self.stream.receive_some(self._limits.buffer_bytes))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return False
        self._waiting = None
        return self._reader.buffered > 0

    async def _receive(self) -> None:
        try:
            self._reader.feed(await self.stream.receive_some(self._limits.buffer_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Aborted(Reason.DOWNSTREAM_RESET) from None

    def _next_event(self) -> RequestHead | bytes | End | None:
        try:
            return self._reader.next_event()
        except HttpRefused:
            self._garbled = True
            raise
        except Truncated:
            raise Aborted(Reason.DOWNSTREAM_RESET) from None
