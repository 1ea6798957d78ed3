"""Bytes into messages: pieces never matter, nothing ambiguous is taken, and what follows a message begins the next."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mesh.policy.reasons import Reason
from sidecar.http.bodies import MAX_CHUNK_LINE, End
from sidecar.http.failures import HttpRefused, Truncated
from sidecar.http.heads import Body, RequestHead, ResponseHead
from sidecar.http.reading import RequestReader, ResponseReader

LIMIT = 1024
Reader = RequestReader | ResponseReader


def said(reader: Reader, pieces: Iterable[bytes]) -> list[Any]:
    """Everything that a reader says about these pieces; content is joined, a refusal ends the list."""
    events: list[Any] = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (event := reader.next_event()) is not None:
                if isinstance(event, bytes) and events and isinstance(events[-1], bytes):
                    events[-1] += event
                else:
                    events.append(event)
                if isinstance(event, End) and reader.ended:
                    return events
    except HttpRefused as refused:
        events.append((refused.reason, refused.status, refused.detail))
    except Truncated as truncated:
        events.append(("truncated", truncated.begun))
    return events


def request(*pieces: bytes) -> list[Any]:
    return said(RequestReader(LIMIT), pieces)


def response(*pieces: bytes, method: str = "GET") -> list[Any]:
    reader = ResponseReader(LIMIT)
    reader.expect(method)
    return said(reader, pieces)


def test_a_request_without_a_body_is_a_head_and_an_end() -> None:
    head, end = request(b"GET /a?b HTTP/1.1\r\nHost: h\r\nX-Case: Kept\r\n\r\n")
    assert head == RequestHead("GET", b"/a?b", (1, 1), ((b"Host", b"h"), (b"X-Case", b"Kept")), Body.NONE)
    assert end == End()


def test_content_length_frames_a_body_and_the_next_request_follows() -> None:
    events = request(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nHost: h\r\n\r\n")
    assert events[0].framing == 3
    assert events[1:3] == [b"abc", End()]
    assert events[3].target == b"/2"


def test_an_explicit_length_of_zero_is_told_from_no_length() -> None:
    assert request(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")[0].framing == 0


def test_chunks_extensions_and_trailers() -> None:
    head, content, end = request(
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        b'3;name="value"\r\nabc\r\n00A \r\n0123456789\r\n0\r\nX-Sum: 13\r\nY: z\r\n\r\n',
    )
    assert head.framing is Body.CHUNKED
    assert content == b"abc0123456789"
    assert end.trailers == ((b"X-Sum", b"13"), (b"Y", b"z"))


CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b"3\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nabc\r\n0\r\n\n",
        b"0\r\nX: y\n\r\n",
        b"0\r\nX: y\r\n z\r\n\r\n",
        b"0\r\nX : y\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b" 3\r\nabc\r\n0\r\n\r\n",
        b"\r\n\r\n",
        b"3;a\0b\r\nabc\r\n0\r\n\r\n",
        b"3;a\rb\r\nabc\r\n0\r\n\r\n",
        b"3 4\r\nabc\r\n0\r\n\r\n",
        b"1" * 16 + b"\r\n",
        b"3;" + b"x" * MAX_CHUNK_LINE + b"\r\nabc",
        b"0\r\n" + b"X: y\r\n" * 400 + b"\r\n",
    ],
)
def test_chunks_that_can_be_read_in_two_ways_are_refused(body: bytes) -> None:
    whole = request(CHUNKED + body)
    assert whole[-1][0] in (Reason.MALFORMED_REQUEST, Reason.HEAD_TOO_LARGE)
    assert request(*(bytes([byte]) for byte in CHUNKED + body))[-1] == whole[-1]


def test_a_head_over_the_limit_is_refused_with_431() -> None:
    start = b"GET / HTTP/1.1\r\nHost: h\r\nX: "
    fits = start + b"x" * (LIMIT - len(start) - 4) + b"\r\n\r\n"
    assert isinstance(request(fits)[0], RequestHead)
    assert request(fits[:-4] + b"x\r\n\r\n")[0][:2] == (Reason.HEAD_TOO_LARGE, 431)


@pytest.mark.parametrize("start", [b"\x16", b"\x16\x03\x01", b"\0", b"1", b" ", b"\r", b"\n", b"\xff"])
def test_what_cannot_begin_a_request_is_refused_at_its_first_byte(start: bytes) -> None:
    assert request(start)[0][:2] == (Reason.NOT_HTTP, 400)


def test_a_bare_line_feed_is_refused_when_it_comes_not_when_time_is_up() -> None:
    assert request(b"GET / HTTP/1.1\n")[0][0] is Reason.MALFORMED_REQUEST


@pytest.mark.parametrize(
    ("sent", "begun"),
    [
        (b"", False),
        (b"GET / HT", True),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab", True),
        (CHUNKED + b"3\r\nabc\r\n0\r\n", True),
    ],
)
def test_a_stream_that_ends_too_early_is_truncated(sent: bytes, begun: bool) -> None:
    assert request(sent, b"")[-1] == ("truncated", begun)


@pytest.mark.parametrize(
    ("head", "method", "framing", "announced"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", Body.NONE, 5),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", Body.NONE, Body.CHUNKED),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "GET", Body.NONE, None),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET", Body.NONE, 5),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", 5, 5),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", Body.CHUNKED, Body.CHUNKED),
        (b"HTTP/1.1 200 OK\r\n\r\n", "GET", Body.UNTIL_CLOSE, None),
        (b"HTTP/1.0 200 OK\r\n\r\n", "GET", Body.UNTIL_CLOSE, None),
    ],
)
def test_how_a_response_is_framed(head: bytes, method: str, framing: object, announced: object) -> None:
    first = response(head, method=method)[0]
    assert (first.framing, first.announced) == (framing, announced)


def test_interim_responses_come_before_the_final_one() -> None:
    events = response(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    assert [event.status for event in events if isinstance(event, ResponseHead)] == [100, 103, 200]
    assert events[-2:] == [b"ok", End()]


def test_a_response_until_close_ends_with_the_stream() -> None:
    assert response(b"HTTP/1.0 200 OK\r\n\r\nall ", b"of it", b"")[1:] == [b"all of it", End()]


def test_what_follows_an_upgrade_is_handed_over_raw() -> None:
    reader = ResponseReader(LIMIT)
    reader.expect("GET")
    reader.feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x02hi")
    head = reader.next_event()
    assert isinstance(head, ResponseHead)
    assert head.status == 101
    assert reader.rest() == b"\x81\x02hi"
    assert reader.buffered == 0


@pytest.mark.parametrize("garbage", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x15\x03\x03\x00\x02\x02\x46", b"HTTP/1.1 2\r\n"])
def test_garbage_from_the_upstream_is_its_fault(garbage: bytes) -> None:
    assert response(garbage)[0][:2] == (Reason.UPSTREAM_MALFORMED, 502)


@pytest.mark.parametrize(
    ("head", "persistent"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\n\r\n", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
    ],
)
def test_when_an_upstream_connection_may_live_on(head: bytes, persistent: bool) -> None:
    assert response(head)[0].persistent is persistent


@pytest.mark.parametrize(
    ("method", "status", "framing", "withholds"),
    [
        ("GET", 200, b"Content-Length: 0", False),
        ("GET", 204, b"X: y", False),
        ("GET", 204, b"Content-Length: 3", True),
        ("GET", 204, b"Transfer-Encoding: chunked", True),
        ("GET", 304, b"Content-Length: 3", True),
        ("HEAD", 200, b"Content-Length: 0", False),
        ("HEAD", 200, b"Transfer-Encoding: chunked", True),
    ],
)
def test_when_a_response_withholds_the_body_that_it_announces(
    method: str, status: int, framing: bytes, withholds: bool
) -> None:
    head = response(b"HTTP/1.1 %d x\r\n%s\r\n\r\n" % (status, framing), method=method)[0]
    assert head.withholds is withholds


# Laws ---------------------------------------------------------------------------------------------------------------

_LINES = st.sampled_from(
    [b"Host: h", b"Content-Length: 4", b"Transfer-Encoding: chunked", b"X: y", b"Connection: close", b" folded", b"bad"]
)
_STARTS = st.sampled_from(
    [b"GET / HTTP/1.1", b"POST /a HTTP/1.1", b"POST / HTTP/1.0", b"get / HTTP/1.1", b"PRI * HTTP/2.0"]
)
_ENDS = st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r", b"\r\r\n"])
_BODIES = st.sampled_from(
    [b"", b"abcd", b"4\r\nabcd\r\n0\r\n\r\n", b"4\r\nabcd\r\n0\r\nT: u\r\n\r\n", b"4\nabcd\n0\n\n", b"zz", b"\0"]
)


@st.composite
def messages(draw: st.DrawFn, starts: st.SearchStrategy[bytes] = _STARTS) -> bytes:
    """Mostly well-formed messages, one or two behind each other."""
    raw = b""
    for _ in range(draw(st.integers(1, 2))):
        lines = [draw(starts), b"Host: h", *draw(st.lists(_LINES, max_size=3))]
        raw += b"".join(line + draw(_ENDS) for line in lines) + draw(_ENDS) + draw(_BODIES)
    return raw


def pieces_of(raw: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({cut % (len(raw) + 1) for cut in cuts}), len(raw)]
    return [raw[a:b] for a, b in pairwise(edges) if a < b]


@given(messages(), st.lists(st.integers(0, 400), max_size=6), st.booleans())
@example(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n\r\n", [], False)
def test_a_request_reader_says_the_same_however_the_bytes_arrive(raw: bytes, cuts: list[int], ends: bool) -> None:
    end = [b""] if ends else []
    whole = request(*pieces_of(raw, []), *end)
    assert request(*pieces_of(raw, cuts), *end) == whole
    assert request(*(bytes([byte]) for byte in raw), *end) == whole


@given(
    messages(st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 100 C", b"HTTP/1.1 204 N", b"HTP"]))
)
def test_a_response_reader_says_the_same_however_the_bytes_arrive(raw: bytes) -> None:
    assert response(*(bytes([byte]) for byte in raw), b"") == response(raw, b"")


@given(st.binary(min_size=1, max_size=300))
def test_a_reader_survives_any_bytes(raw: bytes) -> None:
    for read in (request, response):
        assert read(*(bytes([byte]) for byte in raw), b"") == read(raw, b"")


@given(messages())
def test_whatever_is_taken_means_the_same_to_h11(raw: bytes) -> None:
    """What h11 alone would read differently, or not at all, is never taken."""
    ours = request(raw)
    theirs = _by_h11(raw)
    if ours and isinstance(ours[-1], tuple):
        ours.pop()  # we refuse more than h11 does
    assert ours == theirs[: len(ours)]


def _by_h11(raw: bytes) -> list[Any]:
    events: list[Any] = []
    while True:
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(raw)
        try:
            for event in iter(connection.next_event, h11.NEED_DATA):
                match event:
                    case h11.Request():
                        fields = tuple(event.headers.raw_items())
                        framing = _framing(event.headers)
                        version = (1, 0) if event.http_version == b"1.0" else (1, 1)
                        events.append(RequestHead(event.method.decode(), bytes(event.target), version, fields, framing))
                    case h11.Data() if events and isinstance(events[-1], bytes):
                        events[-1] += bytes(event.data)
                    case h11.Data():
                        events.append(bytes(event.data))
                    case h11.EndOfMessage():
                        events.append(End(tuple(event.headers.raw_items())))
                        break
            else:
                return events
        except h11.RemoteProtocolError:
            return [*events, "refused"]
        raw = connection.trailing_data[0]
        if not raw:
            return events


def _framing(headers: h11._headers.Headers) -> int | Body:
    found = dict(headers)
    if b"transfer-encoding" in found:
        return Body.CHUNKED
    return int(found[b"content-length"]) if b"content-length" in found else Body.NONE
