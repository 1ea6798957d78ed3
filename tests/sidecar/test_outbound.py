"""The outbound door with raw TCP, mostly before a real inbound door: whom it reaches, and whom it will not take."""

import stat
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
import trio

from certs.svid import Svid
from certs.tls import server_context
from examples.demo.ports import free_port
from mesh.policy import Reason
from mesh.wire import Endpoint
from sidecar.settings import Limits
from sidecar.view import ALPN_TCP
from tests.support.doors import Node, application, echo, endpoint, inbound_door, outbound_door, read_to_the_end
from tests.support.patience import PATIENCE
from tests.support.pki import Pki
from tests.support.policies import allow_policy
from transport import PlainStream, TlsStream, dial


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


class Pair:
    """An outbound door of shop/checkout, an inbound door of shop/payments behind it, an echo behind that."""

    def __init__(self, pki: Pki) -> None:
        self.pki = pki
        self.stack = AsyncExitStack()

    async def __aenter__(self) -> "Pair":
        enter = self.stack.enter_async_context
        port = await enter(application(echo))
        policy = allow_policy("checkout", "payments", port, http=False)
        self.payments = Node.make(self.pki, "shop/payments", policies=[policy])
        mesh_port = await enter(inbound_door(self.payments, port))
        self.checkout = Node.make(self.pki, "shop/checkout", endpoints=[endpoint(self.pki, "shop/payments", mesh_port)])
        self.port = await enter(outbound_door(self.checkout, "shop/payments"))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stack.__aexit__(*exc_info)


async def expect_reset(port: int, first: bytes = b"x") -> None:
    """Call the local port and be cut off."""
    caller = await dial("127.0.0.1", port, deadline=5)

    async def speak() -> None:
        await caller.send_all(first)  # which may be cut off already
        await read_to_the_end(caller)

    with pytest.raises(trio.BrokenResourceError), trio.fail_after(PATIENCE):
        await speak()
    caller.abort()


class Impostor:
    """A TLS server that is no sidecar; it counts the bytes that it was sent, and says what it was told to say."""

    def __init__(self, svid: Svid, pki: Pki, alpn: list[bytes] | None = None) -> None:
        self.context = server_context(svid, pki.bundle, [ALPN_TCP] if alpn is None else alpn)
        self.heard = 0

    async def __call__(self, plain: PlainStream) -> None:
        stream = TlsStream(plain.socket, self.context, server_side=True)
        try:
            await stream.do_handshake()
            while data := await stream.receive_some():
                self.heard += len(data)
        finally:
            stream.abort()


# Whom it reaches


async def test_both_sidecars_leave_one_record_each(pki: Pki) -> None:
    async with Pair(pki) as pair:
        caller = await dial("127.0.0.1", pair.port, deadline=5)
        await caller.send_all(b"hello")
        await caller.send_eof()
        assert await read_to_the_end(caller) == b"hello"
        await caller.aclose()
        there, here = await pair.payments.record(), await pair.checkout.record()
    assert there.allowed
    assert here.allowed
    assert (here.direction, here.protocol) == ("outbound", "tcp")
    assert here.source == there.source == str(pki.id("shop/checkout"))
    assert here.destination == there.destination == str(pki.id("shop/payments"))
    assert (here.bytes_in, here.bytes_out) == (there.bytes_in, there.bytes_out) == (5, 5)
    assert here.reason == ""
    assert not pair.checkout.proxy.loads._calls


async def test_a_refusal_over_there_is_a_reset_here(pki: Pki) -> None:
    async with Pair(pki) as pair:
        pair.payments.learn()
        await expect_reset(pair.port)
        assert (await pair.payments.record()).reason == Reason.NO_POLICY_FOR_WORKLOAD
        assert (await pair.checkout.record()).reason == Reason.UPSTREAM_RESET


