"""The real control plane, run as the chart's Deployment says and with the rights of its service account, and no others.

There is no kubelet: the process has the container's arguments and environment, but for the paths of a pod.
"""

import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import frozen

from control_plane.kubernetes.errors import ApiRefused
from examples.demo.local_mesh import PROGRAMS, LocalMesh, Process, http_get, open_local_mesh, wait_until_ready
from tests.support.injected import until_injected
from tests.support.kube import Kube, client
from tests.support.namespaces import Pod
from tests.support.releases import WEBHOOK, Release, open_release
from tests.support.rights import until_allowed

SECONDS = 30.0
SERVICES = ("doorward", "doorward-injector")
VALUES: dict[str, Any] = {"injector": {"requestLog": "denied"}, "image": {"registry": "r.example"}}

# What a pod finds by DNS, found by these addresses instead.
RESOLVE = """
import socket
found, names = socket.getaddrinfo, {names!r}
socket.getaddrinfo = lambda host, *rest, **more: found(names.get(host, host), *rest, **more)
"""


@frozen
class Running:
    """The release, and its control plane as a process in `place`."""

    release: Release
    mesh: LocalMesh
    place: Pod
    process: Process

    async def find(self, path: str) -> Mapping[str, Any] | None:
        """The object at `path`, or None."""
        try:
            return await self.release.kube.api.get(path)
        except ApiRefused as error:
            if error.status != 404:
                raise
            return None

    async def until(self, path: str, holds: Callable[[Mapping[str, Any]], object] = bool) -> Mapping[str, Any]:
        """The object at `path` once it is there and `holds` of it."""
        with trio.fail_after(SECONDS):
            while (found := await self.find(path)) is None or not holds(found):
                await trio.sleep(0.1)
        return found

    async def token_file(self, account: str) -> Path:
        """A token of one of the release's service accounts."""
        file = self.release.directory / f"{account}.token"
        file.write_text(await self.release.kube.token(self.release.namespace, account, audience=""))
        return file


@pytest.fixture
async def running(kube: Kube, place: Pod, short_directory: Path, tmp_path: Path) -> AsyncIterator[Running]:
    """Installed, and ready."""
    async with open_release(kube, tmp_path) as release, open_local_mesh(short_directory) as mesh:
        await release.apply("install", VALUES)
        objects = await release.live(release.rendered(VALUES))
        for kind, within in (("ClusterRole", ""), ("Role", release.namespace)):
            rule = objects[f"{kind}/doorward"]["rules"][-1]
            await until_allowed(kube.api, release.namespace, "doorward", rule, within=within)
        (container,) = objects["Deployment/doorward"]["spec"]["template"]["spec"]["containers"]
        config = tmp_path / "injector.yaml"
        config.write_text(objects["ConfigMap/doorward-injector"]["data"]["injector.yaml"])
        token = tmp_path / "doorward.token"
        token.write_text(await kube.token(release.namespace, "doorward", audience=""))
        prefix = "DOORWARD_CONTROL_PLANE_"
        environment = {each["name"]: each["value"] for each in container["env"]} | {
            "DOORWARD_ADMIN": str(mesh.state / "admin.sock"),
            f"{prefix}STATE": str(mesh.state),
            f"{prefix}INJECTOR_CONFIG": str(config),
            f"{prefix}KUBERNETES": kube.cluster.url,
            f"{prefix}KUBERNETES_CA": str(kube.cluster.ca),
            f"{prefix}KUBERNETES_TOKEN_FILE": str(token),
        }
        for service in SERVICES:
            spec = objects[f"Service/{service}"]["spec"]
            targets = {each["name"]: each["containerPort"] for each in container["ports"]}
            for port in spec["ports"]:
                target = targets[port["targetPort"]]
                await kube.cluster.route(spec["clusterIP"], port["port"], place.ipv4, target, pods=[place])
        command = ["env", *(f"{name}={value}" for name, value in environment.items())]
        command += [str(PROGRAMS / "doorward"), *container["args"]]
        process = mesh.start("control-plane", command, place=place.place())
        await wait_until_ready(process, f"{place.ipv4}:7480")
        yield Running(release, mesh, place, process)


