"""Flags to a redirection: values by commas or repeated, and everything wrong with them at once."""

from ipaddress import ip_network

import pytest

from sidecar.loading import Fault, SettingsFault
from sidecar.redirection.flags import read
from sidecar.redirection.rules import Ports, Redirection


def faults(**given: list[str]) -> list[str]:
    with pytest.raises(SettingsFault) as caught:
        read(given)
    return [str(fault) for fault in caught.value.faults]


def test_nothing_given_is_the_default() -> None:
    assert read({}) == Redirection(15_006, 15_001, 1_337, (Ports(15_020, 15_020),), (), (), ())


def test_values_are_separated_by_commas_or_the_flag_is_repeated() -> None:
    given = {
        "inbound_port": ["16006"],
        "outbound_port": ["16001"],
        "sidecar_uid": ["2000"],
        "exclude_inbound_ports": ["80,443", "9000-9010"],
        "exclude_outbound_ports": ["25"],
        "exclude_outbound_addresses": ["10.0.0.0/8,fd00::/8", "10.1.2.3"],
        "exclude_uids": ["0, 1000"],
    }
    assert read(given) == Redirection(
        16_006,
        16_001,
        2_000,
        (Ports(80, 80), Ports(443, 443), Ports(9_000, 9_010)),
        (Ports(25, 25),),
        (ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("10.1.2.3/32")),
        (0, 1_000),
    )


def test_an_empty_value_excludes_nothing() -> None:
    assert read({"exclude_inbound_ports": [""]}).exclude_inbound_ports == ()


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(SettingsFault) as caught:
        read(
            {"inbound_port": ["0"], "sidecar_uid": ["0"], "exclude_uids": ["-1,root"], "outbound_port": ["1", "2"]},
            [Fault("--exclud", "is no flag")],
        )
    assert [fault.where for fault in caught.value.faults] == [
        "--exclud",
        "--inbound-port",
        "--outbound-port",
        "--exclude-uids",
        "--exclude-uids",
        "--sidecar-uid",
    ]


@pytest.mark.parametrize("text", ["0", "65536", "80:90", "90-80", "1-", "-1", "8\u0660", "http", "80;", "1e3", "+1"])
def test_what_is_no_port_is_refused(text: str) -> None:
    [said] = faults(exclude_outbound_ports=[text])
    assert "write ports from 1 to 65535 or ranges of them" in said


@pytest.mark.parametrize("text", ["4294967295", "-1", "root", "\u0663", "0x1"])
def test_what_is_no_uid_is_refused(text: str) -> None:
    [said] = faults(exclude_uids=[text])
    assert "is no UID; write numbers from 0 to 4294967294" in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.0.0.7/8", "is an address inside of the network 10.0.0.0/8"),
        ("fd00::7/64", "is an address inside of the network fd00::/64"),
        ("fe80::%eth0/64", "has a zone, which no network of addresses can have"),
        ("::ffff:10.0.0.0/104", "maps IPv4 addresses into IPv6, and matches none of them: give the IPv4 network"),
        ("10.0.0.0/33", "is no IP network"),
        ("example.org", "is no IP network"),
        ("10", "is no IP network"),
    ],
)
def test_what_is_no_network_is_refused_with_the_right_one_where_it_is_known(text: str, reason: str) -> None:
    [said] = faults(exclude_outbound_addresses=[text])
    assert f"{text!r}: {reason}; write IP networks" in said


def test_what_would_open_the_sidecar_itself_is_refused() -> None:
    assert faults(exclude_inbound_ports=["15000-15010"]) == [
        "--exclude-inbound-ports: 15006 is a port of the sidecar itself, which nobody may call directly"
    ]
    assert faults(inbound_port=["15020"]) == [
        "--exclude-inbound-ports: 15020 is a port of the sidecar itself, which nobody may call directly"
    ]
    assert faults(inbound_port=["15001"])[0].startswith("--outbound-port: 15001 is the inbound port too")


def test_a_long_value_is_shortened() -> None:
    [said] = faults(exclude_uids=["9" * 10_000])
    assert len(said) < 250
