"""Messages out of bytes, without I/O: feed what arrived, take what it says.

    feed(data) -> next_event() -> RequestHead | ResponseHead, then bytes of content, then End; None: feed more

Heads pass our own law (refusals.py) and then h11, one h11.Connection per message; bodies are taken by their framing
(bodies.py). Bytes behind a message stay and begin the next one, so pipelining needs nothing special, and after an
upgrade `rest()` hands them over. Fed byte by byte or at once, a reader says the same.
"""

from typing import Final

import h11

from mesh.policy.reasons import Reason
from sidecar.http import refusals
from sidecar.http.blocks import Block, cut
from sidecar.http.bodies import BodyReader, End, reader_for
from sidecar.http.failures import HttpRefused, Truncated
from sidecar.http.heads import Body, Fields, Framing, RequestHead, ResponseHead, values

_BODILESS: Final = (204, 304)  # RFC 9112 §6.3
_ASKED: Final = h11.Request(
    method="GET", target="/", headers=[("host", "upstream"), ("connection", "upgrade"), ("upgrade", "websocket")]
)


class _Reader:
    """What both sides share: the buffer, its end, and the body that is being read."""

    def __init__(self, head_bytes: int, start_line: refusals.StartLine) -> None:
        self._head_bytes = head_bytes
        self._buffer = bytearray()
        self._head = Block(head_bytes, start_line)
        self._body: BodyReader | None = None
        self._ended = False

    @property
    def buffered(self) -> int:
        """Bytes that have arrived and belong to nothing that was taken yet."""
        return len(self._buffer)

    @property
    def ended(self) -> bool:
        """Whether the peer has ended its direction."""
        return self._ended

    def feed(self, data: bytes) -> None:
        """Take in what arrived; b"" says that the peer has ended its direction."""
        self._buffer += data
        self._ended = self._ended or not data

    def rest(self) -> bytes:
        """Hand over what is behind the last head, raw: the connection speaks another protocol from here."""
        return cut(self._buffer, len(self._buffer))

    def _next_of_body(self, body: BodyReader) -> bytes | End | None:
        event = body.take(self._buffer)
        if event is None and self._ended:
            if not body.at_end_of_stream:
                raise Truncated(begun=True)
            event = End()
        if isinstance(event, End):
            self._body = None
        return event

    def _next_head(self) -> bytes | None:
        raw = self._head.take(self._buffer)
        if raw is None and self._ended:
            raise Truncated(begun=bool(self._buffer))
        return raw


class RequestReader(_Reader):
    """Reads the requests of one connection. `head_bytes` bounds a head, and the trailers of a body."""

    def __init__(self, head_bytes: int) -> None:
        super().__init__(head_bytes, refusals.REQUEST_LINE)

    def next_event(self) -> RequestHead | bytes | End | None:
        """The next thing that the client says. Raises HttpRefused; Truncated where its stream ended too early."""
        if self._body is not None:
            return self._next_of_body(self._body)
        raw = self._next_head()
        if raw is None:
            return None
        head = _request(raw)
        self._body = reader_for(head.framing, self._head_bytes)
        return head


class ResponseReader(_Reader):
    """Reads the responses of one connection. Whatever is refused is the upstream's fault: 502."""

    def __init__(self, head_bytes: int) -> None:
        super().__init__(head_bytes, refusals.STATUS_LINE)
        self._method = ""

    def expect(self, method: str) -> None:
        """The next head answers a request with this method: an answer to HEAD has no body."""
        self._method = method

    def next_event(self) -> ResponseHead | bytes | End | None:
        """The next thing that the upstream says. Raises HttpRefused with 502; Truncated as above."""
        try:
            return self._next_event()
        except HttpRefused as refused:
            raise refusals.blamed_on_upstream(refused) from None

    def _next_event(self) -> ResponseHead | bytes | End | None:
        if self._body is not None:
            return self._next_of_body(self._body)
        raw = self._next_head()
        if raw is None:
            return None
        head = _response(raw, self._method)
        if not head.interim:
            self._body = reader_for(head.framing, self._head_bytes)
        return head


def _request(raw: bytes) -> RequestHead:
    refusals.check_request_head(raw)
    event = _by_h11(h11.Connection(h11.SERVER, max_incomplete_event_size=len(raw)), raw)
    assert isinstance(event, h11.Request)
    fields = tuple(event.headers.raw_items())
    framing = _announced(fields)
    return RequestHead(
        event.method.decode(),
        bytes(event.target),
        _version(event.http_version),
        fields,
        Body.NONE if framing is None else framing,
    )


def _response(raw: bytes, method: str) -> ResponseHead:
    refusals.check_response_head(raw)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=len(raw))
    if raw[9:10] == b"1":
        connection.send(_ASKED)  # h11 reads no 1xx before it has seen a request that could be answered so
    event = _by_h11(connection, raw)
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    fields = tuple(event.headers.raw_items())
    framing = announced = _announced(fields)
    if method == "HEAD" or event.status_code < 200 or event.status_code in _BODILESS:
        framing = Body.NONE
    return ResponseHead(
        event.status_code,
        bytes(event.reason),
        _version(event.http_version),
        fields,
        Body.UNTIL_CLOSE if framing is None else framing,
        announced,
    )


def _by_h11(connection: h11.Connection, raw: bytes) -> object:
    """What h11 makes of a head that passed our law; both have to accept it."""
    try:
        connection.receive_data(raw)
        return connection.next_event()
    except h11.RemoteProtocolError:
        raise HttpRefused(Reason.MALFORMED_REQUEST, 400, "the head is not one of HTTP/1.1") from None


def _announced(fields: Fields) -> Framing | None:
    """What the framing fields say; None where there is none. At most one is there, and it is well-formed (law 16)."""
    if values(fields, b"transfer-encoding"):
        return Body.CHUNKED
    for value in values(fields, b"content-length"):
        return int(value)
    return None


def _version(version: bytes) -> tuple[int, int]:
    return (1, 0) if version == b"1.0" else (1, 1)
