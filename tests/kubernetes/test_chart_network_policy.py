"""Whom the chart's NetworkPolicy lets in: to each port those who need it, and nobody else."""

from typing import Any

from tests.support.charts import render

ANYBODY = "anybody"
EVERY_NAMESPACE = {"namespaceSelector": {}}
OWN_NAMESPACE = {"podSelector": {}}


def let_in(values: dict[str, Any] | None = None) -> dict[int, list[Any]]:
    """Who may connect to each port of the control plane."""
    rendered = render(values)
    spec = rendered.one("NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    deployment = rendered.one("Deployment")["spec"]
    assert spec["podSelector"]["matchLabels"].items() <= deployment["template"]["metadata"]["labels"].items()
    found: dict[int, list[Any]] = {}
    for rule in spec["ingress"]:
        for port in rule["ports"]:
            assert port["protocol"] == "TCP"
            found.setdefault(port["port"], []).extend(rule.get("from", [ANYBODY]))
    return found


def named(*namespaces: str) -> dict[str, Any]:
    expression = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [*namespaces]}
    return {"namespaceSelector": {"matchExpressions": [expression]}}


def test_sidecars_and_the_api_server_come_in_and_all_else_from_the_own_namespace() -> None:
    assert let_in() == {
        7443: [EVERY_NAMESPACE],
        9443: [ANYBODY],
        7480: [OWN_NAMESPACE],
        7444: [OWN_NAMESPACE],
    }


def test_whom_the_values_name_comes_in_where_they_say_and_nowhere_else() -> None:
    values = {"sidecarCIDRs": ["192.0.2.0/24"], "metricsNamespaces": ["m"], "adminNamespaces": ["a", "b"]}
    assert let_in({"networkPolicy": values}) == {
        7443: [EVERY_NAMESPACE, {"ipBlock": {"cidr": "192.0.2.0/24"}}],
        9443: [ANYBODY],
        7480: [OWN_NAMESPACE, named("m")],
        7444: [OWN_NAMESPACE, named("a", "b")],
    }


def test_without_it_there_is_none() -> None:
    assert render({"networkPolicy": {"enabled": False}}).of("NetworkPolicy") == []
