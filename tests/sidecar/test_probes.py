"""Probes over real sockets: what the application is asked, what of its answer is told, and who has to wait for whom."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
import trio.testing
from attrs import define, field

from certs.tls import server_context
from examples.demo.ports import free_port
from sidecar.metrics import Metrics, exposition
from sidecar.observe import Observe, serve_observe
from sidecar.probes import MAX_BODY_BYTES, MAX_HEAD_BYTES, Prober
from sidecar.readiness import Readiness
from sidecar.settings import HttpGet, Limits, Probe
from sidecar.view import Mesh
from tests.support.patience import PATIENCE
from tests.support.pki import Pki
from tests.support.simulator import WORKLOAD
from transport import Dialled, TlsStream, listen

Application = Callable[[trio.abc.Stream, bytes], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@define
class Asked:
    """What the kubelet sees, and what the application saw."""

    port: int
    metrics: Metrics
    heads: list[bytes] = field(factory=list)

    async def ask(self, name: str, *, method: str = "GET", at: str = "127.0.0.1") -> tuple[int, dict[str, object]]:
        """Status and content of the answer; (0, {}) where the connection ended without one."""
        answer = b""
        try:
            async with await trio.open_tcp_stream(at, self.port) as stream:
                await stream.send_all(
                    f"{method} /probe/{name} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n".encode()
                )
                async for chunk in stream:
                    answer += chunk
        except trio.BrokenResourceError:
            return 0, {}
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body or b"{}")


@asynccontextmanager
async def asking(
    application: Application, *probes: Callable[[int], Probe], limits: Limits | None = None
) -> AsyncIterator[Asked]:
    """An application, and a sidecar's observe address with probes of its port; no snapshot has come yet."""
    metrics, mesh = Metrics(), Mesh(WORKLOAD.in_domain(Pki().domain))

    async def serve(stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await application(stream, head := await read_head(stream))
                asked.heads.append(head)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the sidecar had heard enough

    async with trio.open_nursery() as nursery:
        applications = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), serve, 0)
        port = applications[0].socket.getsockname()[1]
        prober = Prober([make(port) for make in probes], metrics, Dialled())
        listeners = await listen("127.0.0.1", 0)
        asked = Asked(listeners[0].socket.getsockname()[1], metrics)
        observe = Observe(Readiness(mesh), metrics, dict, frozenset(), prober)
        nursery.start_soon(serve_observe, listeners, observe, limits or Limits())
        yield asked
        nursery.cancel_scope.cancel()


async def read_head(stream: trio.abc.ReceiveStream) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n") and (data := await stream.receive_some()):
        head += data
    return head


def http(
    name: str = "web/liveness", *headers: tuple[str, str], scheme: str = "HTTP", timeout: float = PATIENCE
) -> Callable[[int], Probe]:
    return lambda port: Probe(name, port, HttpGet(scheme, "/healthz?a=b", headers), timeout=timeout)


def answering(answer: bytes) -> Application:
    async def answered(stream: trio.abc.Stream, head: bytes) -> None:
        await stream.send_all(answer)

    return answered


async def test_the_application_is_asked_as_the_kubelet_asks() -> None:
    async with asking(answering(OK), http()) as asked:
        for method, content in (("GET", {"probe": "web/liveness", "outcome": "healthy", "status": 200}), ("HEAD", {})):
            assert await asked.ask("web/liveness", method=method) == (200, content)
            lines = asked.heads.pop().decode().split("\r\n")
            assert lines[0] == "GET /healthz?a=b HTTP/1.1"
            assert lines[1].startswith("Host: 127.0.0.1:")
            assert lines[2:5] == ["User-Agent: kube-probe/doorward", "Accept: */*", "Connection: close"]


async def test_headers_of_the_probe_win_and_those_of_the_connection_are_ours() -> None:
    given = [("host", "web.example"), ("user-agent", "mine"), ("Accept", ""), ("Connection", "keep-alive")]
    given += [("Content-Length", "5"), ("X-Twice", "1"), ("X-Twice", "2")]
    async with asking(answering(OK), http("web/liveness", *given)) as asked:
        assert (await asked.ask("web/liveness"))[0] == 200
        lines = asked.heads[0].decode().split("\r\n")[1:-2]
        assert lines == ["Host: web.example", "user-agent: mine", "X-Twice: 1", "X-Twice: 2", "Connection: close"]


@pytest.mark.parametrize(
    ("answer", "status", "outcome"),
    [
        (b"HTTP/1.1 399 Odd\r\n\r\n", 200, "healthy"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n", 200, "healthy"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, "healthy"),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 6\r\n\r\nsecret", 503, "status"),
        (b"HTTP/1.1 503 secret\r\nSecret: secret\r\nContent-Length: 0\r\n\r\n", 503, "status"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 503, "not_http"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsecret", 503, "not_http"),
        (b"HTTP/1.1 200 OK\r\nA: " + MAX_HEAD_BYTES * b"a", 503, "not_http"),
        (b"secret\r\n\r\n", 503, "not_http"),
        (b"", 503, "not_http"),
    ],
)
async def test_what_an_answer_means(answer: bytes, status: int, outcome: str) -> None:
    async with asking(answering(answer), http()) as asked:
        got, content = await asked.ask("web/liveness")
        assert (got, content["outcome"]) == (status, outcome)
        assert "secret" not in json.dumps(content)
        counted = f'doorward_sidecar_probes_total{{outcome="{outcome}",probe="web/liveness"}} 1.0'
        assert counted in exposition(asked.metrics).decode()


async def test_a_body_without_end_is_read_as_far_as_the_kubelet_would() -> None:
    async def endless(stream: trio.abc.Stream, head: bytes) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(MAX_BODY_BYTES * b"a")

    async with asking(endless, http()) as asked:
        assert (await asked.ask("web/liveness"))[0] == 200


async def test_https_is_asked_without_asking_whose_certificate_it_is() -> None:
    pki = Pki()
    context = server_context(pki.svid(), pki.bundle, (), client_certificate=False)

    async def serve(plain: trio.SocketStream) -> None:
        stream = TlsStream(plain.socket, context, server_side=True)
        try:
            await stream.do_handshake()
            await read_head(stream)
            await stream.send_all(OK)
        except trio.BrokenResourceError:
            pass  # the probe in the clear
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), serve, 0)
        port, prober = listener.socket.getsockname()[1], Prober((), Metrics(), Dialled())
        assert (await prober.perform(http(scheme="HTTPS")(port), "127.0.0.1")).status == 200
        assert (await prober.perform(http()(port), "127.0.0.1")).name in {"not_http", "reset"}
        nursery.cancel_scope.cancel()
    async with asking(answering(OK), http(scheme="HTTPS", timeout=0.2)) as asked:
        assert (await asked.ask("web/liveness"))[1]["outcome"] == "timeout"


