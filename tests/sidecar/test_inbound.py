"""The inbound door with raw TCP behind it: who gets through, who is refused and why, and what ends a connection."""

import gc
import hashlib
import os
import socket
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
import trio
import trio.testing
from attrs import evolve
from OpenSSL import SSL

from certs.errors import CertificateExpired
from certs.tls import client_context, verified_peer
from examples.demo.ports import free_port
from mesh.policy import Reason
from sidecar.settings import Limits
from sidecar.view import ALPN_HTTP, ALPN_TCP
from tests.support.doors import Node, application, call, call_with, echo, inbound_door, read_to_the_end
from tests.support.patience import PATIENCE
from tests.support.pki import Pki
from tests.support.policies import allow_policy
from transport import PlainStream, TlsFailed, TlsStream, dial

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


@pytest.fixture(scope="module")
def partner(pki: Pki) -> Pki:
    return Pki("partner.example", now=pki.now)


def allowing(port: int, *sources: str) -> list[dict]:
    """Policies that let these workloads of namespace shop connect to payments."""
    return [allow_policy(source, "payments", port, http=False) for source in sources]


def payments(pki: Pki, port: int, **options: object) -> Node:
    """A sidecar of shop/payments that lets shop/checkout in."""
    return Node.make(pki, "shop/payments", policies=allowing(port, "checkout"), **options)


async def expect_reset(stream: TlsStream | PlainStream) -> None:
    with pytest.raises(trio.BrokenResourceError), trio.fail_after(PATIENCE):
        await read_to_the_end(stream)
    stream.abort()


def decided(pki: Pki, source: str, reason: Reason) -> dict[str, str]:
    """The labels of a decision about a workload of namespace shop."""
    ids = {"source": str(pki.id(f"shop/{source}")), "destination": str(pki.id("shop/payments"))}
    return {"direction": "inbound", **ids, "reason": reason}


# Who gets through


async def test_an_allowed_caller_reaches_the_application_and_leaves_one_record(pki: Pki) -> None:
    async with application(echo) as port, inbound_door(node := payments(pki, port), port) as door:
        caller = await call(door, pki.svid("shop/checkout"), pki.bundle)
        await caller.send_all(b"hello")
        await caller.send_eof()
        assert await read_to_the_end(caller) == b"hello"
        await caller.aclose()
        record = await node.record()
    assert record.allowed
    assert record.reason == Reason.ALLOWED_BY_POLICY
    assert (record.direction, record.protocol, record.port) == ("inbound", "tcp", port)
    assert record.source == "spiffe://cluster.local/ns/shop/sa/checkout"
    assert record.destination == "spiffe://cluster.local/ns/shop/sa/payments"
    assert record.policy == "shop/checkout-calls-payments"
    assert (record.bytes_in, record.bytes_out) == (5, 5)
    assert record.snapshot == 1
    assert record.peer_address == "127.0.0.1"
    assert record.tls_group
    assert node.counted("connections_closed_total", direction="inbound", reason="done") == 1
    assert node.counted("connections_open", direction="inbound") == 0
    assert node.counted("bytes_total", direction="inbound", flow="received") == 5


async def test_a_caller_without_a_policy_never_reaches_the_application(pki: Pki) -> None:
    reached = []

    async def remember(stream: PlainStream) -> None:
        reached.append(stream)

    async with application(remember) as port, inbound_door(node := payments(pki, port), port) as door:
        await expect_reset(await call(door, pki.svid("shop/frontend"), pki.bundle))
        record = await node.record()
    assert not record.allowed
    assert record.reason == Reason.NO_POLICY_MATCHED
    assert record.nearest is not None
    assert not reached
    assert node.counted("decisions_total", **decided(pki, "frontend", Reason.NO_POLICY_MATCHED)) == 1


async def test_a_server_that_speaks_first_is_heard(pki: Pki) -> None:
    async def greet(stream: PlainStream) -> None:
        await stream.send_all(b"220 ready\r\n")
        await stream.send_eof()
        await stream.aclose()

    async with application(greet) as port, inbound_door(payments(pki, port), port) as door:
        caller = await call(door, pki.svid("shop/checkout"), pki.bundle)
        assert await read_to_the_end(caller) == b"220 ready\r\n"
        await caller.aclose()


