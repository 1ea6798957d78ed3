"""Policies as cluster objects: a small shop that lives by them, with a real API server."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define

from examples.demo.local_mesh import LocalMesh, Place, Sidecar, open_local_mesh
from tests.support.applications import Application, answering
from tests.support.cluster import Cluster
from tests.support.definitions import DEFINED
from tests.support.kube import Kube
from tests.support.namespaces import Pod
from tests.support.patience import PATIENCE

PORT = 8080

RULES = [
    {"apiGroups": [""], "resources": ["namespaces", "pods", "services"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["doorward.dev"], "resources": list(DEFINED.values()), "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["doorward.dev"], "resources": [f"{each}/status" for each in DEFINED.values()], "verbs": ["patch"]},
]
"""What the control plane may do: read the cluster, and write the statuses of policies."""


def allow(namespace: str, name: str = "checkout-calls-payments", **spec: Any) -> dict[str, Any]:
    """Checkout may do anything with payments; `spec` is added to it."""
    return {
        "apiVersion": "doorward.dev/v1",
        "kind": "AllowPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"to": {"workload": "payments", "ports": [PORT]}, "from": [{"workload": "checkout"}], **spec},
    }


@define
class Shop:
    """Checkout and payments with their sidecars, in one pod with a control plane; a namespace of a test's own."""

    cluster: Cluster
    mesh: LocalMesh
    namespace: str
    place: Place
    checkout: Sidecar
    application: Application

    async def kubectl(self, *arguments: str, stdin: object = "") -> str:
        """What kubectl prints. Raises AssertionError where it fails. `stdin` that is no text is sent as JSON."""
        text = stdin if isinstance(stdin, str) else json.dumps(stdin)
        done = await self.cluster.kubectl(*arguments, "-n", self.namespace, stdin=text)
        assert done.exit == 0, done.err
        return done.out

    async def apply(self, *documents: object) -> None:
        """What a pipeline would do."""
        await self.kubectl("apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": list(documents)})

    async def conditions(self, name: str, kind: str = "allowpolicy") -> dict[str, str]:
        """Each condition's status and reason, such as `True Accepted`."""
        found = await self.object(name, kind)
        listed = found.get("status", {}).get("conditions", [])
        return {each["type"]: f"{each['status']} {each['reason']}" for each in listed}

    async def object(self, name: str, kind: str = "allowpolicy") -> dict[str, Any]:
        """The object as it is."""
        found: dict[str, Any] = json.loads(await self.kubectl("get", kind, name, "-o", "json"))
        return found

    async def until(
        self, true: Callable[[dict[str, Any]], Any], name: str, kind: str = "allowpolicy"
    ) -> dict[str, Any]:
        """Wait until the object's status is so, and return the object."""
        found: dict[str, Any] = {}
        with trio.move_on_after(PATIENCE):
            while True:
                found = await self.object(name, kind)
                status = found.get("status", {})
                current = status.get("observedGeneration") == found["metadata"]["generation"]
                if current and true(status):
                    return found
                await trio.sleep(0.1)
        raise AssertionError(f"waited in vain: {json.dumps(found, indent=1)}")

    async def until_enforced(self, name: str = "checkout-calls-payments", kind: str = "allowpolicy") -> dict[str, Any]:
        """Wait until its status says that it is enforced everywhere, on at least one sidecar."""
        return await self.until(lambda status: condition(status, "Enforced") == "True EnforcedEverywhere", name, kind)

    async def call(self, method: str = "GET", path: str = "/") -> int:
        """Checkout calls payments: the answer's status."""
        host, _, port = self.checkout.outbound[f"{self.namespace}/payments:{PORT}"].rpartition(":")
        async with await self.place.connect(host, int(port)) as stream:
            await stream.send_all(f"{method} {path} HTTP/1.1\r\nHost: payments\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join([chunk async for chunk in stream])
        return int(answer.split()[1])

    async def stored(self) -> dict[str, dict[str, Any]]:
        """What the control plane has stored for the namespace, by name."""
        policies = (await self.mesh.admin(lambda client: client.get("/v1/policies")))["policies"]
        return {each["name"]: each for each in policies if each["namespace"] == self.namespace}

    async def until_stored(self, true: Callable[[dict[str, dict[str, Any]]], Any]) -> dict[str, dict[str, Any]]:
        """Wait until what is stored is so."""
        with trio.fail_after(PATIENCE):
            while not true(found := await self.stored()):
                await trio.sleep(0.05)
        return found

    async def revisions(self) -> list[dict[str, Any]]:
        """Every policy revision, newest first."""
        found: list[dict[str, Any]] = (await self.mesh.admin(lambda client: client.get("/v1/revisions")))["revisions"]
        return found


def condition(status: dict[str, Any], kind: str) -> str:
    """`<status> <reason>` of one condition; empty where there is none."""
    found = (each for each in status.get("conditions", []) if each["type"] == kind)
    return next((f"{each['status']} {each['reason']}" for each in found), "")


@asynccontextmanager
async def open_shop(cluster: Cluster, kube: Kube, pod: Pod, directory: Path) -> AsyncIterator[Shop]:
    """Everything running, and no policy yet."""
    namespace, application = await kube.namespace("shop"), Application()

    async def answer(stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await answering(application, stream)
        except trio.BrokenResourceError:
            pass  # a refusal

    async with open_local_mesh(directory) as mesh, trio.open_nursery() as nursery:
        running = await kube.control_plane(mesh, pod, cluster_rules=RULES)
        nursery.start_soon(trio.serve_listeners, answer, [await pod.listen(PORT, "127.0.0.1")])
        place = running.place
        inbound, outbound = f"{pod.ipv4}:0=127.0.0.1:{PORT}/http", f"127.0.0.1:0={namespace}/payments:{PORT}"
        hasty = ("--drain-timeout", "500ms", "--backoff-max", "1s")
        await mesh.start_sidecar(f"{namespace}/payments", *hasty, inbound=[inbound], place=place)
        checkout = await mesh.start_sidecar(f"{namespace}/checkout", *hasty, outbound=[outbound], place=place)
        try:
            yield Shop(cluster, mesh, namespace, place, checkout, application)
        finally:
            with trio.CancelScope(shield=True):
                deleted = await cluster.kubectl("delete", "-n", namespace, "--all", ",".join(DEFINED))
                assert deleted.exit == 0, deleted.err
            nursery.cancel_scope.cancel()