async def test_a_server_that_speaks_first_is_heard_without_a_word_from_the_caller(pki: Pki) -> None:
    async def greet(stream: PlainStream) -> None:
        await stream.send_all(b"220 ready\r\n")
        await stream.receive_some()

    async with application(greet) as port:
        payments = Node.make(pki, "shop/payments", policies=[allow_policy("checkout", "payments", port, http=False)])
        async with inbound_door(payments, port) as mesh_port:
            checkout = Node.make(pki, "shop/checkout", endpoints=[endpoint(pki, "shop/payments", mesh_port)])
            async with outbound_door(checkout, "shop/payments") as local:
                caller = await dial("127.0.0.1", local, deadline=5)
                with trio.fail_after(PATIENCE):
                    assert await caller.receive_some() == b"220 ready\r\n"
                caller.abort()


async def test_a_dead_endpoint_costs_only_another_dial(pki: Pki) -> None:
    async with Pair(pki) as pair:
        (alive,) = pair.checkout.proxy.mesh.view.endpoints_of(pki.id("shop/payments").workload, 8080)
        dead = [endpoint(pki, "shop/payments", free_port()) for _ in range(2)]
        pair.checkout.learn(endpoints=[*dead, alive])
        for _ in range(8):
            caller = await dial("127.0.0.1", pair.port, deadline=5)
            await caller.send_all(b"x")
            assert await caller.receive_some() == b"x"
            caller.abort()


async def test_no_more_dials_than_the_setting_allows(pki: Pki) -> None:
    endpoints = [endpoint(pki, "shop/payments", free_port()) for _ in range(5)]
    node = Node.make(pki, "shop/checkout", endpoints=endpoints, limits=Limits(dial_attempts=2))
    async with outbound_door(node, "shop/payments") as local:
        await expect_reset(local)
        assert (await node.record()).reason == Reason.UPSTREAM_REFUSED


# Whom it will not take


async def impostor_reason(pki: Pki, impostor: Impostor, *, identity: str = "", **content: object) -> Reason:
    """Put an impostor where payments should be; nothing of the caller's may reach it. Returns the recorded reason."""
    async with application(impostor) as port:
        wanted = endpoint(pki, "shop/payments", port, identity=identity)
        node = Node.make(pki, "shop/checkout", endpoints=[wanted], **content)
        async with outbound_door(node, "shop/payments") as local:
            await expect_reset(local, b"secret")
            record = await node.record()
    assert impostor.heard == 0
    assert not record.allowed
    assert (record.bytes_in, record.bytes_out) == (0, 0)
    return Reason(record.reason)


async def test_a_neighbour_with_another_identity(pki: Pki) -> None:
    neighbour = Impostor(pki.svid("shop/frontend"), pki)
    assert await impostor_reason(pki, neighbour) == Reason.WRONG_SERVER_IDENTITY


async def test_the_workloads_own_identity_where_another_one_is_registered(pki: Pki) -> None:
    payments = Impostor(pki.svid("shop/payments"), pki)
    assert await impostor_reason(pki, payments, identity=str(pki.id("shop/other"))) == Reason.WRONG_SERVER_IDENTITY


async def test_a_server_of_a_strangers_ca(pki: Pki) -> None:
    stranger = Impostor(Pki(now=pki.now).svid("shop/payments"), pki)
    assert await impostor_reason(pki, stranger) == Reason.UNKNOWN_ISSUER


async def test_a_server_whose_certificate_ran_out(pki: Pki) -> None:
    assert await impostor_reason(pki, Impostor(pki.expired(), pki)) == Reason.CERTIFICATE_EXPIRED


async def test_a_server_with_two_identities(pki: Pki) -> None:
    assert await impostor_reason(pki, Impostor(pki.two_uri_sans(), pki)) == Reason.SEVERAL_URI_SANS


async def test_a_server_that_agrees_on_no_protocol(pki: Pki) -> None:
    silent = Impostor(pki.svid("shop/payments"), pki, alpn=[b"h2"])
    assert await impostor_reason(pki, silent) == Reason.ALPN_MISMATCH


async def test_a_banned_server(pki: Pki) -> None:
    banned = Impostor(pki.svid("shop/payments"), pki)
    assert await impostor_reason(pki, banned, bans=[str(pki.id("shop/payments"))]) == Reason.BANNED