async def test_auto_takes_what_is_no_http_for_tcp(pki: Pki) -> None:
    async with application(echo) as port, inbound_door(node := payments(pki, port), port, protocol="auto") as door:
        caller = await call(door, pki.svid("shop/checkout"), pki.bundle, alpn=[ALPN_HTTP])
        await caller.send_all(b"P")
        await caller.send_all(b"RI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        await caller.send_eof()
        assert await read_to_the_end(caller) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        await caller.aclose()
        record = await node.record()
    assert (record.protocol, record.bytes_in) == ("tcp", 24)


# Who is refused before policy is asked


async def refused(node: Node, reason: Reason) -> None:
    """One record, one count, both with this reason, and no decision."""
    record = await node.record()
    assert record.reason == reason
    assert not record.allowed
    assert record.snapshot is None
    assert node.counted("refused_total", direction="inbound", reason=reason) == 1
    assert node.counted("connections_closed_total", direction="inbound", reason=reason) == 1


async def test_garbage_instead_of_tls(pki: Pki) -> None:
    async with inbound_door(node := payments(pki, 1), 1) as door:
        caller = await dial("127.0.0.1", door, deadline=5)
        await caller.send_all(b"GET / HTTP/1.1\r\nHost: payments\r\n\r\n")
        await expect_reset(caller)
        await refused(node, Reason.NOT_TLS)


async def test_tls_1_2(pki: Pki) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    async with inbound_door(node := payments(pki, 1), 1) as door:
        with pytest.raises(TlsFailed, match="protocol version"):
            await call_with(door, context)
        await refused(node, Reason.TLS_FAILED)


BAD_CALLERS: dict[str, tuple[Reason, Callable[[Pki, Pki], object]]] = {
    "no certificate": (Reason.CERTIFICATE_MISSING, lambda pki, partner: None),
    "a stranger's CA": (Reason.UNKNOWN_ISSUER, lambda pki, partner: Pki(now=pki.now).svid()),
    "another trust domain": (
        Reason.OTHER_TRUST_DOMAIN,
        lambda pki, partner: pki.with_uri("spiffe://nobody.example/ns/shop/sa/checkout"),
    ),
    "our ID by a partner's CA": (
        Reason.OTHER_TRUST_DOMAIN,
        lambda pki, partner: partner.with_uri("spiffe://cluster.local/ns/shop/sa/checkout"),
    ),
    "expired": (Reason.CERTIFICATE_EXPIRED, lambda pki, partner: pki.expired()),
    "not yet valid": (Reason.CERTIFICATE_NOT_YET_VALID, lambda pki, partner: pki.not_yet_valid()),
    "two URI SANs": (Reason.SEVERAL_URI_SANS, lambda pki, partner: pki.two_uri_sans()),
    "no URI SAN": (Reason.NO_URI_SAN, lambda pki, partner: pki.no_uri_san()),
    "a CA leaf": (Reason.LEAF_IS_CA, lambda pki, partner: pki.ca_leaf()),
}


@pytest.mark.parametrize("name", BAD_CALLERS)
async def test_a_bad_certificate(name: str, pki: Pki, partner: Pki) -> None:
    reason, make = BAD_CALLERS[name]
    node = payments(pki, 1, bundle=pki.bundle_with(partner))
    async with inbound_door(node, 1) as door:
        try:
            caller = await call(door, make(pki, partner), pki.bundle)
        except trio.BrokenResourceError:
            pass  # the alert overtook the end of the handshake
        else:
            await expect_reset(caller)
        await refused(node, reason)


async def test_a_banned_caller(pki: Pki) -> None:
    node = Node.make(pki, "shop/payments", policies=allowing(1, "checkout"), bans=[str(pki.id("shop/checkout"))])
    async with inbound_door(node, 1) as door:
        await expect_reset(await call(door, pki.svid("shop/checkout"), pki.bundle))
        await refused(node, Reason.BANNED)


async def test_a_banned_certificate(pki: Pki) -> None:
    svid = pki.svid("shop/checkout")
    node = Node.make(pki, "shop/payments", policies=allowing(1, "checkout"), bans=[f"serial:{svid.serial}"])
    async with inbound_door(node, 1) as door:
        await expect_reset(await call(door, svid, pki.bundle))
        await refused(node, Reason.BANNED)


@pytest.mark.parametrize("alpn", [[], [ALPN_HTTP], [b"h2"]])
async def test_a_caller_who_speaks_another_protocol(alpn: list[bytes], pki: Pki) -> None:
    async with inbound_door(node := payments(pki, 1), 1) as door:
        await expect_reset(await call(door, pki.svid("shop/checkout"), pki.bundle, alpn=alpn))
        await refused(node, Reason.ALPN_MISMATCH)


async def test_before_the_first_snapshot(pki: Pki) -> None:
    node = Node.make(pki, "shop/payments", ready=False)
    async with inbound_door(node, 1) as door:
        with pytest.raises(trio.BrokenResourceError):
            await call(door, pki.svid("shop/checkout"), pki.bundle)
        await refused(node, Reason.NO_SNAPSHOT)


async def test_after_the_own_certificate_ran_out(pki: Pki) -> None:
    async with inbound_door(node := payments(pki, 1), 1) as door:
        node.now.append(pki.now + timedelta(hours=2))
        caller = await call(door, pki.svid("shop/checkout"), pki.bundle)
        with pytest.raises(CertificateExpired, match=r"expired at .*, 3600 s ago by the clock here"):
            verified_peer(caller.connection, pki.bundle, node.now[-1])  # it is shown, so that the caller learns why
        await expect_reset(caller)
        await refused(node, Reason.OWN_CERTIFICATE_EXPIRED)


async def test_a_handshake_that_never_ends(pki: Pki) -> None:
    node = payments(pki, 1, limits=Limits(handshake_timeout=0.1))
    async with inbound_door(node, 1) as door:
        caller = await dial("127.0.0.1", door, deadline=5)
        await caller.send_all(b"\x16\x03\x01")
        await expect_reset(caller)
        await refused(node, Reason.DOWNSTREAM_TIMEOUT)


async def test_a_caller_who_leaves_in_the_handshake(pki: Pki) -> None:
    async with inbound_door(node := payments(pki, 1), 1) as door:
        caller = await dial("127.0.0.1", door, deadline=5)
        caller.abort()
        await refused(node, Reason.DOWNSTREAM_RESET)


@pytest.mark.parametrize("limits", [Limits(unauthenticated_per_address=2), Limits(unauthenticated_total=2)])
async def test_too_many_who_have_not_said_who_they_are(
    limits: Limits, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transport.budget.ENOUGH_SECONDS", 3600)  # after which they would make room
    async with application(echo) as port:
        node = payments(pki, port, limits=evolve(limits, handshake_timeout=3600))
        async with inbound_door(node, port) as door:
            idle = [await dial("127.0.0.1", door, deadline=5) for _ in range(2)]
            with trio.fail_after(PATIENCE):
                while node.proxy.budget.taken < 2:
                    await trio.sleep(0.01)
            with pytest.raises(trio.BrokenResourceError):
                await call(door, pki.svid("shop/checkout"), pki.bundle)
            await refused(node, Reason.OVER_LIMIT)
            for stream in idle:
                stream.abort()
            while node.proxy.budget.taken:
                await trio.sleep(0.01)
            caller = await call(door, pki.svid("shop/checkout"), pki.bundle)
            await caller.send_all(b"there is room again")
            assert await caller.receive_some() == b"there is room again"
            caller.abort()


async def test_authenticated_callers_are_not_in_the_budget(pki: Pki) -> None:
    async with application(echo) as port:
        node = payments(pki, port, limits=Limits(unauthenticated_total=1))
        async with inbound_door(node, port) as door:
            callers = []
            for _ in range(5):
                callers.append(caller := await call(door, pki.svid("shop/checkout"), pki.bundle))
                await caller.send_all(b"x")
                assert await caller.receive_some() == b"x", "its handshake is over on both sides"
            for caller in callers:
                caller.abort()


# Plaintext, where a namespace permits it


def permissive(policies: list[dict]) -> list[dict]:
    defaults = {
        "apiVersion": "doorward.dev/v1",
        "kind": "NamespaceDefaults",
        "metadata": {"name": "defaults", "namespace": "shop"},
        "spec": {"default": "deny", "mtls": "permissive"},
    }
    return [*policies, defaults]


async def test_a_plaintext_caller_enters_policy_and_does_not_pass_it(pki: Pki) -> None:
    async with application(echo) as port:
        node = Node.make(pki, "shop/payments", policies=permissive(allowing(port, "checkout")))
        async with inbound_door(node, port) as door:
            caller = await dial("127.0.0.1", door, deadline=5)
            await caller.send_all(b"hello")
            await expect_reset(caller)
            record = await node.record()
    assert not record.allowed
    assert record.source == ""
    assert record.reason == Reason.NO_POLICY_MATCHED


async def test_a_plaintext_caller_whom_a_policy_names_is_let_in(pki: Pki) -> None:
    async with application(echo) as port:
        policy = allowing(port, "checkout")[0]
        policy["spec"]["from"] = [{"unauthenticated": True, "addresses": ["127.0.0.0/8"]}]
        node = Node.make(pki, "shop/payments", policies=permissive([policy]))
        async with inbound_door(node, port) as door:
            caller = await dial("127.0.0.1", door, deadline=5)
            await caller.send_all(b"hello")
            await caller.send_eof()
            assert await read_to_the_end(caller) == b"hello"
            caller.abort()
            assert (await node.record()).allowed


# What ends a connection that was let in


async def test_each_direction_ends_by_itself(pki: Pki) -> None:
    async def answer_after_the_question(stream: PlainStream) -> None:
        question = await read_to_the_end(stream)
        await stream.send_all(question.upper())
        await stream.send_eof()
        await stream.aclose()

    async with application(answer_after_the_question) as port, inbound_door(payments(pki, port), port) as door:
        caller = await call(door, pki.svid("shop/checkout"), pki.bundle)
        await caller.send_all(b"half a close")
        await caller.send_eof()
        assert await read_to_the_end(caller) == b"HALF A CLOSE"
        await caller.aclose()


async def test_the_application_may_end_first(pki: Pki) -> None:
    heard = b""

    async def listen_after_the_end(stream: PlainStream) -> None:
        nonlocal heard
        await stream.send_all(b"that is all from me")
        await stream.send_eof()
        heard = await read_to_the_end(stream)

    async with application(listen_after_the_end) as port, inbound_door(node := payments(pki, port), port) as door:
        caller = await call(door, pki.svid("shop/checkout"), pki.bundle)
        assert await read_to_the_end(caller) == b"that is all from me"
        await caller.send_all(b"but not from me")
        await caller.aclose()
        record = await node.record()
    assert heard == b"but not from me"
    assert record.reason == Reason.ALLOWED_BY_POLICY


async def test_a_caller_who_vanishes_is_a_reset_to_the_application(pki: Pki) -> None:
    ended: list[str] = []

    async def notice(stream: PlainStream) -> None:
        try:
            await read_to_the_end(stream)
            ended.append("in order")
        except trio.BrokenResourceError:
            ended.append("by reset")

    async with application(notice) as port, inbound_door(node := payments(pki, port), port) as door:
        caller = await call(door, pki.svid("shop/checkout"), pki.bundle)
        await caller.send_all(b"half a mess")
        await trio.sleep(0.05)
        caller._socket.shutdown(socket.SHUT_WR)  # the end of TCP without the end of TLS
        record = await node.record()
        caller.abort()
        while not ended:
            await trio.sleep(0.01)
    assert ended == ["by reset"]
    assert record.allowed
    assert record.reason == Reason.DOWNSTREAM_RESET
    assert record.bytes_in == 11


async def test_an_application_that_vanishes_is_a_reset_to_the_caller(pki: Pki) -> None:
    async def vanish(stream: PlainStream) -> None:
        await stream.send_all(b"half a mess")
        await stream.receive_some()
        stream.abort()

    async with application(vanish) as port, inbound_door(node := payments(pki, port), port) as door:
        caller = await call(door, pki.svid("shop/checkout"), pki.bundle)
        assert await caller.receive_some() == b"half a mess"
        await caller.send_all(b"go")
        await expect_reset(caller)
        record = await node.record()
    assert record.reason == Reason.UPSTREAM_RESET


async def test_an_application_that_does_not_listen(pki: Pki) -> None:
    port = free_port()
    async with inbound_door(node := payments(pki, port), port) as door:
        await expect_reset(await call(door, pki.svid("shop/checkout"), pki.bundle))
        record = await node.record()
    assert record.allowed
    assert record.reason == Reason.UPSTREAM_REFUSED


async def test_silence_for_too_long(pki: Pki, mock_clock: trio.testing.MockClock) -> None:
    """Time passes only where the test says so: a machine that stands still makes no silence."""
    async with application(echo) as port:
        node = payments(pki, port, limits=Limits(tcp_idle_timeout=60))
        async with inbound_door(node, port) as door:
            caller = await call(door, pki.svid("shop/checkout"), pki.bundle)
            for silence in (40, 40, 40, 60):
                await caller.send_all(b"x")
                assert await caller.receive_some() == b"x", "bytes keep it alive"
                await trio.testing.wait_all_tasks_blocked()
                mock_clock.jump(silence)
            await expect_reset(caller)
            mock_clock.rate = 1.0
            record = await node.record()
    assert record.reason == Reason.IDLE_TIMEOUT


async def test_a_policy_that_is_taken_away_ends_its_connections_only(pki: Pki) -> None:
    async with application(echo) as port:
        node = Node.make(pki, "shop/payments", policies=allowing(port, "checkout", "frontend"))
        async with inbound_door(node, port) as door:
            checkout = await call(door, pki.svid("shop/checkout"), pki.bundle)
            frontend = await call(door, pki.svid("shop/frontend"), pki.bundle)
            for caller in (checkout, frontend):
                await caller.send_all(b"x")
                assert await caller.receive_some() == b"x"
            assert await node.push(policies=allowing(port, "frontend")) == 1
            await expect_reset(checkout)
            await frontend.send_all(b"still")
            assert await frontend.receive_some() == b"still"
            (record,) = node.written
            frontend.abort()
    assert record.source == str(pki.id("shop/checkout"))
    assert record.reason == Reason.POLICY_CHANGED
    assert node.counted("connections_closed_total", direction="inbound", reason="policy_changed") == 1


@pytest.mark.parametrize("by", ["identity", "serial"])
async def test_a_ban_ends_a_live_connection(by: str, pki: Pki) -> None:
    svid = pki.svid("shop/checkout")
    ban = str(svid.id) if by == "identity" else f"serial:{svid.serial}"
    async with application(echo) as port, inbound_door(node := payments(pki, port), port) as door:
        caller = await call(door, svid, pki.bundle)
        await caller.send_all(b"x")
        assert await caller.receive_some() == b"x"
        assert await node.push(policies=allowing(port, "checkout"), bans=[ban]) == 1
        await expect_reset(caller)
        assert (await node.record()).reason == Reason.BANNED


async def test_a_root_that_leaves_the_bundle_ends_live_connections(pki: Pki, partner: Pki) -> None:
    async with application(echo) as port:
        policy = allowing(port, "checkout")[0]
        policy["spec"]["from"] = [{"identity": str(partner.id("shop/checkout"))}]
        node = Node.make(pki, "shop/payments", bundle=pki.bundle_with(partner), policies=[policy])
        async with inbound_door(node, port) as door:
            caller = await call(door, partner.svid("shop/checkout"), pki.bundle)
            await caller.send_all(b"x")
            assert await caller.receive_some() == b"x"
            node.bundle = pki.bundle
            assert await node.push(policies=[policy]) == 1
            await expect_reset(caller)
            assert (await node.record()).reason == Reason.UNKNOWN_ISSUER


async def test_a_connection_outlives_its_certificate_only_while_the_control_link_is_fresh(pki: Pki) -> None:
    async with application(echo) as port, inbound_door(node := payments(pki, port), port) as door:
        caller = await call(door, pki.svid("shop/checkout", lifetime=timedelta(minutes=5)), pki.bundle)
        await caller.send_all(b"x")
        assert await caller.receive_some() == b"x"
        node.now.append(pki.now + timedelta(minutes=6))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.proxy.live.watch, node.proxy.mesh, 0.05)
            node.proxy.mesh.heard()
            await trio.sleep(0.2)
            await caller.send_all(b"y")
            assert await caller.receive_some() == b"y"
            node.proxy.mesh._heard = None  # as after fresh_seconds of silence
            await expect_reset(caller)
            nursery.cancel_scope.cancel()
        assert (await node.record()).reason == Reason.CERTIFICATE_RETIRED


async def test_a_renewed_certificate_serves_new_callers_and_keeps_old_connections(pki: Pki) -> None:
    async with application(echo) as port, inbound_door(node := payments(pki, port), port) as door:
        old = await call(door, pki.svid("shop/checkout"), pki.bundle)
        await old.send_all(b"x")
        assert await old.receive_some() == b"x"
        renewed = pki.svid("shop/payments")
        node.proxy.mesh.replace_svid(renewed)
        new = await call(door, pki.svid("shop/checkout"), pki.bundle)
        shown = new.connection.get_peer_certificate(as_cryptography=True)
        assert shown is not None
        assert shown.serial_number == renewed.serial
        for caller in (old, new):
            await caller.send_all(b"y")
            assert await caller.receive_some() == b"y"
            caller.abort()


async def test_a_policy_that_is_taken_away_while_the_application_is_being_dialled(pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as busy:
        port = busy.getsockname()[1]
        async with trio.open_nursery() as nursery:
            for _ in range(4):  # its backlog is full: the dial neither succeeds nor fails
                nursery.start_soon(hold_a_connection, port)
            await trio.sleep(0.05)
            async with inbound_door(node := payments(pki, port), port) as door:
                caller = await call(door, pki.svid("shop/checkout"), pki.bundle)
                while node.counted("decisions_total", **decided(pki, "checkout", Reason.ALLOWED_BY_POLICY)) < 1:
                    await trio.sleep(0.01)
                assert await node.push() == 1
                await expect_reset(caller)
                assert (await node.record()).reason == Reason.POLICY_CHANGED
            nursery.cancel_scope.cancel()


async def hold_a_connection(port: int) -> None:
    with trio.socket.socket() as sock:
        await sock.connect(("127.0.0.1", port))
        await trio.sleep_forever()


async def test_a_ban_ends_an_http_connection_that_idles_between_requests(pki: Pki) -> None:
    async with inbound_door(node := payments(pki, 1), 1, protocol="http") as door:
        caller = await call(door, pki.svid("shop/checkout"), pki.bundle, alpn=[ALPN_HTTP])
        while not len(node.proxy.live):
            await trio.sleep(0.01)
        assert await node.push(bans=[str(pki.id("shop/checkout"))]) == 1
        with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):
            assert await caller.receive_some() == b""
        caller.abort()
    assert node.counted("connections_closed_total", direction="inbound", reason="banned") == 1


async def test_a_fault_of_our_own_costs_one_connection_and_is_counted(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    async with application(echo) as port, inbound_door(node := payments(pki, port), port) as door:
        with monkeypatch.context() as patch:
            patch.setattr("sidecar.inbound.decide", fail)
            await expect_reset(await call(door, pki.svid("shop/checkout"), pki.bundle))
            assert (await node.record()).reason == Reason.INTERNAL_ERROR
        assert node.counted("unexpected_errors_total", where="inbound") == 1
        caller = await call(door, pki.svid("shop/checkout"), pki.bundle)
        await caller.send_all(b"x")
        assert await caller.receive_some() == b"x"
        caller.abort()


# Much, and slowly


async def test_64_mib_arrive_intact_in_bounded_memory(pki: Pki) -> None:
    chunk = os.urandom(MIB)
    sent, arrived = hashlib.sha256(), hashlib.sha256()

    async def swallow(stream: PlainStream) -> None:
        while data := await stream.receive_some():
            arrived.update(data)
        await stream.send_all(arrived.digest())
        await stream.send_eof()
        await stream.aclose()

    async with application(swallow) as port, inbound_door(node := payments(pki, port), port) as door:
        caller = await call(door, pki.svid("shop/checkout"), pki.bundle)
        gc.collect()
        tracemalloc.start(1)
        for _ in range(64):
            sent.update(chunk)
            await caller.send_all(chunk)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        await caller.send_eof()
        assert await read_to_the_end(caller) == sent.digest()
        await caller.aclose()
        record = await node.record()
    assert peak < 2 * MIB
    assert record.bytes_in == 64 * MIB


async def test_a_slow_application_stops_its_callers_sending(pki: Pki) -> None:
    async def never_read(_stream: PlainStream) -> None:
        await trio.sleep_forever()

    async with application(never_read) as port, inbound_door(payments(pki, port), port) as door:
        caller = await call(door, pki.svid("shop/checkout"), pki.bundle)
        taken = 0
        with trio.move_on_after(1) as patience:
            while taken < 256 * MIB:
                await caller.send_all(bytes(64 * 1024))
                taken += 64 * 1024
        assert patience.cancelled_caught, "everything was taken, and nobody reads"
        caller.abort()


# The end of the door


async def test_draining_accepts_no_more_and_lets_what_is_open_end(pki: Pki) -> None:
    node = None
    async with application(echo) as port:
        node = payments(pki, port)
        async with inbound_door(node, port) as door:
            caller = await call(door, pki.svid("shop/checkout"), pki.bundle)
            await caller.send_all(b"x")
            assert await caller.receive_some() == b"x"
            node.proxy.draining.set()
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(OSError, match=str(door)):
                await dial("127.0.0.1", door, deadline=1)
            await caller.send_all(b"y")
            assert await caller.receive_some() == b"y"
            await caller.send_eof()
            assert await read_to_the_end(caller) == b""
            await caller.aclose()
            assert (await node.record()).allowed


async def test_draining_waits_for_nobody_who_has_not_said_anything(pki: Pki) -> None:
    limits = Limits(handshake_timeout=3600, keep_alive_timeout=3600)
    async with application(echo) as port:
        node = payments(pki, port, limits=limits)
        async with inbound_door(node, port, protocol="auto") as door:
            stranger = await dial("127.0.0.1", door, deadline=5)
            silent = await call(door, pki.svid("shop/checkout"), pki.bundle)
            with trio.fail_after(PATIENCE):
                while not (node.proxy.budget.taken == 1 and len(node.proxy.live) == 1):
                    await trio.sleep(0.005)
            node.proxy.draining.set()
            node.proxy.budget.close()
            await expect_reset(stranger)
            await expect_reset(silent)
            assert [record.reason for record in node.written] == [Reason.DRAINING] * 2


async def test_a_cancelled_door_still_writes_its_records(pki: Pki) -> None:
    async with application(echo) as port:
        node = payments(pki, port)
        async with inbound_door(node, port) as door:
            caller = await call(door, pki.svid("shop/checkout"), pki.bundle)
            await caller.send_all(b"x")
            assert await caller.receive_some() == b"x"
        await expect_reset(caller)
        assert (await node.record()).reason == Reason.DRAINING


async def test_no_callers_certificate_is_believed_because_openssl_resumed_a_session(pki: Pki) -> None:
    async with application(echo) as port, inbound_door(node := payments(pki, port), port) as door:
        context = client_context(pki.svid("shop/checkout"), pki.bundle, [ALPN_TCP])
        first = await call_with(door, context)
        await first.send_all(b"x")
        assert await first.receive_some() == b"x"
        session = first.connection.get_session()
        first.abort()
        await node.record()
        plain = await dial("127.0.0.1", door, deadline=5)
        again = TlsStream(plain.socket, context, server_side=False)
        if session is not None:
            again.connection.set_session(session)
        await again.do_handshake()
        presented = again.connection.get_peer_cert_chain()
        assert presented, "a resumed session shows no certificate"
        again.abort()
