"""Raw responses of a faulty or hostile application, as data: what it sends, and what may be heard of it.

Most put FORGED where one of two readers finds a second response. `heard` is the response that goes on; None means
that none does: the caller gets a 502, or a reset where the response had begun. Sources: RFC 9112 §4, §6, §7, §11.
"""

from typing import Final

from attrs import frozen

from tests.support.smuggling import BROKEN_CHUNKS, CUT_OFF, LENGTHS, NOT_QUITE_CHUNKED, TWO_LENGTHS

FORGED: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
_OK: Final = "HTTP/1.1 200 OK"
_LAST: Final = b"0\r\n\r\n"
_CHUNKED: Final = "Transfer-Encoding: chunked"


@frozen
class Heard:
    """A response as a caller understands it."""

    status: int
    body: bytes = b""


@frozen
class Forgery:
    """What the application says to a request with `method`, before it closes.

    `surplus`: bytes follow a whole response. Where they come late, nobody can tell them from the next answer.
    """

    name: str
    raw: bytes
    heard: Heard | None = None
    method: str = "GET"
    surplus: bool = False


def _said(start: str, *lines: str | bytes) -> bytes:
    every = (each if isinstance(each, bytes) else each.encode("latin-1") for each in (start, *lines, ""))
    return b"".join(each + b"\r\n" for each in every)


OK: Final = Heard(200)
HELLO: Final = Heard(200, b"hello")

_FRAMINGS = [
    *(Forgery(f"TE {line!r}", _said(_OK, line) + _LAST + FORGED) for line in NOT_QUITE_CHUNKED),
    *(Forgery(f"CL.TE {e!r}", _said(_OK, "Content-Length: 5", e) + _LAST + FORGED) for e in NOT_QUITE_CHUNKED),
    *(
        Forgery(f"TE.CL {e!r}", _said(_OK, e, "Content-Length: 5") + _LAST + FORGED)
        for e in (*NOT_QUITE_CHUNKED, _CHUNKED)
    ),
    *(Forgery(f"CL {value!r}", _said(_OK, f"Content-Length: {value}") + b"hello" + FORGED) for value in LENGTHS),
    *(Forgery(f"CL {lines!r}", _said(_OK, lines) + b"hello" + FORGED) for lines in TWO_LENGTHS),
    *(Forgery(f"chunks {len(b)} {b[:40]!r}", _said(_OK, _CHUNKED) + b + FORGED) for b in BROKEN_CHUNKS),
    *(Forgery(f"cut off {body!r}", _said(_OK, _CHUNKED) + body) for body in CUT_OFF),
    Forgery("cut off", _said(_OK, "Content-Length: 50") + b"hello"),
    Forgery("TE on HTTP/1.0", _said("HTTP/1.0 200 OK", _CHUNKED) + _LAST + FORGED),
    Forgery("two responses", _said(_OK, "Content-Length: 5") + b"hello" + FORGED, HELLO, surplus=True),
    Forgery("more than the length says", _said(_OK, "Content-Length: 5") + b"hello world", HELLO, surplus=True),
    Forgery(
        "more than the chunks say", _said(_OK, _CHUNKED) + b"5\r\nhello\r\n0\r\n\r\n" + FORGED, HELLO, surplus=True
    ),
    Forgery("until the end", _said(_OK) + FORGED, Heard(200, FORGED)),
    Forgery("until the end on HTTP/1.0", _said("HTTP/1.0 200 OK") + b"hello", HELLO),
    Forgery(
        "late fields", _said(_OK, _CHUNKED) + b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nSet-Cookie: a\r\n\r\n", HELLO
    ),
]

_BODILESS = [
    Forgery("204 with a body", _said("HTTP/1.1 204 No Content", f"Content-Length: {len(FORGED)}") + FORGED, Heard(204)),
    Forgery(
        "204 with chunks", _said("HTTP/1.1 204 No Content", _CHUNKED) + b"5\r\nhello\r\n0\r\n\r\n" + FORGED, Heard(204)
    ),
    Forgery(
        "304 with a body", _said("HTTP/1.1 304 Not Modified", f"Content-Length: {len(FORGED)}") + FORGED, Heard(304)
    ),
    Forgery(
        "304 with chunks",
        _said("HTTP/1.1 304 Not Modified", _CHUNKED) + b"5\r\nhello\r\n0\r\n\r\n" + FORGED,
        Heard(304),
    ),
    Forgery("a body to HEAD", _said(_OK, f"Content-Length: {len(FORGED)}") + FORGED, OK, "HEAD"),
    Forgery("chunks to HEAD", _said(_OK, _CHUNKED) + b"5\r\nhello\r\n0\r\n\r\n" + FORGED, OK, "HEAD"),
    Forgery("an endless body to HEAD", _said(_OK) + FORGED, OK, "HEAD", surplus=True),
]

