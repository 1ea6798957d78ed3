"""The real API server calls the real webhook, registered as the chart does it."""

import json
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import trio

from examples.demo.local_mesh import PROGRAMS
from tests.support.cluster import Cluster
from tests.support.injected import SECONDS, Injected, open_injected, pod_of, until_injected
from tests.support.kube import CONTAINER as APP
from tests.support.kube import Kube
from tests.support.namespaces import Pod

OPTED_OUT = {"doorward.dev/inject": "disabled"}


@pytest.fixture
async def injected(cluster: Cluster, kube: Kube, place: Pod, short_directory: Path) -> AsyncIterator[Injected]:
    async with open_injected(cluster, kube, place, short_directory) as injected:
        yield injected


def names(containers: list[dict[str, Any]]) -> list[str]:
    return [each["name"] for each in containers]


def is_untouched(pod: dict[str, Any]) -> bool:
    return names(pod["spec"]["containers"]) == ["app"] and "initContainers" not in pod["spec"]


async def test_a_pod_of_a_labelled_namespace_gets_its_sidecar(injected: Injected) -> None:
    shop = await injected.kube.namespace("shop", inject=True)
    result = await injected.create(shop, pod_of("web", annotations={"doorward.dev/ports": "8080/tcp"}))
    assert result.exit == 0, result.err
    pod = await injected.pod(shop, "web")
    redirect, sidecar = pod["spec"]["initContainers"]
    assert names([redirect, sidecar]) == ["doorward-redirect", "doorward-sidecar"]
    assert names(pod["spec"]["containers"]) == ["app"]
    assert redirect["securityContext"]["capabilities"]["add"] == ["NET_ADMIN"]
    assert sidecar["restartPolicy"] == "Always"
    environment = {each["name"]: each.get("value") for each in sidecar["env"]}
    assert environment["DOORWARD_PORTS"] == "8080/tcp"
    assert environment["DOORWARD_CONTROL_PLANE"] == "doorward.mesh.svc:7443"
    assert {"doorward-token", "doorward-trust-bundle"} <= {each["name"] for each in pod["spec"]["volumes"]}
    assert pod["metadata"]["annotations"]["doorward.dev/injected"] == version("doorward")
    # A second look, after the API server's own plug-ins saw the containers that are new to them.
    assert injected.outcomes(shop) == ["injected", "unchanged"]


async def test_what_is_not_in_the_mesh_is_left_as_it_is(injected: Injected) -> None:
    """The webhook is not even asked about the first two; for the third, kubectl warns of it."""
    ops, shop = await injected.kube.namespace("ops"), await injected.kube.namespace("shop", inject=True)
    assert (await injected.create(ops, pod_of("tool"))).exit == 0
    assert (await injected.create(shop, pod_of("tool", labels=OPTED_OUT))).exit == 0
    assert injected.outcomes(ops) + injected.outcomes(shop) == []
    result = await injected.create(shop, pod_of("agent", hostNetwork=True))
    assert result.exit == 0
    assert "Warning: doorward: this pod uses its node's network" in result.err
    assert injected.outcomes(shop) == ["skipped"]
    for namespace, name in ((ops, "tool"), (shop, "tool"), (shop, "agent")):
        assert is_untouched(await injected.pod(namespace, name))


REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "value": ({"annotations": {"doorward.dev/egress": "some"}}, ["doorward.dev/egress", "allow", "registry-only"]),
    "name": ({"annotations": {"doorward.dev/prots": "8080"}}, ["doorward.dev/prots", "doorward.dev/ports"]),
    "probe": ({"containers": [{**APP, "livenessProbe": {"grpc": {"port": 9000}}}]}, ["livenessProbe", "gRPC"]),
    "user": ({"securityContext": {"runAsUser": 1337}}, ["runAsUser", "1337 is the sidecar's user"]),
}


async def test_what_cannot_be_in_the_mesh_is_refused_with_the_choices_named(injected: Injected) -> None:
    shop = await injected.kube.namespace("shop", inject=True)
    for name, (spec, said) in REFUSED.items():
        result = await injected.create(shop, pod_of(name, **spec))
        assert result.exit != 0
        assert 'admission webhook "injector.doorward.dev" denied the request' in result.err
        assert [each for each in said if each not in result.err] == [], result.err
    assert injected.outcomes(shop) == ["refused"] * len(REFUSED)


