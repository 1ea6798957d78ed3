"""Callers who prove nothing, or the wrong thing: each costs its own connection, with a reason, a line and a counter."""

from datetime import UTC, datetime, timedelta

import pytest
import trio
from OpenSSL import SSL

from certs.authority import Authority
from certs.bundle import TrustBundle
from certs.svid import Svid
from certs.tls import client_context
from examples.demo.local_mesh import LocalMesh, Sidecar, http_get, wait_for
from tests.support.applications import Application, answering, connect, exchange, get, refusals, serving
from tests.support.patience import PATIENCE
from tests.support.pki import Pki
from tests.support.policies import allow
from transport import TlsStream, dial

REQUEST = b"GET / HTTP/1.1\r\nHost: payments\r\n\r\n"
ALPN = [b"doorward-http/1"]


async def call(sidecar: Sidecar, context: SSL.Context) -> bytes:
    """Send a request straight to the sidecar's mesh port: what came back, or b"" where the connection was ended."""
    host, _, port = sidecar.inbound[8080].rpartition(":")
    plain = await dial(host, int(port), deadline=PATIENCE)
    stream = TlsStream(plain.socket, context, server_side=False)
    try:
        with trio.fail_after(PATIENCE):
            await stream.do_handshake()
            await stream.send_all(REQUEST)
            return await stream.receive_some(4096)
    except trio.BrokenResourceError:
        return b""
    finally:
        stream.abort()


async def assert_refused(sidecar: Sidecar, reason: str) -> None:
    await wait_for(lambda: refusals(sidecar, reason), what=f"a log line with {reason}")
    assert f'reason="{reason}"' in (await http_get(sidecar.observe, "/metrics"))[1]


async def guarded(mesh: LocalMesh, application: Application) -> tuple[Sidecar, Sidecar]:
    payments = await mesh.start_sidecar(
        "shop/payments", inbound=[f"127.0.0.1:0=127.0.0.1:{application.port}/http,port=8080"]
    )
    checkout = await mesh.start_sidecar("shop/checkout", outbound=["127.0.0.1:0=shop/payments:8080"])
    await allow(mesh, "checkout", "payments", 8080)
    return payments, checkout


async def test_each_false_certificate_is_refused_for_its_own_reason_and_honest_callers_go_on(mesh: LocalMesh) -> None:
    issuer = Authority.load((mesh.state / "issuer.key").read_bytes(), (mesh.state / "issuer.pem").read_bytes())
    bundle = TrustBundle.from_pem((mesh.directory / "bundle.pem").read_bytes())
    pki, stranger = Pki(now=datetime.now(UTC)), Pki(domain="elsewhere.example")
    good = pki.template()

    def signed(**changes: object) -> Svid:
        from attrs import evolve

        return pki.forge(evolve(good, **changes), by=issuer)

    minute = timedelta(minutes=1)
    false = {
        "certificate_missing": None,
        "unknown_issuer": pki.svid(),
        "other_trust_domain": stranger.svid(),
        "certificate_expired": signed(not_before=pki.now - 2 * minute, not_after=pki.now - minute),
        "certificate_not_yet_valid": signed(not_before=pki.now + 30 * minute, not_after=pki.now + 60 * minute),
        "two URI SANs: several_uri_sans": signed(uris=(*good.uris, "spiffe://cluster.local/ns/shop/sa/payments")),
        "no_uri_san": signed(uris=(), dns_names=("checkout",)),
        "malformed_id": signed(uris=("spiffe://cluster.local/ns//sa/checkout",)),
    }
    async with serving(answering) as application:
        payments, checkout = await guarded(mesh, application)
        for name, svid in false.items():
            assert await call(payments, client_context(svid, bundle, ALPN)) == b"", name
            await assert_refused(payments, name.rpartition(" ")[2])
        assert application.connections == 0
        assert (await exchange(checkout.outbound["shop/payments:8080"], get("/"))).startswith(b"HTTP/1.1 200 ")


