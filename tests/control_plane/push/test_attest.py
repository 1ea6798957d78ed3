"""Who asks is proved before anything is signed, and the name in the certificate comes from the proof."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certs.csr import build_csr
from certs.keys import new_key
from certs.svid import Svid
from certs.verify import verify_der
from control_plane.push.office import in_thread
from control_plane.settings import Lifetimes, Limits
from mesh.wire import Certificate, CertificateRequest, Nack
from tests.support.plane import DOMAIN, Plane, names_of

CHECKOUT = str(DOMAIN.workload("shop", "checkout"))


def csr_that_asks_for(uri: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name.from_rfc4514_string("CN=payments"))
    request = request.add_extension(names, critical=True).add_extension(constraints, critical=True)
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


async def ask(plane: Plane, token: str | None, csr: bytes | None = None) -> Certificate | Nack:
    caller = await plane.link()
    answer = await caller.ask(CertificateRequest(csr if csr is not None else build_csr(new_key()), token))
    assert isinstance(answer, Certificate | Nack)
    return answer


async def test_a_token_buys_a_certificate_that_verifies(plane: Plane) -> None:
    answer = await ask(plane, await plane.token("shop/checkout"))
    assert isinstance(answer, Certificate)
    assert answer.roots == plane.bundle.to_der()
    assert str(verify_der(answer.chain, plane.bundle, plane.clock()).id) == CHECKOUT
    assert plane.count("certificates_issued_total", method="token") == 1


async def test_the_certificate_names_the_attested_identity_whatever_the_request_asks_for(plane: Plane) -> None:
    csr = csr_that_asks_for(str(DOMAIN.workload("shop", "payments")), new_key())
    answer = await ask(plane, await plane.token("shop/checkout"), csr)
    assert isinstance(answer, Certificate)
    assert names_of(answer.chain) == [CHECKOUT]
    leaf = x509.load_der_x509_certificate(answer.chain[0])
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.subject == x509.Name([])


async def test_a_used_token_buys_nothing_more(plane: Plane) -> None:
    token = await plane.token()
    assert isinstance(await ask(plane, token), Certificate)
    answer = await ask(plane, token)
    assert isinstance(answer, Nack)
    assert answer.code == "token_used"
    assert plane.count("requests_refused_total", about="CertificateRequest", code="token_used") == 1


async def test_the_key_that_used_a_token_may_ask_again(plane: Plane) -> None:
    token, csr = await plane.token(), build_csr(new_key())
    assert isinstance(await ask(plane, token, csr), Certificate)
    assert isinstance(await ask(plane, token, csr), Certificate)


async def test_an_expired_token_buys_nothing(plane: Plane) -> None:
    token = await plane.token(lifetime=timedelta(minutes=1))
    plane.clock.offset = timedelta(minutes=2)
    answer = await ask(plane, token)
    assert isinstance(answer, Nack)
    assert answer.code == "token_expired"


@pytest.mark.parametrize("token", ["dwt_" + "A" * 43, "", "\x00'; drop table tokens"])
async def test_an_unknown_token_buys_nothing(plane: Plane, token: str) -> None:
    answer = await ask(plane, token)
    assert isinstance(answer, Nack)
    assert answer.code == "token_unknown"


async def test_no_token_and_no_certificate_is_no_attestation(plane: Plane) -> None:
    answer = await ask(plane, None)
    assert isinstance(answer, Nack)
    assert answer.code == "not_attested"


async def test_a_token_is_not_spent_on_a_sidecar_that_expects_another_identity(plane: Plane) -> None:
    token = await plane.token("shop/payments")
    caller = await plane.link()
    expected = "spiffe://cluster.local/ns/shop/sa/checkout"
    answer = await caller.ask(CertificateRequest(build_csr(new_key()), token, expected))
    assert isinstance(answer, Nack)
    assert answer.code == "token_for_other_workload"
    assert isinstance(await ask(plane, token), Certificate), "the token was not used up by the refusal"


async def test_a_link_cannot_use_the_token_of_another_workload(plane: Plane) -> None:
    token = await plane.token("shop/payments")
    caller = await plane.link(await plane.svid("shop/checkout"))
    answer = await caller.ask(CertificateRequest(build_csr(new_key()), token))
    assert isinstance(answer, Nack)
    assert answer.code == "token_for_other_workload"
    assert isinstance(await ask(plane, token), Certificate), "the token was not used up by the refusal"


@pytest.mark.parametrize(
    "csr",
    [b"", b"garbage", b"\x30\x82" * 2000, csr_that_asks_for(CHECKOUT, rsa.generate_private_key(65537, 2048))],
    ids=["empty", "garbage", "long", "rsa"],
)
async def test_a_bad_signing_request_costs_no_token(plane: Plane, csr: bytes) -> None:
    token = await plane.token()
    answer = await ask(plane, token, csr)
    assert isinstance(answer, Nack)
    assert answer.code == "csr_refused"
    assert isinstance(await ask(plane, token), Certificate)


async def test_a_certificate_renews_itself_with_a_new_key(plane: Plane) -> None:
    first = await plane.svid("shop/checkout")
    caller, key = await plane.link(first), new_key()
    answer = await caller.ask(CertificateRequest(build_csr(key)))
    assert isinstance(answer, Certificate)
    second = Svid.build(key, answer.chain)
    assert str(second.id) == CHECKOUT
    assert second.serial != first.serial
    caller = await plane.link(second)
    assert isinstance(await caller.ask(CertificateRequest(build_csr(new_key()))), Certificate)
    assert plane.count("certificates_issued_total", method="certificate") == 2


async def test_a_certificate_that_the_store_does_not_know_renews_nothing(plane: Plane) -> None:
    caller = await plane.link(plane.svid_for(CHECKOUT))
    answer = await caller.ask(CertificateRequest(build_csr(new_key())))
    assert isinstance(answer, Nack)
    assert answer.code == "unknown_certificate"


class TestAttestationAge:
    @pytest.fixture
    def lifetimes(self) -> Lifetimes:
        return Lifetimes(attestation=timedelta(hours=1))

    async def test_renewal_ends_when_the_attestation_is_too_old(self, plane: Plane) -> None:
        svid, key = await plane.svid(), new_key()
        plane.clock.offset = timedelta(minutes=40)
        caller = await plane.link(svid)
        answer = await caller.ask(CertificateRequest(build_csr(key)))
        assert isinstance(answer, Certificate)
        plane.clock.offset = timedelta(minutes=80)
        caller = await plane.link(Svid.build(key, answer.chain))
        refusal = await caller.ask(CertificateRequest(build_csr(new_key())))
        assert isinstance(refusal, Nack)
        assert refusal.code == "attestation_too_old"


class TestLimits:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(renewals_per_minute=2, unauthenticated_requests=2)

    async def test_an_identity_renews_only_so_often(self, plane: Plane) -> None:
        svid = await plane.svid()
        plane.begin_minute()
        codes = []
        for instance in ("one", "two", "three"):
            caller = await plane.link(svid, instance)
            answer = await caller.ask(CertificateRequest(build_csr(new_key())))
            codes.append(answer.code if isinstance(answer, Nack) else "issued")
        assert codes == ["issued", "issued", "too_many_renewals"]

    async def test_a_visitor_asks_only_so_often(self, plane: Plane) -> None:
        caller = await plane.link()
        for _ in range(2):
            assert isinstance(await caller.ask(CertificateRequest(b"", "dwt_guess")), Nack)
        refusal = await caller.ask(CertificateRequest(b"", "dwt_guess"))
        assert isinstance(refusal, Nack)
        assert refusal.code == "too_many_requests"
        assert await caller.ended()


async def test_every_issuance_is_in_the_audit_log(plane: Plane) -> None:
    await ask(plane, await plane.token())
    events = [entry.event for entry in await in_thread(plane.office.store.audit)]
    assert sum("issued" in event for event in events) == 1, events
