"""Each setting's text becomes its value or a ValueError that says what is wrong, whatever the text."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import parsing, table
from sidecar.settings import Address


@given(st.sampled_from(table.ROWS), st.text() | st.text(alphabet="0123456789.:/=,[]-unixhtpa "))
def test_any_text_is_a_value_or_a_value_error(row: table.Row, text: str) -> None:
    with suppress(ValueError):
        assert row.parse(text) is not None


@given(st.integers(0, 65535))
def test_addresses_survive_being_written_and_read(port: int) -> None:
    for host in ("127.0.0.1", "::1", "0.0.0.0"):
        address = Address(host, port)
        assert parsing.bind_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["8080", "host:", ":80x", "::1:80", "[1.2.3.4]:80", "a b:80", "h:65536", "h:0", "h:-1", "h:\uff18\uff10"]
)
def test_malformed_addresses_to_dial_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|brackets|host name"):
        parsing.dial_address(text)


def test_localhost_is_one_address_so_that_port_zero_is_one_port() -> None:
    assert parsing.bind_address("localhost:0") == Address("127.0.0.1", 0)


def test_only_what_is_observed_may_be_at_every_address() -> None:
    assert parsing.observe_address("*:15020") == Address("*", 15020)
    assert parsing.observe_address("[::1]:0") == Address("::1", 0)
    for text in ("*", "*:x", "*:65536", "**:1"):
        with pytest.raises(ValueError, match=r"port|host name"):
            parsing.observe_address(text)
    with pytest.raises(ValueError, match="host name"):
        parsing.bind_address("*:1")


def test_a_listener_needs_an_address_not_a_name() -> None:
    with pytest.raises(ValueError, match="IP address"):
        parsing.bind_address("example.org:80")


def test_an_outbound_unix_socket_may_have_an_equals_sign_in_its_path() -> None:
    outbound = parsing.outbound("unix:/run/a=b.sock=shop/payments:8080")
    assert outbound.bind == Path("/run/a=b.sock")
    assert outbound.unix
    assert outbound.target == "shop/payments:8080"


@pytest.mark.parametrize(
    "text", ["unix:=shop/payments:80", f"unix:/{'x' * 107}=shop/payments:80", "unix:/a=payments:80"]
)
def test_malformed_unix_listeners_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"path|workload"):
        parsing.outbound(text)


@pytest.mark.parametrize(("text", "value"), [("0.25", 0.25), ("500ms", 0.5), ("10s", 10), ("5m", 300), ("1h", 3600)])
def test_durations(text: str, value: float) -> None:
    assert parsing.seconds(text) == value


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "1e3", "inf", "nan", "1 s", "1d", "\u0661"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parsing.seconds(text)


@pytest.mark.parametrize(("text", "value"), [("1024", 1024), ("64KiB", 65536), ("1MiB", 1048576)])
def test_sizes(text: str, value: int) -> None:
    assert parsing.size(text) == value


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "224.0.0.1", "host", "10.0.0.1:80"])
def test_what_others_cannot_dial_is_not_advertised(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        parsing.ip_address(text)


@pytest.mark.parametrize("text", ["fe80::%eth0/64", "::ffff:10.0.0.0/104", "10.0.0.7/8", "10", "example.org", ""])
def test_a_network_that_would_silently_match_nothing_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"zone|maps|inside|is no IP network"):
        parsing.network(text)
    assert str(parsing.network("10.0.0.0/8")) == "10.0.0.0/8"
