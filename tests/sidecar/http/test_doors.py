"""HTTP through real doors: real sockets, real TLS, real policy; the application sees what it should and no more."""

import hashlib
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, field

from mesh.policy.reasons import Reason
from sidecar.http.bodies import End
from sidecar.http.heads import ResponseHead, values
from sidecar.http.pool import Pool
from sidecar.http.reading import ResponseReader
from sidecar.settings import Limits
from sidecar.view import ALPN_HTTP
from tests.support.doors import Node, application, call, endpoint, inbound_door, outbound_door, read_to_the_end
from tests.support.patience import PATIENCE
from tests.support.pki import Pki
from transport import PlainStream, TlsStream, dial

PAYMENTS = "spiffe://cluster.local/ns/shop/sa/payments"
CHECKOUT = "spiffe://cluster.local/ns/shop/sa/checkout"
MIB = 1024 * 1024


def policy(port: int, *http: dict[str, Any], name: str = "checkout-calls-payments", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "doorward.dev/v1",
        "kind": "AllowPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "to": {"workload": "payments", "ports": [port]},
            "from": [{"workload": "checkout"}],
            "http": list(http) or [{"paths": ["/*"]}],
            **spec,
        },
    }


@define
class App:
    """The application: keeps every request's bytes, and answers each head with what `answer` makes of it."""

    answer: Callable[[bytes], bytes] = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    heads: list[bytes] = field(factory=list)
    connections: int = 0
    open: set[PlainStream] = field(factory=set)

    async def __call__(self, stream: PlainStream) -> None:
        self.connections += 1
        self.open.add(stream)
        buffer = b""
        try:
            while data := await stream.receive_some():
                buffer += data
                while b"\r\n\r\n" in buffer:
                    head, _, buffer = buffer.partition(b"\r\n\r\n")
                    self.heads.append(head)
                    await stream.send_all(self.answer(head))
        finally:
            self.open.discard(stream)


@define
class Caller:
    """Asks over one connection, and reads one answer at a time."""

    stream: PlainStream | TlsStream
    reader: ResponseReader = field(factory=lambda: ResponseReader(65536))

    async def ask(self, request: bytes, *, method: str = "GET") -> tuple[ResponseHead, bytes]:
        await self.stream.send_all(request)
        return await self.hear(method)

    async def get(self, path: str, *fields: str) -> tuple[ResponseHead, bytes]:
        lines = [f"GET {path} HTTP/1.1", "Host: payments", *fields]
        return await self.ask("\r\n".join([*lines, "", ""]).encode())

    async def hear(self, method: str = "GET") -> tuple[ResponseHead, bytes]:
        self.reader.expect(method)
        head, body = None, b""
        with trio.fail_after(PATIENCE):
            while not isinstance(event := self.reader.next_event(), End):
                if event is None:
                    self.reader.feed(await self.stream.receive_some())
                elif isinstance(event, ResponseHead):
                    head = event
                else:
                    body += event
        assert head is not None
        return head, body

    async def hears_the_end(self) -> None:
        with trio.fail_after(PATIENCE):
            assert await self.stream.receive_some() == b""

    async def is_reset(self) -> None:
        with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
            await read_to_the_end(self.stream)


