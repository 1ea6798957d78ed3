"""Wrong and unknown values are refused by the charts' schemas, with their place, before anything is rendered."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.charts import CHART, NEWEST, HelmRefused, example_chart, helm, render

SCHEMA = "values don't meet the specifications of the schema"

UNKNOWN = [
    ("/", {"replicas": 2}),
    ("/image", {"image": {"repository": "doorward"}}),
    ("/image/sidecar", {"image": {"sidecar": {"tag": "1"}}}),
    ("/ca", {"ca": {"secret": "doorward-ca"}}),
    ("/persistence", {"persistence": {"storageclass": "fast"}}),
    ("/settings", {"settings": {"listen": "0.0.0.0:1"}}),
    ("/settings", {"settings": {"max_links": 5}}),
    ("/injector", {"injector": {"meshCidrs": []}}),
    ("/injector", {"injector": {"image": "elsewhere"}}),
    ("/injector/ports", {"injector": {"ports": {"admin": 1}}}),
    ("/injector/resources", {"injector": {"resources": {"init": {}}}}),
    ("/resources", {"resources": {"request": {}}}),
    ("/resources/requests", {"resources": {"requests": {"gpu": 1}}}),
    ("/webhook", {"webhook": {"failurePolicy": "Ignore"}}),
    ("/networkPolicy", {"networkPolicy": {"egress": True}}),
    ("/podDisruptionBudget", {"podDisruptionBudget": {"minAvailable": 1}}),
    ("/monitoring", {"monitoring": {"alerts": {}}}),
    ("/monitoring/serviceMonitor", {"monitoring": {"serviceMonitor": {"port": 1}}}),
    ("/crds", {"crds": {"keep": True}}),
    ("/uninstallCheck", {"uninstallCheck": {"force": True}}),
]

WRONG = [
    ("/trustDomain", {"trustDomain": "Shop.Example"}),
    ("/trustDomain", {"trustDomain": "spiffe://shop.example"}),
    ("/trustDomain", {"trustDomain": ""}),
    ("/tokenAudience", {"tokenAudience": ""}),
    ("/tokenAudience", {"tokenAudience": "two words"}),
    ("/ipFamily", {"ipFamily": "DualStack"}),
    ("/image/registry", {"image": {"registry": "https://r.example/"}}),
    ("/image/tag", {"image": {"tag": "a/b"}}),
    ("/image/pullPolicy", {"image": {"pullPolicy": "always"}}),
    ("/image/controlPlane/digest", {"image": {"controlPlane": {"digest": "sha256:abc"}}}),
    ("/image/controlPlane/name", {"image": {"controlPlane": {"name": "Doorward"}}}),
    ("/imagePullSecrets/0", {"imagePullSecrets": ["registry"]}),
    ("/ca/secretName", {"ca": {"secretName": ""}}),
    ("/ca/secretName", {"ca": {"secretName": "a b"}}),
    ("/persistence/enabled", {"persistence": {"enabled": "yes"}}),
    ("/persistence/size", {"persistence": {"size": "10 GB"}}),
    ("/persistence/accessMode", {"persistence": {"accessMode": "ReadWriteMany"}}),
    ("/settings/max-links", {"settings": {"max-links": 0}}),
    ("/settings/max-links", {"settings": {"max-links": "many"}}),
    ("/settings/certificate-lifetime", {"settings": {"certificate-lifetime": "1 hour"}}),
    ("/settings/certificate-lifetime", {"settings": {"certificate-lifetime": 0}}),
    ("/resources/limits/memory", {"resources": {"limits": {"memory": "1GB"}}}),
    ("/resources/requests/cpu", {"resources": {"requests": {"cpu": 0.5}}}),
    ("/podLabels/team", {"podLabels": {"team": 1}}),
    ("/podAnnotations/note", {"podAnnotations": {"note": True}}),
    ("/nodeSelector/gpu", {"nodeSelector": {"gpu": True}}),
    ("/tolerations/0", {"tolerations": ["infra"]}),
    ("/terminationGracePeriodSeconds", {"terminationGracePeriodSeconds": -1}),
    ("/injector/nativeSidecar", {"injector": {"nativeSidecar": "true"}}),
    ("/injector/sidecarUid", {"injector": {"sidecarUid": 0}}),
    ("/injector/sidecarUid", {"injector": {"sidecarUid": 2**31}}),
    ("/injector/ports/inbound", {"injector": {"ports": {"inbound": 0}}}),
    ("/injector/ports/inbound", {"injector": {"ports": {"inbound": 65536}}}),
    ("/injector/tokenExpirationSeconds", {"injector": {"tokenExpirationSeconds": 60}}),
    ("/injector/meshCIDRs", {"injector": {"meshCIDRs": "10.0.0.0/8"}}),
    ("/injector/meshCIDRs/0", {"injector": {"meshCIDRs": ["10.0.0.0"]}}),
    ("/injector/meshCIDRs/0", {"injector": {"meshCIDRs": ["10.0.0.0/33"]}}),
    ("/injector/meshCIDRs/0", {"injector": {"meshCIDRs": ["10.0.0.256/32"]}}),
    ("/injector/egress", {"injector": {"egress": "deny"}}),
    ("/injector/excludeInboundPorts/0", {"injector": {"excludeInboundPorts": ["http"]}}),
    ("/injector/excludeInboundPorts/0", {"injector": {"excludeInboundPorts": [0]}}),
    ("/injector/excludeOutboundAddresses/0", {"injector": {"excludeOutboundAddresses": ["example.com"]}}),
    ("/injector/logLevel", {"injector": {"logLevel": "INFO"}}),
    ("/injector/requestLog", {"injector": {"requestLog": "none"}}),
    ("/injector/drainSeconds", {"injector": {"drainSeconds": 0}}),
    ("/webhook/timeoutSeconds", {"webhook": {"timeoutSeconds": 31}}),
    ("/webhook/excludedNamespaces/0", {"webhook": {"excludedNamespaces": ["Prod"]}}),
    ("/networkPolicy/sidecarCIDRs/0", {"networkPolicy": {"sidecarCIDRs": ["vms"]}}),
    ("/podDisruptionBudget/maxUnavailable", {"podDisruptionBudget": {"maxUnavailable": 2}}),
    ("/monitoring/serviceMonitor/interval", {"monitoring": {"serviceMonitor": {"interval": 30}}}),
    (
        "/monitoring/dashboard/labels/grafana_dashboard",
        {"monitoring": {"dashboard": {"labels": {"grafana_dashboard": 1}}}},
    ),
    ("/crds/install", {"crds": {"install": "no"}}),
]


@pytest.mark.parametrize(("place", "values"), UNKNOWN, ids=str)
def test_an_unknown_value_is_refused(place: str, values: dict[str, Any]) -> None:
    with pytest.raises(HelmRefused, match=SCHEMA) as caught:
        render(values)
    assert f"at '{place.rstrip('/')}'" in str(caught.value)
    assert "not allowed" in str(caught.value)


@pytest.mark.parametrize(("place", "values"), WRONG, ids=str)
def test_a_wrong_value_is_refused(place: str, values: dict[str, Any]) -> None:
    with pytest.raises(HelmRefused, match=SCHEMA) as caught:
        render(values)
    assert f"at '{place}'" in str(caught.value)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(HelmRefused) as caught:
        render({"unknown": 1, "ipFamily": "6", "injector": {"egress": "?"}})
    for place in ("'unknown' not allowed", "at '/ipFamily'", "at '/injector/egress'"):
        assert place in str(caught.value)


def limits(what: str, amount: str) -> dict[str, Any]:
    return {"limits": {what: amount}}


@pytest.mark.parametrize(
    ("said", "values"),
    [
        ("injector.ports: three different ports", {"injector": {"ports": {"inbound": 15001}}}),
        ("injector.meshCIDRs: 10.244.0.1/16", {"injector": {"meshCIDRs": ["10.0.0.0/8", "10.244.0.1/16"]}}),
        ("injector.meshCIDRs: fd00::1/8 is an address", {"injector": {"meshCIDRs": ["fd00::/8", "fd00::1/8"]}}),
        ("injector.meshCIDRs: fd00:80::/24 is an address", {"injector": {"meshCIDRs": ["fd00:80::/24"]}}),
        ("injector.meshCIDRs: fd00:::/8 is no network", {"injector": {"meshCIDRs": ["fd00:::/8"]}}),
        ("injector.meshCIDRs: fd00:1/8 is no network", {"injector": {"meshCIDRs": ["fd00:1/8"]}}),
        ("injector.meshCIDRs: fd00::1::/64 is no network", {"injector": {"meshCIDRs": ["fd00::1::/64"]}}),
        ("networkPolicy.sidecarCIDRs: 10.1.0.0/8", {"networkPolicy": {"sidecarCIDRs": ["10.1.0.0/8"]}}),
        ("excludeOutboundPorts: 9010-9000 begins above", {"injector": {"excludeOutboundPorts": ["9010-9000"]}}),
        ("excludeInboundPorts: 15006 is a port of the sidecar", {"injector": {"excludeInboundPorts": ["15000-16000"]}}),
        ("resources.redirect.limits.cpu: 0m is", {"injector": {"resources": {"redirect": limits("cpu", "0m")}}}),
        ("resources.limits.memory: 0 is nothing", {"resources": limits("memory", "0")}),
        ("resources.sidecar: .* more memory", {"injector": {"resources": {"sidecar": limits("memory", "64Mi")}}}),
        ("resources: asks for more cpu", {"resources": limits("cpu", "50m")}),
        ("settings.certificate-lifetime: 0s must lie", {"settings": {"certificate-lifetime": "0s"}}),
        ("settings.root-lifetime: 40000d must lie", {"settings": {"root-lifetime": "40000d"}}),
        (r"lease-renewal \(30s\) must be shorter than lease", {"settings": {"lease-lifetime": 30}}),
        (r"ping-interval \(1m\) must be shorter than silence", {"settings": {"ping-interval": "1m"}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_schema_can_say_is_refused_by_the_chart(said: str, values: dict[str, Any]) -> None:
    with pytest.raises(HelmRefused, match=said):
        render(values)


@pytest.mark.parametrize(
    "values",
    [
        {"injector": {"meshCIDRs": ["0.0.0.0/0", "10.96.0.0/12", "10.96.0.1/32", "::/0", "fd00:77::/64", "::1/128"]}},
        {"injector": {"meshCIDRs": ["fd00:1:2:3:4:5:6:7/128", "1:2:3:4:5:6:7::/112", "fd00:f800::/21"]}},
        {"injector": {"excludeInboundPorts": [22, "9000-9010", "15007-15019"], "excludeOutboundPorts": ["1-65535"]}},
        {"injector": {"resources": None}, "resources": {"requests": {"cpu": "1000m"}, "limits": {"cpu": 1}}},
        {"settings": {"lease-renewal": "1m30s", "lease-lifetime": "90.5s", "certificate-lifetime": "1h0m"}},
    ],
    ids=str,
)
def test_what_looks_like_it_is_taken(values: dict[str, Any]) -> None:
    assert render(values).one("Deployment")


def test_equal_ports_are_seen_however_they_are_given() -> None:
    with pytest.raises(HelmRefused, match="three different ports"):
        helm("template", "doorward", str(CHART), "--kube-version", NEWEST, "--set", "injector.ports.inbound=15001")


def test_large_numbers_reach_the_control_plane_as_they_were_written() -> None:
    made = render({"settings": {"max-links": 2_000_000, "certificate-lifetime": 1_000_000}}).one("Deployment")
    (container,) = made["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert variables["DOORWARD_CONTROL_PLANE_MAX_LINKS"] == "2000000"
    assert variables["DOORWARD_CONTROL_PLANE_CERTIFICATE_LIFETIME"] == "1000000"


@pytest.mark.parametrize(
    ("place", "values"),
    [
        ("", {"registry": "x"}),
        ("/image", {"image": "a b"}),
        ("/controlPlane", {"controlPlane": "doorward"}),
        ("/egress", {"egress": "deny"}),
        ("/ports/observe", {"ports": {"observe": -1}}),
    ],
    ids=str,
)
def test_the_library_refuses_them_too(tmp_path: Path, place: str, values: dict[str, Any]) -> None:
    with pytest.raises(HelmRefused, match=SCHEMA) as caught:
        render({"doorward-sidecar": values}, chart=example_chart(tmp_path))
    assert f"at '{place}'" in str(caught.value)
