"""Laws 21 to 23: what outsiders can make grow is bounded, and what stands on this machine is for its owner."""

import json
import os
import re
import socket
import stat
from pathlib import Path

import attrs
import h11
import msgpack
import pytest
import trio

from control_plane.admin import unix_socket
from control_plane.observe import refuse_foreign_host
from control_plane.settings import Limits as PlaneLimits
from control_plane.state import State, StateRefused
from mesh.policy import Reason
from mesh.wire import MessageMalformed, Snapshot, decode
from sidecar.metrics import Metrics
from sidecar.observe import Observe
from sidecar.probes import Prober
from sidecar.readiness import Readiness
from sidecar.settings import Limits, Outbound, Probe
from sidecar.view import Mesh
from tests.laws.conftest import Shop, eventually, get, said
from tests.support.doors import outbound_door
from tests.support.patience import PATIENCE
from tests.support.pki import Pki
from tests.support.plane import Plane
from transport import Dialled, PlainStream, SocketTaken, budget, dial, unix_listener

DOCS = Path(__file__).parents[2] / "docs/configuration"


@pytest.fixture
def nobody_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, nobody has had time enough."""
    monkeypatch.setattr(budget, "ENOUGH_SECONDS", 3600.0)


async def test_law_21_strangers_have_a_budget_of_their_own(shop: Shop, nobody_gives_way: None) -> None:
    await shop.open(limits=Limits(unauthenticated_per_address=2))
    silent = [await dial("127.0.0.1", shop.mesh_port, deadline=PATIENCE) for _ in range(2)]
    await eventually(lambda: shop.payments.proxy.budget.taken == 2)
    one_more = await dial("127.0.0.1", shop.mesh_port, deadline=PATIENCE)
    assert await said(one_more, b"\x16") == b"<reset>"
    assert shop.payments.counted("refused_total", direction="inbound", reason=Reason.OVER_LIMIT) == 1
    for stream in (*silent, one_more):
        stream.abort()
    await eventually(lambda: not shop.payments.proxy.budget.taken)
    assert (await shop.get("/")).endswith(b"ok")


class TestLaw21:
    @pytest.fixture
    def limits(self) -> PlaneLimits:
        return PlaneLimits(unauthenticated_links_per_address=2)

    async def test_law_21_the_control_port_too(self, plane: Plane, nobody_gives_way: None) -> None:
        for _ in range(2):
            await plane.dial()
        await plane.until(lambda: plane.count("unauthenticated_links") == 2)
        await plane.dial()
        await plane.until(lambda: plane.count("links_refused_total", reason="over_budget") == 1)


def deep_snapshot(depth: int) -> bytes:
    policy: dict[str, object] = {}
    for _ in range(depth):
        policy = {"spec": policy}
    head = {"type": "Snapshot", "epoch": "e", "number": 1, "hash": "h", "endpoints": [], "bans": [], "roots": []}
    return bytes(msgpack.packb({**head, "policies": [policy]}))


def test_law_21_a_message_in_order_is_taken() -> None:
    assert isinstance(decode(deep_snapshot(8)), Snapshot)


@pytest.mark.parametrize(
    "payload",
    [
        msgpack.packb({"type": "Ping", "number": msgpack.ExtType(5, b"")}),
        msgpack.packb({"type": "Ping", "number": msgpack.ExtType(5, b"x")}),
        msgpack.packb({"type": "Ping", "number": msgpack.Timestamp(1)}),
        deep_snapshot(20),
        b"\x91" * 5000 + b"\xc0",
        b"\xdf\xff\xff\xff\xff",  # four billion entries, it says
        b"\xdd\xff\xff\xff\xff" * 100,
        msgpack.packb({"type": "Hello", "version": 1, "software": "x" * 100_000, "instance": "i"}),
        msgpack.packb({"type": "Announce", "listeners": [], "destinations": ["a/b:1"] * 5000}),
    ],
)
def test_law_21_messages_are_bounded_in_depth_length_and_count(payload: bytes) -> None:
    with pytest.raises(MessageMalformed):
        decode(payload)


@pytest.mark.parametrize(("limits", "page"), [(Limits, "sidecar.md"), (PlaneLimits, "control-plane.md")])
def test_law_21_every_limit_has_a_default_and_is_stated(limits: type, page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    limits()
    names = [field.name for field in attrs.fields(limits)]
    assert [name for name in names if not re.search(rf"\b{name.replace('_', '[-_]')}\b", text)] == []


async def test_law_22_a_loopback_door_warns_and_refuses_a_foreign_host(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    await shop.open()
    assert "every local user can speak as this workload" in caplog.text
    rebound = b"GET / HTTP/1.1\r\nHost: payments.evil.example\r\n\r\n"
    assert (await shop.say(rebound)).startswith(b"HTTP/1.1 421 ")
    assert shop.heads == []


async def test_law_22_a_unix_socket_is_offered_for_its_owner_alone(
    shop: Shop, short_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await shop.open()
    caplog.clear()
    path = short_directory / "payments.sock"
    await shop.enter(outbound_door(shop.checkout, "shop/payments", path=path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "every local user" not in caplog.text
    stream = await trio.open_unix_socket(str(path))
    caller = PlainStream(stream.socket)
    assert (await said(caller, get("/"))).endswith(b"ok")
    caller.abort()
    assert Outbound(path, shop.checkout.proxy.mesh.workload, 1).unix


def request(path: str, host: str) -> h11.Request:
    return h11.Request(method="GET", target=path, headers=[("host", host)])


def test_law_22_local_pages_refuse_a_foreign_host_and_config_is_for_this_machine(pki: Pki) -> None:
    probe = Probe("web/liveness", 8080)
    prober = Prober([probe], Metrics(), Dialled())
    observe = Observe(Readiness(Mesh(pki.id())), Metrics(), lambda: {"who": "me"}, frozenset(), prober)
    for path in ("/live", "/ready", "/metrics", "/probe/web/liveness", "/config"):
        assert observe.answer(request(path, "evil.example"), "127.0.0.1").status == 421
    assert observe.answer(request("/probe/web/liveness", "10.0.0.1"), "10.0.0.9") is probe
    assert observe.answer(request("/config", "127.0.0.1"), "127.0.0.1").status == 200
    assert observe.answer(request("/config", "10.0.0.1"), "10.0.0.9").status == 403
    assert observe.answer(request("/metrics", "10.0.0.1"), "10.0.0.9").status == 200


async def test_law_22_the_control_planes_pages_refuse_one_too() -> None:
    asked, sent = [], []

    async def page(*_: object) -> None:
        asked.append(1)

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    for host in (b"evil.example", b"localhost"):
        scope = {"type": "http", "headers": [(b"host", host)]}
        await refuse_foreign_host(page, ())(scope, None, send)  # type: ignore[arg-type]  # nothing is received
    assert [message["status"] for message in sent if "status" in message] == [421]
    assert asked == [1]


def test_law_23_a_state_directory_is_private_and_has_one_owner(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    before = os.umask(0)
    try:
        with State.open(directory) as state:
            state.write("root.key", b"secret")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
            assert (stat.S_IMODE(directory.stat().st_mode), set(modes.values())) == (0o700, {0o600})
            with pytest.raises(StateRefused, match=f"in use by another control plane .process {os.getpid()}"):
                State.open(directory)
    finally:
        os.umask(before)
    (directory / "root.key").chmod(0o640)
    with State.open(directory) as state, pytest.raises(StateRefused, match="mode 0640"):
        state.read("root.key")
    directory.chmod(0o750)
    with pytest.raises(StateRefused, match="mode 0750"):
        State.open(directory)


def test_law_23_a_unix_socket_in_use_is_not_stolen(short_directory: Path) -> None:
    path = short_directory / "taken.sock"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        with pytest.raises(SocketTaken), unix_listener(path):
            pass
        with pytest.raises(unix_socket.SocketRefused):
            unix_socket.listen(path)
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))
    (short_directory / "file").write_text(json.dumps({}))
    with pytest.raises(SocketTaken), unix_listener(short_directory / "file"):
        pass
