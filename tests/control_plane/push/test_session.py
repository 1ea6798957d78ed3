"""What a connected sidecar is told, and when; and what ends its link although it did nothing wrong itself."""

from datetime import timedelta

import pytest
import trio
import trio.testing

from certs.csr import build_csr
from certs.keys import new_key
from control_plane.settings import Limits
from mesh.wire import (
    Ack,
    Announce,
    CertificateRequest,
    Hello,
    Listener,
    Nack,
    Ping,
    Pong,
    Snapshot,
    snapshot_hash,
)
from tests.support.patience import PATIENCE
from tests.support.plane import DOMAIN, Plane, allow

CHECKOUT = str(DOMAIN.workload("shop", "checkout"))
PAYMENTS = Announce((Listener(8443, 8080, "http"),), ())


async def test_a_policy_change_is_pushed_and_its_acknowledgement_recorded(plane: Plane) -> None:
    payments = await plane.sidecar("shop/payments", PAYMENTS)
    assert (await payments.enforce()).policies == ()
    document = allow()
    number = await plane.apply(document)
    snapshot = await payments.snapshot()
    while not snapshot.policies:  # its own lease may have come in between
        snapshot = await payments.snapshot()
    assert snapshot.policies == (document,)
    assert snapshot.number >= number
    assert snapshot.hash == snapshot_hash(snapshot)
    (status,) = plane.office.links.status()
    assert status.acknowledged is None or status.acknowledged < number
    await payments.say(Ack(snapshot.epoch, snapshot.number))
    await plane.until(lambda: plane.office.links.status()[0].acknowledged == snapshot.number)
    assert plane.office.links.status()[0].epoch == snapshot.epoch
    assert plane.count("enforced_after_seconds_count") >= 1


async def test_who_counts_what_is_enforced_is_told_of_links_and_acknowledgements(plane: Plane) -> None:
    moved = plane.office.links.moved
    caller = await plane.sidecar()
    await plane.until(plane.office.links.live)  # the server's Hello does not wait for ours
    counts = [moved.count]
    for event in (caller.enforce, caller.stream.aclose):
        await event()
        with trio.fail_after(PATIENCE):
            counts.append(await moved.wait(counts[-1]))
    assert counts == [1, 2, 3]


