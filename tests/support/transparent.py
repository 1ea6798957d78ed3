"""Pods in transparent mode, redirected by our own command, with applications in them that know of no mesh.

    async with open_pods(network, directory) as pods:
        said = await say(pods.client, pods.server.ipv4, HTTP)       a request like any program makes it, and its answer
        pods.seen                                                   what reached the applications

`client` holds shop/checkout, `server` shop/payments, `outside` nothing of the mesh.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, redirect_stdout, suppress
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
import trio
from attrs import define, field, frozen

from examples.demo.local_mesh import LocalMesh, Sidecar, http_get, open_local_mesh
from sidecar.cli import main
from tests.support.namespaces import Network, Pod
from tests.support.patience import PATIENCE

SIDECAR, APPLICATION, SOMEBODY = 1337, 1000, 1001  # users
HTTP, TCP, UNDECLARED, DEBUG = 8080, 5432, 7777, 9999  # ports of the server; DEBUG listens on loopback only
WEB = 80  # of the pod outside the mesh
COMMON = ("--transparent", "--backoff-max", "1s")

GET = b"GET /charges HTTP/1.1\r\nHost: payments\r\nConnection: close\r\n\r\n"
OK = "HTTP/1.1 200 OK: ok"
ENDED = ("reset", "closed")  # what a refused connection gets, by who was faster

POLICIES = f"""
apiVersion: doorward.dev/v1
kind: AllowPolicy
metadata: {{name: checkout-calls-payments, namespace: shop}}
spec:
  to: {{workload: payments, ports: [{HTTP}]}}
  from: [{{workload: checkout}}]
  http: [{{methods: [GET], paths: ["/charges"]}}]
---
apiVersion: doorward.dev/v1
kind: AllowPolicy
metadata: {{name: checkout-streams-to-payments, namespace: shop}}
spec:
  to: {{workload: payments, ports: [{TCP}, {UNDECLARED}, {DEBUG}]}}
  from: [{{workload: checkout}}]
"""


@frozen
class Seen:
    """What an application was sent first on one connection, and from which address."""

    port: int
    data: bytes
    address: str


@define
class Pods:
    """The running mesh and what reached its applications."""

    network: Network
    mesh: LocalMesh
    client: Pod
    server: Pod
    outside: Pod
    checkout: Sidecar
    payments: Sidecar
    seen: list[Seen] = field(factory=list)

    async def apply(self, policies: str) -> None:
        """Apply policies and wait until every sidecar enforces them."""
        result = await self.mesh.doorward("policy", "apply", "-f", "-", "--wait", "30s", stdin=policies.encode())
        assert result.exit == 0, result.err

    async def another(
        self, workload: str, *options: str, uid: int = SIDECAR, ready: bool = True
    ) -> tuple[Pod, Sidecar]:
        """One more redirected pod, whose sidecar runs as `uid` and with these options."""
        pod = await self.network.pod(workload)
        return pod, await start_transparent(self.mesh, pod, workload, *options, uid=uid, ready=ready)


async def start_transparent(
    mesh: LocalMesh, pod: Pod, workload: str, *options: str, uid: int = SIDECAR, ready: bool = True
) -> Sidecar:
    """Redirect the pod as an init container would, and start its sidecar."""
    redirect(pod)
    return await mesh.start_sidecar(workload, *COMMON, *options, place=pod.place(uid=uid), ready=ready)


def redirect(pod: Pod, *options: str) -> None:
    """`doorward-sidecar redirect --install` in the pod, without a process of its own."""
    with redirect_stdout(StringIO()), pytest.raises(SystemExit) as ended:
        pod.inside(partial(main, ["redirect", "--install", *options]))
    assert ended.value.code == 0


@asynccontextmanager
async def open_pods(network: Network, directory: Path) -> AsyncIterator[Pods]:
    """A control plane, the three pods, and POLICIES in force."""
    platform = await network.pod("platform")
    client, server, outside = [await network.pod(name) for name in ("client", "server", "outside")]
    async with open_local_mesh(directory) as mesh, trio.open_nursery() as applications:
        await mesh.start_control_plane(listen=f"{platform.ipv4}:7443", place=platform.place())
        offered = ["--ports", f"{HTTP}/http", "--ports", f"{TCP}/tcp"]
        offered += ["--advertise", server.ipv4, "--advertise", server.ipv6]
        payments = await start_transparent(mesh, server, "shop/payments", *offered)
        checkout = await start_transparent(mesh, client, "shop/checkout")
        pods = Pods(network, mesh, client, server, outside, checkout, payments)
        await pods.apply(POLICIES)
        await introduced(checkout, server.ipv4, server.ipv6)
        await _start_applications(pods, applications)
        yield pods
        applications.cancel_scope.cancel()


async def introduced(sidecar: Sidecar, *addresses: str) -> None:
    """Return once the sidecar knows endpoints at these addresses: who announces one proves it later."""
    with trio.fail_after(PATIENCE):
        while True:
            with suppress(OSError):  # let go by a sidecar that stood still
                _, config = await http_get(sidecar.observe, "/config", sidecar.place)
                if set(addresses) <= {each["address"] for each in json.loads(config)["snapshot"]["endpoints"]}:
                    return
            await trio.sleep(0.02)


async def say(pod: Pod, host: str, port: int, data: bytes = GET, *, uid: int = APPLICATION) -> str:
    """What a user of that pod gets for `data`: the first and the last line of an answer, or how it ended."""
    answer = b""
    with trio.move_on_after(PATIENCE) as patience:
        try:
            async with await pod.connect(host, port, uid=uid) as stream:
                await stream.send_all(data)
                await stream.send_eof()
                async for chunk in stream:
                    answer += chunk
        except ConnectionRefusedError:
            return "refused"
        except (trio.BrokenResourceError, OSError):
            return "reset"
    if patience.cancelled_caught:
        return "silence"
    lines = answer.decode("latin-1").split("\r\n")
    return f"{lines[0]}: {lines[-1]}" if answer else "closed"


async def _start_applications(pods: Pods, nursery: trio.Nursery) -> None:
    listening = [(pods.server, port, "::") for port in (HTTP, TCP, UNDECLARED)]
    listening += [(pods.server, DEBUG, "127.0.0.1"), (pods.server, DEBUG, "::1"), (pods.outside, WEB, "::")]
    for pod, port, host in listening:
        nursery.start_soon(trio.serve_listeners, partial(answer, pods, port), [await pod.listen(port, host)])


async def answer(pods: Pods, port: int, stream: trio.SocketStream) -> None:
    """Keep what came, and answer it once, in HTTP, which no raw TCP client minds; then wait for the other end."""
    try:
        async with stream:
            if received := await stream.receive_some():
                address = stream.socket.getpeername()[0].removeprefix("::ffff:")
                pods.seen.append(Seen(port, received, address))
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await stream.receive_some()
    except trio.BrokenResourceError:
        pass  # the other side of a refusal
