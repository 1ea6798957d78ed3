"""How much the chart's pods may, and its service accounts: judged by the real API server, and listed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from control_plane.kubernetes.errors import ApiRefused
from tests.support.charts import CHART, render
from tests.support.definitions import DEFINED
from tests.support.kube import Kube
from tests.support.pod_security import violations
from tests.support.releases import open_release

PRODUCTION = CHART / "values-production.yaml"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
WEBHOOKS = "mutatingwebhookconfigurations.admissionregistration.k8s.io"

KEPT_BY_WATCHING = ("namespaces", "pods", "services", "endpointslices.discovery.k8s.io", *DEFINED)
CLUSTER_WIDE = {
    *((kind, verb, "") for kind in KEPT_BY_WATCHING for verb in ("list", "watch")),
    ("namespaces", "get", ""),  # `injection audit` of one
    ("tokenreviews.authentication.k8s.io", "create", ""),
    ("configmaps", "create", ""),
    *(("configmaps", verb, "doorward-trust-bundle") for verb in ("list", "watch", "update", "delete")),
    *((WEBHOOKS, verb, "doorward-injector") for verb in ("list", "watch", "patch")),
    *((kind.replace(".", "/status.", 1), "patch", "") for kind in DEFINED),
}
"""What the code does with the API: resource, verb, and the one name that it is bounded to."""

OWN_NAMESPACE = {("secrets", "create", ""), ("secrets", "get", "doorward-ca")}


def allowed(role: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """A role's rules, one right each."""
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames", [""]):
                        yield (f"{resource}.{group}".rstrip("."), verb, name)


def test_the_rights_are_those_that_the_code_uses() -> None:
    found = render()
    assert set(allowed(found.one("ClusterRole"))) == CLUSTER_WIDE
    assert set(allowed(found.one("Role"))) == OWN_NAMESPACE
    assert set(allowed(found.one("ClusterRole", "doorward-uninstall-check"))) == {("pods", "list", "")}
    assert {each["metadata"]["name"] for each in (*found.of("ClusterRole"), *found.of("Role"))} == {
        "doorward",
        "doorward-uninstall-check",
    }
    for binding in (*found.of("ClusterRoleBinding"), *found.of("RoleBinding")):
        name = binding["metadata"]["name"]
        assert binding["roleRef"]["name"] == name
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "mesh"}]


def test_the_rights_follow_the_name_of_the_ca() -> None:
    rights = set(allowed(render({"ca": {"secretName": "mine"}}).one("Role")))
    assert rights == {("secrets", "create", ""), ("secrets", "get", "mine")}


async def taken(kube: Kube, namespace: str, pod: dict[str, Any]) -> str:
    """What the API server says against creating that pod; "" where it would. Nothing is created."""
    path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
    try:
        await kube.api.create(path, {**pod, "metadata": {"generateName": "pod-"}})
    except ApiRefused as error:
        return error.message
    return ""


async def test_the_real_admission_takes_every_pod_as_restricted(kube: Kube, tmp_path: Path) -> None:
    async with open_release(kube, tmp_path, **RESTRICTED) as release:
        await release.apply("install", {})
        for values in ({}, {"persistence": {"enabled": False}}, yaml.safe_load(PRODUCTION.read_text())):
            for name, pod in render(values, namespace=release.namespace).pods().items():
                assert await taken(kube, release.namespace, pod) == "", name


STRICT: dict[str, Any] = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
LAXER: dict[str, dict[str, Any]] = {
    "as it is": {},
    "hostNetwork": {"pod": {"hostNetwork": True}},
    "hostPID": {"pod": {"hostPID": True}},
    "hostPath": {"pod": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}},
    "projected": {"pod": {"volumes": [{"name": "v", "projected": {"sources": []}}]}},
    "pod as root": {"pod": {"securityContext": {"runAsUser": 0}}},
    "sysctl": {"pod": {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}},
    "root": {"context": {"runAsUser": 0}},
    "may be root": {"context": {"runAsNonRoot": False}},
    "says nothing of root": {"context": {"runAsNonRoot": None}},
    "may escalate": {"context": {"allowPrivilegeEscalation": True}},
    "says nothing of escalating": {"context": {"allowPrivilegeEscalation": None}},
    "privileged": {"context": {"privileged": True, "allowPrivilegeEscalation": None}},
    "keeps capabilities": {"context": {"capabilities": None}},
    "adds a capability": {"context": {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}},
    "binds low ports": {"context": {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}},
    "no seccomp": {"context": {"seccompProfile": None}},
    "unconfined": {"context": {"seccompProfile": {"type": "Unconfined"}}},
    "SELinux": {"context": {"seLinuxOptions": {"type": "spc_t"}}},
    "host port": {"container": {"ports": [{"containerPort": 80, "hostPort": 80}]}},
}


async def test_our_judgement_is_the_real_admissions(kube: Kube) -> None:
    namespace = await kube.namespace("restricted", labels=RESTRICTED)
    for case, laxer in LAXER.items():
        given = {**STRICT, **laxer.get("context", {})}
        context = {key: value for key, value in given.items() if value is not None}
        container = {"name": "app", "image": "app", "securityContext": context, **laxer.get("container", {})}
        pod = {"spec": {"containers": [container], **laxer.get("pod", {})}}
        refusal = await taken(kube, namespace, pod)
        assert ('violates PodSecurity "restricted' in refusal) == bool(refusal), case
        assert bool(violations(pod["spec"])) == bool(refusal), case
