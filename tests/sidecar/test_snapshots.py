"""A snapshot is enforced whole, on what is open already too, before it is acknowledged."""

from datetime import UTC, datetime

import trio
import trio.testing

from certs.spiffe import WorkloadName
from certs.verify import Peer
from mesh.policy import Facts, Reason
from mesh.wire import Ack, Nack, Snapshot
from sidecar.live import LiveConnection, LiveConnections
from sidecar.metrics import Metrics
from sidecar.snapshots import Snapshots
from sidecar.view import Mesh, View
from tests.support.pki import HOUR, Pki
from tests.support.simulator import WORKLOAD, allow, snapshot

PKI = Pki()


def caller(workload: str) -> Peer:
    now = datetime.now(UTC)
    return Peer(PKI.id(workload), 1, root_of_pki(), now - HOUR, now + HOUR)


def root_of_pki() -> str:
    view = View.build(snapshot(PKI), PKI.domain)
    return next(iter(view._roots))[1]


def world() -> tuple[Mesh, LiveConnections, Snapshots]:
    mesh, live = Mesh(WORKLOAD.in_domain(PKI.domain)), LiveConnections()
    return mesh, live, Snapshots(mesh, live, Metrics(), PKI.domain)


async def test_what_the_new_snapshot_no_longer_allows_is_ended_before_the_ack() -> None:
    mesh, live, snapshots = world()
    assert await snapshots.apply(snapshot(PKI, 1, allow())) == Ack("first", 1)
    facts = Facts(to=WorkloadName("shop", "checkout"), port=8080, caller=PKI.id("shop/frontend"))
    connection = LiveConnection(caller("shop/frontend"), facts)
    async with trio.open_nursery() as nursery:

        async def hold() -> None:
            with live.register(connection):
                await trio.sleep_forever()

        nursery.start_soon(hold)
        await trio.testing.wait_all_tasks_blocked()
        assert await snapshots.apply(snapshot(PKI, 2, allow(caller="ops"))) == Ack("first", 2)
        assert connection.ended is Reason.POLICY_CHANGED
    assert mesh.view is not None
    assert mesh.view.number == 2


async def test_an_application_that_was_broken_off_is_finished_when_it_is_sent_again() -> None:
    _, live, snapshots = world()
    await snapshots.apply(snapshot(PKI, 1, allow()))
    banned = snapshot(PKI, 2, allow(), bans=(str(PKI.id("shop/frontend")),))
    connections = [LiveConnection(caller("shop/frontend")) for _ in range(500)]
    async with trio.open_nursery() as nursery:

        async def hold(connection: LiveConnection) -> None:
            with live.register(connection):
                await trio.sleep_forever()

        for connection in connections:
            nursery.start_soon(hold, connection)
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            original = live.redecide

            async def broken_off(view: View) -> int:
                scope.cancel()
                return await original(view)

            live.redecide = broken_off  # type: ignore[method-assign]  # the link breaks in the middle of it
            await snapshots.apply(banned)
        live.redecide = original  # type: ignore[method-assign]  # as it was
        assert not all(connection.ended for connection in connections)
        assert await snapshots.apply(banned) == Ack("first", 2)
        assert all(connection.ended is Reason.BANNED for connection in connections)


async def test_a_fault_of_our_own_is_a_nack_and_costs_nothing() -> None:
    mesh, live, snapshots = world()
    await snapshots.apply(snapshot(PKI, 1))

    async def fail(_: View) -> int:
        raise KeyError("nobody foresaw this")

    live.redecide = fail  # type: ignore[method-assign]  # a fault in any part of the application
    answer = await snapshots.apply(snapshot(PKI, 2))
    assert isinstance(answer, Nack)
    assert answer.code == "internal_error"
    assert "nobody foresaw" not in answer.message
    assert mesh.view is not None


async def test_a_large_snapshot_does_not_hold_the_loop() -> None:
    _, _, snapshots = world()
    policies = [allow(name=f"p{number}", caller=f"w{number}") for number in range(3000)]
    large: Snapshot = snapshot(PKI, 1, *policies)
    ticks = 0
    async with trio.open_nursery() as nursery:

        async def tick() -> None:
            nonlocal ticks
            while True:
                await trio.sleep(0.01)
                ticks += 1

        nursery.start_soon(tick)
        assert await snapshots.apply(large) == Ack("first", 1)
        nursery.cancel_scope.cancel()
    assert ticks > 2