class Mesh:
    """shop/checkout's outbound door, shop/payments' inbound door, and the application behind it."""

    def __init__(self, pki: Pki, nursery: trio.Nursery) -> None:
        self.pki = pki
        self.nursery = nursery
        self.streams: list[PlainStream | TlsStream] = []

    async def open(self, door: AbstractAsyncContextManager[int]) -> int:
        """Hold a door open until the test ends, in a task of its own; returns its port."""

        async def hold(task_status: trio.TaskStatus[int]) -> None:
            async with door as port:
                task_status.started(port)
                await trio.sleep_forever()

        port: int = await self.nursery.start(hold)
        return port

    async def start(
        self,
        app: Callable[[PlainStream], Any],
        *http: dict[str, Any],
        limits: Limits | None = None,
        protocol: str = "http",
    ) -> "Mesh":
        self.app_port = await self.open(application(app))
        self.payments = Node.make(
            self.pki, "shop/payments", policies=[policy(self.app_port, *http)], limits=limits or Limits()
        )
        self.mesh_port = await self.open(inbound_door(self.payments, self.app_port, protocol=protocol))
        self.endpoints = [endpoint(self.pki, "shop/payments", self.mesh_port, protocol="http")]
        self.checkout = Node.make(self.pki, "shop/checkout", endpoints=self.endpoints, limits=limits or Limits())
        self.port = await self.open(outbound_door(self.checkout, "shop/payments"))
        return self

    async def caller(self) -> Caller:
        """The local application of checkout."""
        self.streams.append(await dial("127.0.0.1", self.port, deadline=5))
        return Caller(self.streams[-1])

    async def direct(self, workload: str = "shop/checkout") -> Caller:
        """Another sidecar, straight to the inbound door."""
        self.streams.append(await call(self.mesh_port, self.pki.svid(workload), self.pki.bundle, alpn=[ALPN_HTTP]))
        return Caller(self.streams[-1])


@pytest.fixture
async def mesh(pki: Pki, nursery: trio.Nursery) -> AsyncIterator[Mesh]:
    mesh = Mesh(pki, nursery)
    yield mesh
    for stream in mesh.streams:
        stream.abort()
    nursery.cancel_scope.cancel()


async def eventually(condition: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE):
        while not condition():
            await trio.sleep(0.01)


# Allowed and denied


async def test_an_allowed_request_arrives_with_the_callers_identity(mesh: Mesh) -> None:
    await mesh.start(app := App(), {"methods": ["GET"], "paths": ["/charges/*"]})
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    caller = await mesh.caller()
    head, body = await caller.get(
        "/x/../charges//1?secret=1", f"traceparent: {traceparent}", "X-Forwarded-Client-Cert: me"
    )
    assert (head.status, body) == (200, b"ok")
    assert app.heads == [
        b"GET /charges/1?secret=1 HTTP/1.1\r\nhost: payments\r\ntraceparent: " + traceparent.encode() + b"\r\n"
        b"x-forwarded-client-cert: By=" + PAYMENTS.encode() + b";URI=" + CHECKOUT.encode()
    ]
    await eventually(lambda: mesh.payments.written and mesh.checkout.written)
    inside, outside = mesh.payments.written[0], mesh.checkout.written[0]
    assert (inside.source, inside.destination, inside.port) == (CHECKOUT, PAYMENTS, mesh.app_port)
    assert (inside.allowed, inside.reason, inside.policy, inside.rule) == (
        True, Reason.ALLOWED_BY_POLICY, "shop/checkout-calls-payments", 0,
    )  # fmt: skip
    assert (inside.method, inside.path, inside.status, inside.snapshot) == ("GET", "/charges/1", 200, 1)
    assert (inside.traceparent, inside.bytes_out) == (traceparent, 2)
    assert inside.tls_group
    assert (outside.source, outside.destination, outside.port) == (CHECKOUT, PAYMENTS, 8080)
    assert (outside.allowed, outside.status, outside.path) == (True, 200, "/charges/1")
    assert b"secret" not in inside.line() + outside.line()
    for node, direction in ((mesh.payments, "inbound"), (mesh.checkout, "outbound")):
        labels = {"direction": direction, "source": CHECKOUT, "destination": PAYMENTS}
        assert node.counted("requests_total", status="2xx", **labels) == 1


async def test_a_denied_request_explains_itself_and_its_connection_goes_on(mesh: Mesh) -> None:
    await mesh.start(app := App(), {"methods": ["POST"], "paths": ["/charges"]})
    caller = await mesh.caller()
    head, body = await caller.get("/charges?secret=1", "X-Reflect: me")
    record = mesh.payments.written[0]
    assert head.status == 403
    assert json.loads(body) == {
        "error": "denied", "reason": "no_policy_matched", "decision": record.decision, "snapshot": 1,
    }  # fmt: skip
    assert values(head.fields, b"x-doorward-decision") == [record.decision.encode()]
    assert record.nearest is not None
    assert record.nearest.clause == "spec.http[0].methods"
    assert not app.heads
    head, _ = await caller.ask(b"POST /charges HTTP/1.1\r\nHost: payments\r\nContent-Length: 0\r\n\r\n")
    assert head.status == 200
    labels = {"direction": "inbound", "source": CHECKOUT, "destination": PAYMENTS}
    assert mesh.payments.counted("decisions_total", reason="no_policy_matched", **labels) == 1
    assert mesh.payments.counted("decisions_total", reason="allowed_by_policy", **labels) == 1


