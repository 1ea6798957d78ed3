"""Laws 6 to 10: whose call it is, where it may go, and for how long that holds."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import pytest
import trio

from certs.csr import build_csr
from certs.keys import new_key
from certs.svid import Svid
from certs.tls import client_context
from control_plane.settings import Lifetimes
from control_plane.state import State
from mesh.policy import Reason
from mesh.wire import Certificate, CertificateRequest, Nack
from sidecar import table
from sidecar.inbound import serve_inbound
from sidecar.loading import SettingsFault, load
from sidecar.settings import Address, Inbound
from sidecar.view import ALPN_HTTP, ALPN_TCP
from tests.laws.conftest import Shop, eventually, get, heard, policy, said
from tests.support.doors import Node, call_with
from tests.support.patience import PATIENCE
from tests.support.pki import HOUR, Pki
from tests.support.plane import Plane
from transport import TlsFailed, TlsStream, dial


async def test_law_06_neither_host_nor_sni_nor_the_dialled_port_decides(shop: Shop, pki: Pki) -> None:
    await shop.open(policies=[])
    claimed = policy(9999)  # payments, on the port that Host names
    stock = policy(shop.app_port, to={"workload": "stock"})  # and who Host and SNI name, on the real port
    mesh_port = policy(shop.mesh_port)  # and payments on the port that was dialled, a sidecar's
    shop.payments.learn(policies=[claimed, mesh_port, stock])
    plain = await dial("127.0.0.1", shop.mesh_port, deadline=PATIENCE)
    stream = TlsStream(plain.socket, client_context(pki.svid(), pki.bundle, [ALPN_HTTP]), server_side=False)
    stream.connection.set_tlsext_host_name(b"stock.shop")
    await stream.do_handshake()
    answer = await said(stream, b"GET http://stock.shop:9999/ HTTP/1.1\r\nHost: stock.shop:9999\r\n\r\n")
    stream.abort()
    assert b"403" in answer.split(b"\r\n")[0]
    assert shop.heads == []
    record = shop.payments.written[0]
    assert (record.destination, record.port) == (str(pki.id("shop/payments")), shop.app_port)


@asynccontextmanager
async def door_of(node: Node, inbound: Inbound) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(serve_inbound, inbound, node.proxy))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "0.0.0.0", "LOCALHOST", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("protocol", ["http", "tcp"])
async def test_law_07_inbound_never_leads_to_a_listener_of_our_own(shop: Shop, host: str, protocol: str) -> None:
    """Where the application's ports are declared; tests/namespaces has what is redirected."""
    await shop.open()
    ours = Inbound(Address("127.0.0.1", 0), Address(host, shop.port), protocol, known_as=shop.app_port)
    allowing = policy(shop.app_port, tcp=protocol == "tcp", to={"workload": "checkout"})
    shop.checkout.learn(policies=[allowing])
    door = await shop.enter(door_of(shop.checkout, ours))
    alpn = ALPN_HTTP if protocol == "http" else ALPN_TCP
    caller = await call_with(door, client_context(shop.pki.svid(), shop.pki.bundle, [alpn]))
    await said(caller, get("/"))
    caller.abort()
    await eventually(lambda: any(record.reason == Reason.UPSTREAM_REFUSED for record in shop.checkout.written))
    assert not any(record.allowed for record in shop.checkout.written if record.direction == "outbound")
    assert shop.heads == []


@pytest.mark.parametrize(("listener", "answers"), [("::", True), ("127.0.0.2", True), ("0.0.0.0", False)])
async def test_law_07_an_application_on_the_same_port_of_another_address_is_none(
    shop: Shop, listener: str, answers: bool
) -> None:
    await shop.open()
    shop.payments.proxy.listening.append(Address(listener, shop.app_port))
    assert (b"200 OK" in await shop.get("/", straight=True)) is answers


