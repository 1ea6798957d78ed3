"""What the injector lets through, the sidecar and its redirection take; the two programs cannot ask each other."""

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.injector import values
from control_plane.injector.annotations import ANNOTATIONS
from sidecar import parsing, table
from sidecar.redirection import flags
from sidecar.settings import EGRESSES, LOG_LEVELS, REQUEST_LOGS
from tests.support.examples import examples

PAIRS: dict[str, tuple[values.Kind, Callable[[str], object]]] = {
    "port": (values.PORT, parsing.port),
    "ports": (values.PORTS, flags.ports),
    "network": (values.NETWORK, parsing.network),
    "declared port": (values.DECLARED_PORT, parsing.declared_port),
    "inbound": (values.INBOUND, parsing.inbound),
    "outbound": (values.OUTBOUND, parsing.outbound),
    "address": (values.DIAL_ADDRESS, parsing.dial_address),
    "trust domain": (values.TRUST_DOMAIN, parsing.trust_domain),
    "egress": (values.EGRESS, table.BY_NAME["egress"].parse),
    "log level": (values.LOG_LEVEL, table.BY_NAME["log_level"].parse),
    "request log": (values.REQUEST_LOG, table.BY_NAME["request_log"].parse),
}

TEXTS = [
    *("", "0", "1", "65535", "65536", "080", "-1", "8080-8081", "8081-8080", "8080-8080", "8080-", "1e3", "\uff18080"),
    *(
        "10.0.0.0/8",
        "10.0.0.1/8",
        "10.0.0.1",
        "fd00::/8",
        "fd00::1/8",
        "::ffff:10.0.0.0/104",
        "fe80::1%eth0/64",
        "10/8",
    ),
    *("8080/http", "8080/tcp", "8080/auto", "8080/ftp", "8080", "/http", "8080/", "http/8080", "8080/http/http"),
    *("0.0.0.0:8443=127.0.0.1:8080/http", "[::]:8443=[::1]:8080/tcp", "localhost:1=localhost:2/auto"),
    *("0.0.0.0:8443=web:8080/http,port=80", "0.0.0.0:8443=127.0.0.1:8080/http,port=0", "0.0.0.0:1=a:2/http,prt=1"),
    *(
        "0.0.0.0:8443=127.0.0.1:8080",
        "x=y",
        "::1:1=a:2/tcp",
        "web:1=web:2/http",
        "0.0.0.0:1=a:2/ftp",
        "0.0.0.0=a:2/tcp",
    ),
    *("127.0.0.1:9001=shop/payments:8080", "[::1]:9001=shop/payments:8080", "10.0.0.1:9001=shop/payments:8080"),
    *("localhost:1=a/b:2", "unix:/run/a.sock=a/b:2", "unix:=a/b:2", "127.0.0.1:1=a:2", "127.0.0.1:1=a/b/c:2"),
    *("127.0.0.1:1=a/b", "127.0.0.1:1=a/b:0", "127.0.0.1:9001", "unix:/" + "a" * 107 + "=a/b:1", "unix:/a\0=a/b:1"),
    *("doorward.doorward.svc:7443", "[fd00::1]:7443", "fd00::1:7443", "host", "host:0", "-host:1", "[host]:1", ":7443"),
    *("a" * 300 + ":1", "cluster.local", "Cluster.local", "a_b-c.d", "\u00e9", "cluster/local", "a" * 256),
    *("allow", "registry-only", "deny", "all", "denied", "off", "debug", "info", "warning", "error", "ALLOW"),
]


@pytest.mark.parametrize("pair", PAIRS)
def test_both_sides_of_the_wall_say_the_same(pair: str) -> None:
    kind, sidecars = PAIRS[pair]
    taken = {text for text in TEXTS if takes(kind.check, text)}
    assert taken == {text for text in TEXTS if takes(sidecars, text)}
    assert taken
    assert taken < set(TEXTS)


@pytest.mark.parametrize(
    ("pair", "text"),
    [("inbound", "0.0.0.0:0=127.0.0.1:8080/http"), ("outbound", "127.0.0.1:0=a/b:1"), ("outbound", "unix:/a,b=a/b:1")],
)
def test_what_means_nothing_in_a_pod_is_refused_though_the_sidecar_takes_it(pair: str, text: str) -> None:
    """A free port that nobody knows; a comma, which parts values in an environment variable."""
    kind, sidecars = PAIRS[pair]
    assert (takes(kind.check, text), takes(sidecars, text)) == (False, True)


@pytest.mark.parametrize("pair", PAIRS)
@given(st.data())
@examples(30)
def test_whatever_passes_here_passes_there(pair: str, data: st.DataObject) -> None:
    kind, sidecars = PAIRS[pair]
    pieces = st.lists(
        st.sampled_from([*"019aZ:/=.,-[]% ", "127.0.0.1", "::1", "http", "tcp", "port=", "unix:", "8080"])
    )
    text = data.draw(st.one_of(pieces.map("".join), st.sampled_from(TEXTS)))
    if takes(kind.check, text):
        assert takes(sidecars, kind.check(text))


def test_the_words_are_the_sidecars() -> None:
    assert (values.EGRESSES, values.LOG_LEVELS, values.REQUEST_LOGS) == (EGRESSES, LOG_LEVELS, REQUEST_LOGS)


def test_every_annotation_for_the_sidecar_is_one_of_its_settings() -> None:
    of_redirection = {flag.name for flag in flags.FLAGS}
    for annotation in ANNOTATIONS.values():
        assert annotation.attribute in {"", "redirect", *table.BY_NAME, *of_redirection}


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        *(("1", 1), ("0.5", Decimal("0.5")), (".5", Decimal("0.5")), ("250m", Decimal("0.25")), ("3.", 3)),
        *(
            ("1k", 1000),
            ("1Ki", 1024),
            ("2G", 2 * 10**9),
            ("128Mi", 128 * 1024**2),
            ("1.5Gi", Decimal("1.5") * 1024**3),
        ),
    ],
)
def test_quantities_are_what_they_are_to_kubernetes(text: str, amount: Decimal) -> None:
    assert values.amount(text) == amount


@pytest.mark.parametrize(
    "text", ["", "0", "0Mi", "-1", "1 Mi", "1mi", "1MB", "1e3x", "Mi", "1n", "\uff11", "0.0", "1" * 30]
)
def test_what_is_no_quantity_above_zero_is_refused(text: str) -> None:
    assert not takes(values.quantity, text)


@given(st.lists(st.tuples(st.integers(1, 65535), st.integers(1, 65535)).map(sorted)), st.integers(1, 65535))
@examples(30)
def test_a_port_is_held_by_the_ranges_around_it(ranges: list[list[int]], port: int) -> None:
    allowed = [values.ports(f"{first}-{last}") for first, last in ranges]
    assert values.held(allowed, [port]) == ([port] if any(first <= port <= last for first, last in ranges) else [])


def takes(check: Callable[[str], object], text: str) -> bool:
    try:
        check(text)
    except ValueError:
        return False
    return True