async def test_a_port_is_open_or_not() -> None:
    async def accepting(stream: trio.abc.Stream, head: bytes) -> None:
        pass

    gone = free_port()
    open_port, closed_port = tcp("db/liveness"), tcp("db/readiness", port=gone)
    async with asking(accepting, open_port, closed_port) as asked:
        assert await asked.ask("db/liveness") == (200, {"probe": "db/liveness", "outcome": "healthy"})
        assert await asked.ask("db/readiness") == (503, {"probe": "db/readiness", "outcome": "refused"})


async def test_a_probe_that_hangs_is_over_in_its_time_and_others_do_not_wait_for_it(
    mock_clock: trio.testing.MockClock,
) -> None:
    """Its time may be longer than a caller has for asking. It passes only where the test says so."""
    heard, both = [], trio.Event()

    async def hanging(stream: trio.abc.Stream, head: bytes) -> None:
        heard.append(head)
        if len(heard) == 2:
            both.set()
        await stream.receive_some()

    limits = Limits(observe_timeout=0.5)
    async with asking(hanging, http("web/liveness", timeout=2), tcp("web/readiness"), limits=limits) as asked:
        ended: list[str] = []

        async def ask(name: str, status: int) -> None:
            assert (await asked.ask(name))[0] == status
            ended.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "web/liveness", 503)
            nursery.start_soon(ask, "web/liveness", 503)
            await both.wait()
            await ask("web/readiness", 200)
            mock_clock.jump(1)
            await trio.testing.wait_all_tasks_blocked()
            assert ended == ["web/readiness"]
            mock_clock.jump(1)
        assert ended == ["web/readiness", "web/liveness", "web/liveness"]
        assert b'outcome="timeout",probe="web/liveness"} 2.0' in exposition(asked.metrics)


async def test_who_is_being_answered_does_not_give_way_to_a_crowd() -> None:
    async def slow(stream: trio.abc.Stream, head: bytes) -> None:
        await trio.sleep(2)
        await stream.send_all(OK)

    limits = Limits(observe_connections=2)
    async with asking(slow, http("web/liveness"), limits=limits) as asked, trio.open_nursery() as nursery:

        async def ask() -> None:
            assert (await asked.ask("web/liveness"))[0] == 200
            nursery.cancel_scope.cancel()

        nursery.start_soon(ask)
        while True:
            await trio.sleep(0.2)
            nursery.start_soon(hold, asked.port)


async def hold(port: int) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        with suppress(trio.BrokenResourceError):  # it gave way
            await stream.receive_some()


@pytest.mark.parametrize("kind", ["post-start", "pre-stop"])
async def test_a_hook_succeeds_by_any_answer_and_fails_by_none(kind: str) -> None:
    """As the kubelet has it: it looks at no status of a hook's answer (k8s.io/kubernetes/pkg/kubelet/lifecycle)."""
    failing = answering(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    async with asking(failing, http(f"web/{kind}")) as asked:
        assert await asked.ask(f"web/{kind}") == (200, {"probe": f"web/{kind}", "outcome": "healthy", "status": 500})
    async with asking(answering(b""), http(f"web/{kind}")) as asked:
        assert await asked.ask(f"web/{kind}") == (0, {})


@pytest.mark.parametrize("name", ["web/readiness", "", "web", "WEB/liveness", "web/liveness/", "%2e"])
async def test_only_what_the_settings_name_is_asked(name: str) -> None:
    async with asking(answering(OK), http("web/liveness")) as asked:
        status, content = await asked.ask(name)
        assert (status, asked.heads) == (404, [])
        assert name == "" or name not in str(content)


async def test_a_probe_with_a_host_goes_there_and_one_without_to_where_the_kubelet_came_in() -> None:
    """The application listens on 127.0.0.1 alone."""

    def elsewhere(port: int) -> Probe:
        return Probe("web/readiness", port, host="127.0.0.2")

    async with asking(answering(OK), http("web/liveness"), elsewhere) as asked:
        assert (await asked.ask("web/liveness"))[0] == 200
        assert (await asked.ask("web/readiness"))[1]["outcome"] == "refused"
        prober = Prober((), Metrics(), Dialled())
        assert (await prober.perform(Probe("web/liveness", asked.port), "127.0.0.3")).name == "refused"


def tcp(name: str, *, port: int = 0) -> Callable[[int], Probe]:
    return lambda own: Probe(name, port or own, timeout=PATIENCE)