def test_law_07_a_setting_that_leads_to_ourselves_is_refused_at_the_start() -> None:
    given = {"workload": ["shop/a"], "control_plane": ["127.0.0.1:1"], "bundle": ["b"], "token_file": ["t"]}
    with pytest.raises(SettingsFault, match="is a listener of this sidecar"):
        load({**given, "inbound": ["0.0.0.0:8443=localhost:15020/http"]}, {}, {})


class TestLaw08:
    @pytest.fixture
    def lifetimes(self) -> Lifetimes:
        return Lifetimes(attestation=timedelta(minutes=30))

    async def test_law_08_a_token_is_hashed_bound_to_one_key_and_its_attestation_ends(
        self, plane: Plane, state: State
    ) -> None:
        token, key = await plane.token(), new_key()
        files = [path.read_bytes() for path in state.path.iterdir() if path.is_file()]
        assert not any(token.encode() in content or token[4:].encode() in content for content in files)
        caller = await plane.link()
        first = await caller.ask(CertificateRequest(build_csr(key), token))
        again = await caller.ask(CertificateRequest(build_csr(key), token))
        assert isinstance(first, Certificate)
        assert isinstance(again, Certificate), "an answer that was lost can be asked for again"
        other = await caller.ask(CertificateRequest(build_csr(new_key()), token))
        assert isinstance(other, Nack)
        assert other.code == "token_used"
        plane.clock.offset = timedelta(minutes=20)
        renewed = await (await plane.link(Svid.build(key, first.chain))).ask(CertificateRequest(build_csr(key)))
        assert isinstance(renewed, Certificate)
        plane.clock.offset = timedelta(minutes=31)  # since the token: a renewal proves nothing anew
        late = await (await plane.link(Svid.build(key, renewed.chain))).ask(CertificateRequest(build_csr(new_key())))
        assert isinstance(late, Nack)
        assert late.code == "attestation_too_old"

    def test_law_08_no_flag_or_variable_takes_a_token_itself(self) -> None:
        assert [row.flag for row in table.ROWS if "token" in row.name] == ["--token-file"]


async def test_law_09_a_finished_handshake_is_looked_at_again(shop: Shop, pki: Pki) -> None:
    await shop.open()
    partner = Pki("partner.example", now=pki.now)
    shop.payments.bundle = pki.bundle_with(partner)
    shop.payments.learn(policies=[policy(shop.app_port)])
    forged = partner.with_uri(str(pki.id("shop/checkout")))  # our name, by a root that we trust for its own names only
    for svid, alpn, reason in (
        (forged, ALPN_HTTP, Reason.OTHER_TRUST_DOMAIN),
        (pki.expired(), ALPN_HTTP, Reason.CERTIFICATE_EXPIRED),
        (pki.two_uri_sans(), ALPN_HTTP, Reason.SEVERAL_URI_SANS),
        (pki.svid(), b"http/1.1", Reason.ALPN_MISMATCH),
        (None, ALPN_HTTP, Reason.CERTIFICATE_MISSING),
    ):
        shop.payments.written.clear()
        try:
            caller = await call_with(shop.mesh_port, client_context(svid, pki.bundle, [alpn]))
        except TlsFailed:
            pass  # some are refused within the handshake already
        else:
            assert await said(caller, get("/")) == b"<reset>", reason
            caller.abort()
        await eventually(lambda: shop.payments.written)
        assert shop.payments.written[0].reason == reason
    assert shop.heads == []


@pytest.mark.parametrize("why", [Reason.BANNED, Reason.UNKNOWN_ISSUER])
async def test_law_10_a_snapshot_with_a_ban_or_without_a_root_ends_what_is_open(
    shop: Shop, pki: Pki, why: Reason
) -> None:
    await shop.open(protocol="tcp")
    allowing = [policy(shop.app_port, tcp=True)]
    shop.payments.learn(policies=allowing)
    caller = await call_with(shop.mesh_port, client_context(pki.svid(), pki.bundle, [ALPN_TCP]))
    await caller.send_all(get("/"))
    await heard(caller, b"ok")
    if why is Reason.UNKNOWN_ISSUER:
        shop.payments.bundle = Pki(now=pki.now).bundle
    bans = [str(pki.id("shop/checkout"))] if why is Reason.BANNED else []
    assert await shop.payments.push(policies=allowing, bans=bans) == 1
    assert await said(caller, b"") == b"<reset>"
    assert (await shop.payments.record()).reason == why
    caller.abort()


