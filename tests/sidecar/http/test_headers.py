"""Which fields pass, and which only Doorward sets (laws 17, 18)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.spiffe import SpiffeId
from sidecar.http import headers
from sidecar.http.heads import Body, Fields, RequestHead, ResponseHead

OWN = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/payments")
CALLER = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/checkout")
IDENTITY = (b"x-forwarded-client-cert", f"By={OWN};URI={CALLER}".encode())


def request(*fields: tuple[bytes, bytes], method: str = "GET", version: tuple[int, int] = (1, 1)) -> RequestHead:
    return RequestHead(method, b"/", version, ((b"Host", b"h"), *fields), Body.NONE)


def sent(*fields: tuple[bytes, bytes], upgrade: bool = False, **options: object) -> Fields:
    identified = headers.identity(OWN, CALLER)
    return headers.request_fields(request(*fields, **options), b"h", upgrade=upgrade, identified=identified)


def passed(head: ResponseHead, *, own: bool = True, close: bool = False) -> Fields:
    return headers.response_fields(head, own=own, close=close)


def response(*fields: tuple[bytes, bytes], status: int = 200, **options: object) -> ResponseHead:
    return ResponseHead(status, b"", (1, 1), fields, **{"framing": Body.NONE, **options})


def test_other_fields_pass_in_their_order_and_writing() -> None:
    fields = ((b"X-B", b"2"), (b"traceparent", b"00-a-b-01"), (b"x-a", b"1"), (b"X-B", b"3"), (b"Cookie", b"c"))
    assert sent(*fields) == ((b"host", b"h"), *fields, IDENTITY)


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Connection",
        b"TE",
        b"Transfer-Encoding",
        b"Upgrade",
        b"HTTP2-Settings",
        b"Content-Length",
    ],
)
def test_fields_of_one_hop_go_no_further(name: bytes) -> None:
    assert sent((name, b"x")) == ((b"host", b"h"), IDENTITY)


@pytest.mark.parametrize(
    "name",
    [
        b"x-forwarded-client-cert",
        b"X-Forwarded-Client-Cert",
        b"x_forwarded_client_cert",
        b"X-Forwarded_Client-Cert",
        b"x.forwarded.client.cert",
        b"x-doorward-decision",
        b"X_Doorward_Decision",
        b"x-doorward-anything",
    ],
)
def test_a_spoofed_field_of_ours_is_dropped_from_requests_responses_and_trailers(name: bytes) -> None:
    assert sent((name, b"spoofed")) == ((b"host", b"h"), IDENTITY)
    assert passed(response((name, b"spoofed"))) == ()
    assert headers.trailers(((name, b"spoofed"),), request(), own=True) == ()


def test_between_sidecars_our_own_fields_pass() -> None:
    decision = (b"x-doorward-decision", b"payments-1")
    assert passed(response(decision), own=False) == (decision,)


def test_nominations_are_applied_first_and_identity_is_set_last() -> None:
    got = sent((b"Connection", b"x-a, X-Forwarded-Client-Cert"), (b"X-A", b"1"), (b"x-b", b"2"))
    assert got == ((b"host", b"h"), (b"x-b", b"2"), IDENTITY)


def test_a_nomination_cannot_remove_host() -> None:
    assert sent((b"Connection", b"host, content-length")) == ((b"host", b"h"), IDENTITY)


def test_identity_is_one_element_and_absent_for_a_plaintext_caller() -> None:
    assert headers.identity(OWN, CALLER) == (IDENTITY,)
    head = request((b"x-forwarded-client-cert", b"URI=spiffe://x/y"))
    assert headers.request_fields(head, b"h", upgrade=False) == ((b"host", b"h"),)


def test_te_trailers_is_said_anew_for_the_next_hop() -> None:
    got = sent((b"TE", b"trailers, gzip;q=0.5"), (b"Connection", b"TE"))
    assert got == ((b"host", b"h"), (b"connection", b"te"), (b"te", b"trailers"), IDENTITY)


def test_an_upgrade_is_said_anew_for_the_next_hop() -> None:
    got = sent((b"Upgrade", b"websocket"), (b"Connection", b"keep-alive, Upgrade"), upgrade=True)
    assert got == ((b"host", b"h"), (b"connection", b"upgrade"), (b"upgrade", b"websocket"), IDENTITY)


def test_expect_passes_from_http_1_1_only() -> None:
    expect = (b"Expect", b"100-continue")
    assert expect in sent(expect)
    assert expect not in sent(expect, version=(1, 0))


@pytest.mark.parametrize(
    ("fields", "options", "asks"),
    [
        ([(b"Connection", b"Upgrade"), (b"Upgrade", b"WebSocket")], {}, True),
        ([(b"Connection", b"keep-alive, upgrade"), (b"Upgrade", b"h2c, websocket")], {}, True),
        ([(b"Upgrade", b"websocket")], {}, False),
        ([(b"Connection", b"Upgrade"), (b"Upgrade", b"h2c")], {}, False),
        ([(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket/13")], {}, False),
        ([(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")], {"method": "POST"}, False),
        ([(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")], {"version": (1, 0)}, False),
    ],
)
def test_only_websocket_is_an_upgrade(fields: list[tuple[bytes, bytes]], options: dict, asks: bool) -> None:
    assert headers.asks_websocket(request(*fields, **options)) is asks


@pytest.mark.parametrize(
    ("fields", "grants"),
    [
        ([(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")], True),
        ([(b"Upgrade", b"websocket")], False),
        ([(b"Connection", b"Upgrade"), (b"Upgrade", b"h2c")], False),
        ([(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket, h2c")], False),
        ([(b"Connection", b"Upgrade")], False),
    ],
)
def test_only_a_matching_101_grants_it(fields: list[tuple[bytes, bytes]], grants: bool) -> None:
    assert headers.grants_websocket(response(*fields, status=101)) is grants


def test_close_is_said_once() -> None:
    head = response((b"Connection", b"keep-alive, x-hop"), (b"X-Hop", b"1"), (b"Content-Length", b"5"))
    assert passed(head, close=True) == ((b"connection", b"close"),)


@pytest.mark.parametrize(
    "name",
    [
        b"Content-Length",
        b"content_length",
        b"Transfer-Encoding",
        b"Transfer.Encoding",
        b"Host",
        b"Authorization",
        b"Set-Cookie",
        b"SET_COOKIE",
        b"Content-Type",
        b"TE",
    ],
)
def test_what_must_not_come_late_is_dropped_from_trailers(name: bytes) -> None:
    fields = (name, b"x"), (b"Server-Timing", b"y")
    assert headers.trailers(fields, response(), own=False) == ((b"Server-Timing", b"y"),)


def test_what_connection_nominates_is_dropped_from_trailers_too() -> None:
    fields = (b"X-Hop", b"1"), (b"X-Sum", b"2")
    for head in (request((b"Connection", b"x-hop")), response((b"Connection", b"close, X-HOP"))):
        assert headers.trailers(fields, head, own=True) == ((b"X-Sum", b"2"),)


@pytest.mark.parametrize(
    ("head", "version", "framing"),
    [
        (response(framing=5), (1, 1), 5),
        (response(framing=Body.CHUNKED), (1, 1), Body.CHUNKED),
        (response(framing=Body.CHUNKED), (1, 0), Body.UNTIL_CLOSE),
        (response(framing=Body.UNTIL_CLOSE), (1, 1), Body.CHUNKED),
        (response(framing=Body.UNTIL_CLOSE), (1, 0), Body.UNTIL_CLOSE),
        (response(announced=5), (1, 1), 5),  # HEAD
        (response(announced=Body.CHUNKED), (1, 1), Body.NONE),  # HEAD
        (response(announced=5, status=304), (1, 1), 5),
        (response(announced=5, status=204), (1, 1), Body.NONE),
        (response(announced=5, status=103), (1, 1), Body.NONE),
    ],
)
def test_how_a_response_is_framed_for_its_client(head: ResponseHead, version: tuple[int, int], framing: object) -> None:
    assert headers.response_framing(head, version) == framing


_NAMES = st.sampled_from(
    [b"x-forwarded-client-cert", b"X_FORWARDED_CLIENT_CERT", b"x-doorward-x", b"x-a", b"Connection"]
)


@given(st.lists(st.tuples(_NAMES, st.sampled_from([b"x-a", b"close", b"x-forwarded-client-cert, host"]))))
def test_exactly_one_identity_leaves_whatever_arrives(fields: list[tuple[bytes, bytes]]) -> None:
    got = sent(*fields)
    assert [field for field in got if headers.is_own(field[0])] == [IDENTITY]
    assert got[-1] == IDENTITY
    assert got[0] == (b"host", b"h")
