"""A sidecar registers addresses for its own identity only, and what it registered ends by its lease."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import trio

from certs.svid import Svid
from certs.tls import server_context
from control_plane.housekeeping import expire_leases
from control_plane.push.office import in_thread
from control_plane.push.session import ANNOUNCEMENTS_PER_MINUTE
from control_plane.settings import Lifetimes, Limits
from mesh.wire import Ack, Announce, Listener, Message, Nack, Ping, Pong, Snapshot
from tests.support.patience import PATIENCE
from tests.support.plane import DOMAIN, Caller, Plane
from transport import TlsStream

ELSEWHERE = "127.0.0.2"
FRESH = Lifetimes().lease * 2 / 3  # what is left of a lease that was renewed a moment ago, as far as tests are patient


def listener(address: str | None = None, mesh_port: int = 8443, port: int = 8080) -> Listener:
    return Listener(mesh_port, port, "http", address)


@asynccontextmanager
async def sidecar_listener(
    plane: Plane, svid: Svid, alpn: bytes = b"doorward-http/1", port: int = 0
) -> AsyncIterator[int]:
    """What a sidecar's inbound listener does to whoever dials it, on another address of loopback: its port."""
    context = server_context(svid, plane.bundle, [alpn])

    async def answer(stream: trio.SocketStream) -> None:
        tls = TlsStream(stream.socket, context, server_side=True)
        try:
            await tls.do_handshake()
            await tls.receive_some()
        except trio.BrokenResourceError:
            pass
        tls.abort()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(port, host=ELSEWHERE)
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def past_snapshots(caller: Caller) -> Message | None:
    """The next message that is no snapshot: those come when they come, and are enforced."""
    while isinstance(message := await caller.hear(), Snapshot):
        await caller.say(Ack(message.epoch, message.number))
    return message


async def refusal(caller: Caller) -> Nack:
    message = await past_snapshots(caller)
    assert isinstance(message, Nack), message
    return message


async def leases(plane: Plane) -> list[tuple[str, str, int]]:
    found = await in_thread(plane.office.store.leases)
    return [(lease.workload, lease.address, lease.mesh_port) for lease in found]


async def until_leased(plane: Plane, count: int = 1) -> None:
    with trio.fail_after(PATIENCE):
        while len(await leases(plane)) != count:
            await trio.sleep(0.01)


async def until_renewed(plane: Plane) -> None:
    """Wait until a lease has most of its life before it."""
    with trio.fail_after(PATIENCE):
        while not any(each.expires > plane.clock() + FRESH for each in await in_thread(plane.office.store.leases)):
            await trio.sleep(0.01)


async def announces(plane: Plane, *listeners: Listener, workload: str = "shop/payments") -> Caller:
    return await plane.sidecar(workload, Announce(listeners, ()), instance=workload)


@pytest.mark.parametrize("address", [None, "127.0.0.1", "::ffff:127.0.0.1"])
async def test_the_link_s_own_address_is_registered(plane: Plane, address: str | None) -> None:
    caller = await announces(plane, listener(address))
    await until_leased(plane)
    assert await leases(plane) == [("shop/payments", "127.0.0.1", 8443)]
    await plane.until(lambda: plane.office.board.picture.endpoints)
    assert isinstance(await caller.hear(), Snapshot)


async def test_an_address_where_nothing_answers_is_refused(plane: Plane) -> None:
    caller = await announces(plane, listener(ELSEWHERE, mesh_port=9))
    assert (await refusal(caller)).code == "address_not_proved"
    assert await leases(plane) == []
    assert plane.count("requests_refused_total", about="Announce", code="address_not_proved") == 1
    await caller.say(Ping(1))
    assert await past_snapshots(caller) == Pong(1), "the link itself lives on"


