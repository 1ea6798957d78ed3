"""Live connections: every snapshot decides them again, no matter at which point of their lives it comes."""

from datetime import UTC, datetime, timedelta

import pytest
import trio
import trio.testing

from certs.spiffe import SpiffeId, TrustDomain, WorkloadName
from certs.verify import Peer, verify_chain
from mesh.policy import Facts, Reason
from mesh.wire import Service
from sidecar.live import SLICE, LiveConnection, LiveConnections
from sidecar.view import View
from tests.support.doors import snapshot
from tests.support.pki import Pki
from tests.support.policies import allow_policy

DOMAIN = TrustDomain("cluster.local")
CHECKOUT = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/checkout")


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


def view_of(pki: Pki, *sources: str, **content: object) -> View:
    policies = [allow_policy(source, "payments", 8080, http=False) for source in sources]
    return View.build(snapshot(pki.bundle, policies=policies, **content), DOMAIN)


def connection(pki: Pki, *, facts: bool = True, **fields: object) -> LiveConnection:
    """A connection of shop/checkout to payments:8080."""
    peer: Peer = verify_chain(pki.svid("shop/checkout").chain, pki.bundle, pki.now)
    about = Facts(WorkloadName("shop", "payments"), 8080, caller=CHECKOUT) if facts else None
    return LiveConnection(peer, about, **fields)


async def hold(live: LiveConnections, one: LiveConnection) -> None:
    with live.register(one):
        await trio.sleep_forever()


async def test_what_is_still_allowed_goes_on_and_the_rest_ends(pki: Pki) -> None:
    live, one = LiveConnections(), connection(pki)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, live, one)
        await trio.testing.wait_all_tasks_blocked()
        assert await live.redecide(view_of(pki, "checkout")) == 0
        assert one.ended is None
        assert await live.redecide(view_of(pki, "frontend")) == 1
    assert one.ended is Reason.POLICY_CHANGED
    assert len(live) == 0


async def test_a_connection_that_is_not_yet_decided_is_left_to_its_own_decision(pki: Pki) -> None:
    live, one = LiveConnections(), connection(pki, facts=False)
    with live.register(one):
        assert await live.redecide(view_of(pki)) == 0
    assert one.ended is None


async def test_a_ban_ends_even_what_no_policy_was_asked_about(pki: Pki) -> None:
    live, one = LiveConnections(), connection(pki, facts=False)
    with live.register(one):
        await live.redecide(view_of(pki, bans=[str(CHECKOUT)]))
        await trio.sleep_forever()
    assert one.ended is Reason.BANNED


async def test_the_first_reason_stands(pki: Pki) -> None:
    one = connection(pki)
    one.end(Reason.BANNED)
    one.end(Reason.DRAINING)
    assert one.ended is Reason.BANNED


async def test_an_end_that_comes_before_the_block_is_entered_still_ends_it(pki: Pki) -> None:
    live, one = LiveConnections(), connection(pki)
    one.end(Reason.BANNED)
    with live.register(one):
        await trio.sleep_forever()
    assert one.scope.cancelled_caught


async def test_a_decision_of_many_lets_others_work_in_between(pki: Pki) -> None:
    live, turns = LiveConnections(), 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        for _ in range(5 * SLICE):
            nursery.start_soon(hold, live, connection(pki))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(count_turns)
        await trio.lowlevel.checkpoint()
        turns = 0
        assert await live.redecide(view_of(pki, "checkout")) == 0
        assert turns >= 4
        assert await live.end_all(Reason.DRAINING) == 5 * SLICE
        nursery.cancel_scope.cancel()


async def test_only_a_stale_link_ends_what_outlived_its_certificate(
    pki: Pki, autojump_clock: trio.testing.MockClock
) -> None:
    now = datetime.now(UTC)
    old, young = (connection(pki, not_after=now + timedelta(seconds=s)) for s in (-1, 60))

    class Link:
        fresh = True

        def link_fresh(self) -> bool:
            return self.fresh

        def now(self) -> datetime:
            return now

    live, link = LiveConnections(), Link()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, live, old)
        nursery.start_soon(hold, live, young)
        nursery.start_soon(live.watch, link)
        await trio.sleep(60)
        assert len(live) == 2
        link.fresh = False
        await trio.sleep(60)
        assert len(live) == 1
        nursery.cancel_scope.cancel()
    assert (old.ended, young.ended) == (Reason.CERTIFICATE_RETIRED, None)


@pytest.mark.parametrize(("port", "address"), [(80, "10.96.0.1"), (443, "10.96.0.1"), (80, "10.96.0.9")])
async def test_what_goes_out_in_plaintext_ends_as_soon_as_its_address_is_a_service_of_the_mesh(
    pki: Pki, port: int, address: str
) -> None:
    """Whichever port it went to, and whether anybody is ready there."""
    live, one = LiveConnections(), LiveConnection(None, plaintext_to=address)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, live, one)
        await trio.testing.wait_all_tasks_blocked()
        assert await live.redecide(view_of(pki)) == 0
        joined = view_of(pki, services=[Service("shop/payments", ("10.96.0.1",), port, "auto", ())])
        assert await live.redecide(joined) == (address == "10.96.0.1")
        nursery.cancel_scope.cancel()
    assert one.ended is (Reason.POLICY_CHANGED if address == "10.96.0.1" else None)
