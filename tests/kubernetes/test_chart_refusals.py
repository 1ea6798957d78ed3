"""Wrong and unknown values are refused by the charts' schemas, with their place, before anything is rendered."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.charts import HelmRefused, example_chart, render

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


@pytest.mark.parametrize(
    ("said", "values"),
    [
        ("injector.ports: three different ports", {"injector": {"ports": {"inbound": 15001}}}),
        ("injector.meshCIDRs: 10.244.0.1/16", {"injector": {"meshCIDRs": ["10.0.0.0/8", "10.244.0.1/16"]}}),
        ("networkPolicy.sidecarCIDRs: 10.1.0.0/8", {"networkPolicy": {"sidecarCIDRs": ["10.1.0.0/8"]}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_schema_can_say_is_refused_by_the_chart(said: str, values: dict[str, Any]) -> None:
    with pytest.raises(HelmRefused, match=said):
        render(values)


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
