"""The file of --injector-config: what it may say, and every fault at once."""

import re
from pathlib import Path

import pytest

from control_plane.injector.annotations import ANNOTATIONS
from control_plane.injector.settings import InjectorSettings, Ports, Resources
from control_plane.injector.settings_file import ATTRIBUTES, KEYS, InjectorSettingsRefused, load_settings, read_settings
from control_plane.injector.standing import SYSTEM_NAMESPACES
from control_plane.kubernetes.port_names import SERVER_FIRST

DOCS = Path(__file__).parents[3] / "docs/configuration/injector.md"

EVERYTHING = """
image: registry.example:5000/doorward/sidecar:1.2@sha256:0123
imagePullPolicy: Always
controlPlane: "[fd00::1]:7443"
trustDomain: example.org
nativeSidecar: false
sidecarUid: 4711
ports: {inbound: 1, outbound: 2, observe: 3}
tokenAudience: https://mesh.example
tokenExpirationSeconds: 600
trustBundle: roots
meshCIDRs: [10.0.0.0/8, "fd00::/8"]
egress: registry-only
excludeInboundPorts: [9090, 9100-9200]
excludeOutboundPorts: ["25"]
excludeOutboundAddresses: [169.254.169.254/32]
resources: {sidecar: {requests: {cpu: 1}, limits: {memory: 1Gi}}, redirect: {}}
logLevel: debug
requestLog: denied
drainSeconds: 60
"""


def faults(text: str) -> dict[str, str]:
    with pytest.raises(InjectorSettingsRefused) as refused:
        read_settings(text, "injector.yaml")
    assert str(refused.value).startswith("injector.yaml: ")
    return {fault.path: fault.message for fault in refused.value.faults}


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "ports: {}", "resources: {}"])
def test_what_is_not_said_is_the_default(text: str) -> None:
    assert read_settings(text, "x") == InjectorSettings()


def test_everything_can_be_said() -> None:
    found = read_settings(EVERYTHING, "x")
    assert all(f"{key}:" in EVERYTHING for key in KEYS)
    assert found.ports == Ports(1, 2, 3)
    assert found.exclude_inbound_ports == ("9090", "9100-9200")
    assert (found.resources.sidecar, found.resources.redirect) == (
        Resources({"cpu": "1"}, {"memory": "1Gi"}),
        Resources(),
    )
    default = InjectorSettings()
    assert not [name for name in default.__attrs_attrs__ if getattr(found, name.name) == getattr(default, name.name)]


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("imge: x", "imge", "is unknown: the keys here are image, "),
        ("ports: {inbond: 1}", "ports.inbond", "is unknown: the keys here are inbound, outbound, observe"),
        ("resources: {sidecar: {request: {}}}", "resources.sidecar.request", "is unknown"),
        ("image: 1", "image", "write an image's name"),
        ('image: "a b"', "image", "write an image's name"),
        ("imagePullPolicy: always", "imagePullPolicy", "one of Always, IfNotPresent, Never"),
        ("controlPlane: doorward", "controlPlane", "HOST:PORT"),
        ("trustDomain: A", "trustDomain", "cluster.local"),
        ('nativeSidecar: "true"', "nativeSidecar", "true or false"),
        ("sidecarUid: 0", "sidecarUid", "from 1"),
        ("sidecarUid: true", "sidecarUid", "from 1"),
        ("ports: []", "ports", "a map with the keys inbound"),
        ("ports: {inbound: 65536}", "ports.inbound", "from 1 to 65535"),
        ("tokenAudience: ''", "tokenAudience", "an audience"),
        ("tokenExpirationSeconds: 599", "tokenExpirationSeconds", "from 600"),
        ("trustBundle: Roots", "trustBundle", "a ConfigMap's name"),
        ("meshCIDRs: 10.0.0.0/8", "meshCIDRs", "a list of IP networks"),
        ("meshCIDRs: [10.0.0.0/8, 10.0.0.1/8]", "meshCIDRs[1]", "inside of the network 10.0.0.0/8"),
        ("egress: deny", "egress", "allow or registry-only"),
        ("excludeInboundPorts: [80-70]", "excludeInboundPorts[0]", "begins above its end"),
        ("excludeInboundPorts: [15000-15010]", "excludeInboundPorts", "15001 is a port of the sidecar itself"),
        ("resources: {sidecar: {limits: {cpu: 1x}}}", "resources.sidecar.limits.cpu", "a quantity above zero"),
        (
            "resources: {redirect: {requests: {cpu: 2}, limits: {cpu: 1}}}",
            "resources.redirect",
            "more cpu than its limit",
        ),
        ("logLevel: loud", "logLevel", "one of debug"),
        ("drainSeconds: 0", "drainSeconds", "from 1"),
        ("ports: {observe: 15006}", "ports", "three different ports"),
        ("[]", "", "a map with the keys image"),
        ("image: &a x", "image", "anchor"),
        ("nativeSidecar: yes", "nativeSidecar", "truth value to some parsers"),
        ("a: b\n---\nc: d", "", "holds 2 documents"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(text: str, path: str, message: str) -> None:
    found = faults(text)
    assert message in found[path]


def test_all_faults_are_said_at_once() -> None:
    assert list(faults("image: 1\nports: {inbound: x}\nfoo: 1\negress: no-way")) == [
        *("image", "ports.inbound", "foo", "egress"),
    ]


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "large").write_bytes(b"#" * (1024 * 1024 + 1))
    for name, message in (
        ("none", "No such file"),
        ("binary", "not UTF-8"),
        ("large", "is longer"),
        (".", "directory"),
    ):
        with pytest.raises(InjectorSettingsRefused, match=message):
            load_settings(tmp_path / name)
    (tmp_path / "good").write_text("drainSeconds: 7")
    assert load_settings(tmp_path / "good").drain_seconds == 7


def test_the_docs_name_every_key_annotation_and_port_name() -> None:
    text = DOCS.read_text(encoding="utf-8")
    named = [*KEYS, *(f"doorward.dev/{name}" for name in ANNOTATIONS), *SERVER_FIRST, *SYSTEM_NAMESPACES]
    assert not [name for name in named if f"`{name}`" not in text]


def test_the_docs_name_every_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    default = InjectorSettings()
    for key in set(KEYS) - {"image", "ports", "resources"}:
        value = getattr(default, ATTRIBUTES[key])
        shown = {True: "true", (): "[]"}.get(value, str(value))
        assert rows[key] == f"`{shown}`"
