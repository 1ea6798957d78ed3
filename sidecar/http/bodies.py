"""Taking a body's bytes out of a buffer, by its framing (RFC 9112 §6 and §7).

Each body looks at the buffer that all of a connection's bytes go through, takes what is its own and leaves the rest:
`take` returns bytes of content, End, or None where more has to arrive. Chunk sizes and trailers are as strict as
heads are: what h11 would forgive (bare LF in trailers, control bytes in chunk extensions) is refused.
"""

import re
from collections.abc import Callable
from typing import Final, NoReturn, Protocol

from attrs import frozen

from mesh.policy.reasons import Reason
from sidecar.http import refusals
from sidecar.http.blocks import Block, cut
from sidecar.http.failures import HttpRefused
from sidecar.http.heads import Body, Fields, Framing

MAX_CHUNK_LINE: Final = 1024  # a chunk's size with its extensions, which nobody uses and we drop
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")


@frozen
class End:
    """A message has ended, with these trailers."""

    trailers: Fields = ()


class BodyReader(Protocol):
    """What reads one body. `at_end_of_stream` says whether an end of the stream there is the body's end."""

    at_end_of_stream: bool

    def take(self, buffer: bytearray) -> bytes | End | None:
        """The next piece of content, End, or None: more has to arrive. Raises HttpRefused."""
        ...


class LengthBody:
    """A body of so many bytes."""

    at_end_of_stream = False

    def __init__(self, length: int) -> None:
        self._left = length

    def take(self, buffer: bytearray) -> bytes | End | None:
        """See BodyReader."""
        if not self._left:
            return End()
        data = cut(buffer, self._left)
        self._left -= len(data)
        return data or None


class UntilCloseBody:
    """A response's body that lasts until the upstream closes."""

    at_end_of_stream = True

    def take(self, buffer: bytearray) -> bytes | End | None:
        """See BodyReader."""
        return cut(buffer, len(buffer)) or None


class ChunkedBody:
    """A chunked body. `trailer_bytes` bounds the trailers."""

    at_end_of_stream = False

    def __init__(self, trailer_bytes: int) -> None:
        self._left = 0
        self._trailers = Block(trailer_bytes)
        self._step: Callable[[bytearray], bytes | End | None] = self._size

    def take(self, buffer: bytearray) -> bytes | End | None:
        """See BodyReader."""
        return self._step(buffer)

    def _size(self, buffer: bytearray) -> bytes | End | None:
        end = buffer.find(b"\n", 0, MAX_CHUNK_LINE)
        if end < 0:
            if len(buffer) >= MAX_CHUNK_LINE:
                _malformed("a chunk's size line is too long")
            return None
        found = _CHUNK_LINE.fullmatch(cut(buffer, end + 1))
        if found is None:
            _malformed("a chunk's size is no plain hexadecimal number")
        self._left = int(found[1], 16)
        self._step = self._content if self._left else self._trailer
        return self._step(buffer)

    def _content(self, buffer: bytearray) -> bytes | End | None:
        if not self._left:
            return self._content_end(buffer)
        data = cut(buffer, self._left)
        self._left -= len(data)
        return data or None

    def _content_end(self, buffer: bytearray) -> bytes | End | None:
        if not b"\r\n".startswith(buffer[:2]):
            _malformed("a chunk is longer than its size says")
        if len(buffer) < 2:
            return None
        del buffer[:2]
        self._step = self._size
        return self._size(buffer)

    def _trailer(self, buffer: bytearray) -> bytes | End | None:
        raw = self._trailers.take(buffer)
        return None if raw is None else End(refusals.check_trailers(raw))


def reader_for(framing: Framing, trailer_bytes: int) -> BodyReader:
    """What reads a body that is framed like this."""
    if framing is Body.CHUNKED:
        return ChunkedBody(trailer_bytes)
    if framing is Body.UNTIL_CLOSE:
        return UntilCloseBody()
    return LengthBody(framing if isinstance(framing, int) else 0)


def _malformed(detail: str) -> NoReturn:
    raise HttpRefused(Reason.MALFORMED_REQUEST, 400, detail)