async def test_law_10_a_certificate_renewed_meanwhile_does_not_prolong_a_connection(shop: Shop, pki: Pki) -> None:
    """Shown in the handshake was the old one, whose end is the connection's."""
    await shop.open(protocol="auto", svid=pki.svid("shop/payments", lifetime=HOUR))
    renewed, patient = (pki.svid(workload, lifetime=4 * HOUR) for workload in ("shop/payments", "shop/checkout"))
    context = client_context(patient, pki.bundle, [ALPN_HTTP])
    in_its_handshake = await dial("127.0.0.1", shop.mesh_port, deadline=PATIENCE)
    undecided = await call_with(shop.mesh_port, context)
    await eventually(lambda: shop.payments.proxy.budget.taken == 1 and len(shop.payments.proxy.live) == 1)
    shop.payments.proxy.mesh.replace_svid(renewed)
    late = TlsStream(in_its_handshake.socket, context, server_side=False)
    await late.do_handshake()
    shop.payments.now.append(pki.now + 2 * HOUR)
    for caller in (undecided, late):
        assert b'"certificate_retired"' in await said(caller, get("/"))
        caller.abort()
    fresh = await call_with(shop.mesh_port, context)
    assert (await said(fresh, get("/"))).endswith(b"ok")
    fresh.abort()


async def test_law_10_an_idle_connection_is_not_used_beyond_its_servers_certificate(shop: Shop, pki: Pki) -> None:
    await shop.open(svid=pki.svid("shop/payments", lifetime=HOUR))
    shop.checkout.proxy.mesh.replace_svid(pki.svid("shop/checkout", lifetime=4 * HOUR))
    assert (await shop.get("/")).endswith(b"ok")
    shop.payments.proxy.mesh.replace_svid(pki.svid("shop/payments", lifetime=4 * HOUR))
    shop.checkout.now.append(pki.now + 2 * HOUR)
    assert (await shop.get("/")).endswith(b"ok")
    assert shop.payments.counted("connections_opened_total", direction="inbound") == 2


@pytest.mark.parametrize("whose", ["shop/checkout", "shop/payments"])
async def test_law_10_a_stream_into_the_mesh_ends_with_the_earlier_certificate(
    shop: Shop, pki: Pki, nursery: trio.Nursery, whose: str
) -> None:
    """Once the control link is silent, as it is here from the beginning."""
    lives = {"shop/checkout": 4 * HOUR, "shop/payments": 4 * HOUR, whose: HOUR}
    await shop.open(protocol="tcp", svid=pki.svid("shop/payments", lifetime=lives["shop/payments"]))
    shop.payments.learn(policies=[policy(shop.app_port, tcp=True)])
    shop.checkout.learn(endpoints=[shop.endpoint(protocol="tcp")])
    node = shop.checkout
    node.proxy.mesh.replace_svid(pki.svid("shop/checkout", lifetime=lives["shop/checkout"]))
    caller = await shop.caller()
    await caller.send_all(get("/"))
    await heard(caller, b"ok")
    node.proxy.mesh.replace_svid(pki.svid("shop/checkout", lifetime=4 * HOUR))  # the connection stands on the old one
    node.now.append(pki.now + 2 * HOUR)
    nursery.start_soon(node.proxy.live.watch, node.proxy.mesh, 0.01)
    with pytest.raises(trio.BrokenResourceError), trio.fail_after(PATIENCE):
        await caller.receive_some()
    assert (await node.record()).reason == Reason.CERTIFICATE_RETIRED
