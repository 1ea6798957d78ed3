"""What a request asks for, in one form (laws 14, 15, 22)."""

import pytest

from certs.spiffe import WorkloadName
from mesh.policy.reasons import Reason
from sidecar.access_log import Record
from sidecar.http.failures import HttpRefused
from sidecar.http.heads import Body, RequestHead
from sidecar.http.targets import is_foreign, requested

PAYMENTS = WorkloadName("shop", "payments")


def asked(target: bytes, *, method: str = "GET", host: bytes | None = b"h") -> tuple[str, bytes | None, str]:
    """The canonical target, the host, and the path in the record."""
    record = Record.start("inbound", "http", instance="test")
    fields = () if host is None else ((b"Host", host),)
    try:
        found, asked_host = requested(RequestHead(method, target, (1, 1), fields, Body.NONE), record)
    except HttpRefused as refused:
        return refused.reason, None, record.path
    return str(found), asked_host, record.path


@pytest.mark.parametrize(
    ("target", "host", "canonical", "asked_host"),
    [
        (b"/charges?a=%2f", b"payments", "/charges?a=%2f", b"payments"),
        (b"/a/../charges", b"h", "/charges", b"h"),
        (b"//a/./b%7e", b"h", "/a/b~", b"h"),
        (b"http://payments.shop:8080/charges?x", b"other", "/charges?x", b"payments.shop:8080"),
        (b"HTTPS://payments", b"other", "/", b"payments"),
        (b"http://payments?x=1", b"other", "/?x=1", b"payments"),
        (b"http://[::1]:80/", b"other", "/", b"[::1]:80"),
        (b"/", None, "/", None),
    ],
)
def test_every_form_becomes_a_canonical_origin_form(
    target: bytes, host: bytes | None, canonical: str, asked_host: bytes | None
) -> None:
    assert asked(target, host=host) == (canonical, asked_host, canonical.partition("?")[0])


def test_the_asterisk_of_options_stays() -> None:
    assert asked(b"*", method="OPTIONS")[0] == "*"
    assert asked(b"http://payments", method="OPTIONS")[0] == "*"


@pytest.mark.parametrize("target", [b"/a%2fb", b"/a\\b", b"/%00", b"/..;/a", b"/../../a", b"/%252e", b"/%zz"])
def test_a_path_that_dodges_rules_is_refused_and_still_logged_without_its_query(target: bytes) -> None:
    reason, _, logged = asked(target + b"?secret=1")
    assert reason == Reason.PATH_REFUSED
    assert logged == target.decode()


def test_a_fragment_is_refused_and_no_more_logged_than_a_query() -> None:
    reason, _, logged = asked(b"/a#secret")
    assert (reason, logged) == (Reason.PATH_REFUSED, "/a")


@pytest.mark.parametrize(
    "target", [b"payments:443", b"ftp://payments/", b"http:///x", b"http://u@payments/", b"http://a b/", b"x", b"?x"]
)
def test_what_is_neither_a_path_nor_a_url_is_refused(target: bytes) -> None:
    assert asked(target)[0] == Reason.MALFORMED_REQUEST


@pytest.mark.parametrize(
    "host",
    [
        b"127.0.0.1:9001",
        b"[::1]:9001",
        b"10.1.2.3",
        b"localhost",
        b"LOCALHOST:9001",
        b"app.localhost",
        b"payments",
        b"Payments.Shop:8080",
        b"payments.shop.svc",
        b"payments.shop.svc.cluster.local.",
        b"",
        None,
    ],
)
def test_the_destinations_own_names_and_addresses_are_not_foreign(host: bytes | None) -> None:
    assert not is_foreign(host, PAYMENTS)


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"evil.example:9001",
        b"payments.evil.example",
        b"payments.shop.svc.evil.example",
        b"127.0.0.1.evil.example",
        b"notlocalhost",
        b"checkout.shop",
    ],
)
def test_any_other_name_is_foreign(host: bytes) -> None:
    assert is_foreign(host, PAYMENTS)
