"""The control link, in virtual time over in-memory streams: enrol, enforce, renew, and go on alone."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from attrs import define, evolve

from certs.spiffe import SpiffeId, WorkloadName
from mesh.wire import Ack, Announce, CertificateRequest, Endpoint, Hello, Listener, Nack, Ping
from sidecar.enrolment import Tokens
from sidecar.identity import Identity
from sidecar.link import ControlLink
from sidecar.live import LiveConnections
from sidecar.metrics import Metrics
from sidecar.readiness import Readiness
from sidecar.settings import Limits
from sidecar.snapshots import Snapshots
from sidecar.view import Mesh
from tests.support.pki import Pki
from tests.support.simulator import TOKEN, WORKLOAD, InMemory, Simulator, allow, snapshot
from tests.support.virtual_time import jumping

START = datetime(2026, 11, 5, 12, 0, tzinfo=UTC)
LIMITS = Limits(ping_interval=10, control_timeout=5, backoff_initial=1, backoff_max=30)
LISTENER = Listener(8443, 8080, "http")
Clock = trio.testing.MockClock  # each test has to ask for it: pytest-trio looks only there


@define(eq=False)
class World:
    """A link to a simulator, both on one virtual clock."""

    simulator: Simulator
    way: InMemory
    link: ControlLink
    mesh: Mesh
    metrics: Metrics
    readiness: Readiness
    token_file: Path

    async def until(self, condition: Callable[[], object], seconds: float = 4 * 3600) -> None:
        step = 0.01
        with trio.fail_after(seconds):
            while not condition():
                await trio.sleep(step)
                step = min(step * 1.2, 5)

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"doorward_sidecar_{name}", labels) or 0.0


@pytest.fixture
async def world(tmp_path: Path, mock_clock: trio.testing.MockClock) -> AsyncIterator[World]:
    began = trio.current_time()

    def now() -> datetime:
        return START + timedelta(seconds=trio.current_time() - began)

    pki = Pki(now=START)
    simulator = Simulator(pki, clock=now)
    simulator.snapshot = snapshot(pki, 1, allow())
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN + "\n")
    mesh, metrics = Mesh(WORKLOAD.in_domain(pki.domain), clock=now), Metrics()
    readiness = Readiness(mesh)
    readiness.listening = True
    async with jumping(mock_clock), trio.open_nursery() as nursery:
        way = InMemory(simulator, nursery)
        link = ControlLink(
            way,
            Hello(1, "test", "one"),
            Announce((LISTENER,), ("shop/payments:8080",)),
            mesh=mesh,
            identity=Identity(mesh, Tokens(str(token_file)), metrics),
            snapshots=Snapshots(mesh, LiveConnections(), metrics, pki.domain),
            readiness=readiness,
            metrics=metrics,
            limits=LIMITS,
        )
        nursery.start_soon(link.run)
        yield World(simulator, way, link, mesh, metrics, readiness, token_file)
        nursery.cancel_scope.cancel()


async def test_attest_certificate_snapshot_ready(world: World, mock_clock: Clock) -> None:
    assert world.readiness.missing()
    await world.until(lambda: world.simulator.messages(Ack), 5)
    assert not world.readiness.missing()
    first, second = world.simulator.links
    assert [type(message) for message in first.messages] == [Hello, CertificateRequest]
    assert first.peer is None
    assert [type(message) for message in second.messages] == [Hello, Announce, Ack]
    assert second.peer == world.mesh.own
    assert second.said(Announce) == [Announce((LISTENER,), ("shop/payments:8080",))]
    assert world.mesh.view is not None
    assert world.mesh.view.number == 1
    assert world.count("snapshot_number") == 1
    assert world.count("control_link_up") == 1


async def test_the_certificate_is_renewed_at_half_of_its_life_with_a_new_key(world: World, mock_clock: Clock) -> None:
    await world.until(lambda: not world.readiness.missing(), 5)
    first = world.mesh.svid
    assert first is not None
    await world.until(lambda: world.mesh.svid is not first)
    age = (world.mesh.now() - START).total_seconds()
    assert 0.44 * 3600 < age < 0.56 * 3600
    second = world.mesh.svid
    assert second is not None
    assert second.key.public_key() != first.key.public_key()
    renewal = world.simulator.links[1].said(CertificateRequest)
    assert [request.token for request in renewal] == [None]
    await world.until(lambda: len(world.simulator.links) == 3, 5)
    await world.until(lambda: world.simulator.links[2].said(Ack), 5)
    assert world.count("certificates_total", outcome="issued") == 2


async def test_a_failed_renewal_keeps_the_old_certificate_and_is_tried_again(world: World, mock_clock: Clock) -> None:
    await world.until(lambda: not world.readiness.missing(), 5)
    first = world.mesh.svid
    world.simulator.refusal = Nack("CertificateRequest", "store_failed", "try again")
    await world.until(lambda: len(world.simulator.links[1].said(CertificateRequest)) > 3)
    assert world.mesh.svid is first
    assert not world.readiness.missing()
    requests = world.simulator.links[1].said(CertificateRequest)
    assert len({request.csr for request in requests}) == 1
    world.simulator.refusal = None
    await world.until(lambda: world.mesh.svid is not first)


async def test_a_renewal_that_needs_new_attestation_brings_the_token_once(world: World, mock_clock: Clock) -> None:
    await world.until(lambda: not world.readiness.missing(), 5)
    world.simulator.refusal = Nack("CertificateRequest", "attestation_too_old", "attest anew")
    await world.until(lambda: len(world.simulator.links[1].said(CertificateRequest)) >= 4)
    tokens = [request.token for request in world.simulator.links[1].said(CertificateRequest)]
    assert tokens[:4] == [None, TOKEN, None, TOKEN]


JWTS = ("eyJ.first.sig", "eyJ.second.sig", "eyJ.third.sig")


def issued(world: World) -> float:
    return world.count("certificates_total", outcome="issued")


async def with_a_service_account(world: World) -> None:
    """The sidecar has joined by a service account's token instead."""
    world.simulator.tokens = dict.fromkeys(JWTS, WORKLOAD)
    world.token_file.write_text(JWTS[0])
    await world.until(lambda: not world.readiness.missing(), 30)


