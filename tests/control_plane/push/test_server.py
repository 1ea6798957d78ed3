"""Strangers, garbage and broken clients: each costs its own connection, one line in the log and one count."""

import socket
import ssl
from collections.abc import Callable
from datetime import timedelta

import pytest
import trio
import trio.testing

from certs.csr import build_csr
from certs.keys import new_key
from certs.svid import Svid
from control_plane.settings import Limits
from mesh.wire import (
    ALPN,
    MAX_FRAME_TO_CONTROL_PLANE,
    Ack,
    Announce,
    Certificate,
    CertificateRequest,
    Hello,
    Nack,
    Ping,
    Pong,
    encode,
)
from tests.support.patience import PATIENCE
from tests.support.pki import Pki
from tests.support.plane import DOMAIN, Plane

CHECKOUT = str(DOMAIN.workload("shop", "checkout"))


async def refused(plane: Plane, reason: str) -> None:
    """Wait until one connection was refused for this reason, and see that the next one is served."""
    await plane.until(lambda: plane.count("links_refused_total", reason=reason) == 1)
    assert plane.count("failures_total", place="push") == 0
    caller = await plane.link()
    assert await caller.ask(Ping(1)) == Pong(1)


async def ends(stream: trio.abc.ReceiveStream) -> bool:
    with trio.fail_after(PATIENCE):
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
    return True


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(64), b"\x16\x03\x01\xff\xff" + b"\x00" * 600]
)
async def test_garbage_instead_of_tls(plane: Plane, garbage: bytes) -> None:
    stream = await plane.dial()
    await stream.send_all(garbage)
    assert await ends(stream)
    await refused(plane, "not_tls" if garbage[0] != 0x16 else "tls_failed")


async def test_a_client_that_leaves_before_the_handshake(plane: Plane) -> None:
    stream = await plane.dial()
    await stream.aclose()
    await refused(plane, "left_early")


async def test_tls_1_2_is_refused(plane: Plane) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2

    def shake_hands() -> None:
        with socket.create_connection(("127.0.0.1", plane.port), PATIENCE) as sock, context.wrap_socket(sock):
            pass

    with pytest.raises(ssl.SSLError):
        await trio.to_thread.run_sync(shake_hands)
    await refused(plane, "tls_failed")


@pytest.mark.parametrize("alpn", [b"h2", b"doorward-http/1"])
async def test_another_protocol_is_refused(plane: Plane, alpn: bytes) -> None:
    svid = plane.svid_for(CHECKOUT)
    caller = await plane.connect(svid, alpn=alpn)
    assert await caller.ended()
    await refused(plane, "wrong_protocol")


async def test_a_certificate_of_another_ca_fails_the_handshake(plane: Plane) -> None:
    caller = await plane.connect(Pki(DOMAIN).svid())
    assert await caller.ended()
    await refused(plane, "unknown_issuer")


@pytest.mark.parametrize("make", [Pki.two_uri_sans, Pki.no_san, Pki.ca_leaf, Pki.expired, Pki.not_yet_valid])
async def test_a_bad_certificate_never_becomes_a_link(plane: Plane, make: Callable[[Pki], Svid]) -> None:
    caller = await plane.connect(make(plane.pki))
    assert await caller.ended()
    await plane.until(plane.refused)
    assert not plane.office.links.live()
    assert plane.count("failures_total", place="push") == 0


async def test_a_certificate_of_another_trust_domain_never_becomes_a_link(plane: Plane) -> None:
    caller = await plane.connect(Pki("partner.example").svid())
    assert await caller.ended()
    await refused(plane, "other_trust_domain")


async def test_the_reason_is_told_where_the_handshake_could_still_succeed(plane: Plane) -> None:
    svid = plane.svid_for(CHECKOUT, lifetime=timedelta(minutes=5))
    plane.clock.offset = timedelta(minutes=10)
    caller = await plane.connect(svid)
    refusal = await caller.refusal()
    assert refusal.code == "certificate_expired"
    assert await caller.ended()
    await refused(plane, "certificate_expired")


@pytest.mark.parametrize("path", ["/doorward/control-plane", "/operator/ada", "/ns/shop"])
async def test_only_workloads_are_served(plane: Plane, path: str) -> None:
    caller = await plane.connect(plane.svid_for(f"spiffe://{DOMAIN}{path}"))
    assert (await caller.refusal()).code == "no_workload"
    assert await caller.ended()
    await refused(plane, "no_workload")