async def test_a_server_that_speaks_no_tls(pki: Pki) -> None:
    async def talk(stream: PlainStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await stream.receive_some()

    async with application(talk) as port:
        node = Node.make(pki, "shop/checkout", endpoints=[endpoint(pki, "shop/payments", port)])
        async with outbound_door(node, "shop/payments") as local:
            await expect_reset(local)
            assert (await node.record()).reason == Reason.TLS_FAILED


async def test_a_server_that_never_finishes_the_handshake(pki: Pki) -> None:
    async def wait(stream: PlainStream) -> None:
        await trio.sleep_forever()

    async with application(wait) as port:
        wanted = [endpoint(pki, "shop/payments", port)]
        node = Node.make(pki, "shop/checkout", endpoints=wanted, limits=Limits(handshake_timeout=0.1))
        async with outbound_door(node, "shop/payments") as local:
            await expect_reset(local)
            assert (await node.record()).reason == Reason.UPSTREAM_TIMEOUT


@pytest.mark.parametrize(
    ("content", "reason"),
    [({"ready": False}, Reason.NO_SNAPSHOT), ({}, Reason.NO_ENDPOINT)],
)
async def test_nobody_to_call(content: dict, reason: Reason, pki: Pki) -> None:
    node = Node.make(pki, "shop/checkout", **content)
    async with outbound_door(node, "shop/payments") as local:
        await expect_reset(local)
        assert (await node.record()).reason == reason


async def test_the_own_certificate_ran_out(pki: Pki) -> None:
    async with Pair(pki) as pair:
        pair.checkout.now.append(pki.now + timedelta(hours=2))
        await expect_reset(pair.port)
        assert (await pair.checkout.record()).reason == Reason.OWN_CERTIFICATE_EXPIRED
        assert pair.checkout.counted("refused_total", direction="outbound", reason="own_certificate_expired") == 1


# What ends it


async def test_a_ban_of_the_server_ends_a_live_connection(pki: Pki) -> None:
    async with Pair(pki) as pair:
        caller = await dial("127.0.0.1", pair.port, deadline=5)
        await caller.send_all(b"x")
        assert await caller.receive_some() == b"x"
        assert await pair.checkout.push(bans=[str(pki.id("shop/payments"))]) == 1
        with pytest.raises(trio.BrokenResourceError):
            await caller.receive_some()
        caller.abort()
        assert (await pair.checkout.record()).reason == Reason.BANNED


async def test_a_reset_travels_through_both_sidecars(pki: Pki) -> None:
    async with Pair(pki) as pair:
        caller = await dial("127.0.0.1", pair.port, deadline=5)
        await caller.send_all(b"x")
        assert await caller.receive_some() == b"x"
        caller.abort()
        assert (await pair.checkout.record()).reason == Reason.DOWNSTREAM_RESET
        assert (await pair.payments.record()).reason == Reason.DOWNSTREAM_RESET


# The Unix socket


async def test_a_unix_socket_only_its_owner_can_open(pki: Pki, short_directory: Path) -> None:
    path = short_directory / "payments.sock"
    async with Pair(pki) as pair:
        async with outbound_door(pair.checkout, "shop/payments", path=path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            caller = await trio.open_unix_socket(str(path))
            await caller.send_all(b"hello")
            assert await caller.receive_some() == b"hello"
            await caller.aclose()
        assert not path.exists()


async def test_endpoints_that_disagree_on_the_protocol_are_asked_by_the_first_bytes(pki: Pki) -> None:
    async with Pair(pki) as pair:
        (tcp,) = pair.checkout.proxy.mesh.view.endpoints_of(pki.id("shop/payments").workload, 8080)
        nowhere = Endpoint("shop/payments", 8080, "127.0.0.1", free_port(), "http", tcp.identity)
        pair.checkout.learn(endpoints=[tcp, nowhere])
        caller = await dial("127.0.0.1", pair.port, deadline=5)
        await caller.send_all(b"\x00raw")
        assert await caller.receive_some() == b"\x00raw"
        caller.abort()