@pytest.mark.parametrize("path", ["/open/%2e%2e/admin", "/open/../admin", "//admin", "/./admin", "/%61dmin"])
async def test_another_spelling_of_a_path_meets_the_same_rule(mesh: Mesh, path: str) -> None:
    await mesh.start(app := App(), {"paths": ["/open/*"]})
    head, _ = await (await mesh.caller()).get(path)
    assert head.status == 403
    head, _ = await (await mesh.direct()).get(path)
    assert head.status == 403
    assert not app.heads
    assert [record.path for record in mesh.payments.written] == ["/admin", "/admin"]


@pytest.mark.parametrize(
    "path", ["/open/..%2fadmin", "/open/..\\admin", "/open/..;/admin", "/open/%252e%252e/admin", "/open/%00"]
)
async def test_a_path_that_dodges_rules_is_refused_at_either_door(mesh: Mesh, path: str) -> None:
    await mesh.start(app := App(), {"paths": ["/open/*"]})
    for caller in (await mesh.caller(), await mesh.direct()):
        head, body = await caller.get(path)
        assert (head.status, json.loads(body)["reason"]) == (400, "path_refused")
        assert head.persistent
    assert not app.heads


async def test_another_workload_is_denied_and_told_the_reason(mesh: Mesh) -> None:
    await mesh.start(app := App())
    head, body = await (await mesh.direct("shop/frontend")).get("/")
    assert (head.status, json.loads(body)["reason"]) == (403, "no_policy_matched")
    assert not app.heads


@pytest.mark.parametrize(
    "spoofed", ["x-forwarded-client-cert", "X_Forwarded_Client_Cert", "x_doorward_decision", "X-Doorward-Anything"]
)
async def test_nobody_else_says_who_is_calling(mesh: Mesh, spoofed: str) -> None:
    await mesh.start(app := App())
    for caller in (await mesh.caller(), await mesh.direct()):
        await caller.get("/", f"{spoofed}: By=a;URI=b", "Connection: X-Forwarded-Client-Cert")
    identity = f"x-forwarded-client-cert: By={PAYMENTS};URI={CHECKOUT}".encode()
    assert app.heads == [b"GET / HTTP/1.1\r\nhost: payments\r\n" + identity] * 2


async def test_an_application_cannot_speak_in_our_name(mesh: Mesh) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX_Doorward-Decision: forged\r\nX-Own: kept\r\n\r\n"
    await mesh.start(App(answer=lambda _: answer))
    head, _ = await (await mesh.caller()).get("/")
    assert head.fields == ((b"X-Own", b"kept"), (b"content-length", b"0"))


async def test_the_host_of_http_1_0_is_where_the_request_goes(mesh: Mesh) -> None:
    await mesh.start(app := App())
    await (await mesh.caller()).ask(b"GET / HTTP/1.0\r\n\r\n")
    await (await mesh.direct()).ask(b"GET / HTTP/1.0\r\n\r\n")
    assert b"host: payments.shop:8080\r\n" in app.heads[0]
    assert b"host: 127.0.0.1:%d\r\n" % mesh.app_port in app.heads[1]


# Refused at the outbound door


async def test_a_foreign_host_does_not_pass_the_loopback_door(mesh: Mesh) -> None:
    await mesh.start(app := App())
    caller = await mesh.caller()
    for request in (
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: payments\r\n\r\n",
    ):
        head, body = await caller.ask(request)
        assert (head.status, json.loads(body)["reason"]) == (421, "foreign_host")
    assert not app.heads


