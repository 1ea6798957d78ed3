"""The injector in a real cluster, as the chart installs it: the real API server calls the real webhook.

    async with open_injected(cluster, kube, place, directory) as injected:
        shop = await kube.namespace("shop", inject=True)
        result = await injected.create(shop, pod_of("web"))      kubectl create, with its exit code and what it said

Rights, webhook configuration and settings are the rendered chart's. The Service's address leads to the webhook by DNAT.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define

from control_plane.injector.registration import PATH
from control_plane.kubernetes.errors import ApiRefused
from examples.demo.local_mesh import LocalMesh, Result, json_lines, open_local_mesh
from tests.support.charts import Rendered, render
from tests.support.cluster import Cluster
from tests.support.kube import Kube
from tests.support.namespaces import Pod

NAME = "doorward-injector"
CHART_NAMESPACE = "mesh"
SECONDS = 60.0


def pod_of(name: str, **spec: Any) -> dict[str, Any]:
    """A pod with one container; `labels` and `annotations` are its metadata's, all else is of its spec."""
    metadata: dict[str, Any] = {
        "name": name,
        **{key: spec.pop(key) for key in ("labels", "annotations") if key in spec},
    }
    containers = [{"name": "app", "image": "app", "ports": [{"name": "http", "containerPort": 8080}]}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers, **spec}}


@define
class Injected:
    """A control plane with an injector, in the pod `place`. `namespace` is its own."""

    cluster: Cluster
    kube: Kube
    mesh: LocalMesh
    place: Pod
    namespace: str
    chart: Rendered

    async def create(self, namespace: str, *pods: dict[str, Any]) -> Result:
        """`kubectl create` of these pods."""
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": pods})
        return await self.cluster.kubectl("create", "-n", namespace, "-f", "-", stdin=content)

    async def pod(self, namespace: str, name: str) -> dict[str, Any]:
        """A pod as the API server has it."""
        return await self.kube.api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")

    async def register(self, **changes: Any) -> None:
        """Create the chart's webhook configuration, for this installation; `changes` are to its webhook."""
        text = json.dumps(self.chart.one("MutatingWebhookConfiguration", NAME))
        made = json.loads(text.replace(f'"{CHART_NAMESPACE}"', f'"{self.namespace}"'))
        made["webhooks"][0] |= changes
        await self.kube.create(PATH, made)

    async def configuration(self) -> dict[str, Any]:
        """The webhook configuration as it is now."""
        return await self.kube.api.get(f"{PATH}/{NAME}")

    async def bundle(self) -> str:
        """Its caBundle; "" where there is none."""
        found = await self.configuration()
        return str(found["webhooks"][0]["clientConfig"].get("caBundle", ""))

    async def until_registered(self) -> str:
        """Wait until API servers can believe the webhook; returns the caBundle."""
        with trio.fail_after(SECONDS):
            while not (bundle := await self.bundle()):
                await trio.sleep(0.02)
        return bundle

    async def start(self, *options: str) -> None:
        """Start the control plane, or start it again."""
        file = self.mesh.directory / "injector.yaml"
        file.write_text(self.chart.one("ConfigMap", NAME)["data"]["injector.yaml"])
        token_file = self.kube.directory / f"{self.namespace}-doorward.token"
        given = ["--kubernetes", self.cluster.url, "--kubernetes-ca", str(self.cluster.ca)]
        given += ["--kubernetes-token-file", str(token_file), "--kubernetes-namespace", self.namespace]
        given += ["--injector-listen", f"{self.place.ipv4}:9443", "--injector-config", str(file), *options]
        await self.mesh.start_control_plane(*given, listen=f"{self.place.ipv4}:7443", place=self.place.place())

    async def stop(self) -> None:
        """End the control plane."""
        assert self.mesh.control_plane is not None
        await self.mesh.control_plane.stop()

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The control plane's log lines whose event begins so."""
        assert self.mesh.control_plane is not None
        return [line for line in json_lines(self.mesh.control_plane.log) if line["event"].startswith(event)]

    def outcomes(self, namespace: str) -> list[str]:
        """What became of each review of a pod of this namespace."""
        return [line["outcome"] for line in self.lines("admission") if line["namespace"] == namespace]

    async def until_logged(self, event: str) -> dict[str, Any]:
        """Wait for a line whose event begins so, and return the last."""
        with trio.fail_after(SECONDS):
            while not (found := self.lines(event)):
                await trio.sleep(0.02)
        return found[-1]

    async def check(self, name: str) -> dict[str, Any]:
        """The line of `doorward check`."""
        checks = json.loads((await self.mesh.doorward("check", "-o", "json")).out)["checks"]
        (line,) = [each for each in checks if each["name"] == name]
        return dict(line)


@asynccontextmanager
async def open_injected(
    cluster: Cluster, kube: Kube, place: Pod, directory: Path, *options: str, registered: bool = True
) -> AsyncIterator[Injected]:
    """Install and start it; with `registered`, its webhook is called from then on."""
    own, chart = await kube.namespace("doorward"), render()
    rights = chart.one("ClusterRole")["rules"], chart.one("Role")["rules"]
    await kube.account(own, "doorward", cluster_rules=rights[0], rules=rights[1])
    service = await kube.service(own, NAME, None, {"https": 443})
    await cluster.route(service["spec"]["clusterIP"], 443, place.ipv4, 9443)
    async with open_local_mesh(directory) as mesh:
        injected = Injected(cluster, kube, mesh, place, own, chart)
        await injected.start(*options)
        if registered:
            await injected.register()
            await until_injected(kube, await kube.namespace("probe", inject=True))
        yield injected


async def until_injected(kube: Kube, namespace: str) -> None:
    """Return when pods of that namespace get sidecars: API servers go by copies of what is registered and labelled.

    No pod is created, but the webhook is asked.
    """
    with trio.fail_after(SECONDS):
        while not await _is_injected(kube, namespace):
            await trio.sleep(0.02)


async def _is_injected(kube: Kube, namespace: str) -> bool:
    try:
        pod = await kube.api.create(f"/api/v1/namespaces/{namespace}/pods", pod_of("probe"), dryRun="All")
    except ApiRefused as refused:
        if "failed calling webhook" not in refused.message:
            raise
        return False
    return "initContainers" in pod["spec"]
