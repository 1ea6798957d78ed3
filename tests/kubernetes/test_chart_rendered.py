"""What the chart makes of its values, by the real Helm, judged by the schemas of every supported Kubernetes."""

import ast
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.cli.settings import SETTINGS
from control_plane.injector.settings_file import KEYS, read_settings
from tests.support.charts import CHART, CLASSIC, LIBRARY, NATIVE, NEWEST, HelmRefused, Rendered, helm, render
from tests.support.kubernetes_schemas import faults
from tests.support.pod_security import violations

PRODUCTION = CHART / "values-production.yaml"
PROMETHEUS = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
"""Kinds of the Prometheus operator, whose schemas are not Kubernetes' own."""

MONITORING = {name: {"enabled": True} for name in ("serviceMonitor", "podMonitor", "prometheusRule", "dashboard")}
MATRIX: dict[str, dict[str, Any]] = {
    "default": {},
    "classic": {"injector": {"nativeSidecar": False}},
    "monitoring": {"monitoring": MONITORING},
    "no network policy": {"networkPolicy": {"enabled": False}},
    "network policy": {
        "networkPolicy": {"sidecarCIDRs": ["192.0.2.0/24"], "metricsNamespaces": ["m"], "adminNamespaces": ["a", "b"]}
    },
    "existing claim": {"persistence": {"existingClaim": "mine"}},
    "storage class": {"persistence": {"storageClass": "fast", "size": "20Gi", "accessMode": "ReadWriteOncePod"}},
    "no volume": {"persistence": {"enabled": False}},
    "own CA": {"ca": {"secretName": "root-by-cert-manager"}},
    "IPv6": {"ipFamily": "IPv6", "injector": {"meshCIDRs": ["fd00::/8"]}},
    "by digest": {"image": {"registry": "r.example:5000/mesh", "controlPlane": {"digest": "sha256:" + "a" * 64}}},
    "settings": {"settings": {"certificate-lifetime": "30m", "max-links": 20_000, "ping-interval": 5}},
    "placed": {
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "podLabels": {"team": "mesh"},
        "podAnnotations": {"note": "123"},
        "priorityClassName": "system-cluster-critical",
    },
    "injector": {
        "injector": {
            "excludeInboundPorts": [9090, "9000-9010"],
            "meshCIDRs": ["10.0.0.0/8"],
            "sidecarUid": 2_147_483_647,
            "resources": {"sidecar": {"requests": {"cpu": "0.5", "memory": 100_000_000}}},
        }
    },
    "bare": {
        "crds": {"install": False},
        "uninstallCheck": {"enabled": False},
        "podDisruptionBudget": {"enabled": True, "maxUnavailable": 1},
        "webhook": {"excludedNamespaces": ["monitoring"], "timeoutSeconds": 5},
    },
    "production": {},
}


@cache
def rendered(case: str, *, native: bool = True) -> Rendered:
    """For the newest Kubernetes with native sidecars, or the newest without."""
    values, files = MATRIX[case], [PRODUCTION] if case == "production" else []
    if native:
        return render(values, *files)
    values = values | {"injector": {**values.get("injector", {}), "nativeSidecar": False}}
    return render(values, *files, kubernetes=CLASSIC[-1])


@pytest.mark.parametrize("kubernetes", [*CLASSIC, *NATIVE])
def test_every_object_is_valid_in_every_supported_kubernetes(kubernetes: str) -> None:
    judged: set[str] = set()
    for case in MATRIX:
        for each in rendered(case, native=kubernetes in NATIVE).objects:
            content = json.dumps(each, sort_keys=True)
            if each["kind"] in PROMETHEUS or content in judged:
                continue
            judged.add(content)
            assert faults(each, kubernetes) == [], f"{case}: {each['kind']} {each['metadata']['name']}"


@pytest.mark.parametrize("kubernetes", [*CLASSIC, *NATIVE])
def test_the_same_is_rendered_for_all_of_them(kubernetes: str) -> None:
    native = kubernetes in NATIVE
    values = MATRIX["monitoring"] | {"injector": {"nativeSidecar": native}}
    assert render(values, kubernetes=kubernetes) == render(values, kubernetes=(NATIVE if native else CLASSIC)[-1])


