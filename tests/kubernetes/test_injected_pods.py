"""Pods as the injector makes them, run by its very commands, users and variables: in the mesh, and kept in.

No API server has a part in it: this is what the injector alone makes of a pod.
"""

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from attrs import define

from control_plane.injector.patch import Injected, inject
from control_plane.injector.settings import InjectorSettings
from examples.demo.local_mesh import LocalMesh, open_local_mesh
from tests.support.kubelet import RunningPod
from tests.support.namespaces import Network, Pod, open_network, require_namespaces
from tests.support.patience import PATIENCE
from tests.support.transparent import ENDED, POLICIES, say

NAMESPACE: Final = "shop"
APPLICATION: Final = 1000
HTTP: Final = 8080
SIDECAR: Final = "doorward-sidecar"
CALL = b"GET %s HTTP/1.1\r\nHost: payments\r\nConnection: close\r\n\r\n"

# Says who called. SIGUSR1 makes it ill.
WEB: Final = f"""
import http.server, signal, socket
ill = []
signal.signal(signal.SIGUSR1, lambda *_: ill.append(True))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        caller = self.headers.get("x-forwarded-client-cert", "nobody").encode()
        self.send_response(500 if ill and self.path == "/healthz" else 200)
        self.send_header("Content-Length", str(len(caller)))
        self.end_headers()
        self.wfile.write(caller)
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
Server(("::", {HTTP}), Handler).serve_forever()
"""


def pod(name: str, **container: Any) -> dict[str, Any]:
    """A pod as a Deployment's template makes it."""
    context = {"runAsUser": APPLICATION, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "metadata": {"name": f"{name}-5d4f", "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {
            "serviceAccountName": name,
            "containers": [{"name": name, "image": f"shop/{name}", "securityContext": context, **container}],
        },
    }


PAYMENTS: Final = pod(
    "payments",
    command=["python3", "-c", WEB],
    ports=[{"name": "http", "containerPort": HTTP}],
    livenessProbe={"httpGet": {"path": "/healthz", "port": "http"}, "timeoutSeconds": 30},
    readinessProbe={"tcpSocket": {"port": HTTP}, "timeoutSeconds": 30},
)
CHECKOUT: Final = pod("checkout", command=["sleep", "infinity"])


@define
class Cluster:
    """A control plane in a network of its own, and the pods that were started in it."""

    network: Network
    mesh: LocalMesh
    platform: Pod

    async def injected(self, given: dict[str, Any]) -> RunningPod:
        """The pod in the mesh, not started yet; the volumes hold a join token and the trust bundle."""
        result = inject(given, NAMESPACE, InjectorSettings(control_plane=self.mesh.address))
        assert isinstance(result, Injected), result
        name = given["spec"]["serviceAccountName"]
        token = (await self.mesh.token(f"{NAMESPACE}/{name}")).read_text()
        place = await self.network.pod(name)
        bundle = (self.mesh.directory / "bundle.pem").read_text()  # as `doorward bundle show` prints it
        config_maps = {"doorward-trust-bundle": {"bundle.pem": bundle}}
        return RunningPod(result.pod, place, self.network.hub, self.mesh, {"doorward": token}, config_maps)

    async def start_control_plane(self) -> None:
        await self.mesh.start_control_plane(listen=f"{self.platform.ipv4}:7443", place=self.platform.place())


@pytest.fixture
async def cluster(short_directory: Path) -> AsyncIterator[Cluster]:
    require_namespaces()
    async with open_network() as network, open_local_mesh(short_directory) as mesh:
        cluster = Cluster(network, mesh, await network.pod("platform"))
        await cluster.start_control_plane()
        yield cluster


async def test_injected_pods_talk_are_probed_and_nobody_gets_around_their_sidecars(cluster: Cluster) -> None:
    payments, checkout = await cluster.injected(PAYMENTS), await cluster.injected(CHECKOUT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(payments.start)
        nursery.start_soon(checkout.start)
    for running in (payments, checkout):
        assert rights(running, SIDECAR) == {"Uid": "1337", "CapEff": "0", "CapBnd": "0", "NoNewPrivs": "1"}
    applied = await cluster.mesh.doorward("policy", "apply", "-f", "-", "--wait", "30s", stdin=POLICIES.encode())
    assert applied.exit == 0, applied.err
    await until(payments, "readiness", payments.place.ipv4, healthy=True)

    said = await say(checkout.place, payments.place.ipv4, HTTP, CALL % b"/charges")
    assert "By=spiffe://cluster.local/ns/shop/sa/payments;" in said
    assert said.endswith("URI=spiffe://cluster.local/ns/shop/sa/checkout")
    assert '"reason": "no_policy_matched"' in await say(checkout.place, payments.place.ipv4, HTTP, CALL % b"/refunds")

    outside = await cluster.network.pod("outside")
    for host in (payments.place.ipv4, payments.place.ipv6):
        assert await say(outside, host, HTTP, CALL % b"/charges") in ENDED
        assert await say(checkout.place, host, HTTP, CALL % b"/charges", uid=1337) in ENDED
    with trio.fail_after(PATIENCE):  # records are written a moment later
        while [record["reason"] for record in payments.processes[SIDECAR].records()].count("not_tls") < 4:
            await trio.sleep(0.02)
    await the_kubelet_asks_through_the_sidecar(payments)


async def the_kubelet_asks_through_the_sidecar(payments: RunningPod) -> None:
    """The application falls ill, and is gone; its sidecar is well."""
    both = (payments.place.ipv4, payments.place.ipv6)
    for host in both:
        assert await payments.healthy("payments", "liveness", host=host)
        assert await payments.healthy("payments", "readiness", host=host)
    payments.processes["payments"].popen.send_signal(signal.SIGUSR1)
    for host in both:
        await until(payments, "liveness", host, healthy=False)
        assert await payments.healthy("payments", "readiness", host=host)
    await payments.processes["payments"].stop()
    for host in both:
        assert not await payments.healthy("payments", "readiness", host=host)
        assert await payments.healthy(SIDECAR, "readiness", host=host)


async def test_an_application_starts_after_its_sidecar_is_ready_and_ends_before_it(cluster: Cluster) -> None:
    checkout = await cluster.injected(CHECKOUT)
    right, checkout.tokens = checkout.tokens, {"doorward": "dwt_wrong"}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checkout.start)
        await until_it_is_refused(checkout)
        assert list(checkout.processes) == ["doorward-redirect", SIDECAR]
        checkout.tokens = right
        checkout.fill_volumes()
    assert list(checkout.processes) == ["doorward-redirect", SIDECAR, "checkout"]
    assert await checkout.end() == {"checkout": -signal.SIGTERM, SIDECAR: 0}
    assert "drain timeout" not in checkout.processes[SIDECAR].log.read_text()


async def until(payments: RunningPod, kind: str, host: str, *, healthy: bool) -> None:
    with trio.fail_after(PATIENCE):
        while await payments.healthy("payments", kind, host=host) is not healthy:
            await trio.sleep(0.05)


async def until_it_is_refused(running: RunningPod) -> None:
    with trio.fail_after(PATIENCE):
        while SIDECAR not in running.processes or "control link failed" not in running.processes[SIDECAR].tail():
            await trio.sleep(0.02)


def rights(running: RunningPod, container: str) -> dict[str, str]:
    """What the kernel lets a container's process do."""
    lines = Path(f"/proc/{running.processes[container].popen.pid}/status").read_text().splitlines()
    fields = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines) if value.split()}
    return {name: fields[name].lstrip("0") or "0" for name in ("Uid", "CapEff", "CapBnd", "NoNewPrivs")}
