"""What is written reads back as the same message."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.http import writing
from sidecar.http.bodies import End
from sidecar.http.heads import Body, Fields, Framing, RequestHead, ResponseHead
from sidecar.http.reading import RequestReader, ResponseReader

LIMIT = 64 * 1024

_names = st.from_regex(rb"[Xx]-[A-Za-z0-9!#$%&'*+.^`|~-]{1,12}", fullmatch=True)
_values = st.from_regex(rb"([\x21-\x7e\x80-\xff]([\t\x20-\x7e\x80-\xff]{0,20}[\x21-\x7e\x80-\xff])?)?", fullmatch=True)
_fields = st.lists(st.tuples(_names, _values), max_size=6).map(tuple)
_pieces = st.lists(st.binary(max_size=40), max_size=5)
_methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "M-SEARCH"])
_targets = st.from_regex(rb"/[a-z0-9/%._~-]{0,20}(\?[\x21\x22\x24-\x7e]{0,10})?", fullmatch=True)


def written(framing: Framing, pieces: list[bytes], trailers: Fields) -> bytes:
    return b"".join(writing.content(piece, framing) for piece in pieces) + writing.end(trailers, framing)


def read(reader: RequestReader | ResponseReader, raw: bytes, *, ends: bool = False) -> tuple[object, bytes, End]:
    reader.feed(raw)
    if ends:
        reader.feed(b"")
    head, content = reader.next_event(), b""
    while isinstance(event := reader.next_event(), bytes):
        content += event
    assert isinstance(event, End)
    assert reader.buffered == 0
    return head, content, event


@given(_methods, _targets, _fields, _pieces, _fields, st.booleans())
def test_a_request_reads_back_as_it_was_meant(
    method: str, target: bytes, fields: Fields, pieces: list[bytes], trailers: Fields, chunked: bool
) -> None:
    framing: Framing = Body.CHUNKED if chunked else sum(map(len, pieces))
    fields = ((b"host", b"h"), *fields)
    raw = writing.request_head(method, target, fields, framing) + written(framing, pieces, trailers)
    head, content, end = read(RequestReader(LIMIT), raw)
    assert isinstance(head, RequestHead)
    assert (head.method, head.target, head.version, head.framing) == (method, target, (1, 1), framing)
    assert head.fields[: len(fields)] == fields
    assert content == b"".join(pieces)
    assert end.trailers == (trailers if chunked else ())


@given(
    st.integers(200, 599), _values, _fields, _pieces, _fields, st.sampled_from([Body.CHUNKED, Body.UNTIL_CLOSE, None])
)
def test_a_response_reads_back_as_it_was_meant(
    status: int, reason: bytes, fields: Fields, pieces: list[bytes], trailers: Fields, how: Body | None
) -> None:
    bodiless = status in (204, 304)
    framing: Framing = Body.NONE if bodiless else sum(map(len, pieces)) if how is None else how
    raw = writing.response_head(status, reason, fields, framing)
    raw += b"" if bodiless else written(framing, pieces, trailers)
    head, content, end = read(ResponseReader(LIMIT), raw, ends=framing is Body.UNTIL_CLOSE)
    assert isinstance(head, ResponseHead)
    assert (head.status, head.reason, head.framing) == (status, reason.strip(b" \t"), framing)
    assert head.fields[: len(fields)] == fields
    assert content == (b"" if bodiless else b"".join(pieces))
    assert end.trailers == (trailers if framing is Body.CHUNKED else ())


def test_an_empty_piece_does_not_end_a_chunked_body() -> None:
    assert writing.content(b"", Body.CHUNKED) == b""


def test_a_request_without_a_body_says_nothing_about_one() -> None:
    assert writing.request_head("GET", b"/", ((b"host", b"h"),), Body.NONE) == b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
