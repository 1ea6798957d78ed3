"""The observe address over real sockets: whom it answers, what it says, and what it does not listen to."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define

from sidecar.metrics import Metrics
from sidecar.observe import MAX_HEAD_BYTES, Observe, serve_observe
from sidecar.probes import Prober
from sidecar.readiness import Readiness
from sidecar.settings import Limits
from sidecar.view import Mesh, View
from tests.support.patience import PATIENCE
from tests.support.pki import Pki
from tests.support.simulator import WORKLOAD, snapshot
from transport import Dialled, listen

PKI = Pki()


@define
class Served:
    port: int
    mesh: Mesh
    readiness: Readiness
    metrics: Metrics

    async def say(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send one request that ends the connection; status, header fields and body of the answer."""
        with trio.fail_after(PATIENCE):
            stream = await trio.open_tcp_stream("127.0.0.1", self.port)
            async with stream:
                await stream.send_all(request)
                answer = b"".join([bytes(chunk) async for chunk in stream])
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        return int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:]), body

    async def get(self, path: str, host: str = "127.0.0.1", method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        return await self.say(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())


@asynccontextmanager
async def serving(limits: Limits | None = None) -> AsyncIterator[Served]:
    mesh, metrics = Mesh(WORKLOAD.in_domain(PKI.domain)), Metrics()
    readiness = Readiness(mesh)
    prober = Prober((), metrics, Dialled())
    observe = Observe(readiness, metrics, lambda: {"identity": str(mesh.own)}, frozenset({"checkout.example"}), prober)
    listeners = await listen("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_observe, listeners, observe, limits or Limits())
        yield Served(listeners[0].socket.getsockname()[1], mesh, readiness, metrics)
        nursery.cancel_scope.cancel()


async def test_not_ready_says_why_and_ready_says_so() -> None:
    async with serving() as served:
        status, headers, body = await served.get("/ready")
        assert status == 503
        assert headers["content-type"] == "application/json"
        said = json.loads(body)
        assert said["ready"] is False
        assert len(said["reasons"]) == 3
        served.mesh.replace_svid(PKI.svid())
        served.mesh.replace_view(View.build(snapshot(PKI), PKI.domain))
        served.readiness.listening = True
        status, _, body = await served.get("/ready")
        assert (status, json.loads(body)) == (200, {"ready": True})


async def test_live_metrics_and_config() -> None:
    async with serving() as served:
        served.metrics.refused("inbound", "not_tls")
        assert (await served.get("/live"))[0] == 200
        status, headers, body = await served.get("/metrics")
        assert status == 200
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        assert b'refused_total{direction="inbound",reason="not_tls"} 1.0' in body
        assert b"doorward_sidecar_ready 0.0" in body
        assert json.loads((await served.get("/config"))[2]) == {"identity": str(served.mesh.own)}


async def test_head_is_the_same_without_the_body() -> None:
    async with serving() as served:
        _, get, body = await served.get("/live")
        status, head, nothing = await served.get("/live", method="HEAD")
        assert (status, nothing) == (200, b"")
        assert head["content-length"] == get["content-length"] == str(len(body))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:15020", "[::1]:15020", "localhost", "LOCALHOST:1", "checkout.example"]
)
async def test_hosts_that_are_answered(host: str) -> None:
    async with serving() as served:
        assert (await served.get("/live", host))[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[evil]", "a b"]
)
async def test_a_foreign_host_is_refused(host: str) -> None:
    async with serving() as served:
        assert (await served.get("/ready", host))[0] in {400, 421}


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"POST /ready HTTP/1.1", 405),
        (b"GET /other HTTP/1.1", 404),
        (b"GET http://evil.example/ready HTTP/1.1", 400),
        (b"CONNECT evil.example:80 HTTP/1.1", 405),
        (b"nonsense", 400),
        (b"GET /" + b"x" * 2 * MAX_HEAD_BYTES + b" HTTP/1.1", 431),
    ],
)
async def test_what_is_no_question_gets_an_error(request_line: bytes, status: int) -> None:
    async with serving() as served:
        got, _, body = await served.say(request_line + b"\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert got == status
        assert "error" in json.loads(body)
        assert b"evil" not in body


async def test_a_request_body_is_not_taken() -> None:
    async with serving() as served:
        status, _, _ = await served.say(b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\n\r\nabc")
        assert status == 400


async def test_a_connection_can_be_used_again() -> None:
    async with serving() as served, await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
        for _ in range(3):
            await stream.send_all(b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            with trio.fail_after(PATIENCE):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")


async def test_a_caller_that_says_nothing_is_let_go() -> None:
    async with serving(Limits(observe_timeout=0.2)) as served:
        stream = await trio.open_tcp_stream("127.0.0.1", served.port)
        async with stream:
            with trio.fail_after(Limits().observe_timeout):
                assert await stream.receive_some() == b""


async def test_more_callers_than_places_wait_for_one() -> None:
    async with serving(Limits(observe_timeout=1.0, observe_connections=2)) as served:
        idle = [await trio.open_tcp_stream("127.0.0.1", served.port) for _ in range(2)]
        assert (await served.get("/live"))[0] == 200
        for stream in idle:
            await stream.aclose()


@pytest.mark.parametrize(
    ("address", "allowed"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.7", False), ("fe80::1", False), ("", False)],
)
def test_config_is_for_this_machine_only(address: str, allowed: bool) -> None:
    import h11

    mesh = Mesh(WORKLOAD.in_domain(PKI.domain))
    page: Callable[[], dict[str, object]] = dict
    observe = Observe(Readiness(mesh), Metrics(), page, frozenset(), Prober((), Metrics(), Dialled()))
    request = h11.Request(method="GET", target="/config", headers=[("host", "10.0.0.7")])
    assert observe.answer(request, address).status == (200 if allowed else 403)
