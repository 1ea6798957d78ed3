"""What probes and scrapers get, over real HTTP, and what a browser under a foreign name does not."""

import json
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import trio
from attrs import define, field

from control_plane.metrics import Metrics
from control_plane.observe import serve_observe
from control_plane.web import WRITE_TIMEOUT
from tests.support.patience import PATIENCE
from tests.support.strange_heads import HTTP_2
from transport import listen


@define
class Observed:
    """A running observe server, and what it says of its readiness."""

    port: int
    metrics: Metrics
    stop: Callable[[], None]
    stopped: trio.Event = field(factory=trio.Event)
    reason: str = ""

    async def get(self, path: str, host: str = "127.0.0.1", method: str = "GET") -> tuple[int, str, str]:
        """Status, head and body."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream:
            await stream.send_all(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while data := await stream.receive_some():
                answer += data
        head, _, body = answer.decode().partition("\r\n\r\n")
        return int(head.split()[1]), head, body


@pytest.fixture
async def observed() -> AsyncIterator[Observed]:
    listeners = await listen("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        serving = trio.CancelScope()
        observed = Observed(listeners[0].socket.getsockname()[1], Metrics(), serving.cancel)

        async def run() -> None:
            hosts = ["doorward.mesh"]
            with serving:
                await serve_observe(
                    listeners, observed.metrics, lambda: observed.reason, hosts=hosts, max_connections=2
                )
            observed.stopped.set()

        nursery.start_soon(run)
        yield observed
        nursery.cancel_scope.cancel()


async def test_live_and_ready(observed: Observed) -> None:
    assert (await observed.get("/live"))[0] == 200
    status, _, body = await observed.get("/ready")
    assert (status, json.loads(body)) == (200, {"ready": True, "reason": ""})


async def test_not_ready_says_why(observed: Observed) -> None:
    observed.reason = "the issuing certificate has ended"
    status, _, body = await observed.get("/ready")
    assert (status, json.loads(body)["reason"]) == (503, observed.reason)
    assert (await observed.get("/live"))[0] == 200


async def test_metrics_in_prometheus_format(observed: Observed) -> None:
    observed.metrics.links_refused.labels("banned").inc()
    status, head, body = await observed.get("/metrics")
    assert status == 200
    assert "text/plain; version=0.0.4" in head
    assert 'doorward_control_plane_links_refused_total{reason="banned"} 1.0' in body


@pytest.mark.parametrize("host", ["127.0.0.1:9", "[::1]:9", "[::1]", "localhost", "LOCALHOST:1", "doorward.mesh:80"])
async def test_own_names_are_answered(observed: Observed, host: str) -> None:
    assert (await observed.get("/live", host))[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "[::1]evil", "x y"])
@pytest.mark.parametrize("path", ["/live", "/metrics", "/nothing"])
async def test_a_foreign_host_is_refused(observed: Observed, host: str, path: str) -> None:
    status, _, body = await observed.get(path, host)
    assert status in {400, 421}
    assert "doorward_control_plane" not in body


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/config", 404), ("POST", "/ready", 405), ("HEAD", "/live", 200)]
)
async def test_there_is_nothing_else(observed: Observed, method: str, path: str, status: int) -> None:
    assert (await observed.get(path, method=method))[0] == status


async def heard(stream: trio.SocketStream) -> None:
    """The whole answer of /live."""
    answer = b""
    while not answer.endswith(b"live\n"):
        answer += await stream.receive_some()


async def test_connections_are_bounded_and_the_one_that_waited_longest_gives_way(observed: Observed) -> None:
    request = b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    first, second = [await trio.open_tcp_stream("127.0.0.1", observed.port) for _ in range(2)]
    for stream in (second, first):  # so that `second` is the one that waits since longer ago
        await stream.send_all(request)
        await heard(stream)
    with trio.fail_after(PATIENCE):
        assert (await observed.get("/live"))[0] == 200
        assert await second.receive_some() == b""
        await first.send_all(request)
        await heard(first)
    assert observed.metrics.gave_way.labels("observe")._value.get() == 1
    for stream in (first, second):
        await stream.aclose()


async def test_a_client_that_has_ended_its_side_is_not_held_on_to(observed: Observed) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", observed.port)
    await stream.send_eof()
    with trio.fail_after(PATIENCE):
        assert await stream.receive_some() == b""
    await stream.aclose()


async def test_a_client_that_does_not_read_cannot_hold_up_the_end(observed: Observed) -> None:
    """Hypercorn shields its sends from cancellation; here they are bounded."""
    stream = await trio.open_tcp_stream("127.0.0.1", observed.port)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with stream:
        with trio.move_on_after(1):
            while True:
                await stream.send_all(request * 100)
        observed.stop()
        with trio.fail_after(WRITE_TIMEOUT + PATIENCE):
            await observed.stopped.wait()


@pytest.mark.parametrize("name", HTTP_2)
async def test_http_2_is_not_spoken(observed: Observed, name: str) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", observed.port) as stream:
        await stream.send_all(HTTP_2[name])
        await stream.send_eof()
        answer = b"".join([bytes(data) async for data in stream])
    assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 421 "))
    assert b"h2c" not in answer
    assert b"\0" not in answer, "no frame of HTTP/2"