async def test_an_endpoint_that_nobody_announced_is_a_503(mesh: Mesh) -> None:
    await mesh.start(App())
    mesh.checkout.learn()
    head, body = await (await mesh.caller()).get("/")
    assert (head.status, json.loads(body)["reason"]) == (503, "no_endpoint")
    await eventually(lambda: mesh.checkout.written)
    assert (mesh.checkout.written[0].allowed, mesh.checkout.written[0].reason) == (False, Reason.NO_ENDPOINT)


async def test_another_endpoint_is_tried_where_one_does_not_answer(mesh: Mesh) -> None:
    await mesh.start(App())
    with trio.socket.socket() as sock:
        await sock.bind(("127.0.0.1", 0))
        dead = endpoint(mesh.pki, "shop/payments", sock.getsockname()[1], protocol="http")
        mesh.checkout.learn(endpoints=[dead, *mesh.endpoints])
        for _ in range(5):
            assert (await (await mesh.caller()).get("/"))[0].status == 200


async def test_an_endpoint_with_another_identity_gets_no_byte(mesh: Mesh) -> None:
    await mesh.start(app := App())
    wrong = endpoint(mesh.pki, "shop/payments", mesh.mesh_port, protocol="http", identity=CHECKOUT)
    mesh.checkout.learn(endpoints=[wrong])
    head, body = await (await mesh.caller()).get("/")
    assert (head.status, json.loads(body)["reason"]) == (502, "wrong_server_identity")
    assert not app.heads


async def test_nothing_is_sent_with_a_certificate_that_has_run_out(mesh: Mesh) -> None:
    await mesh.start(app := App())
    caller = await mesh.caller()
    assert (await caller.get("/"))[0].status == 200
    mesh.checkout.now.append(datetime.now(UTC) + timedelta(hours=2))
    head, body = await caller.get("/")
    assert (head.status, json.loads(body)["reason"]) == (503, "own_certificate_expired")
    assert len(app.heads) == 1
    assert mesh.checkout.counted("refused_total", direction="outbound", reason="own_certificate_expired") == 1


async def test_a_server_whose_certificate_has_run_out_gets_no_byte_and_the_caller_learns_why(mesh: Mesh) -> None:
    await mesh.start(app := App())
    mesh.payments.now.append(datetime.now(UTC) + timedelta(hours=2))
    mesh.payments.proxy.mesh.replace_svid(mesh.pki.svid("shop/payments", lifetime=timedelta(seconds=1)))
    mesh.checkout.now.append(mesh.pki.now + timedelta(seconds=90))
    head, body = await (await mesh.caller()).get("/")
    assert (head.status, json.loads(body)["reason"]) == (502, "certificate_expired")
    assert not app.heads
    assert "ago by the clock here: was it renewed, and do both clocks agree?" in (await mesh.checkout.record()).detail
    assert mesh.checkout.counted("refused_total", direction="outbound", reason="certificate_expired") == 1
    assert (await mesh.payments.record()).reason == Reason.OWN_CERTIFICATE_EXPIRED


# The application fails


async def test_an_application_that_is_not_there_is_a_502(mesh: Mesh) -> None:
    await mesh.start(App())
    door = await mesh.open(inbound_door(mesh.payments, 1, protocol="http"))
    mesh.payments.learn(policies=[policy(1)])
    mesh.checkout.learn(endpoints=[endpoint(mesh.pki, "shop/payments", door, protocol="http")])
    head, body = await (await mesh.caller()).get("/")
    assert (head.status, json.loads(body)["reason"]) == (502, "upstream_refused")
    assert b"127.0.0.1" not in body
    record = mesh.payments.written[0]
    assert (record.allowed, record.reason, record.status) == (True, Reason.UPSTREAM_REFUSED, 502)


