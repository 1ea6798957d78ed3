"""What does a connection speak? PURE: the first bytes in, "http", "tcp" or "not yet" out, and at once.

Only for ports declared `auto`, and only for protocols in which the client speaks first. HTTP is HTTP/1 here: a known
method, a space, and a request target; an HTTP/2 preface is raw TCP. What is not plainly HTTP is raw TCP, which fails
closed: a policy with HTTP clauses never allows it.
"""

from typing import Final

METHODS: Final = (
    # RFC 9110 §9 and RFC 5789
    *(b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"),
    # RFC 4918, WebDAV
    *(b"PROPFIND", b"PROPPATCH", b"MKCOL", b"COPY", b"MOVE", b"LOCK", b"UNLOCK"),
    # RFC 3253 and RFC 5323
    *(b"REPORT", b"SEARCH"),
)

# A Redis client says GET too, but never GET / (RFC 9112 §3.2: the forms of a target).
_STARTS: Final = (
    *(method + b" " + target for method in METHODS for target in (b"/", b"*", b"http")),
    b"CONNECT ",
)


def sniff(seen: bytes) -> str | None:
    """The protocol of a connection that began with `seen`: "http" or "tcp"; None where more bytes are needed."""
    if seen.startswith(_STARTS):
        return "http"
    if any(start.startswith(seen) for start in _STARTS):
        return None
    return "tcp"
