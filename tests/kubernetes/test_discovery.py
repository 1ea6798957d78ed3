"""Services and EndpointSlices that are made in the API server become routes in running sidecars, by event.

Cluster IPs are dialled that exist nowhere: no kube-proxy is there. What answers came through both sidecars.
"""

import json
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field

from examples.demo.local_mesh import LocalMesh, Sidecar, http_get, open_local_mesh
from tests.support.applications import saying
from tests.support.cluster import Cluster
from tests.support.cluster_objects import pod as described
from tests.support.kube import SLICES, Kube, Object
from tests.support.namespaces import Pod
from tests.support.patience import PATIENCE
from tests.support.transparent import HTTP, start_transparent

KINDS = ("pods", "services", "endpointslices", "namespaces")
POLICIES = """
apiVersion: doorward.dev/v1
kind: AllowPolicy
metadata: {{name: checkout-calls-{to}, namespace: {namespace}}}
spec:
  to: {{workload: {to}}}
  from: [{{workload: checkout}}]
"""


@define
class Shop:
    """Checkout, payments and stock, each redirected in a pod of its own that the API server knows."""

    kube: Kube
    mesh: LocalMesh
    place: Pod
    namespace: str
    pods: dict[str, Pod] = field(factory=dict)
    sidecars: dict[str, Sidecar] = field(factory=dict)
    options: list[str] = field(factory=list)

    async def call(self, address: str, port: int = 80, *, path: str = "/charges") -> str:
        """What checkout's application gets at that address: who answered, the status, or how it ended."""
        client = self.pods["checkout"]
        try:
            status, body = await http_get(f"{address}:{port}", path, client.place(uid=1000))
        except (OSError, trio.BrokenResourceError, IndexError):
            return "ended"
        return body if status == 200 else f"{status} {json.loads(body)['reason']}"

    async def until(self, wanted: str, address: str, port: int = 80) -> None:
        """Call until it gets that."""
        got = ""
        with trio.move_on_after(PATIENCE):
            while (got := await self.call(address, port)) != wanted:
                await trio.sleep(0.05)
            return
        raise AssertionError(f"got {got!r}, not {wanted!r}")

    async def slice_of(self, *names: str, ready: bool = True) -> Object:
        addresses = [self.pods[name].ipv4 for name in names]
        return await self.kube.endpoint_slice(self.namespace, "shop", addresses, {"http": HTTP}, ready=ready)

    async def change(self, slice_: Object, *, ready: bool) -> None:
        """Say of all its endpoints that they are ready, or not."""
        endpoints = [{**each, "conditions": {"ready": ready}} for each in slice_["endpoints"]]
        path = f"{SLICES}/namespaces/{self.namespace}/endpointslices/{slice_['metadata']['name']}"
        await self.kube.api.patch(path, {"endpoints": endpoints})

    async def lists(self) -> dict[str, tuple[int, float]]:
        """By kind: how many lists the API server has answered to the control plane, and how many that has counted."""
        own = self.options[self.options.index("--kubernetes-namespace") + 1]
        answered = self.kube.cluster.lists(f"system:serviceaccount:{own}:doorward")
        _, page = await http_get(self.mesh.observe, "/metrics", self.place.place())
        found = {}
        for kind in KINDS:
            read = re.search(
                rf'^doorward_control_plane_kubernetes_lists_total{{kind="{kind}"}} (\S+)$', page, re.MULTILINE
            )
            assert read is not None, kind
            found[kind] = answered[kind], float(read[1])
        assert min(answered[kind] for kind in KINDS) > 0, answered
        return found

    async def services(self) -> list[dict[str, Any]]:
        """What `doorward services list` says of this namespace."""
        listed = await self.mesh.doorward("services", "list", "-o", "json")
        assert listed.exit == 0, listed.err
        return [each for each in listed.json()["services"] if each["service"].startswith(f"{self.namespace}/")]

    async def until_listed(self, backends: int) -> dict[str, Any]:
        """The namespace's one route, once that many places are behind it, called or not."""
        with trio.fail_after(PATIENCE):
            while len((found := await self.services())[0]["backends"]) != backends:
                await trio.sleep(0.1)
        (route,) = found
        return route


@pytest.fixture
async def shop(cluster: Cluster, kube: Kube, place: Pod, short_directory: Path) -> AsyncIterator[Shop]:
    namespace = await kube.namespace("shop", inject=True)
    async with open_local_mesh(short_directory) as mesh, trio.open_nursery() as applications:
        shop = Shop(kube, mesh, place, namespace, options=await kube.control_plane_options())
        await mesh.start_control_plane(*shop.options, listen=f"{place.ipv4}:7443", place=place.place())
        for name in ("payments", "stock", "checkout"):
            await add(shop, name, applications)
        documents = "---".join(POLICIES.format(to=to, namespace=namespace) for to in ("payments", "stock"))
        applied = await mesh.doorward("policy", "apply", "-f", "-", "--wait", "30s", stdin=documents.encode())
        assert applied.exit == 0, applied.err
        yield shop
        applications.cancel_scope.cancel()