@pytest.mark.parametrize(
    ("says", "status", "reason"),
    [
        (b"", 502, "upstream_reset"),
        (b"HTTP/1.1 200", 502, "upstream_reset"),
        (b"\x00garbage\r\n\r\n", 502, "upstream_malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 502, "upstream_malformed"),
    ],
)
async def test_a_broken_application_is_answered_for_with_its_reason(
    mesh: Mesh, says: bytes, status: int, reason: str
) -> None:
    async def broken(stream: PlainStream) -> None:
        await stream.receive_some()
        await stream.send_all(says)
        stream.abort() if not says else await stream.aclose()

    await mesh.start(broken)
    head, body = await (await mesh.caller()).get("/")
    assert (head.status, json.loads(body)["reason"]) == (status, reason)
    assert mesh.payments.written[0].reason == reason


async def test_a_silent_application_is_a_504(mesh: Mesh) -> None:
    await mesh.start(App(answer=lambda _: b""), limits=Limits(response_head_timeout=0.2))
    head, body = await (await mesh.direct()).get("/")
    assert (head.status, json.loads(body)["reason"]) == (504, "upstream_timeout")


async def test_the_sidecar_beside_a_silent_application_says_so_although_both_wait_as_long(
    mesh: Mesh, mock_clock: trio.testing.MockClock
) -> None:
    """Time passes only where the test says so: a machine that stands still takes the moment more from the caller's."""
    await mesh.start(app := App(answer=lambda _: b""), limits=Limits(response_head_timeout=5))
    caller = await mesh.caller()
    await caller.stream.send_all(b"GET / HTTP/1.1\r\nHost: payments\r\n\r\n")
    while not app.heads:
        await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(5)
    head, body = await caller.hear()
    mock_clock.rate = 1.0
    assert (head.status, json.loads(body)["reason"]) == (504, "upstream_timeout")
    await eventually(lambda: mesh.payments.written and mesh.checkout.written)
    assert (mesh.payments.written[0].status, mesh.payments.written[0].reason) == (504, Reason.UPSTREAM_TIMEOUT)
    assert (mesh.checkout.written[0].status, mesh.checkout.written[0].reason) == (504, "")


async def test_truncation_shows_at_the_other_end_of_the_mesh(mesh: Mesh) -> None:
    async def truncating(stream: PlainStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await stream.aclose()

    await mesh.start(truncating)
    caller = await mesh.caller()
    await caller.stream.send_all(b"GET / HTTP/1.1\r\nHost: payments\r\n\r\n")
    await caller.is_reset()
    await eventually(lambda: mesh.payments.written and mesh.checkout.written)
    assert mesh.payments.written[0].reason == mesh.checkout.written[0].reason == Reason.UPSTREAM_RESET


async def test_a_caller_that_vanishes_within_its_body_is_a_reset_for_the_application(mesh: Mesh) -> None:
    seen: list[bytes] = []

    async def reading(stream: PlainStream) -> None:
        try:
            while data := await stream.receive_some():
                seen.append(data)
        except trio.BrokenResourceError:
            seen.append(b"<reset>")

    await mesh.start(reading)
    caller = await mesh.caller()
    await caller.stream.send_all(b"POST / HTTP/1.1\r\nHost: payments\r\nContent-Length: 100\r\n\r\nhalf")
    await eventually(lambda: seen)
    caller.stream.abort()
    await eventually(lambda: seen[-1] == b"<reset>")
    await eventually(lambda: mesh.payments.written)
    assert mesh.payments.written[0].reason == Reason.DOWNSTREAM_RESET


# Bodies


async def test_large_bodies_stream_both_ways_at_once_with_bounded_memory(mesh: Mesh) -> None:
    piece = bytes(range(256)) * 1024
    pieces = 64
    size = pieces * len(piece)

    async def echoing(stream: PlainStream) -> None:
        data = (await stream.receive_some()).partition(b"\r\n\r\n")[2]
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + data)
        while data := await stream.receive_some():
            await stream.send_all(data)

    await mesh.start(echoing)
    caller = await mesh.caller()

    async def upload() -> None:
        await caller.stream.send_all(b"POST / HTTP/1.1\r\nHost: payments\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(pieces):
            await caller.stream.send_all(piece)

    echoed = hashlib.sha256()
    tracemalloc.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload)
        while not isinstance(event := caller.reader.next_event(), End):
            if event is None:
                caller.reader.feed(await caller.stream.receive_some())
            elif isinstance(event, bytes):
                echoed.update(event)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert echoed.digest() == hashlib.sha256(piece * pieces).digest()
    assert peak < 4 * MIB
    await eventually(lambda: mesh.payments.written)
    assert (mesh.payments.written[0].bytes_in, mesh.payments.written[0].bytes_out) == (size, size)


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "pair"])
async def test_a_denied_upload_is_told_so_although_its_caller_reads_only_at_its_end(mesh: Mesh, direct: bool) -> None:
    await mesh.start(app := App(), {"methods": ["GET"]})
    for _ in range(5):
        caller = await (mesh.direct() if direct else mesh.caller())
        await caller.stream.send_all(b"POST / HTTP/1.1\r\nHost: payments\r\nContent-Length: %d\r\n\r\n" % (16 * MIB))
        for _ in range(16):
            await caller.stream.send_all(bytes(MIB))
        head, body = await caller.hear("POST")
        assert (head.status, json.loads(body)["reason"]) == (403, "no_policy_matched")
        caller.stream.abort()
    assert not app.heads