async def test_the_rendered_rights_suffice_for_all_that_it_does(running: Running) -> None:
    release, kube = running.release, running.release.kube
    secret = await running.until(f"/api/v1/namespaces/{release.namespace}/secrets/doorward-ca")
    assert secret["data"].keys() >= {"tls.crt", "tls.key"}

    hooked = await running.until(WEBHOOK, lambda found: found["webhooks"][0]["clientConfig"].get("caBundle"))
    await release.apply("upgrade", VALUES | {"webhook": {"timeoutSeconds": 7}})
    (webhook,) = (await kube.api.get(WEBHOOK))["webhooks"]
    assert webhook["timeoutSeconds"] == 7
    assert webhook["clientConfig"]["caBundle"] == hooked["webhooks"][0]["clientConfig"]["caBundle"]

    shop = await kube.namespace("shop", inject=True)
    bundle = f"/api/v1/namespaces/{shop}/configmaps/doorward-trust-bundle"
    assert (await running.until(bundle))["data"].keys() == {"bundle.pem"}
    await kube.api.patch(bundle, {"data": {"bundle.pem": "tampered"}})
    await running.until(bundle, lambda found: found["data"]["bundle.pem"] != "tampered")

    pod = await kube.pod(shop, "web", ips=["10.77.0.99"])
    sidecar = next(each for each in pod["spec"]["initContainers"] if each["name"] == "doorward-sidecar")
    assert sidecar["image"].startswith("r.example/doorward-sidecar:")
    assert {"name": "DOORWARD_REQUEST_LOG", "value": "denied"} in sidecar["env"]

    policy = {"metadata": {"name": "any"}, "spec": {"to": {"workload": "web"}, "from": [{"workload": "*"}]}}
    policies = f"/apis/doorward.dev/v1/namespaces/{shop}/allowpolicies"
    await kube.api.create(policies, {"apiVersion": "doorward.dev/v1", "kind": "AllowPolicy", **policy})
    await running.until(f"{policies}/any", lambda found: found.get("status", {}).get("conditions"))

    audit = await running.mesh.doorward("injection", "audit", "-n", shop, "--all", "-o", "json")
    assert [each["name"] for each in audit.json()["pods"]] == ["web"], audit.err
    async with client(kube.cluster, await running.token_file("doorward")) as own:
        token = await kube.token(shop, "default", pod=pod)
        review = {"spec": {"token": token, "audiences": ["doorward"]}}
        answer = await own.create("/apis/authentication.k8s.io/v1/tokenreviews", review)
        assert answer["status"]["authenticated"]
    await kube.api.patch(f"/api/v1/namespaces/{shop}", {"metadata": {"labels": {"doorward.dev/inject": None}}})
    with trio.fail_after(SECONDS):
        while await running.find(bundle) is not None:
            await trio.sleep(0.1)

    _, metrics = await http_get(f"{running.place.ipv4}:7480", "/metrics", running.process.place)
    assert "doorward_control_plane_kubernetes_lists_total" in metrics
    assert 'kubernetes_requests_failed_total{reason="403"}' not in metrics
    assert "forbidden" not in running.process.log.read_text()


async def test_the_test_hook_passes_where_all_is_well_and_fails_where_not(running: Running) -> None:
    objects = running.release.rendered(VALUES)
    namespace = running.release.namespace
    found = await running.release.live([each for each in objects if each["kind"] == "Service"])
    names = {f"{name}.{namespace}.svc": found[f"Service/{name}"]["spec"]["clusterIP"] for name in SERVICES}
    (container,) = running.release.hooks(VALUES)["Pod/doorward-ready"]["spec"]["containers"]
    assert container["command"] == ["python", "-c"]
    script = [sys.executable, "-c", RESOLVE.format(names=names) + container["args"][0]]
    assert (await running.place.run(script)).exit == 0
    await running.process.stop()
    failed = await running.place.run(script)
    assert failed.exit == 1
    assert "Connection refused" in failed.err


async def test_the_check_before_an_uninstall_names_the_pods_with_sidecars(running: Running) -> None:
    kube = running.release.kube
    job = running.release.hooks(VALUES)["Job/doorward-uninstall-check"]["spec"]["template"]["spec"]
    assert job["serviceAccountName"] == "doorward-uninstall-check"
    (container,) = job["containers"]
    command = [word for word in container["args"] if word not in ("--kubernetes", "in-cluster")]
    token = await running.token_file("doorward-uninstall-check")
    server = ["--kubernetes", kube.cluster.url, "--kubernetes-ca", str(kube.cluster.ca)]
    check = [str(PROGRAMS / "doorward"), *command, *server, "--kubernetes-token-file", str(token)]
    assert (await running.place.run(check)).exit == 0
    shop = await kube.namespace("shop", inject=True)
    await until_injected(kube, shop)
    await kube.pod(shop, "web", ips=["10.77.0.99"])
    found = await running.place.run(check)
    assert found.exit == 1
    assert found.out.split()[-2:] == [shop, "web"]
    assert "--no-hooks" in found.err