async def test_a_service_accounts_token_is_read_anew_and_sent_with_every_request(
    world: World, mock_clock: Clock
) -> None:
    await with_a_service_account(world)
    for number, rotated in enumerate(JWTS[1:], start=2):
        world.token_file.write_text(rotated)
        await world.until(partial(lambda wanted: issued(world) == wanted, number))
    assert [request.token for request in world.simulator.messages(CertificateRequest)][-3:] == list(JWTS)
    renewals = [link for link in world.simulator.links if link.peer and link.said(CertificateRequest)]
    assert [link.peer for link in renewals] == [world.mesh.own] * 2, "it is asked on the link that stands"


async def test_a_renewal_without_the_token_brings_it_where_it_is_required(world: World, mock_clock: Clock) -> None:
    await world.until(lambda: not world.readiness.missing(), 5)
    world.simulator.tokens = dict.fromkeys(JWTS, WORKLOAD)
    world.token_file.write_text(JWTS[0])
    world.simulator.refusal = Nack("CertificateRequest", "token_required", "send the token")
    await world.until(lambda: len(world.simulator.links[1].said(CertificateRequest)) >= 3)
    tokens = [request.token for request in world.simulator.links[1].said(CertificateRequest)]
    assert tokens[:3] == [None, JWTS[0], JWTS[0]], "from then on it is known to be needed"