# Connections that are kept


async def test_one_connection_to_the_application_carries_many_requests(mesh: Mesh) -> None:
    await mesh.start(app := App())
    for _ in range(3):
        caller = await mesh.caller()
        for _ in range(3):
            assert (await caller.get("/"))[0].status == 200
        await caller.stream.aclose()
    assert (len(app.heads), app.connections) == (9, 1)
    assert mesh.payments.counted("connections_opened_total", direction="inbound") == 1


async def test_no_connection_to_the_application_is_shared_between_callers(mesh: Mesh) -> None:
    await mesh.start(app := App())
    mesh.payments.learn(
        policies=[policy(mesh.app_port, **{"from": [{"workload": "checkout"}, {"workload": "frontend"}]})]
    )
    for workload in ("shop/checkout", "shop/frontend", "shop/checkout", "shop/frontend"):
        assert (await (await mesh.direct(workload)).get("/"))[0].status == 200
    assert app.connections == 2


async def test_a_new_certificate_means_new_connections(mesh: Mesh) -> None:
    await mesh.start(App())
    caller = await mesh.caller()
    await caller.get("/")
    mesh.checkout.proxy.mesh.replace_svid(mesh.pki.svid("shop/checkout"))
    assert (await caller.get("/"))[0].status == 200
    assert mesh.payments.counted("connections_opened_total", direction="inbound") == 2


@pytest.mark.parametrize(("left", "connections"), [(timedelta(seconds=2), 1), (timedelta(seconds=0.9), 2)])
async def test_an_idle_connection_retires_a_little_before_its_certificates_do(
    mesh: Mesh, left: timedelta, connections: int
) -> None:
    """At the very end the other side, whose clock may be ahead, would refuse what is under way."""
    await mesh.start(App())
    caller = await mesh.caller()
    await caller.get("/")
    ends = [node.proxy.mesh.current()[1].not_after for node in (mesh.checkout, mesh.payments)]
    mesh.checkout.now.append(min(ends) - left)
    assert (await caller.get("/"))[0].status == 200
    assert mesh.payments.counted("connections_opened_total", direction="inbound") == connections


async def test_a_banned_server_gets_no_request_on_an_idle_connection(mesh: Mesh) -> None:
    await mesh.start(app := App())
    caller = await mesh.caller()
    await caller.get("/")
    await mesh.checkout.push(endpoints=mesh.endpoints, bans=[PAYMENTS])
    head, body = await caller.get("/")
    assert (head.status, json.loads(body)["reason"]) == (502, "banned")
    assert len(app.heads) == 1


async def test_an_idle_connection_that_the_application_closed_is_not_used(mesh: Mesh) -> None:
    await mesh.start(app := App())
    caller = await mesh.caller()
    request = b"POST / HTTP/1.1\r\nHost: payments\r\nContent-Length: 0\r\n\r\n"
    assert (await caller.ask(request))[0].status == 200
    for stream in app.open:
        await stream.send_eof()
    await trio.sleep(0.05)
    assert (await caller.ask(request))[0].status == 200
    assert app.connections == 2


