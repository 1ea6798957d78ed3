"""Raw requests that two readers may take for different ones, as data: what is sent, and what may reach an application.

Most hide a request for SMUGGLED in what one of the two readers holds for a body. `reaches` are the requests that go
on, whole and in this order; an empty tuple means that none does. Sources: RFC 9112 §2.2, §5, §6, §7.1 and §11; the
variants are those of published work on request smuggling (CL.TE, TE.CL, TE.TE, chunk extensions, h2c, line ends).
"""

from typing import Final

from attrs import frozen

SMUGGLED: Final = "/smuggled"
_HIDDEN: Final = b"GET /smuggled HTTP/1.1\r\nHost: payments\r\n\r\n"
_LAST: Final = b"0\r\n\r\n"


@frozen
class Seen:
    """A request as an application understands it."""

    method: str
    target: str
    body: bytes = b""


@frozen
class Attempt:
    """One raw request, or several on one connection."""

    name: str
    raw: bytes
    reaches: tuple[Seen, ...] = ()


def _said(start: str, *lines: str | bytes, host: str = "Host: payments") -> bytes:
    """A head: text is Latin-1, each line ends in CRLF."""
    every = [start, *([host] if host else []), *lines]
    return b"".join((each if isinstance(each, bytes) else each.encode("latin-1")) + b"\r\n" for each in every) + b"\r\n"


def _post(*lines: str | bytes) -> bytes:
    return _said("POST / HTTP/1.1", *lines)


GET: Final = (Seen("GET", "/"),)
POST: Final = (Seen("POST", "/"),)
HELLO: Final = (Seen("POST", "/", b"hello"),)

# Transfer-Encoding, alone and beside a Content-Length: what one reader takes for chunked, another does not.
_CHUNKED = ("Transfer-Encoding: chunked", "TRANSFER-ENCODING: Chunked", "transfer-encoding:chunked")
_CHUNKED += ("Transfer-Encoding:\tchunked\t", "Transfer-Encoding:   chunked  ")
NOT_QUITE_CHUNKED: tuple[str | bytes, ...] = (
    *(f"Transfer-Encoding: {coding}" for coding in ("xchunked", "chunkedx", "chunk", "cow", "identity", "")),
    *(f"Transfer-Encoding: {coding}" for coding in ("identity, chunked", "chunked, identity", "gzip, chunked")),
    *(f"Transfer-Encoding: {coding}" for coding in ("chunked, chunked", "chunked,", ",chunked", "chunked;q=1")),
    *(f"Transfer-Encoding: {coding}" for coding in ('"chunked"', "'chunked'", "chunked chunked", "chun ked")),
    *(f"Transfer-Encoding: {coding}" for coding in ("\x0bchunked", "chunked\x0b", "\x0cchunked", "chunked\0")),
    *(f"Transfer-Encoding: {coding}" for coding in ("\xa0chunked", "chunked\x85", "chunked\x1f", "\x7fchunked")),
    "Transfer-Encoding: chu\xe2\x84\xaaked".encode(),  # a Kelvin sign, which some fold to k
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    " Transfer-Encoding: chunked",
    "\tTransfer-Encoding: chunked",
    "Transfer_Encoding: chunked",
    "Transfer.Encoding: chunked",
    "Transfer-Encoding\0: chunked",
    "Transfer-Encoding\x0b: chunked",
    "\0Transfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding\r\n : chunked",
    "Transfer-\r\n Encoding: chunked",
    "X: x\nTransfer-Encoding: chunked",
    "X: x\rTransfer-Encoding: chunked",
    "X: x\x0bTransfer-Encoding: chunked\x0b\n",
    "Transfer-Encoding chunked",
    "Transfer-Encoding; chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity\r\ntransfer-encoding: chunked",
    "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
)

_CODINGS = [
    *(Attempt(f"TE {line!r}", _post(line) + _LAST, POST) for line in _CHUNKED),
    *(Attempt(f"TE {line!r}", _post(line) + _LAST + _HIDDEN) for line in NOT_QUITE_CHUNKED),
    *(
        Attempt(f"CL.TE {line!r}", _post("Content-Length: 5", line) + _LAST + _HIDDEN)
        for line in (*_CHUNKED, *NOT_QUITE_CHUNKED)
    ),
    *(
        Attempt(f"TE.CL {line!r}", _post(line, "Content-Length: 5") + _LAST + _HIDDEN)
        for line in (*_CHUNKED, *NOT_QUITE_CHUNKED)
    ),
    Attempt("TE on HTTP/1.0", _said("POST / HTTP/1.0", "Transfer-Encoding: chunked") + _LAST + _HIDDEN),
    Attempt(
        "TE on HTTP/1.0, kept alive",
        _said("POST / HTTP/1.0", "Connection: keep-alive", "Transfer-Encoding: chunked") + _LAST + _HIDDEN,
    ),
    Attempt("TE nominated", _post("Connection: transfer-encoding", _CHUNKED[0]) + b"5\r\nhello\r\n" + _LAST, HELLO),
    Attempt("TE: chunked", _post("TE: chunked, trailers", "Content-Length: 5") + b"hello", HELLO),
]