async def add(shop: Shop, name: str, applications: trio.Nursery) -> None:
    """A pod of that service account: in the API server, with a sidecar, and with an application that says its name."""
    pod = shop.pods[name] = await shop.kube.cluster.network.pod(name)
    await shop.kube.service_account(shop.namespace, name)
    spec = described(name, pod.ipv4, ports=f"{HTTP}/http")["spec"]
    first, containers = spec["initContainers"], spec["containers"]
    await shop.kube.pod(
        shop.namespace, name, ips=[pod.ipv4], service_account=name, containers=containers, initContainers=first
    )
    listener = await pod.listen(HTTP)
    applications.start_soon(trio.serve_listeners, partial(saying, name), [listener])
    shop.sidecars[name] = await start_transparent(
        shop.mesh, pod, f"{shop.namespace}/{name}", "--ports", f"{HTTP}/http", "--egress", "registry-only"
    )


async def test_services_and_slices_become_routes_by_event(shop: Shop) -> None:
    service = await shop.kube.service(shop.namespace, "shop", None, {"http": 80})
    address = service["spec"]["clusterIP"]
    await shop.until("503 no_endpoint", address)
    before = await shop.lists()
    payments = await shop.slice_of("payments")
    await shop.until("payments", address)
    stock = await shop.slice_of("stock")
    await shop.until("stock", address)
    assert {await shop.call(address) for _ in range(20)} == {"payments", "stock"}
    assert await shop.call(address, 443) == "ended", "a port that the service has not"
    await shop.change(payments, ready=False)
    await shop.until("stock", address)
    with trio.fail_after(PATIENCE):
        while {await shop.call(address) for _ in range(10)} != {"stock"}:
            await trio.sleep(0.05)
    await shop.change(stock, ready=False)
    await shop.until("503 no_endpoint", address)
    await shop.change(payments, ready=True)
    await shop.until("payments", address)
    await shop.kube.api.delete(f"/api/v1/namespaces/{shop.namespace}/services/shop")
    await shop.until("ended", address)
    assert await shop.lists() == before, "every change came by a watch"
    records = [each for each in shop.sidecars["checkout"].records() if each.get("original") == f"{address}:80"]
    reached = {each["destination"] for each in records if each["allowed"]}
    assert reached == {f"spiffe://cluster.local/ns/{shop.namespace}/sa/{each}" for each in ("payments", "stock")}
    nowhere = {each.get("destination", "") for each in records if each["reason"] == "no_endpoint"}
    assert nowhere == {f"{shop.namespace}/shop"}


async def test_a_slice_written_by_hand_leads_to_whoever_is_there_and_nobody_else_may_answer(shop: Shop) -> None:
    """Somebody puts stock's address behind his own service, and says that payments is there: it is called as stock."""
    service = await shop.kube.service(shop.namespace, "bait", None, {"http": 80})
    await shop.kube.endpoint_slice(shop.namespace, "bait", [shop.pods["stock"].ipv4], {"http": HTTP}, target="payments")
    address = service["spec"]["clusterIP"]
    await shop.until("stock", address)
    (route,) = await shop.services()
    assert [each["identity"] for each in route["backends"]] == [f"spiffe://cluster.local/ns/{shop.namespace}/sa/stock"]
    moved = await shop.kube.pod_status(shop.namespace, "payments", [shop.pods["stock"].ipv4], ready=True)
    assert moved["status"]["podIP"] == shop.pods["stock"].ipv4, "two pods with one address: the kubelet was wrong"
    await shop.until("503 no_endpoint", address)
    (route,) = await shop.services()
    assert [each["standing"] for each in route["backends"]] == ["contested"]


async def test_an_operator_sees_why_a_call_goes_nowhere(shop: Shop) -> None:
    service = await shop.kube.service(shop.namespace, "shop", None, {"http": 80})
    address = service["spec"]["clusterIP"]
    await shop.slice_of("payments")
    await shop.slice_of("stock", ready=False)
    await shop.kube.endpoint_slice(shop.namespace, "shop", ["10.9.9.9"], {"http": HTTP})
    await shop.until("payments", address)
    route = await shop.until_listed(3)
    assert (route["addresses"], route["port"], route["protocol"], route["in_mesh"]) == ([address], 80, "http", True)
    assert {each["address"]: each["standing"] for each in route["backends"]} == {
        shop.pods["payments"].ipv4: "called",
        shop.pods["stock"].ipv4: "not_ready",
        "10.9.9.9": "no_pod",
    }
    assert f"spiffe://cluster.local/ns/{shop.namespace}/sa/stock" in {each["identity"] for each in route["backends"]}
    table = (await shop.mesh.doorward("services", "list")).out
    assert re.search(rf"{shop.namespace}/shop +{address}:80 +http +.*/payments", table)


async def test_an_api_server_that_is_away_takes_no_route_away_and_a_restart_meanwhile_neither(
    cluster: Cluster, shop: Shop
) -> None:
    service = await shop.kube.service(shop.namespace, "shop", None, {"http": 80})
    address = service["spec"]["clusterIP"]
    await shop.slice_of("payments")
    await shop.until("payments", address)
    control_plane = shop.mesh.control_plane
    assert control_plane is not None
    async with cluster.api_server_away():
        assert await shop.call(address) == "payments"
        await control_plane.stop()
        await shop.mesh.start_control_plane(*shop.options, place=shop.place.place(), ready=False)
        for _ in range(20):
            assert await shop.call(address) == "payments"
            await trio.sleep(0.2)
    await shop.slice_of("stock")
    await shop.until("stock", address)