async def test_unsolicited_bytes_from_the_application_never_become_an_answer(mesh: Mesh) -> None:
    await mesh.start(app := App())
    caller = await mesh.caller()
    await caller.get("/1")
    for stream in app.open:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
    await trio.sleep(0.05)
    assert (await caller.get("/2"))[1] == b"ok"
    assert app.connections == 2


async def test_idle_connections_are_closed_in_time(mesh: Mesh) -> None:
    await mesh.start(app := App(), limits=Limits(pool_idle_timeout=0.1))
    await (await mesh.caller()).get("/")
    assert app.open
    await eventually(lambda: not app.open)
    assert len(mesh.payments.proxy.shared(Pool.of)) == 0


async def test_only_so_many_idle_connections_are_kept(mesh: Mesh) -> None:
    both_there = trio.Event()

    async def meeting(stream: PlainStream) -> None:
        while head := await stream.receive_some():
            if app.connections == 2:
                both_there.set()
            await both_there.wait()
            await stream.send_all(app.answer(head))
        app.open.discard(stream)

    async def counted(stream: PlainStream) -> None:
        app.connections += 1
        app.open.add(stream)
        await meeting(stream)

    app = App()
    await mesh.start(counted, limits=Limits(pool_connections=1))
    callers = [await mesh.caller(), await mesh.caller()]
    async with trio.open_nursery() as nursery:
        for caller in callers:
            nursery.start_soon(caller.get, "/")
    await eventually(lambda: len(app.open) == 1)
    assert len(mesh.payments.proxy.shared(Pool.of)) == 1


async def test_a_connection_is_given_up_before_the_application_closes_it(mesh: Mesh) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: max=9, timeout=1\r\n\r\n"
    await mesh.start(app := App(answer=lambda _: answer))
    caller = await mesh.caller()
    await caller.get("/")
    await caller.get("/")
    assert app.connections == 2


async def test_a_caller_whose_certificate_has_run_out_is_turned_away(mesh: Mesh) -> None:
    await mesh.start(app := App())
    caller = await mesh.direct()
    await caller.get("/")
    await caller.stream.send_all(b"GET /2 HTTP/1.1\r\n")
    await trio.sleep(0.05)
    later = mesh.pki.svid("shop/payments", lifetime=timedelta(hours=5))
    mesh.payments.proxy.mesh.replace_svid(later)
    mesh.payments.now.append(datetime.now(UTC) + timedelta(hours=2))
    head, body = await caller.ask(b"Host: payments\r\n\r\n")
    assert (head.status, json.loads(body)["reason"]) == (403, "certificate_retired")
    await caller.hears_the_end()
    assert len(app.heads) == 1


async def test_an_idle_caller_is_told_to_leave_when_a_certificate_runs_out(mesh: Mesh) -> None:
    await mesh.start(App())
    caller = await mesh.direct()
    not_after = mesh.payments.proxy.mesh.current()[1].not_after
    mesh.payments.now.append(not_after - timedelta(seconds=0.3))
    await caller.get("/")
    await caller.hears_the_end()


# Live changes


async def test_a_policy_change_reaches_a_request_that_waits(mesh: Mesh) -> None:
    await mesh.start(app := App(answer=lambda _: b""))
    caller = await mesh.caller()
    await caller.stream.send_all(b"GET / HTTP/1.1\r\nHost: payments\r\n\r\n")
    await eventually(lambda: app.heads)
    assert await mesh.payments.push(policies=[]) == 1
    head, body = await caller.hear()
    assert (head.status, json.loads(body)["reason"]) == (403, "policy_changed")
    assert values(head.fields, b"x-doorward-decision") == [mesh.payments.written[0].decision.encode()]
    head, body = await caller.get("/")
    assert (head.status, json.loads(body)["reason"]) == (403, "no_policy_for_workload")


