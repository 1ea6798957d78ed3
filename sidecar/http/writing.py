"""Messages into bytes, without I/O. Every head is written anew from what was understood; nothing is passed on raw.

What is written is HTTP/1.1, whatever was read. Framing fields come from the framing alone, after all others.
"""

from typing import Final

from sidecar.http.heads import Body, Fields, Framing

_CHUNKED: Final = b"transfer-encoding: chunked\r\n"
_HEADS: Final = {Body.NONE: b"", Body.CHUNKED: _CHUNKED, Body.UNTIL_CLOSE: b""}


def request_head(method: str, target: bytes, fields: Fields, framing: Framing) -> bytes:
    """A request's head. `fields` hold no Content-Length and no Transfer-Encoding."""
    return b"%s %s HTTP/1.1\r\n%s%s\r\n" % (method.encode(), target, _lines(fields), _framing_line(framing))


def response_head(status: int, reason: bytes, fields: Fields, framing: Framing) -> bytes:
    """A response's head, also of a 1xx."""
    return b"HTTP/1.1 %d %s\r\n%s%s\r\n" % (status, reason, _lines(fields), _framing_line(framing))


def content(data: bytes, framing: Framing) -> bytes:
    """One piece of a body's content; nothing for an empty piece, which would end a chunked body."""
    if framing is Body.CHUNKED and data:
        return b"%x\r\n%s\r\n" % (len(data), data)
    return data


def end(trailers: Fields, framing: Framing) -> bytes:
    """What ends a body. Trailers need chunks and are left out elsewhere (RFC 9110 §6.5.1)."""
    return b"0\r\n%s\r\n" % _lines(trailers) if framing is Body.CHUNKED else b""


def _lines(fields: Fields) -> bytes:
    return b"".join([b"%s: %s\r\n" % field for field in fields])


def _framing_line(framing: Framing) -> bytes:
    return b"content-length: %d\r\n" % framing if isinstance(framing, int) else _HEADS[framing]