# Content-Length
LENGTHS = ("+5", "-5", "-0", "5,5", "5, 5", "5,", ",5", "0x5", "5.0", "5e0", "5;", '"5"', "5 5", "5\x0b", "", "0_5")
LENGTHS += ("\xb2", "5\xa0", "5h", "five", "\0005", "5\0", "18446744073709551621", "0" * 18 + "5", "9" * 400)
LENGTHS += ("\u0665".encode().decode("latin-1"), "\uff15".encode().decode("latin-1"))
TWO_LENGTHS = (
    "Content-Length: 5\r\nContent-Length: 5",
    "Content-Length: 5\r\ncontent-length: 0",
    "Content-Length: 0\r\nContent-Length: 5",
    "Content-Length: 5\r\nContent_Length: 0",
    "Content_Length: 0",
    "Content.Length: 5",
    "Content-Length : 5",
    " Content-Length: 5",
    "Content-Length:\r\n 5",
    "Content-Length: 5\r\n 0",
    "X: x\nContent-Length: 5",
    "X: x\rContent-Length: 5",
    "Content-Length\xa0: 5",
    "Content-Length",
)

_SIZES = [
    *(Attempt(f"CL {value!r}", _post(f"Content-Length: {value}") + b"hello" + _HIDDEN) for value in LENGTHS),
    *(Attempt(f"CL {lines!r}", _post(lines) + b"hello" + _HIDDEN) for lines in TWO_LENGTHS),
    Attempt("CL padded", _post("Content-Length: \t 5 \t") + b"hello", HELLO),
    Attempt("CL with leading zeros", _post("Content-Length: 0000005") + b"hello", HELLO),
    Attempt("CL nominated", _post("Connection: content-length", "Content-Length: 5") + b"hello", HELLO),
    Attempt("CL beyond the end", _post("Content-Length: 4294967301") + b"hello"),
    Attempt("CL of a quintillion", _post("Content-Length: 999999999999999999") + b"hello"),
    Attempt("a request as a body", _post(f"Content-Length: {len(_HIDDEN)}") + _HIDDEN, (Seen("POST", "/", _HIDDEN),)),
    Attempt(
        "a request as the body of a GET",
        _said("GET / HTTP/1.1", f"Content-Length: {len(_HIDDEN)}") + _HIDDEN,
        (Seen("GET", "/", _HIDDEN),),
    ),
    Attempt(
        "a request as the chunks of a GET",
        _said("GET / HTTP/1.1", _CHUNKED[0]) + b"%x\r\n%s\r\n" % (len(_HIDDEN), _HIDDEN) + _LAST,
        (Seen("GET", "/", _HIDDEN),),
    ),
    Attempt(
        "a request as the body of a HEAD",
        _said("HEAD / HTTP/1.1", f"Content-Length: {len(_HIDDEN)}") + _HIDDEN,
        (Seen("HEAD", "/", _HIDDEN),),
    ),
    Attempt(
        "three in a row, with a body between",
        _said("GET /1 HTTP/1.1") + _said("PUT /2 HTTP/1.1", "Content-Length: 5") + b"hello" + _said("GET /3 HTTP/1.1"),
        (Seen("GET", "/1"), Seen("PUT", "/2", b"hello"), Seen("GET", "/3")),
    ),
    Attempt("a faulty one behind a good one", _said("GET / HTTP/1.1") + _post(TWO_LENGTHS[0]) + b"hello", GET),
    Attempt("more than the length says", _post("Content-Length: 5") + b"hello\r\n" + _HIDDEN, HELLO),
]