async def test_without_the_webhook_labelled_namespaces_wait_and_the_rest_goes_on(injected: Injected) -> None:
    kube = injected.kube
    shop, ops = await kube.namespace("shop", inject=True), await kube.namespace("ops")
    await injected.stop()
    refused = await injected.create(shop, pod_of("web"))
    assert refused.exit != 0
    assert 'failed calling webhook "injector.doorward.dev"' in refused.err
    assert (await injected.create(ops, pod_of("web"))).exit == 0
    assert (await injected.create(shop, pod_of("tool", labels=OPTED_OUT))).exit == 0
    await kube.api.patch(
        f"/api/v1/namespaces/{injected.namespace}", {"metadata": {"labels": {"doorward.dev/inject": "enabled"}}}
    )
    assert (await injected.create(injected.namespace, pod_of("doorward"))).exit == 0, "it could never come back"
    await injected.start()
    assert (await injected.create(shop, pod_of("web"))).exit == 0
    assert not is_untouched(await injected.pod(shop, "web"))


async def test_the_certificate_is_replaced_while_pods_are_created(
    cluster: Cluster, kube: Kube, place: Pod, short_directory: Path
) -> None:
    brief = ("--own-certificate-lifetime", "10s")  # of which half is left when it is replaced: a busy machine needs it
    async with open_injected(cluster, kube, place, short_directory, *brief) as injected:
        shop = await kube.namespace("shop", inject=True)
        made = 0
        with trio.fail_after(SECONDS):
            while len(injected.lines("made a serving certificate")) < 4:
                result = await injected.create(shop, pod_of(f"web-{made}"))
                assert result.exit == 0, result.err
                made += 1
        assert injected.outcomes(shop).count("injected") == made


async def test_the_audit_says_of_real_pods_why_they_are_not_in_the_mesh(injected: Injected) -> None:
    kube = injected.kube
    shop = await kube.namespace("shop")
    assert (await injected.create(shop, pod_of("early"))).exit == 0
    early = (await injected.pod(shop, "early"))["metadata"]["creationTimestamp"]
    labelled = await injected.cluster.kubectl("label", "namespace", shop, "doorward.dev/inject=enabled")
    assert labelled.exit == 0
    await until_injected(kube, shop)
    pods = pod_of("meshed"), pod_of("host", hostNetwork=True), pod_of("out", labels=OPTED_OUT), pod_of("debugged")
    assert (await injected.create(shop, *pods)).exit == 0
    debugger = {**APP, "name": "debugger", "securityContext": {"runAsUser": 1337}}
    path = f"/api/v1/namespaces/{shop}/pods/debugged/ephemeralcontainers"
    await kube.api.patch(path, {"spec": {"ephemeralContainers": [debugger]}})  # as `kubectl debug --custom` does
    result = await injected.mesh.doorward("injection", "audit", "-n", shop, "-o", "json")
    assert result.exit == 1, result.err
    found = {each["name"]: each for each in json.loads(result.out)["pods"]}
    assert {name: each["reason"] for name, each in found.items()} == {
        "debugged": "runs_as_sidecar",
        "early": "before_label",
        "host": "host_network",
        "meshed": "not_ready",
        "out": "opted_out",
    }
    assert early.replace("T", " ").removesuffix("Z") in found["early"]["detail"]


async def test_pods_that_uninstalling_would_leave_behind_are_named(injected: Injected) -> None:
    """By the rights that the chart gives to its check."""
    kube = injected.kube
    rules = injected.chart.one("ClusterRole", "doorward-uninstall-check")["rules"]
    token_file = await kube.account(injected.namespace, "check", cluster_rules=rules)
    given = "--kubernetes", injected.cluster.url, "--kubernetes-ca", str(injected.cluster.ca)
    command = [str(PROGRAMS / "doorward"), "injection", "remaining", *given, "--kubernetes-token-file", str(token_file)]
    shop = await kube.namespace("shop", inject=True)
    assert (await injected.create(shop, pod_of("web"), pod_of("host", hostNetwork=True))).exit == 0
    before = await injected.place.run(command)
    assert before.exit == 1, before.err
    assert before.out.splitlines()[1].split() == [shop, "web"]
    assert "1 pod still has a sidecar" in before.err
    await kube.delete_pod(shop, "web")
    after = await injected.place.run(command)
    assert (after.exit, after.out) == (0, "no pod has a sidecar\n")