def test_the_schemas_refuse_what_a_kubernetes_does_not_know() -> None:
    service = rendered("default").one("Service")
    assert faults({**service, "spec": {**service["spec"], "prots": []}}, NEWEST)
    pod = rendered("default").pods()["Deployment/doorward"]
    native = {"name": "sidecar", "image": "sidecar", "restartPolicy": "Always"}
    pod = {"apiVersion": "v1", "kind": "Pod", **pod, "spec": {**pod["spec"], "initContainers": [native]}}
    assert faults(pod, "1.25")
    assert faults(pod, NEWEST) == []


@pytest.mark.parametrize("values", [CHART / "values.yaml", PRODUCTION], ids=lambda path: path.stem)
@pytest.mark.parametrize("kubernetes", [NATIVE[0], NEWEST])
def test_helm_finds_nothing_to_say(values: Path, kubernetes: str) -> None:
    said = helm("lint", "--strict", str(CHART), "--kube-version", kubernetes, "--values", str(values))
    assert "0 chart(s) failed" in said
    assert "[WARNING]" not in said


def test_helm_finds_nothing_to_say_of_the_library() -> None:
    assert "[WARNING]" not in helm("lint", "--strict", str(LIBRARY), "--kube-version", NEWEST)


def test_the_chart_may_be_part_of_another_one() -> None:
    with tempfile.TemporaryDirectory() as directory:
        chart = Path(directory) / "umbrella"
        (chart / "charts").mkdir(parents=True)
        (chart / "charts" / "doorward").symlink_to(CHART)
        (chart / "Chart.yaml").write_text("apiVersion: v2\nname: umbrella\nversion: 0.0.1\n")
        found = render({"global": {"x": 1}, "doorward": {"trustDomain": "shop.example"}}, chart=chart)
    config = yaml.safe_load(found.one("ConfigMap", "doorward-injector")["data"]["injector.yaml"])
    assert config["trustDomain"] == "shop.example"


@pytest.mark.parametrize("case", MATRIX)
def test_every_pod_passes_pod_security_restricted(case: str) -> None:
    pods = rendered(case).pods()
    assert {"Deployment/doorward", "Pod/doorward-ready"} <= pods.keys()
    for name, pod in pods.items():
        assert violations(pod["spec"]) == [], name
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"], name
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name
        assert pod["spec"]["enableServiceLinks"] is False, name


@pytest.mark.parametrize("case", MATRIX)
def test_the_injector_reads_its_file_and_finds_every_key_in_it(case: str) -> None:
    text = rendered(case).one("ConfigMap", "doorward-injector")["data"]["injector.yaml"]
    read = read_settings(text, "injector.yaml")
    assert yaml.safe_load(text).keys() == set(KEYS)
    assert read.control_plane == "doorward.mesh.svc:7443"
    if case == "injector":
        assert read.exclude_inbound_ports == ("9090", "9000-9010")
        assert read.sidecar_uid == 2_147_483_647
        assert dict(read.resources.sidecar.requests) == {"cpu": "0.5", "memory": "100000000"}


@pytest.mark.parametrize("case", MATRIX)
def test_the_environment_is_settings_of_the_control_plane(case: str) -> None:
    (container,) = rendered(case).pods()["Deployment/doorward"]["spec"]["containers"]
    known = {setting.environment: setting for setting in SETTINGS}
    for variable in container["env"]:
        if variable["name"] != "DOORWARD_ADMIN":
            kind = known[variable["name"]].kind
            kind.convert(variable["value"], None, None)


def test_a_digest_wins_over_the_tag() -> None:
    found = rendered("by digest")
    (container,) = found.pods()["Deployment/doorward"]["spec"]["containers"]
    assert container["image"] == "r.example:5000/mesh/doorward-control-plane@sha256:" + "a" * 64
    config = yaml.safe_load(found.one("ConfigMap", "doorward-injector")["data"]["injector.yaml"])
    assert config["image"].startswith("r.example:5000/mesh/doorward-sidecar:")


def test_another_injector_configuration_starts_the_control_plane_anew() -> None:
    def checksum(values: dict[str, Any]) -> str:
        pod = render(values).pods()["Deployment/doorward"]
        return str(pod["metadata"]["annotations"]["checksum/injector"])

    assert checksum({}) == checksum({"monitoring": MONITORING})
    assert checksum({}) != checksum({"injector": {"egress": "registry-only"}})