async def test_an_address_that_proves_the_identity_is_registered(plane: Plane) -> None:
    async with sidecar_listener(plane, plane.svid_for(DOMAIN.workload("shop", "payments"))) as port:
        caller = await announces(plane, listener(ELSEWHERE, mesh_port=port))
        await caller.enforce()
        await until_leased(plane)
        assert await leases(plane) == [("shop/payments", ELSEWHERE, port)]


@pytest.mark.parametrize("enforces", [True, False])
async def test_nobody_is_asked_for_a_proof_before_the_first_snapshot(plane: Plane, enforces: bool) -> None:
    """A sidecar refuses everyone until then: it would be refused for it, and have to wait for the next renewal. Who
    refuses a snapshot may still hold an earlier one."""
    svid = plane.svid_for(DOMAIN.workload("shop", "payments"))
    async with sidecar_listener(plane, svid) as port:
        pass
    caller = await announces(plane, listener(ELSEWHERE, mesh_port=port), listener())
    snapshot = await caller.snapshot()
    async with sidecar_listener(plane, svid, port=port):
        nack = Nack("Snapshot", "policy_faults", "a newer policy than this version knows")
        await caller.say(Ack(snapshot.epoch, snapshot.number) if enforces else nack)
        await until_leased(plane, 2)
    assert plane.count("requests_refused_total", about="Announce", code="address_not_proved") == 0


async def test_an_address_where_another_workload_answers_is_refused(plane: Plane) -> None:
    async with sidecar_listener(plane, plane.svid_for(DOMAIN.workload("shop", "checkout"))) as port:
        caller = await announces(plane, listener(ELSEWHERE, mesh_port=port))
        nack = await refusal(caller)
    assert nack.code == "address_not_proved"
    assert "checkout" not in nack.message, "what answers elsewhere is not told"
    assert await leases(plane) == []


async def test_an_address_that_speaks_no_mesh_protocol_is_refused(plane: Plane) -> None:
    svid = plane.svid_for(DOMAIN.workload("shop", "payments"))
    async with sidecar_listener(plane, svid, alpn=b"doorward-cp/1") as port:
        caller = await announces(plane, listener(ELSEWHERE, mesh_port=port))
        assert (await refusal(caller)).code == "address_not_proved"


@pytest.mark.parametrize("address", ["payments.shop.svc", "0.0.0.0", "224.0.0.1", "169.254.169.254", "::"])
async def test_what_is_no_address_of_a_sidecar_is_never_dialled(plane: Plane, address: str) -> None:
    caller = await announces(plane, listener(address))
    assert (await refusal(caller)).code == "bad_address"
    assert await leases(plane) == []


async def test_one_bad_listener_does_not_cost_the_others(plane: Plane) -> None:
    caller = await announces(plane, listener(), listener("0.0.0.0", mesh_port=9443))
    assert (await refusal(caller)).code == "bad_address"
    assert await leases(plane) == [("shop/payments", "127.0.0.1", 8443)]


async def test_an_address_leased_to_another_identity_is_refused(plane: Plane) -> None:
    await announces(plane, listener())
    await until_leased(plane)
    thief = await announces(plane, listener(), workload="shop/frontend")
    assert (await refusal(thief)).code == "address_leased"
    assert await leases(plane) == [("shop/payments", "127.0.0.1", 8443)]


async def test_a_dropped_link_ends_no_lease(plane: Plane) -> None:
    caller = await announces(plane, listener())
    await until_leased(plane)
    caller.stream.abort()
    await plane.until(lambda: not plane.office.links.live())
    assert await leases(plane) == [("shop/payments", "127.0.0.1", 8443)]


async def test_a_lease_that_nobody_renews_ends_and_is_told(plane: Plane) -> None:
    payments = await announces(plane, listener())
    await until_leased(plane)
    await plane.until(lambda: plane.office.board.picture.endpoints)
    checkout = await plane.sidecar("shop/checkout", Announce((), ("shop/payments:8080",)))
    assert len((await checkout.snapshot()).endpoints) == 1
    payments.stream.abort()
    await plane.until(lambda: len(plane.office.links) == 1)
    plane.clock.offset = timedelta(minutes=5)
    await in_thread(plane.office.store.expire_leases)
    plane.office.advance.announce()
    assert (await checkout.snapshot()).endpoints == ()