async def test_a_banned_identity_is_shown_out(plane: Plane) -> None:
    svid = await plane.svid("shop/checkout")
    await plane.ban(CHECKOUT)
    await plane.until(lambda: plane.office.board.picture.bans)
    caller = await plane.connect(svid)
    assert (await caller.refusal()).code == "banned"
    assert await caller.ended()


async def test_another_version_is_told_so(plane: Plane) -> None:
    caller = await plane.connect(plane.svid_for(CHECKOUT))
    await caller.greet(version=2)
    refusal = await caller.refusal()
    assert refusal.code == "version"
    assert "version 1" in refusal.message
    assert await caller.ended()
    await refused(plane, "version")


async def test_hello_comes_first(plane: Plane) -> None:
    caller = await plane.connect(plane.svid_for(CHECKOUT))
    await caller.say(Announce((), ()))
    assert isinstance(await caller.hear(), Hello)
    assert (await caller.refusal()).code == "hello_expected"
    assert await caller.ended()
    await refused(plane, "protocol")


async def test_an_instance_has_a_name(plane: Plane) -> None:
    caller = await plane.connect(plane.svid_for(CHECKOUT))
    await caller.greet(instance="")
    assert (await caller.refusal()).code == "no_instance"
    assert await caller.ended()


MALFORMED = {
    "oversized": (MAX_FRAME_TO_CONTROL_PLANE + 1).to_bytes(4, "big") + b"x" * 1000,
    "no msgpack": (5).to_bytes(4, "big") + b"\xc1\xc1\xc1\xc1\xc1",
    "no message": (1).to_bytes(4, "big") + b"\x01",
    "missing field": (10).to_bytes(4, "big") + b"\x81\xa4type\xa3Ack",
}


