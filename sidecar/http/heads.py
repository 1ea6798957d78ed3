"""What a message's head says, as frozen values: method or status, fields, and how the body is framed.

Nothing here came straight from a peer: refusals.py has checked every head and reading.py built it.
"""

from enum import Enum
from typing import Final

from attrs import frozen

_REPEATABLE: Final = ("GET", "HEAD", "OPTIONS")  # law 19

Fields = tuple[tuple[bytes, bytes], ...]
"""Field lines in the order in which they came: (name as written, value without surrounding whitespace)."""


class Body(Enum):
    """How a body is framed where no Content-Length says so."""

    NONE = "none"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


Framing = int | Body
"""A Content-Length in bytes, or one of the other ways (RFC 9112 §6.3)."""


@frozen
class RequestHead:
    """A request's head. `target` is as the peer wrote it; `version` is (1, 0) or (1, 1)."""

    method: str
    target: bytes
    version: tuple[int, int]
    fields: Fields
    framing: Framing

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for 100 before it sends its body (RFC 9110 §10.1.1; never on HTTP/1.0)."""
        return self.version == (1, 1) and b"100-continue" in elements(self.fields, b"expect")

    @property
    def persistent(self) -> bool:
        """Whether the client lets the connection live on. A proxy keeps none open for HTTP/1.0 (RFC 9112 §9.3)."""
        return self.version == (1, 1) and b"close" not in elements(self.fields, b"connection")


@frozen
class ResponseHead:
    """A response's head. `announced` is what its framing fields say, also where no body follows (HEAD, 304)."""

    status: int
    reason: bytes
    version: tuple[int, int]
    fields: Fields
    framing: Framing
    announced: Framing | None = None

    @property
    def interim(self) -> bool:
        """A 1xx: another head follows, except after 101."""
        return self.status < 200

    @property
    def withholds(self) -> bool:
        """Whether it announces a body that does not follow: to HEAD, and with 204 and 304."""
        return self.framing is Body.NONE and bool(self.announced)

    @property
    def persistent(self) -> bool:
        """Whether the upstream lets the connection live on once this message has been read to its end."""
        return (
            self.version == (1, 1)
            and self.framing is not Body.UNTIL_CLOSE
            and b"close" not in elements(self.fields, b"connection")
        )


@frozen
class Request:
    """A request as it goes upstream: what the client said in `head`, and what is written instead."""

    head: RequestHead
    target: bytes
    fields: Fields
    upgrade: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again on a fresh connection where a reused one turns out to be dead."""
        return self.head.method in _REPEATABLE and self.head.framing in (Body.NONE, 0)


def values(fields: Fields, name: bytes) -> list[bytes]:
    """Every value of the field `name` (lower case), in order."""
    return [value for written, value in fields if written.lower() == name]


def elements(fields: Fields, name: bytes) -> list[bytes]:
    """The elements of a comma-separated field (RFC 9110 §5.6.1), lower case, empty ones left out."""
    found = (element.strip(b" \t").lower() for value in values(fields, name) for element in value.split(b","))
    return [element for element in found if element]