# Chunks
_CHUNK_SIZES = ("+5", "-5", "0x5", "5_0", "_5", "5g", " 5", "\t5", "5 5", "5,5", "5.", "", ";", "\xb5", "five", "5:")
_CHUNK_SIZES += ("10000000000000005", "0000000000000005", "ffffffffffffffff", "-ffffffffffffffb", "\xff5")
_EXTENSIONS = (";", ";a", ";a=b", ';a="b"', ' ;a="; b"', "; =;;;", ";a=\xe9", "\t;\t", ";" + "a" * 900, " ", "\t ")
_BAD_EXTENSIONS = (
    ";a\n",
    ";a\r",
    ";\0",
    ";a=\x1b[2J",
    ';a="\r\n"',
    ";" + "a" * 2000,
    "\x0b",
    " a",
    "=b",
    "\\",
    ";\x7f",
)


_BAD_TRAILERS = (
    "X: a\r\n b",
    "X: a\nContent-Length: 50",
    "X : y",
    ": y",
    "X",
    "X: \0",
    "X: a\rHost: b",
    " X: y",
    "X\xe9: y",
)
_BAD_TRAILERS += ("GET /smuggled HTTP/1.1", "X: " + "y" * 70_000, "\r\n".join(["X: y"] * 300), "\n", "\r")

BROKEN_CHUNKS: Final = tuple(
    body.encode("latin-1")
    for body in (
        *(f"{size}\r\nhello\r\n0\r\n\r\n" for size in _CHUNK_SIZES),
        *(f"5{extension}\r\nhello\r\n0\r\n\r\n" for extension in _BAD_EXTENSIONS),
        *(f"5\r\nhello\r\n0{extension}\r\n\r\n" for extension in _BAD_EXTENSIONS),
        *(f"5\r\nhello\r\n0\r\n{trailer}\r\n\r\n" for trailer in _BAD_TRAILERS),
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello\r\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhelloworld\r\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\n\r\r\n",
        "\r\n0\r\n\r\n",
    )
)
"""Chunked bodies that no reader should take: the fault is in a size, an extension, a line's end or a trailer."""

CUT_OFF: Final = (b"", b"5", b"5\r\n", b"5\r\nhel", b"5\r\nhello\r\n", b"0\r\n", b"0\r\nX: y\r\n")


def _chunked(body: str | bytes, *lines: str) -> bytes:
    return _post(_CHUNKED[0], *lines) + (body if isinstance(body, bytes) else body.encode("latin-1"))


_CHUNKS = [
    *(Attempt(f"chunks {len(body)} {body[:40]!r}", _chunked(body) + _HIDDEN) for body in BROKEN_CHUNKS),
    *(Attempt(f"cut off {body!r}", _chunked(body)) for body in CUT_OFF),
    *(Attempt(f"chunk size {s!r}", _chunked(f"{s}\r\nhello\r\n0\r\n\r\n"), HELLO) for s in ("5", "05", "00000005")),
    *(Attempt(f"extension {e[:20]!r}", _chunked(f"5{e}\r\nhello\r\n0{e}\r\n\r\n"), HELLO) for e in _EXTENSIONS),
    Attempt("zeros end a body", _chunked("000\r\n\r\n"), POST),
    Attempt("an empty body", _chunked("0\r\n\r\n"), POST),
    Attempt("one byte each", _chunked("".join(f"1\r\n{c}\r\n" for c in "hello") + "0\r\n\r\n"), HELLO),
    Attempt("a last chunk as content", _chunked("5\r\n0\r\n\r\n\r\n0\r\n\r\n"), (Seen("POST", "/", _LAST),)),
]

# Trailers: whatever they say, it comes too late to frame, route or identify. What may pass is not looked at here.
_TRAILERS = ("X: y", "Content-Length: 50", "Transfer-Encoding: chunked", "Host: elsewhere", "Connection: close")
_TRAILERS += ("x-forwarded-client-cert: URI=spiffe://x/y", "X_Forwarded_Client.Cert: URI=spiffe://x/y", "Trailer: Host")
_TRAILERS += (
    "content_length: 50",
    "Transfer.Encoding: chunked",
    "Authorization: none",
    "Cookie: a=b",
    "Expect: 100-continue",
)
_TRAILERS += ("Upgrade: h2c", "Keep-Alive: 1", "X-Empty:", "X: \xe9", "TE: trailers")
_TRAILING = [
    *(Attempt(f"trailer {t!r}", _chunked(f"5\r\nhello\r\n0\r\n{t}\r\n\r\n"), HELLO) for t in _TRAILERS),
    Attempt("a nominated trailer", _chunked("5\r\nhello\r\n0\r\nX: y\r\n\r\n", "Connection: x", "Trailer: X"), HELLO),
]

BODIES: Final = (*_CODINGS, *_SIZES, *_CHUNKS, *_TRAILING)
"""Attempts at the end of a body."""
