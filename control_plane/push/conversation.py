"""One link's stream as messages. Any trio stream will do, so that timeouts are tested in virtual time.

Receiving belongs to one task; sending may come from several, whole frames in turn. What a peer does not take within
`write_timeout` ends the link. A last word is sent so that the peer can read it: our direction is ended and what the
peer still says is read away for a moment, since closing a socket with unread bytes resets it and loses the word.
"""

from collections import deque
from contextlib import suppress

import trio

from mesh.wire import FrameDecoder, Message, MessageMalformed, Nack, Unknown, decode, encode

LAST_WORD_SECONDS = 1.0
LAST_WORD_BYTES = 1024 * 1024  # read away at most, after the last word


class PeerTooSlow(Exception):
    """The peer did not take a message in time."""


class Conversation:
    """Messages over `stream`. `limit` bounds one received frame, in bytes; `write_timeout` one send, in seconds."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, *, limit: int, write_timeout: float) -> None:
        self._stream = stream
        self._decoder = FrameDecoder(limit)
        self._payloads: deque[bytes] = deque()
        self._sending = trio.Lock()
        self._write_timeout = write_timeout

    async def receive(self) -> Message | Unknown | None:
        """The next message; None where the peer ended the stream between two. May be cancelled and called again.

        Raises WireError for what breaks the protocol, trio.BrokenResourceError for a link that broke.
        """
        while not self._payloads:
            data = await self._stream.receive_some()
            if not data:
                if not self._decoder.idle:
                    raise MessageMalformed("the stream ended within a frame")
                return None
            self._payloads += self._decoder.feed(bytes(data))
        await trio.lowlevel.checkpoint()  # a turn for others: thousands may have arrived at once (law 31)
        return decode(self._payloads.popleft())

    async def send(self, message: Message) -> None:
        """Send one message. Raises PeerTooSlow and trio.BrokenResourceError."""
        await self.send_frame(encode(message))

    async def send_frame(self, frame: bytes) -> None:
        """Send one encoded message. Raises PeerTooSlow and trio.BrokenResourceError."""
        with trio.move_on_after(self._write_timeout) as scope:
            async with self._sending:
                await self._stream.send_all(frame)
        if scope.cancelled_caught:
            raise PeerTooSlow(f"it did not take a message within {self._write_timeout:g} s")

    async def end_with(self, word: Nack) -> None:
        """Say why this link ends, as far as the peer still listens. The stream is not closed here."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError), trio.move_on_after(LAST_WORD_SECONDS):
            async with self._sending:
                await self._stream.send_all(encode(word))
                await self._stream.send_eof()
            left = LAST_WORD_BYTES
            while left > 0 and (data := await self._stream.receive_some()):
                left -= len(data)
