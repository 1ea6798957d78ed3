"""Raw requests whose head two readers may understand differently, as data; see smuggling.py, which has the bodies."""

from typing import Final

from tests.support.smuggling import GET, HELLO, SMUGGLED, Attempt, Seen

_HIDDEN: Final = b"GET /smuggled HTTP/1.1\r\nHost: payments\r\n\r\n"


def _head(*lines: str | bytes, start: str = "GET / HTTP/1.1") -> bytes:
    """A head with these lines behind its start line: text is Latin-1, each line ends in CRLF."""
    return b"".join((e if isinstance(e, bytes) else e.encode("latin-1")) + b"\r\n" for e in (start, *lines)) + b"\r\n"


def _get(*lines: str | bytes) -> bytes:
    return _head("Host: payments", *lines)


# The first line
_STARTS = ("GET /", "GET / HTTP/0.9", "GET / HTTP/1.2", "GET / HTTP/1.10", "GET / HTTP/01.1", "GET / HTTP/2.0")
_STARTS += ("GET / HTTP/1.1 ", " GET / HTTP/1.1", "GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET\t/ HTTP/1.1")
_STARTS += ("GET / HTTP/1.1\0", "GET / http/1.1", "GET / HTTP/1,1", "GET / HTTP 1.1", "GET / HTTP/1.1 HTTP/1.1")
_STARTS += ("GET / a HTTP/1.1", "GET /\0 HTTP/1.1", "GET /\xe9 HTTP/1.1", "GET /\x0b HTTP/1.1", "GET /\x7f HTTP/1.1")
_STARTS += ("GET HTTP/1.1", "/ HTTP/1.1", "GET / HTTP/1.1\x0b", "GET / HTTP/\xb11.1", "G\xc9T / HTTP/1.1")
_STARTS += (
    "get / HTTP/1.1",
    "Get / HTTP/1.1",
    "G ET / HTTP/1.1",
    "GET: / HTTP/1.1",
    "GET\0 / HTTP/1.1",
    "_GET / HTTP/1.1",
)
_STARTS += ("X" * 33 + " / HTTP/1.1", "CONNECT payments:8080 HTTP/1.1", "CONNECT / HTTP/1.1", "GET * HTTP/1.1")
_STARTS += ("GET http://a b/ HTTP/1.1", "GET /" + "a" * 70_000 + " HTTP/1.1")
# Refused, yet it is plain where such a request ends: what stands behind it is a request of its own.
_TARGETS = (
    "payments:8080",
    "ftp://payments/",
    "http:/payments/",
    "?",
    "http://u@payments/",
    "http:///x",
    "http://:80/",
)
_TARGETS += ("http://payments\\@elsewhere/", "//payments\\..\\x", "/#x", "/?a#b", "http://payments#/", "/%2f", "/..")
_STARTS_1_0 = ("GET / HTTP/1.0", "GET /?x HTTP/1.0")