async def test_a_service_accounts_token_that_cannot_be_read_keeps_the_certificate_and_is_looked_for_again(
    world: World, mock_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    await with_a_service_account(world)
    first = world.mesh.svid
    asked = len(world.simulator.messages(CertificateRequest))
    world.token_file.unlink()
    await world.until(lambda: "cannot read the token file" in "".join(str(vars(each)) for each in caplog.records))
    await trio.sleep(300)
    assert world.mesh.svid is first
    assert not world.readiness.missing()
    assert len(world.simulator.messages(CertificateRequest)) == asked, "nothing is asked without the token"
    world.token_file.write_text(JWTS[1])
    await world.until(lambda: world.mesh.svid is not first, 120)


async def test_a_join_token_in_the_file_of_a_service_accounts_is_not_spent_on_a_renewal(
    world: World, mock_clock: Clock
) -> None:
    await with_a_service_account(world)
    first, asked = world.mesh.svid, len(world.simulator.messages(CertificateRequest))
    world.token_file.write_text(TOKEN)
    await world.until(lambda: world.mesh.svid is not first)
    assert [request.token for request in world.simulator.messages(CertificateRequest)[asked:]] == [None]


async def test_a_service_accounts_token_that_is_refused_is_never_shown_and_no_join_token_advised(
    world: World, mock_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    world.simulator.refusal = Nack("CertificateRequest", "token_not_authenticated", "expired")
    world.token_file.write_text("eyJ.secret.sig")
    await world.until(lambda: world.count("certificates_total", outcome="token_not_authenticated") >= 2, 60)
    reasons = " ".join(world.readiness.missing())
    assert "the cluster does not take the service account's token (expired)" in reasons
    assert "doorward token create" not in reasons
    assert "eyJ.secret" not in "".join(str(vars(each)) for each in caplog.records) + reasons


async def test_a_certificate_that_ran_out_is_replaced_by_the_token(world: World, mock_clock: Clock) -> None:
    await world.until(lambda: not world.readiness.missing(), 5)
    world.simulator.away = True
    await world.simulator.links[-1].stream.aclose()
    await trio.sleep(2 * 3600)
    assert any("ran out" in reason for reason in world.readiness.missing())
    world.simulator.away = False
    await world.until(lambda: not world.readiness.missing(), 120)
    assert world.simulator.links[2].peer is None


async def test_a_control_plane_that_is_away_changes_nothing_but_the_link(world: World, mock_clock: Clock) -> None:
    await world.until(lambda: not world.readiness.missing(), 5)
    view, svid = world.mesh.view, world.mesh.svid
    world.simulator.away = True
    await world.simulator.links[-1].stream.aclose()
    await trio.sleep(600)
    assert not world.readiness.missing()
    assert (world.mesh.view, world.mesh.svid) == (view, svid)
    assert world.count("control_link_up") == 0
    assert world.count("control_links_total", outcome="unreachable") > 10
    waits = [later - earlier for earlier, later in zip(world.way.attempts[2:], world.way.attempts[3:], strict=False)]
    assert max(waits) <= LIMITS.backoff_max + 1
    assert waits[1] < waits[4]
    assert all(15 <= wait <= 31 for wait in waits[7:])
    assert len({round(wait, 3) for wait in waits[7:]}) > 1, "no jitter"
    world.simulator.away = False
    await world.until(lambda: world.count("control_link_up"), 60)


async def test_a_silent_control_plane_is_noticed_by_pings(world: World, mock_clock: Clock) -> None:
    await world.until(lambda: not world.readiness.missing(), 5)
    await trio.sleep(100)
    assert len(world.simulator.links) == 2, "an answering control plane keeps its link"
    assert len(world.simulator.links[1].said(Ping)) >= 5
    world.simulator.mute = True
    await world.until(lambda: world.count("control_links_total", outcome="silent"), 30)


async def test_a_refused_token_is_read_anew_at_every_attempt(
    world: World, mock_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    world.token_file.write_text("dwt_wrong")
    await world.until(lambda: world.count("certificates_total", outcome="token_unknown") >= 2, 60)
    reasons = " ".join(world.readiness.missing())
    assert "doorward token create --workload shop/checkout" in reasons
    assert str(world.token_file) in reasons
    logged = "".join(str(vars(record)) for record in caplog.records)
    assert "token_unknown" in logged
    assert "dwt_wrong" not in logged
    assert "dwt_wrong" not in reasons
    csrs = {request.csr for request in world.simulator.messages(CertificateRequest)}
    assert len(csrs) == 1, "the same key may retry"
    world.token_file.write_text(TOKEN)
    await world.until(lambda: not world.readiness.missing(), 120)


async def test_a_missing_token_file_is_said_and_looked_for_again(world: World, mock_clock: Clock) -> None:
    world.token_file.unlink()
    await world.until(lambda: world.count("control_links_total", outcome="token_unreadable"), 60)
    assert any("cannot read the token file" in reason for reason in world.readiness.missing())
    assert not world.simulator.messages(CertificateRequest)


async def test_a_token_of_another_workload_gives_no_identity(world: World, mock_clock: Clock) -> None:
    world.simulator.tokens = {TOKEN: WorkloadName("shop", "payments")}
    await world.until(lambda: world.count("control_links_total", outcome="certificate_refused"), 60)
    assert world.mesh.svid is None
    assert any("this sidecar is spiffe://cluster.local/ns/shop/sa/checkout" in why for why in world.readiness.missing())


async def test_a_snapshot_with_a_lower_number_is_refused_within_its_epoch(world: World, mock_clock: Clock) -> None:
    pki = world.simulator.pki
    await world.until(lambda: not world.readiness.missing(), 5)
    await world.simulator.push(snapshot(pki, 7))
    await world.until(lambda: Ack("first", 7) in world.simulator.messages(Ack), 5)
    await world.simulator.push(snapshot(pki, 6, allow()))
    await world.until(lambda: world.simulator.messages(Nack), 5)
    assert world.simulator.messages(Nack)[0].code == "stale"
    assert world.mesh.view is not None
    assert world.mesh.view.number == 7
    await world.simulator.push(snapshot(pki, 2, epoch="second"))
    await world.until(lambda: Ack("second", 2) in world.simulator.messages(Ack), 5)


async def test_a_snapshot_that_cannot_be_compiled_keeps_the_last_good_one(world: World, mock_clock: Clock) -> None:
    pki = world.simulator.pki
    await world.until(lambda: not world.readiness.missing(), 5)
    broken = allow(**{"from": []})
    await world.simulator.push(snapshot(pki, 2, broken))
    await world.until(lambda: world.simulator.messages(Nack), 5)
    (nack,) = world.simulator.messages(Nack)
    assert (nack.about, nack.code) == ("Snapshot", "policy_faults")
    assert "spec.from" in nack.message
    assert world.mesh.view is not None
    assert world.mesh.view.number == 1
    assert not world.readiness.missing()
    await world.simulator.push(snapshot(pki, 3))
    await world.until(lambda: Ack("first", 3) in world.simulator.messages(Ack), 5)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda good: evolve(good, hash="0" * 64), "wrong_hash"),
        (lambda good: evolve(good, roots=(b"no certificate",)), "wrong_hash"),
        (lambda good: snapshot(Pki("partner.example", now=START), 2), "no_root"),
    ],
)
async def test_a_spoilt_snapshot_is_refused(
    world: World, mock_clock: Clock, spoil: Callable[..., object], code: str
) -> None:
    await world.until(lambda: not world.readiness.missing(), 5)
    await world.simulator.links[-1].send(spoil(snapshot(world.simulator.pki, 2)))
    await world.until(lambda: world.simulator.messages(Nack), 5)
    assert world.simulator.messages(Nack)[0].code == code