@pytest.mark.parametrize("frame", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_frame_ends_the_link_with_a_clear_error(
    plane: Plane, frame: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caller = await plane.link(plane.svid_for(CHECKOUT))
    await caller.stream.send_all(frame)
    refusal = await caller.refusal()
    assert refusal.code == "malformed"
    assert await caller.ended()
    await plane.until(lambda: plane.count("links_ended_total", reason="protocol") == 1)
    assert refusal.message in [record.fields.get("detail") for record in caplog.records if hasattr(record, "fields")]


@pytest.mark.parametrize("frame", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_frame_ends_a_visit_too(plane: Plane, frame: bytes) -> None:
    caller = await plane.link()
    await caller.stream.send_all(frame)
    assert (await caller.refusal()).code == "malformed"
    assert await caller.ended()
    await refused(plane, "protocol")


async def test_a_stream_that_ends_within_a_frame_is_no_clean_end(plane: Plane) -> None:
    caller = await plane.link(plane.svid_for(CHECKOUT))
    await caller.stream.send_all(encode(Ping(1))[:-1])
    await caller.stream.send_eof()
    assert (await caller.refusal()).code == "malformed"


async def test_an_unknown_message_is_skipped_and_logged(plane: Plane, caplog: pytest.LogCaptureFixture) -> None:
    caller = await plane.link(plane.svid_for(CHECKOUT))
    payload = b"\x81\xa4type\xa6Future"
    await caller.stream.send_all((len(payload).to_bytes(4, "big") + payload) * 3)
    assert await caller.ask(Ping(7)) == Pong(7)
    skipped = [record.fields for record in caplog.records if "unknown type" in record.message]
    assert [each["type"] for each in skipped] == ["Future"]
    assert plane.count("messages_total", type="Unknown") == 3


@pytest.mark.parametrize("message", [Announce((), ()), Ack("e", 1), Nack("Snapshot", "x", "x"), Pong(1)])
async def test_a_visitor_may_only_attest(plane: Plane, message: Announce | Ack | Nack | Pong) -> None:
    caller = await plane.link()
    await caller.say(message)
    assert (await caller.refusal()).code == "not_attested"
    assert await caller.ended()
    assert not plane.office.links.live()
    await refused(plane, "not_attested")


async def test_a_visitor_cannot_chat_for_ever(plane: Plane) -> None:
    caller = await plane.link()
    await caller.stream.send_all(encode(Ping(1)) * 100)
    assert await caller.ended()
    await refused(plane, "too_many_requests")


class TestBudget:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(unauthenticated_links=4, unauthenticated_links_per_address=3)

    async def test_links_without_a_certificate_are_bounded_and_others_unharmed(self, plane: Plane) -> None:
        svid = await plane.svid()
        await plane.until(lambda: plane.count("unauthenticated_links") == 0)
        for _ in range(3):
            await plane.connect()
        await plane.until(lambda: plane.count("unauthenticated_links") == 3)
        stranger = await plane.dial()
        assert await ends(stranger)
        assert plane.count("links_refused_total", reason="over_budget") == 1
        plane.streams[-2].abort()
        await plane.until(lambda: plane.count("unauthenticated_links") == 2)
        assert await (await plane.link(svid)).ask(Ping(1)) == Pong(1)

    async def test_a_link_with_a_certificate_leaves_the_budget(self, plane: Plane) -> None:
        for number in range(6):
            caller = await plane.link(plane.svid_for(CHECKOUT), instance=str(number))
            assert await caller.ask(Ping(1)) == Pong(1)
        assert len(plane.office.links) == 6
        assert plane.count("links") == 6
        assert plane.count("unauthenticated_links") == 0


class TestLinksLimit:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(links=1)

    async def test_links_are_bounded(self, plane: Plane) -> None:
        first = await plane.link(plane.svid_for(CHECKOUT), "one")
        assert await first.ask(Ping(1)) == Pong(1)
        second = await plane.connect(plane.svid_for(CHECKOUT))
        assert await second.ended()
        assert await first.ask(Ping(2)) == Pong(2)
        assert plane.count("links_refused_total", reason="too_many_links") == 1


class TestTimeouts:
    """Time goes as everywhere, and the test lets what is waited for come at once."""

    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(ping_interval=3600, silence_timeout=7200)

    @pytest.fixture
    def clock(self) -> trio.testing.MockClock:
        return trio.testing.MockClock(rate=1)

    @pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01"])
    async def test_a_handshake_that_does_not_come_to_its_end_times_out(
        self, plane: Plane, limits: Limits, clock: trio.testing.MockClock, begun: bytes
    ) -> None:
        stream = await plane.dial()
        await stream.send_all(begun)
        await plane.until(lambda: plane.count("unauthenticated_links") == 1)
        clock.jump(limits.handshake_timeout)
        assert await ends(stream)
        await refused(plane, "handshake_timeout")

    @pytest.mark.parametrize("attested", [True, False])
    async def test_a_client_that_never_says_hello_times_out(
        self, plane: Plane, limits: Limits, clock: trio.testing.MockClock, attested: bool
    ) -> None:
        caller = await plane.connect(plane.svid_for(CHECKOUT) if attested else None)
        assert isinstance(await caller.hear(), Hello), "it waits for ours by now"
        clock.jump(limits.hello_timeout)
        assert await caller.ended()
        await refused(plane, "hello_timeout")

    async def test_a_visit_ends_in_time(self, plane: Plane, limits: Limits, clock: trio.testing.MockClock) -> None:
        caller = await plane.link()
        assert await caller.ask(Ping(1)) == Pong(1)
        clock.jump(limits.unauthenticated_lifetime)
        assert await caller.ended()
        await refused(plane, "visit_timeout")

    async def test_a_link_with_a_certificate_stays(
        self, plane: Plane, limits: Limits, clock: trio.testing.MockClock
    ) -> None:
        caller = await plane.link(await plane.svid())
        assert await caller.ask(Ping(1)) == Pong(1)
        clock.jump(limits.handshake_timeout + limits.hello_timeout + limits.unauthenticated_lifetime)
        assert await caller.ask(Ping(2)) == Pong(2)


async def test_the_own_certificate_is_renewed_without_ending_links(plane: Plane) -> None:
    caller = await plane.link(plane.svid_for(CHECKOUT, lifetime=timedelta(days=2)))
    before = caller.stream.connection.get_peer_certificate(as_cryptography=True)
    plane.clock.offset = timedelta(hours=13)
    assert plane.office.authority.renew_own_if_due()
    later = await plane.connect()
    assert later.stream.connection.get_peer_certificate(as_cryptography=True) != before
    assert await caller.ask(Ping(1)) == Pong(1)


async def test_a_visitor_learns_its_certificate_and_comes_back_with_it(plane: Plane) -> None:
    visitor = await plane.link()
    answer = await visitor.ask(CertificateRequest(build_csr(new_key()), await plane.token()))
    assert isinstance(answer, Certificate)
    assert not plane.office.links.live()
    assert visitor.stream.connection.get_alpn_proto_negotiated() == ALPN
