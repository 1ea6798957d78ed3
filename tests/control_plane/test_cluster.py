"""How the cluster is found from the settings and the environment, and what the start says where it is not."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from control_plane.cluster import open_api, own_namespace
from control_plane.metrics import Metrics
from control_plane.settings import KubernetesSettings, SettingRefused
from tests.support.pki import Pki

IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A token and a CA."""
    token, ca = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("token")
    ca.write_bytes(Pki().root.certificate.public_bytes(Encoding.PEM))
    return {"token_file": token, "ca": ca}


def test_without_a_cluster_nobody_is_asked() -> None:
    assert open_api(KubernetesSettings(), Metrics(), {}) is None


def test_in_a_pod_the_environment_says_where_the_api_server_is(files: dict[str, Path]) -> None:
    api = open_api(KubernetesSettings("in-cluster", **files), Metrics(), IN_CLUSTER)
    assert api is not None
    assert api.url == "https://[fd00::1]:6443"


@pytest.mark.parametrize("environment", [{}, {**IN_CLUSTER, "KUBERNETES_SERVICE_PORT": "tcp://10.0.0.1:443"}])
def test_outside_of_a_pod_the_url_has_to_be_given(files: dict[str, Path], environment: dict[str, str]) -> None:
    with pytest.raises(SettingRefused, match="KUBERNETES_SERVICE_HOST"):
        open_api(KubernetesSettings("in-cluster", **files), Metrics(), environment)


@pytest.mark.parametrize("name", ["token_file", "ca"])
def test_a_missing_file_is_named_with_its_setting(files: dict[str, Path], name: str) -> None:
    files[name].unlink()
    with pytest.raises(SettingRefused, match=f"kubernetes_{name}: .*{files[name]}"):
        open_api(KubernetesSettings("https://10.0.0.1:443", **files), Metrics())


def test_a_ca_file_without_certificates_is_refused(files: dict[str, Path]) -> None:
    files["ca"].write_text("no certificate")
    with pytest.raises(SettingRefused, match="kubernetes_ca"):
        open_api(KubernetesSettings("https://10.0.0.1:443", **files), Metrics())


def test_the_own_namespace_is_the_given_one_or_the_default() -> None:
    assert own_namespace(KubernetesSettings("in-cluster", namespace="mesh")) == "mesh"
    assert own_namespace(KubernetesSettings("in-cluster")) == "doorward"