_FIRST_LINES = [
    *(Attempt(f"start {s[:40]!r}", _head("Host: payments", start=s) + _HIDDEN) for s in _STARTS),
    *(
        Attempt(f"target {t!r}", _head("Host: payments", start=f"GET {t} HTTP/1.1") + _HIDDEN, (Seen("GET", SMUGGLED),))
        for t in _TARGETS
    ),
    *(Attempt(f"start {s!r}", _head("Host: payments", start=s), (Seen("GET", s.split()[1]),)) for s in _STARTS_1_0),
    Attempt("HTTP/1.0 is one request", _head("Connection: keep-alive", start="GET / HTTP/1.0") + _HIDDEN, GET),
    Attempt("an own method", _head("Host: payments", start="M-SEARCH / HTTP/1.1"), (Seen("M-SEARCH", "/"),)),
    Attempt("TRACE", _head("Host: payments", start="TRACE / HTTP/1.1"), (Seen("TRACE", "/"),)),
    Attempt("OPTIONS *, which no path allows", _head("Host: payments", start="OPTIONS * HTTP/1.1")),
    Attempt("absolute-form", _head("Host: elsewhere", start="GET http://payments/ HTTP/1.1"), GET),
    Attempt(
        "absolute-form without a path",
        _head("Host: payments", start="GET http://payments?a HTTP/1.1"),
        (Seen("GET", "/?a"),),
    ),
    Attempt("an empty line first", b"\r\n" + _get() + _HIDDEN),
    Attempt("a bare LF first", b"\n" + _get() + _HIDDEN),
    Attempt("a NUL first", b"\0" + _get() + _HIDDEN),
    Attempt("an empty line between two", _get() + b"\r\n" + _HIDDEN, GET),
    Attempt("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])),
    Attempt("bare LFs alone", _get().replace(b"\r\n", b"\n") + _HIDDEN),
    Attempt("bare CRs alone", _get().replace(b"\r\n", b"\r") + _HIDDEN),
    Attempt("LF CR", _get().replace(b"\r\n", b"\n\r") + _HIDDEN),
    Attempt("CR CR LF", _get().replace(b"\r\n", b"\r\r\n") + _HIDDEN),
    Attempt("the last line end bare", _get()[:-2] + b"\n" + _HIDDEN),
    Attempt("the last line end a CR", _get()[:-2] + b"\r" + _HIDDEN),
    Attempt("no empty line", _get()[:-2] + _HIDDEN),
    Attempt("TLS within", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + _get()),
    Attempt("cut off in the head", _get()[:-3]),
]

# Host
_HOSTS = ("Host: payments\r\nHost: payments", "Host: payments\r\nhost: elsewhere", "Host: payments\r\n Host: elsewhere")
_HOSTS += ("Host : payments", "Host: u@payments", "Host: payments/x", "Host: payments elsewhere", "Host: a, payments")
_HOSTS += (
    "Host: payments\0",
    "Host: payments:80:81",
    "Host: payments:x",
    "Host: payments:999999",
    "Host: [::1",
    "Host: :80",
)
_HOSTS += (
    "Host: payments\\",
    "Host: payments?x",
    "Host: payments#x",
    "Host: p\xe4yments",
    "Host:\r\n payments",
    "Host:payments\x0b",
)
_HOSTS += ("X: y", "Host; payments", "Host", "\0Host: payments", "Host: payments\nHost: elsewhere", "Host: <payments>")

_NAMED = [
    *(Attempt(f"host {h!r}", _head(h) + _HIDDEN) for h in _HOSTS),
    Attempt("a host that looks like Host", _get("Host_: elsewhere", "X-Host: elsewhere"), GET),
    Attempt("no host on HTTP/1.0", _head(start="GET / HTTP/1.0"), GET),
    Attempt("host nominated", _get("Connection: host"), GET),
    Attempt("host with a port", _head("HOST:payments:8080"), GET),
]

# Fields
_LINES: tuple[str | bytes, ...] = (
    ": y",
    " : y",
    "X",
    "X y",
    "X\xe9: y",
    "X\0: y",
    "X: \0",
    "X: a\0b",
    "X: \x1b[2J",
    "X: \x7f",
)
_LINES += (
    *(f"X{c}Y: z" for c in '(),/;<=>?@[\\]{}" \t'),
    "X : y",
    "X\t: y",
    "X: a\r\n b",
    "X: a\r\n\tb",
    " X: y",
    "X: \x08",
)
_LINES += (
    "X: a\nY: b",
    "X: a\rY: b",
    "X: a\r\n\nY: b",
    "X" * 70_000 + ": y",
    "X: " + "y" * 70_000,
    "\r\n".join(["X: y"] * 300),
)
_FINE: tuple[str | bytes, ...] = (
    "X: \xe9\xff\x80",
    "X: café".encode(),
    "!#$%&'*+-.^_`|~9: x",
    "X:",
    "X: \t ",
    "X:a:b: c",
    'X: {"a"}',
)
_FINE += ("X" * 8000 + ": y", "X: " + "y" * 50_000, "\r\n".join(["X: y"] * 90), "X: a\x85Transfer-Encoding: chunked")
_FINE += (
    "Connection: close, x-forwarded-client-cert",
    "Connection: X-Forwarded-Client-Cert",
    "Connection: ,,;\x22",
    "Connection: @",
)
_FINE += (
    "Keep-Alive: timeout=99999999999",
    "Proxy-Connection: keep-alive",
    "TE: trailers",
    "TE: chunked",
    "Trailer: Host",
)
_FINE += (
    "x-forwarded-client-cert: URI=spiffe://x/y",
    "x_forwarded_client_cert: URI=spiffe://x/y",
    "X.Forwarded-Client_Cert: x",
)
_FINE += (
    "X-Forwarded-Client-Cert: a\r\nx-forwarded-client-cert: b",
    "X-Doorward-Decision: forged",
    "x_doorward_anything: forged",
)
_FINE += ("Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",)
_FINE += (
    "Connection: upgrade\r\nUpgrade: h2c, websocket",
    "Connection: upgrade\r\nUpgrade: TLS/1.0",
    "Upgrade: websocket",
)
_FINE += (
    "Expect: 100-continue",
    "Expect: 100-Continue, x",
    "Expect: 200-ok",
    "Expect: x\r\nExpect: 100-continue",
    "Expect:",
)

_EXPECTS = (
    "Expect: 100-continue",
    "Expect: 100-CONTINUE",
    "Expect: x",
    "Expect: 100-continue, x",
    "Expect: x\r\nExpect: 100-continue",
)

_FIELDS = [
    *(Attempt(f"line {line[:40]!r}", _get(line) + _HIDDEN) for line in _LINES),
    *(Attempt(f"fine line {line[:40]!r}", _get(line), GET) for line in _FINE),
    *(
        Attempt(
            f"{e!r} and a body",
            _head("Host: payments", "Content-Length: 5", e, start="POST / HTTP/1.1") + b"hello",
            HELLO,
        )
        for e in _EXPECTS
    ),
    Attempt(
        "an upgrade that is not granted",
        _get("Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x") + _HIDDEN,
        (*GET, Seen("GET", SMUGGLED)),
    ),
    Attempt(
        "an upgrade with a body",
        _get("Connection: upgrade", "Upgrade: websocket", f"Content-Length: {len(_HIDDEN)}") + _HIDDEN,
        (Seen("GET", "/", _HIDDEN),),
    ),
]

HEADS: Final = (*_FIRST_LINES, *_NAMED, *_FIELDS)
"""Attempts at the meaning of a head."""

HTTP_2: Final = {
    "at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]),
    "by upgrade": _head(
        "Host: localhost",
        "Connection: upgrade, http2-settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
        start="GET /live HTTP/1.1",
    ),
}
"""Ways to ask for HTTP/2 without TLS (RFC 9113 §3, RFC 7540 §3.2)."""