async def test_a_snapshot_that_is_too_large_is_noted_until_one_can_be_sent(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    payments = await plane.sidecar("shop/payments", PAYMENTS)
    await payments.enforce()
    assert plane.office.links.status()[0].unsent == ""
    with monkeypatch.context() as patch:
        patch.setattr("control_plane.push.board.MAX_FRAME_TO_SIDECAR", 10)
        await plane.apply(allow())
        await plane.until(lambda: "more than 10" in plane.office.links.status()[0].unsent)
    await plane.apply(allow("another"))
    await plane.until(lambda: not plane.office.links.status()[0].unsent)
    while len((await payments.snapshot()).policies) < 2:
        pass


async def test_nothing_is_pushed_before_the_announcement(plane: Plane) -> None:
    caller = await plane.link(await plane.svid())
    await plane.apply(allow())
    assert await caller.ask(Ping(1)) == Pong(1)
    await caller.say(Announce((), ()))
    assert isinstance(await caller.hear(), Snapshot)


async def test_a_sidecar_gets_only_what_concerns_it(plane: Plane) -> None:
    payments = await plane.sidecar("shop/payments", PAYMENTS)
    await payments.snapshot()
    await plane.until(lambda: plane.office.board.picture.endpoints)
    stranger = await plane.svid("other/stranger")
    await plane.apply(allow(), allow("frontend-calls-checkout", to="checkout", caller="frontend"))
    checkout = await plane.sidecar("shop/checkout", Announce((), ("shop/payments:8080",)))
    snapshot = await checkout.snapshot()
    assert [policy["metadata"]["name"] for policy in snapshot.policies] == ["frontend-calls-checkout"]
    (endpoint,) = snapshot.endpoints
    assert (endpoint.workload, endpoint.port, endpoint.mesh_port) == ("shop/payments", 8080, 8443)
    assert (endpoint.address, endpoint.identity) == ("127.0.0.1", str(DOMAIN.workload("shop", "payments")))
    nobody = await plane.link(stranger)
    await nobody.say(Announce((), ()))
    snapshot = await nobody.snapshot()
    assert (snapshot.policies, snapshot.endpoints) == ((), ())
    assert snapshot.roots == plane.bundle.to_der()


async def test_new_destinations_bring_their_endpoints(plane: Plane) -> None:
    payments = await plane.sidecar("shop/payments", PAYMENTS)
    await payments.snapshot()
    await plane.until(lambda: plane.office.board.picture.endpoints)
    checkout = await plane.sidecar("shop/checkout")
    assert (await checkout.snapshot()).endpoints == ()
    await checkout.say(Announce((), ("shop/payments:8080",)))
    assert len((await checkout.snapshot()).endpoints) == 1


async def test_a_revision_is_pushed_also_to_whom_it_changes_nothing_for(plane: Plane) -> None:
    """A policy that went and came back is a later revision: it is enforced once that number is acknowledged."""
    frontend = await plane.sidecar("shop/frontend")
    first = await frontend.enforce()
    number = await plane.apply(allow())
    second = await frontend.enforce()
    assert (second.hash, second.number >= number) == (first.hash, True)


async def test_a_registry_change_that_shows_nothing_new_is_not_pushed(plane: Plane) -> None:
    frontend = await plane.sidecar("shop/frontend")
    await frontend.enforce()
    await plane.sidecar("shop/payments", PAYMENTS)
    await plane.until(lambda: plane.office.board.picture.endpoints)
    assert await frontend.ask(Ping(1)) == Pong(1)


async def test_an_acknowledgement_of_what_was_never_sent_counts_for_nothing(plane: Plane) -> None:
    caller = await plane.sidecar()
    snapshot = await caller.snapshot()
    await caller.say(Ack(snapshot.epoch, snapshot.number + 1000))
    await caller.say(Ack("another epoch", snapshot.number))
    assert await caller.ask(Ping(1)) == Pong(1)
    assert plane.office.links.status()[0].acknowledged is None


async def test_a_refused_snapshot_shows_in_the_status_until_the_next_is_enforced(plane: Plane) -> None:
    caller = await plane.sidecar("shop/payments")
    await caller.snapshot()
    await caller.say(Nack("Snapshot", "policy_faults", "spec.from: unknown key"))
    await plane.until(lambda: plane.office.links.status()[0].last_nack)
    assert plane.count("snapshots_refused_total") == 1
    await plane.apply(allow())
    await caller.enforce()
    await plane.until(lambda: plane.office.links.status()[0].acknowledged)
    assert plane.office.links.status()[0].last_nack is None


async def test_a_status_says_who_is_connected(plane: Plane) -> None:
    announce = Announce((Listener(8443, 8080, "http"),), ("shop/payments:8080",))
    caller = await plane.sidecar("shop/checkout", announce, instance="pod-1")
    await caller.snapshot()
    (status,) = plane.office.links.status()
    assert (status.identity, status.instance, status.address) == (CHECKOUT, "pod-1", "127.0.0.1")
    assert (status.listeners, status.destinations) == (announce.listeners, announce.destinations)
    assert status.version == "sidecar under test"
    assert status.connected_since <= plane.clock() < status.certificate_not_after
    await caller.stream.aclose()
    await plane.until(lambda: not plane.office.links.status())
    assert plane.count("links_ended_total", reason="closed") == 1


async def test_an_expired_link_cannot_ask_for_anything(plane: Plane) -> None:
    caller = await plane.sidecar()
    await caller.snapshot()
    plane.clock.offset = timedelta(hours=2)
    await caller.say(CertificateRequest(build_csr(new_key())))
    refusal = await caller.refusal()
    assert refusal.code == "certificate_expired"
    assert await caller.ended()
    assert plane.count("certificates_issued_total", method="certificate") == 0
    assert plane.count("links_ended_total", reason="certificate_expired") == 1


async def test_an_expired_link_is_told_nothing_more(plane: Plane) -> None:
    caller = await plane.sidecar("shop/payments")
    await caller.snapshot()
    plane.clock.offset = timedelta(hours=2)
    await plane.apply(allow())
    assert (await caller.refusal()).code == "certificate_expired"
    assert await caller.ended()


@pytest.mark.parametrize("by", ["identity", "serial"])
async def test_a_ban_ends_the_live_link(plane: Plane, by: str) -> None:
    caller = await plane.sidecar()
    await caller.snapshot()
    other = await plane.sidecar("shop/payments")
    await other.snapshot()
    peer = plane.office.links.live()[0].peer
    subject = str(peer.id) if by == "identity" else f"serial:{peer.serial}"
    await plane.ban(subject)
    assert (await caller.refusal()).code == "banned"
    assert await caller.ended()
    assert (await other.snapshot()).bans == (subject,)
    assert [status.identity for status in plane.office.links.status()] == [str(DOMAIN.workload("shop", "payments"))]


async def test_a_second_link_of_an_instance_takes_the_place_of_the_first(plane: Plane) -> None:
    svid = await plane.svid()
    first = await plane.link(svid, "pod-1")
    assert await first.ask(Ping(1)) == Pong(1)
    second = await plane.link(svid, "pod-1")
    assert await second.ask(Ping(1)) == Pong(1)
    assert await first.ended()
    assert len(plane.office.links) == 1
    assert await second.ask(Ping(2)) == Pong(2)
    await plane.until(lambda: plane.count("links_ended_total", reason="superseded") == 1)


@pytest.mark.parametrize("message", [Hello(1, "x", "x"), Snapshot("e", 1, "h", (), (), (), ())])
async def test_what_only_the_other_side_says_ends_the_link(plane: Plane, message: Hello | Snapshot) -> None:
    caller = await plane.link(await plane.svid())
    await caller.say(message)
    assert (await caller.refusal()).code == "unexpected"
    assert await caller.ended()


class TestInTime:
    """Time goes as everywhere, and the test lets what is waited for come at once."""

    @pytest.fixture
    def clock(self) -> trio.testing.MockClock:
        return trio.testing.MockClock(rate=1)

    async def test_a_silent_sidecar_is_pinged_and_then_gone(
        self, plane: Plane, limits: Limits, clock: trio.testing.MockClock
    ) -> None:
        caller = await plane.link(await plane.svid())
        assert await caller.ask(Ping(1)) == Pong(1)
        for number in range(1, 3):
            clock.jump(limits.ping_interval)
            assert await caller.hear() == Ping(number)
        clock.jump(limits.silence_timeout)
        assert await caller.ended()
        await plane.until(lambda: plane.count("links_ended_total", reason="silent") == 1)

    async def test_a_sidecar_that_answers_is_asked_again_and_stays(
        self, plane: Plane, limits: Limits, clock: trio.testing.MockClock
    ) -> None:
        caller = await plane.link(await plane.svid())
        assert await caller.ask(Ping(1)) == Pong(1)
        for number in range(1, 5):
            clock.jump(limits.ping_interval)
            assert await caller.hear() == Ping(number)
            await caller.say(Pong(number))
            await plane.until(lambda number=number: plane.count("messages_total", type="Pong") == number)
        assert len(plane.office.links) == 1

    async def test_a_sidecar_that_does_not_read_is_gone_and_holds_up_nobody(
        self, plane: Plane, limits: Limits, clock: trio.testing.MockClock
    ) -> None:
        slow = await plane.sidecar("shop/payments", instance="slow")
        quick = await plane.sidecar("shop/payments", instance="quick")
        await plane.apply(*(allow(f"policy-{n}", caller="y" * 250_000) for n in range(60)))  # more than sockets buffer
        with trio.fail_after(PATIENCE):
            while len((await quick.snapshot()).policies) < 60:
                pass
        number = plane.office.board.picture.policy_number
        await plane.until(lambda: all((each.sent_number or 0) >= number for each in plane.office.links.live()))
        clock.jump(limits.write_timeout)
        await plane.until(lambda: plane.count("links_ended_total", reason="slow") == 1)
        assert [status.instance for status in plane.office.links.status()] == ["quick"]
        assert await slow.ended()