async def test_a_policy_change_cuts_a_response_off(mesh: Mesh) -> None:
    await mesh.start(App(answer=lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"))
    caller = await mesh.caller()
    await caller.stream.send_all(b"GET / HTTP/1.1\r\nHost: payments\r\n\r\n")
    assert await caller.stream.receive_some()
    await mesh.payments.push(policies=[])
    await caller.is_reset()


async def test_a_snapshot_that_still_allows_disturbs_nothing(mesh: Mesh) -> None:
    release = trio.Event()

    async def waiting(stream: PlainStream) -> None:
        await stream.receive_some()
        await release.wait()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    await mesh.start(waiting)
    caller = await mesh.caller()
    await caller.stream.send_all(b"GET / HTTP/1.1\r\nHost: payments\r\n\r\n")
    await eventually(lambda: len(mesh.payments.proxy.live) == 2)
    assert await mesh.payments.push(policies=[policy(mesh.app_port, name="another")]) == 0
    release.set()
    assert (await caller.hear())[0].status == 200


async def test_a_ban_ends_the_callers_connection(mesh: Mesh) -> None:
    await mesh.start(App())
    caller = await mesh.direct()
    await caller.get("/")
    await mesh.payments.push(policies=[policy(mesh.app_port)], bans=[CHECKOUT])
    await caller.is_reset()


async def test_every_request_that_a_ban_cuts_off_says_so_however_many_they_are(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections are looked at in slices: one may be ended long before the request that it carries."""
    monkeypatch.setattr("sidecar.live.SLICE", 1)

    async def never(stream: PlainStream) -> None:
        while await stream.receive_some():
            pass

    await mesh.start(never)
    count = 20
    for _ in range(count):
        await (await mesh.direct()).stream.send_all(b"GET / HTTP/1.1\r\nHost: payments\r\n\r\n")
    await eventually(lambda: len(mesh.payments.proxy.live) == 2 * count)
    await mesh.payments.push(policies=[policy(mesh.app_port)], bans=[CHECKOUT])
    await eventually(lambda: len(mesh.payments.written) == count)
    assert {record.reason for record in mesh.payments.written} == {Reason.BANNED}


async def test_a_websocket_opens_after_an_allowed_request_and_ends_with_its_policy(mesh: Mesh) -> None:
    async def server(stream: PlainStream) -> None:
        head = await stream.receive_some()
        assert b"connection: upgrade\r\nupgrade: websocket" in head
        await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        while data := await stream.receive_some():
            await stream.send_all(data.upper())

    await mesh.start(server, {"paths": ["/chat"]})
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    caller = await mesh.caller()
    assert (await caller.get("/other", upgrade))[0].status == 403
    caller = await mesh.caller()
    await caller.stream.send_all(f"GET /chat HTTP/1.1\r\nHost: payments\r\n{upgrade}".encode())
    assert (await caller.stream.receive_some()).startswith(b"HTTP/1.1 101 ")
    await caller.stream.send_all(b"\x81hello")
    assert await caller.stream.receive_some() == b"\x81HELLO"
    await mesh.payments.push(policies=[])
    await caller.is_reset()
    await eventually(lambda: len(mesh.payments.written) == 2)
    assert mesh.payments.written[1].reason == Reason.POLICY_CHANGED
    assert (mesh.payments.written[1].bytes_in, mesh.payments.written[1].bytes_out) == (6, 6)


async def test_draining_answers_what_is_in_flight_and_closes_what_is_idle(mesh: Mesh) -> None:
    release = trio.Event()

    async def waiting(stream: PlainStream) -> None:
        while await stream.receive_some():
            await release.wait()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    await mesh.start(waiting)
    busy, idle = await mesh.direct(), await mesh.direct()
    await busy.stream.send_all(b"GET / HTTP/1.1\r\nHost: payments\r\n\r\n")
    await eventually(lambda: len(mesh.payments.proxy.live) == 3)
    mesh.payments.proxy.draining.set()
    await idle.hears_the_end()
    release.set()
    head, body = await busy.hear()
    assert (head.status, body, head.persistent) == (200, b"ok", False)
    await busy.hears_the_end()


async def test_an_auto_port_serves_http_with_what_was_read_to_tell(mesh: Mesh) -> None:
    await mesh.start(App(), protocol="auto")
    assert (await (await mesh.direct()).get("/"))[0].status == 200
