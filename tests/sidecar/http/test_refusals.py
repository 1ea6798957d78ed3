"""The strict law about heads, byte by byte (law 16)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.policy.reasons import Reason
from sidecar.http.failures import HttpRefused
from sidecar.http.refusals import MAX_FIELDS, check_request_head, check_response_head

GOOD_REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"POST /charges?x=%20 HTTP/1.1\r\nhost: payments.shop:8080\r\nContent-Length: 0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: Chunked\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost:\r\nX-Empty:\r\n\r\n",
    b"M-SEARCH / HTTP/1.1\r\nHost: a\r\nX: \t padded caf\xc3\xa9 \t\r\n\r\n",
    b"GET http://a.b/c HTTP/1.1\r\nHost: a\r\n\r\n",
]

FAULTS = {
    "bare LF after the request line": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", Reason.MALFORMED_REQUEST),
    "bare LF after a field": (b"GET / HTTP/1.1\r\nHost: a\n\r\n", Reason.MALFORMED_REQUEST),
    "bare LF at the end": (b"GET / HTTP/1.1\r\nHost: a\r\n\n", Reason.MALFORMED_REQUEST),
    "bare CR in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", Reason.MALFORMED_REQUEST),
    "folded line": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", Reason.MALFORMED_REQUEST),
    "folded with a tab": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n", Reason.MALFORMED_REQUEST),
    "NUL in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", Reason.MALFORMED_REQUEST),
    "escape in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x1b[0m\r\n\r\n", Reason.MALFORMED_REQUEST),
    "DEL in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", Reason.MALFORMED_REQUEST),
    "space before the colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", Reason.MALFORMED_REQUEST),
    "no colon": (b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", Reason.MALFORMED_REQUEST),
    "no name": (b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", Reason.MALFORMED_REQUEST),
    "letter outside ASCII in a name": (b"GET / HTTP/1.1\r\nHost: a\r\nX\xe9: x\r\n\r\n", Reason.MALFORMED_REQUEST),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", Reason.MALFORMED_REQUEST),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Reason.MALFORMED_REQUEST),
    "user info in Host": (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Reason.MALFORMED_REQUEST),
    "path in Host": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Reason.MALFORMED_REQUEST),
    "a port and no name in Host": (b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", Reason.MALFORMED_REQUEST),
    "list in Host": (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Reason.MALFORMED_REQUEST),
    "star for GET": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", Reason.MALFORMED_REQUEST),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\n", Reason.MALFORMED_REQUEST),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", Reason.MALFORMED_REQUEST),
    "HTTP/0.9": (b"GET /\r\n\r\n", Reason.NOT_HTTP),
    "lower-case protocol": (b"GET / http/1.1\r\nHost: a\r\n\r\n", Reason.NOT_HTTP),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Reason.NOT_HTTP),
    "tab in the request line": (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason.NOT_HTTP),
    "space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Reason.NOT_HTTP),
    "letter outside ASCII in the target": (b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n", Reason.NOT_HTTP),
    "trailing space": (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Reason.NOT_HTTP),
    "empty line first": (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Reason.NOT_HTTP),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", Reason.NOT_HTTP),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Reason.METHOD_REFUSED),
    "lower-case method": (b"post / HTTP/1.1\r\nHost: a\r\n\r\n", Reason.METHOD_REFUSED),
    "strange method": (b"P`ST / HTTP/1.1\r\nHost: a\r\n\r\n", Reason.METHOD_REFUSED),
}

FRAMINGS = {
    "TE with CL": b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    "CL with TE": b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    "CL twice, equal": b"Content-Length: 3\r\nContent-Length: 3\r\n",
    "CL twice, different": b"Content-Length: 3\r\ncontent-length: 4\r\n",
    "CL list": b"Content-Length: 3, 3\r\n",
    "CL signed": b"Content-Length: +3\r\n",
    "CL negative": b"Content-Length: -3\r\n",
    "CL hexadecimal": b"Content-Length: 0x3\r\n",
    "CL empty": b"Content-Length:\r\n",
    "CL too long": b"Content-Length: 1000000000000000000\r\n",
    "CL with letters": b"Content-Length: 3a\r\n",
    "TE twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "TE list": b"Transfer-Encoding: gzip, chunked\r\n",
    "TE identity": b"Transfer-Encoding: identity\r\n",
    "TE misspelt": b"Transfer-Encoding: xchunked\r\n",
    "TE empty": b"Transfer-Encoding:\r\n",
    "TE quoted": b'Transfer-Encoding: "chunked"\r\n',
    "CL with an underscore": b"Content_Length: 3\r\n",
    "TE with an underscore": b"transfer_encoding: chunked\r\n",
    "CL with a dot": b"Content.Length: 3\r\n",
}


@pytest.mark.parametrize("raw", GOOD_REQUESTS)
def test_a_well_formed_request_head_is_taken(raw: bytes) -> None:
    check_request_head(raw)


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_request_head_is_refused_with_its_reason(name: str) -> None:
    raw, reason = FAULTS[name]
    with pytest.raises(HttpRefused) as caught:
        check_request_head(raw)
    assert caught.value.reason is reason
    assert caught.value.error == "refused"


@pytest.mark.parametrize("name", FRAMINGS)
def test_framing_that_can_be_read_in_two_ways_is_refused_on_both_sides(name: str) -> None:
    with pytest.raises(HttpRefused) as caught:
        check_request_head(b"POST / HTTP/1.1\r\nHost: a\r\n" + FRAMINGS[name] + b"\r\n")
    assert (caught.value.reason, caught.value.status) == (Reason.AMBIGUOUS_FRAMING, 400)
    with pytest.raises(HttpRefused) as caught:
        check_response_head(b"HTTP/1.1 200 OK\r\n" + FRAMINGS[name] + b"\r\n")
    assert (caught.value.reason, caught.value.status) == (Reason.UPSTREAM_MALFORMED, 502)


@pytest.mark.parametrize("start", [b"POST / HTTP/1.0\r\n", b"POST / HTTP/1.0\r\nHost: a\r\n"])
def test_transfer_encoding_on_http_1_0_is_refused(start: bytes) -> None:
    with pytest.raises(HttpRefused) as caught:
        check_request_head(start + b"Transfer-Encoding: chunked\r\n\r\n")
    assert caught.value.reason is Reason.AMBIGUOUS_FRAMING


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200 \r\n\r\n",
        b"HTTP/1.0 404 Not Found at all\r\nX: y\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_a_well_formed_response_head_is_taken(raw: bytes) -> None:
    check_response_head(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 No\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_a_faulty_response_head_is_the_upstreams_fault(raw: bytes) -> None:
    with pytest.raises(HttpRefused) as caught:
        check_response_head(raw)
    assert (caught.value.reason, caught.value.status) == (Reason.UPSTREAM_MALFORMED, 502)


def test_the_number_of_header_lines_is_bounded() -> None:
    start = b"GET / HTTP/1.1\r\nHost: a\r\n"
    check_request_head(start + b"A: b\r\n" * (MAX_FIELDS - 1) + b"\r\n")
    with pytest.raises(HttpRefused) as caught:
        check_request_head(start + b"A: b\r\n" * MAX_FIELDS + b"\r\n")
    assert (caught.value.reason, caught.value.status) == (Reason.HEAD_TOO_LARGE, 431)


@given(st.binary(max_size=200))
def test_whatever_the_bytes_there_is_a_verdict_and_it_quotes_nothing(raw: bytes) -> None:
    for check in (check_request_head, check_response_head):
        verdict = None
        try:
            check(raw)
        except HttpRefused as refused:
            verdict = refused
        assert verdict is None or (verdict.detail and verdict.status in (400, 431, 501, 502, 505))


@given(st.sampled_from(GOOD_REQUESTS), st.data())
def test_one_foreign_byte_never_yields_a_second_head(raw: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(raw)))
    changed = raw[:place] + data.draw(st.sampled_from([b"\n", b"\r", b"\0", b"\x0b", b"\x0c", b"\x1f"])) + raw[place:]
    with pytest.raises(HttpRefused):
        check_request_head(changed)
