"""Wrong values are refused by name, with what is accepted."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from control_plane.settings import ControlPlaneSettings, HostPort, KubernetesSettings, Lifetimes, Limits, SettingRefused


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:7443", "127.0.0.1", 7443), ("[::1]:0", "::1", 0), ("localhost:65535", "localhost", 65535)],
)
def test_an_address_is_read_and_written(text: str, host: str, port: int) -> None:
    address = HostPort.parse(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize("text", ["", "7443", ":7443", "host:", "::1:7443", "[::1]", "h:65536", "h:٣", "h:-1", "h: 1"])
def test_a_wrong_address_is_refused_by_the_setting_s_name(text: str) -> None:
    with pytest.raises(SettingRefused, match=r"^--listen: "):
        HostPort.parse(text, "--listen")


def test_only_the_state_directory_has_no_default() -> None:
    settings = ControlPlaneSettings(state=Path("state"))
    assert settings.lifetimes == Lifetimes()
    assert settings.limits == Limits()


def test_a_ca_is_a_certificate_and_a_key() -> None:
    with pytest.raises(SettingRefused, match="ca_key"):
        ControlPlaneSettings(state=Path("state"), ca_certificate=Path("ca.pem"))


def test_a_ca_comes_from_files_or_from_a_secret() -> None:
    cluster = KubernetesSettings(server="in-cluster", ca_secret="doorward-ca")
    with pytest.raises(SettingRefused, match="ca_secret"):
        ControlPlaneSettings(state=Path("state"), ca_certificate=Path("a"), ca_key=Path("b"), kubernetes=cluster)


@pytest.mark.parametrize(
    ("name", "value", "setting"),
    [
        ("namespace", "Shop", "kubernetes_namespace"),
        ("ca_secret", "../x", "ca_secret"),
        ("injector_service", "a..b", "injector_service"),
        ("injector_webhook", "x\n", "injector_webhook"),
    ],
)
def test_a_name_in_the_cluster_is_one(name: str, value: str, setting: str) -> None:
    with pytest.raises(SettingRefused, match=rf"^{setting}: "):
        KubernetesSettings(**{"server": "in-cluster", name: value})


def test_the_injector_s_file_is_for_an_injector_that_listens() -> None:
    with pytest.raises(SettingRefused, match="injector_listen"):
        KubernetesSettings(server="in-cluster", injector_config=Path("injector.yaml"))


@pytest.mark.parametrize("server", ["https://10.0.0.1", "https://[fd00::1]:6443", "https://kubernetes.default.svc/"])
def test_an_api_server_is_named_by_its_url(server: str) -> None:
    assert KubernetesSettings(server=server).enabled


@pytest.mark.parametrize(
    "wrong",
    [
        {"lifetimes": Lifetimes(lease=timedelta(seconds=30))},
        {"limits": Limits(lease_renewal=90.0)},
        {"limits": Limits(silence_timeout=15.0)},
        {"limits": Limits(ping_interval=45.0)},
    ],
)
def test_what_keeps_something_alive_comes_before_its_end(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingRefused, match="must be shorter than"):
        ControlPlaneSettings(state=Path("state"), **wrong)


@pytest.mark.parametrize("name", ["certificate", "own_certificate", "issuer", "root", "attestation", "lease"])
def test_a_lifetime_is_above_zero(name: str) -> None:
    with pytest.raises(SettingRefused, match=name):
        Lifetimes(**{name: timedelta(0)})


@pytest.mark.parametrize(("name", "value"), [("links", 0), ("handshake_timeout", 0), ("write_timeout", -1.0)])
def test_a_limit_is_above_zero(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})