def test_the_webhook_is_asked_when_pods_are_created_and_about_nothing_else() -> None:
    """Of whatever else it were asked, nothing would work in the mesh's namespaces while the control plane is away."""
    (webhook,) = rendered("default").one("MutatingWebhookConfiguration", "doorward-injector")["webhooks"]
    created = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    assert webhook["rules"] == [{**created, "scope": "Namespaced"}]


def test_no_pod_gets_a_token_of_the_release_s_accounts_by_chance() -> None:
    accounts = rendered("default").of("ServiceAccount")
    assert {each["metadata"]["name"] for each in accounts} == {"doorward", "doorward-uninstall-check"}
    assert [each["metadata"]["name"] for each in accounts if each["automountServiceAccountToken"] is not False] == []


@pytest.mark.parametrize("case", MATRIX)
def test_one_control_plane_at_a_time_holds_a_state_directory_that_stays_private(case: str) -> None:
    """The new one would wait for the old one's lock, and the old one for the new one to be ready."""
    spec = rendered(case).one("Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    context = spec["template"]["spec"]["securityContext"]
    assert (context["fsGroup"], context["fsGroupChangePolicy"]) == (context["runAsGroup"], "OnRootMismatch")


def test_no_label_brings_the_system_or_the_mesh_itself_into_the_mesh() -> None:
    (webhook,) = rendered("bare").one("MutatingWebhookConfiguration", "doorward-injector")["webhooks"]
    labelled, named = webhook["namespaceSelector"]["matchExpressions"]
    assert labelled == {"key": "doorward.dev/inject", "operator": "In", "values": ["enabled"]}
    excluded = ["kube-system", "kube-public", "kube-node-lease", "mesh", "monitoring"]
    assert named == {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": excluded}
    assert webhook["failurePolicy"] == "Fail"
    assert "caBundle" not in webhook["clientConfig"]


@pytest.mark.parametrize("kubernetes", CLASSIC)
def test_a_native_sidecar_is_refused_where_there_is_none(kubernetes: str) -> None:
    with pytest.raises(HelmRefused, match=r"needs Kubernetes 1.29 or later .* set injector.nativeSidecar=false"):
        render(kubernetes=kubernetes)


def test_a_kubernetes_that_is_too_old_is_refused() -> None:
    with pytest.raises(HelmRefused, match=r"requires kubeVersion: >=1.25"):
        render({"injector": {"nativeSidecar": False}}, kubernetes="1.24")


def test_the_test_hook_is_python_that_asks_this_release() -> None:
    pod = rendered("default").one("Pod", "doorward-ready")
    (container,) = pod["spec"]["containers"]
    ast.parse(container["args"][0])
    assert "http://{service}:7480/ready" in container["args"][0]
    assert "doorward.mesh.svc" in container["args"][0]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"


def test_what_a_prometheus_operator_gets_is_of_its_shape() -> None:
    found = rendered("monitoring")
    (endpoint,) = found.one("ServiceMonitor")["spec"]["endpoints"]
    (port,) = [each for each in found.one("Service")["spec"]["ports"] if each["name"] == endpoint["port"]]
    (container,) = found.one("Deployment")["spec"]["template"]["spec"]["containers"]
    (scraped,) = [each["containerPort"] for each in container["ports"] if each["name"] == port["targetPort"]]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment["DOORWARD_CONTROL_PLANE_OBSERVE"].endswith(f":{scraped}")
    assert endpoint["path"] == "/metrics"
    assert found.one("Service")["metadata"]["labels"].items() >= (
        found.one("ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
    )
    (pods,) = found.one("PodMonitor", "doorward-sidecars")["spec"]["podMetricsEndpoints"]
    assert [each.get("replacement") for each in pods["relabelings"]] == [None, "$1:15020", "[$1]:15020"]
    rules = found.one("PrometheusRule")["spec"]
    assert rules == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    dashboard = found.one("ConfigMap", "doorward-dashboard")
    assert json.loads(dashboard["data"]["doorward.json"])["uid"] == "doorward"
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_the_selectors_find_the_pod_and_nothing_else_of_the_release() -> None:
    found = rendered("production")
    pods = {name: pod["metadata"].get("labels", {}) for name, pod in found.pods().items()}
    selectors = [
        *(each["spec"]["selector"] for each in found.of("Service")),
        found.one("Deployment")["spec"]["selector"]["matchLabels"],
        found.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        found.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ]
    for selector in selectors:
        assert [name for name, labels in pods.items() if selector.items() <= labels.items()] == ["Deployment/doorward"]