_INTERIM = "HTTP/1.1 103 Early Hints"
_INTERIMS = [
    Forgery("100 unasked", _said("HTTP/1.1 100 Continue") + _said(_OK, "Content-Length: 5") + b"hello", HELLO),
    Forgery("hints", 3 * _said(_INTERIM, "Link: </a>") + _said(_OK, "Content-Length: 5") + b"hello", HELLO),
    Forgery(
        "hints with a length", _said(_INTERIM, "Content-Length: 6") + _said(_OK, "Content-Length: 5") + b"hello", HELLO
    ),
    Forgery("hints with a body", _said(_INTERIM, f"Content-Length: {len(FORGED)}") + b"hello" + FORGED),
    Forgery("hints with two lengths", _said(_INTERIM, TWO_LENGTHS[0]) + FORGED),
    Forgery("hints without end", 10_000 * _said(_INTERIM, "Link: </a>") + FORGED),
    Forgery("hints and nothing more", _said(_INTERIM, "Link: </a>")),
    Forgery(
        "101 unasked", _said("HTTP/1.1 101 Switching Protocols", "Connection: upgrade", "Upgrade: websocket") + FORGED
    ),
    Forgery("101 to h2c", _said("HTTP/1.1 101 Switching Protocols", "Connection: upgrade", "Upgrade: h2c") + FORGED),
]

_STARTS = (
    "HTTP/1.1 2000 OK",
    "HTTP/1.1 20 OK",
    "HTTP/1.1 +200 OK",
    "HTTP/1.1 099 OK",
    "HTTP/1.1  200 OK",
    "HTTP/1.1\t200 OK",
)
_STARTS += (
    "ICY 200 OK",
    "http/1.1 200 OK",
    "HTTP/2 200 OK",
    "HTTP/2.0 200 OK",
    "HTTP/0.9 200 OK",
    "HTTP/1.2 200 OK",
    "200 OK",
)
_STARTS += (
    "HTTP/1.1 200 O\rK",
    "HTTP/1.1 200 OK\0",
    "HTTP/1.1 200 \x1b[2J",
    " HTTP/1.1 200 OK",
    "HTTP/1.1 OK",
    "HTTP/1.1",
    "HTTP/1.1 ",
)
_STARTS += (
    "\r\nHTTP/1.1 200 OK",
    "\0HTTP/1.1 200 OK",
    "GET / HTTP/1.1",
    "HTTP/1.1 200 OK\nX: y",
    "HTTP/1.1 \xb2\xb9\xb3 OK",
)
_LINES = (
    "X: a\nContent-Length: 0",
    "X: a\rContent-Length: 0",
    "X: a\r\n b",
    " X: a",
    "X : a",
    "X",
    ": a",
    "X: \0",
    "X: \x1b[2J",
)
_LINES += (
    "X: a\r\n\nSet-Cookie: b",
    "X\xe9: a",
    "X: " + "a" * 70_000,
    "\r\n".join(["X: y"] * 300),
    "X: \x7f",
    "X: a\x0bY: b",
)
_FINE = (
    "X: \xe9",
    "x-forwarded-client-cert: a",
    "X_Doorward_Decision: a",
    "Connection: x-a, close",
    "Upgrade: h2c",
    "X:",
)

_HEADS = [
    *(Forgery(f"start {start!r}", _said(start, "Content-Length: 5") + b"hello" + FORGED) for start in _STARTS),
    *(Forgery(f"line {e[:40]!r}", _said(_OK, e, "Content-Length: 5") + b"hello" + FORGED) for e in _LINES),
    *(Forgery(f"fine {e!r}", _said(_OK, e, "Content-Length: 5") + b"hello", HELLO) for e in _FINE),
    Forgery("no reason", _said("HTTP/1.1 200", "Content-Length: 5") + b"hello", HELLO),
    Forgery("another reason", _said("HTTP/1.1 200 \xe9 <b>", "Content-Length: 5") + b"hello", HELLO),
    Forgery("no response", b""),
    Forgery("no head", b"hello\r\n\r\n"),
    Forgery("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n"),
    Forgery("another protocol without a line", b"\x00\x01\x02\x03"),
    Forgery("a head without end", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000),
    Forgery("a line without end", b"HTTP/1.1 200 " + b"a" * 200_000),
    Forgery("bare LFs", _said(_OK, "Content-Length: 5").replace(b"\r\n", b"\n") + b"hello" + FORGED),
]

FORGERIES: Final = (*_FRAMINGS, *_BODILESS, *_INTERIMS, *_HEADS)