async def test_what_is_no_tls_1_3_of_the_mesh_is_refused(mesh: LocalMesh) -> None:
    bundle = TrustBundle.from_pem((mesh.directory / "bundle.pem").read_bytes())
    issuer = Authority.load((mesh.state / "issuer.key").read_bytes(), (mesh.state / "issuer.pem").read_bytes())
    pki = Pki()
    svid = pki.forge(pki.template(), by=issuer)
    old = SSL.Context(SSL.TLS_CLIENT_METHOD)
    old.set_max_proto_version(SSL.TLS1_2_VERSION)
    async with serving(answering) as application:
        payments, checkout = await guarded(mesh, application)
        assert await exchange(payments.inbound[8080], REQUEST) in {b"", b"<reset>"}
        await assert_refused(payments, "not_tls")
        assert await call(payments, old) == b""
        await assert_refused(payments, "tls_failed")
        assert await call(payments, client_context(svid, bundle, [b"h2"])) == b""
        await assert_refused(payments, "alpn_mismatch")
        assert application.connections == 0
        assert (await exchange(checkout.outbound["shop/payments:8080"], get("/"))).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("request_bytes", "status", "reason"),
    [
        (get("/").replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"), 400, None),
        (get("/", "X-Filler: " + "x" * 70_000), 431, "head_too_large"),
        (get("/charges/%2e%2e%2fadmin"), 400, "path_refused"),
        (get("/..;/admin"), 400, "path_refused"),
        (b"CONNECT payments:443 HTTP/1.1\r\nHost: payments:443\r\n\r\n", 400, None),
        (b"GET / HTTP/1.1\nHost: payments\n\n", 400, None),
    ],
    ids=["te-and-cl", "oversized-head", "encoded-slash", "dots-with-parameter", "connect", "bare-lf"],
)
async def test_a_request_with_two_meanings_never_reaches_the_application(
    mesh: LocalMesh, request_bytes: bytes, status: int, reason: str | None
) -> None:
    async with serving(answering) as application:
        payments, checkout = await guarded(mesh, application)
        answer = await exchange(checkout.outbound["shop/payments:8080"], request_bytes)
        assert 400 <= int(answer.split()[1]) < 600
        if status == 431:
            assert answer.startswith(b"HTTP/1.1 431 ")
        assert application.heads == []
        records = await wait_for(lambda: checkout.records() + payments.records(), what="a log line")
        assert reason is None or reason in {each["reason"] for each in records}


async def test_a_spoofed_identity_header_is_replaced_by_the_proven_one(mesh: LocalMesh) -> None:
    async with serving(answering) as application:
        _, checkout = await guarded(mesh, application)
        spoofed = "URI=spiffe://cluster.local/ns/shop/sa/admin"
        request = get("/", f"x-forwarded-client-cert: {spoofed}", f"x_forwarded_client_cert: {spoofed}")
        assert (await exchange(checkout.outbound["shop/payments:8080"], request)).startswith(b"HTTP/1.1 200 ")
        head = application.heads[0].lower()
        assert b"sa/admin" not in head
        assert head.count(b"client-cert") + head.count(b"client_cert") == 1


async def swallowing(application: Application, stream: trio.SocketStream) -> None:
    """Reads to the end and never answers."""
    async for chunk in stream:
        application.heads.append(chunk)


async def test_a_peer_that_vanishes_in_a_body_costs_only_its_exchange(mesh: LocalMesh) -> None:
    async with serving(swallowing) as application:
        payments, checkout = await guarded(mesh, application)
        stream = await connect(checkout.outbound["shop/payments:8080"])
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: payments\r\nContent-Length: 1000\r\n\r\nabc")
        await wait_for(lambda: b"".join(application.heads).endswith(b"abc"), what="the body's beginning")
        await stream.aclose()
        await wait_for(lambda: refusals(checkout, "downstream_reset"), what="the log line")
        await wait_for(lambda: refusals(payments, "downstream_reset"), what="the log line")
        assert b"".join(application.heads).endswith(b"abc"), "a body that was cut off must not look whole"