async def test_an_announcement_without_listeners_gives_them_up(plane: Plane) -> None:
    caller = await announces(plane, listener())
    await until_leased(plane)
    await caller.say(Announce((), ()))
    await until_leased(plane, 0)


async def test_a_last_word_before_leaving_is_heeded(plane: Plane) -> None:
    caller = await announces(plane, listener())
    await until_leased(plane)
    await caller.say(Announce((), ()))
    caller.stream.abort()
    await until_leased(plane, 0)


async def test_a_link_cannot_flap_at_will(plane: Plane) -> None:
    caller = await plane.sidecar("shop/payments", Announce((), ()))
    for _ in range(ANNOUNCEMENTS_PER_MINUTE):
        await caller.say(Announce((), ()))
    assert (await refusal(caller)).code == "too_many_announcements"
    assert await caller.ask(Ping(1)) == Pong(1)


class TestRenewal:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(lease_renewal=0.2, proof_timeout=PATIENCE)

    async def test_a_lease_lives_for_as_long_as_its_link_and_not_much_longer(
        self, plane: Plane, lifetimes: Lifetimes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("control_plane.housekeeping.LOOK_AT_LEAST", 0.2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expire_leases, plane.office)
            caller = await announces(plane, listener())
            for _ in range(3):
                await until_renewed(plane)
                assert len(await leases(plane)) == 1
                plane.clock.offset += lifetimes.lease / 2
            caller.stream.abort()
            await plane.until(lambda: not plane.office.links.live())
            plane.clock.offset += lifetimes.lease
            await until_leased(plane, 0)
            nursery.cancel_scope.cancel()

    async def test_a_refused_address_is_tried_again(self, plane: Plane) -> None:
        """A sidecar may announce before its own listener is up."""
        svid = plane.svid_for(DOMAIN.workload("shop", "payments"))
        async with sidecar_listener(plane, svid) as port:
            pass
        caller = await announces(plane, listener(ELSEWHERE, mesh_port=port))
        assert (await refusal(caller)).code == "address_not_proved"
        async with sidecar_listener(plane, svid, port=port):
            await until_leased(plane)


class TestSilentAddress:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(proof_timeout=0.3)

    async def test_an_address_that_never_answers_is_given_up(self, plane: Plane) -> None:
        with trio.socket.socket() as silent:
            await silent.bind((ELSEWHERE, 0))
            silent.listen(1)
            caller = await announces(plane, listener(ELSEWHERE, mesh_port=silent.getsockname()[1]))
            assert (await refusal(caller)).code == "address_not_proved"


class TestTooMany:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(endpoints_per_identity=3)

    async def test_endpoints_of_one_identity_are_bounded(self, plane: Plane) -> None:
        svid = await plane.svid("shop/payments")
        first = await plane.link(svid, "one")
        await first.say(Announce((listener(mesh_port=1), listener(mesh_port=2)), ()))
        await until_leased(plane, 2)
        await plane.until(lambda: plane.office.board.picture.leased)
        second = await plane.link(svid, "two")
        await second.say(Announce((listener(mesh_port=3), listener(mesh_port=4)), ()))
        assert (await refusal(second)).code == "too_many_endpoints"
        assert len(await leases(plane)) == 2


@pytest.mark.parametrize("destination", ["payments:8080", "shop/payments", "shop/payments:0", "shop/payments:٨"])
async def test_a_malformed_destination_refuses_the_whole_announcement(plane: Plane, destination: str) -> None:
    caller = await plane.sidecar("shop/checkout", Announce((listener(),), (destination,)))
    assert (await refusal(caller)).code == "bad_destination"
    assert await leases(plane) == []