async def test_a_malformed_endpoint_refuses_the_snapshot(world: World, mock_clock: Clock) -> None:
    await world.until(lambda: not world.readiness.missing(), 5)
    endpoint = Endpoint("shop/payments", 8080, "10.0.0.1", 8443, "http", "spiffe://cluster.local/..")
    await world.simulator.push(snapshot(world.simulator.pki, 2, endpoints=(endpoint,)))
    await world.until(lambda: world.simulator.messages(Nack), 5)
    assert world.simulator.messages(Nack)[0].code == "malformed"


async def test_a_snapshot_sent_again_on_a_new_link_is_acknowledged_without_work(
    world: World, mock_clock: Clock
) -> None:
    await world.until(lambda: not world.readiness.missing(), 5)
    view = world.mesh.view
    await world.simulator.links[-1].stream.aclose()
    await world.until(lambda: len(world.simulator.links) == 3 and world.simulator.links[2].said(Ack), 60)
    assert world.mesh.view is view


async def test_an_unasked_certificate_ends_the_link_and_changes_nothing(world: World, mock_clock: Clock) -> None:
    await world.until(lambda: not world.readiness.missing(), 5)
    svid = world.mesh.svid
    request = world.simulator.links[0].said(CertificateRequest)[0]
    other = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/other")
    await world.simulator.links[-1].send(world.simulator._certificate(evolve(request, token=None), other))
    await world.until(lambda: world.count("control_links_total", outcome="malformed"), 60)
    assert world.mesh.svid is svid


async def test_the_control_planes_last_word_is_the_reason_given(world: World, mock_clock: Clock) -> None:
    await world.until(lambda: not world.readiness.missing(), 5)
    world.simulator.away = True
    await world.simulator.links[-1].send(Nack("Link", "banned", "this identity is banned"))
    await world.until(lambda: world.count("control_links_total", outcome="banned"), 60)
    assert world.readiness.link_problem


async def test_leaving_announces_that_nothing_listens_any_more(world: World, mock_clock: Clock) -> None:
    await world.until(lambda: not world.readiness.missing(), 5)
    await world.link.leave()
    await world.until(lambda: len(world.simulator.links[-1].said(Announce)) == 2, 5)
    assert world.simulator.links[-1].said(Announce)[1] == Announce((), ("shop/payments:8080",))


async def test_a_fault_of_our_own_in_the_link_is_logged_and_tried_again(
    world: World, mock_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.until(lambda: not world.readiness.missing(), 5)

    async def fail(*_: object) -> None:
        raise KeyError("nobody foresaw this")

    with monkeypatch.context() as patch:
        patch.setattr(InMemory, "connect", fail)
        await world.simulator.links[-1].stream.aclose()
        await world.until(lambda: world.count("unexpected_errors_total", where="link") > 2, 60)
    assert not world.readiness.missing()
    await world.until(lambda: world.count("control_link_up"), 60)


@pytest.mark.parametrize("abruptly", [False, True])
async def test_a_certificate_that_tls_refuses_is_replaced_by_the_token(
    world: World, mock_clock: Clock, *, abruptly: bool
) -> None:
    await world.until(lambda: not world.readiness.missing(), 5)
    svid = world.mesh.svid
    world.way.refuses, world.way.abruptly = svid, abruptly
    await world.simulator.links[-1].stream.aclose()
    await world.until(lambda: world.mesh.svid is not svid, 60)
    assert world.count("control_links_total", outcome="refused") == 1
    await world.until(lambda: world.count("control_link_up"), 60)
