"""Authorities: what they sign is exactly an X509-SVID, never outlives them, and never leaves their trust domain."""

from datetime import timedelta

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from certs.authority import BACKDATE, Authority
from certs.bundle import TrustBundle
from certs.errors import BundleMalformed, CannotIssue, KeyRefused
from certs.keys import PrivateKey, fingerprint, key_to_pem, new_key
from certs.spiffe import SpiffeId, TrustDomain
from certs.verify import verify_chain
from tests.support.pki import DAY, HOUR, Pki, forge, key_usage

SECOND = timedelta(seconds=1)
PKI = Pki()


def extensions(certificate: x509.Certificate) -> dict[type, tuple[bool, x509.ExtensionType]]:
    return {type(each.value): (each.critical, each.value) for each in certificate.extensions}


def test_a_leaf_is_exactly_what_the_standard_asks_for(pki: Pki) -> None:
    svid = pki.svid("shop/checkout")
    said = extensions(svid.leaf)
    assert list(svid.leaf.subject) == []
    assert said.pop(x509.SubjectAlternativeName) == (
        True,
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://cluster.local/ns/shop/sa/checkout")]),
    )
    assert said.pop(x509.BasicConstraints) == (True, x509.BasicConstraints(ca=False, path_length=None))
    assert said.pop(x509.KeyUsage) == (True, key_usage("digital_signature"))
    assert said.pop(x509.ExtendedKeyUsage) == (
        False,
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
    )
    assert said.pop(x509.SubjectKeyIdentifier) == (
        False,
        x509.SubjectKeyIdentifier.from_public_key(svid.leaf.public_key()),
    )
    critical, above = said.pop(x509.AuthorityKeyIdentifier)
    assert isinstance(above, x509.AuthorityKeyIdentifier)
    signer = pki.intermediate.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert not critical
    assert above.key_identifier == signer.digest
    assert not said


def test_a_signing_certificate_names_its_trust_domain_and_bounds_its_depth(pki: Pki) -> None:
    for authority, path_length in ((pki.root, 1), (pki.intermediate, 0)):
        said = extensions(authority.certificate)
        assert said[x509.BasicConstraints] == (True, x509.BasicConstraints(ca=True, path_length=path_length))
        assert said[x509.KeyUsage] == (True, key_usage("key_cert_sign", "crl_sign"))
        san = said[x509.SubjectAlternativeName][1]
        assert san == x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://cluster.local")])
        assert {x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier} <= said.keys()
        assert list(authority.certificate.subject)


def test_serials_are_random_and_long(pki: Pki) -> None:
    serials = [pki.svid().serial for _ in range(20)]
    assert len(set(serials)) == len(serials)
    assert max(serials).bit_length() > 150
    assert max(serials).bit_length() <= 159


def test_the_chain_that_is_shown_ends_below_the_root(pki: Pki) -> None:
    assert pki.svid().chain[1:] == (pki.intermediate.certificate,)
    key = new_key()
    assert len(pki.root.issue(key.public_key(), pki.id(), now=pki.now, lifetime=HOUR)) == 1


def test_a_leaf_is_backdated_for_peers_whose_clocks_are_behind(pki: Pki) -> None:
    svid = pki.svid(now=pki.now + HOUR, lifetime=HOUR)
    assert (svid.not_before, svid.not_after) == (pki.now + HOUR - BACKDATE, pki.now + 2 * HOUR)


@given(st.timedeltas(min_value=-BACKDATE, max_value=31 * DAY), st.timedeltas(min_value=SECOND, max_value=400 * DAY))
def test_nothing_is_valid_outside_the_validity_of_its_issuer(later: timedelta, lifetime: timedelta) -> None:
    issuer = PKI.intermediate.certificate
    try:
        svid = PKI.svid(now=PKI.now + later, lifetime=lifetime)
    except CannotIssue:
        assert PKI.now + later + SECOND > issuer.not_valid_after_utc
        return
    assert issuer.not_valid_before_utc <= svid.not_before <= PKI.now + later
    assert svid.not_after <= min(issuer.not_valid_after_utc, PKI.now + later + lifetime)
    assert verify_chain(svid.chain, PKI.bundle, PKI.now + later)


def test_in_its_last_moment_an_authority_issues_nothing(pki: Pki) -> None:
    end = pki.intermediate.not_after
    assert pki.svid(now=end - SECOND).not_after == end
    with pytest.raises(CannotIssue, match="expired"):
        pki.svid(now=end)


def test_an_authority_is_valid_only_while_all_above_it_are(pki: Pki) -> None:
    """A foreign CA may have signed an intermediate that begins before it and ends after it."""
    root = pki.root.certificate
    begin, end = root.not_valid_before_utc, root.not_valid_after_utc
    longer = pki.forge_ca(evolve(pki.ca_template(), not_before=begin - DAY, not_after=end + DAY))
    assert (longer.not_before, longer.not_after) == (begin, end)


def test_an_intermediate_ends_with_its_root(pki: Pki) -> None:
    late = pki.root.new_intermediate(now=pki.now + 360 * DAY, lifetime=30 * DAY)
    assert late.not_after == pki.root.not_after == pki.now + 365 * DAY


@pytest.mark.parametrize(
    ("when", "why"), [(31 * DAY, "expired"), (-DAY, "valid from")], ids=["after its end", "before its beginning"]
)
def test_an_authority_that_is_not_valid_issues_nothing(pki: Pki, when: timedelta, why: str) -> None:
    with pytest.raises(CannotIssue, match=why):
        pki.svid(now=pki.now + when)
    with pytest.raises(CannotIssue, match=why):
        pki.root.new_intermediate(now=pki.now + 20 * when, lifetime=DAY)


def test_an_id_of_another_trust_domain_is_not_issued(pki: Pki) -> None:
    with pytest.raises(CannotIssue, match=r"signs for cluster\.local, not for spiffe://partner\.example"):
        pki.svid_for(SpiffeId("partner.example", "/ns/shop/sa/checkout"))


def test_a_lifetime_of_nothing_is_not_issued(pki: Pki) -> None:
    for lifetime in (timedelta(0), -HOUR, timedelta(milliseconds=999)):
        with pytest.raises(CannotIssue, match="lifetime"):
            pki.svid(lifetime=lifetime)


def test_an_issuer_signs_no_authority_below_itself(pki: Pki) -> None:
    with pytest.raises(CannotIssue, match="path length 0"):
        pki.intermediate.new_intermediate(now=pki.now, lifetime=DAY)


def test_an_authority_round_trips_through_pem_and_goes_on_signing(pki: Pki) -> None:
    loaded = Authority.load(pki.intermediate.key_pem(), pki.intermediate.chain_pem())
    assert loaded.chain == pki.intermediate.chain
    assert (loaded.trust_domain, loaded.not_after) == (TrustDomain("cluster.local"), pki.intermediate.not_after)
    chain = loaded.issue(new_key().public_key(), pki.id(), now=pki.now, lifetime=HOUR)
    assert verify_chain(chain, pki.bundle, pki.now).id == pki.id()


@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())],
    ids=["RSA", "P-384"],
)
def test_a_foreign_ca_can_stand_above_the_issuer(pki: Pki, key: PrivateKey) -> None:
    """Such as an organisation's own root, without path length, with key identifiers of its own making."""
    template = evolve(pki.ca_template(path_length=None), extra=((x509.SubjectKeyIdentifier(b"their own way"), False),))
    named = forge(template, key.public_key(), pki.root.certificate, pki.root.key)
    root = forge(evolve(template, subject=named.subject), key.public_key(), named, key)
    foreign = Authority.load(key_to_pem(key), TrustBundle([root]).to_pem())
    issuer = foreign.new_intermediate(now=pki.now, lifetime=HOUR)
    identifier = extensions(issuer.certificate)[x509.AuthorityKeyIdentifier][1]
    assert isinstance(identifier, x509.AuthorityKeyIdentifier)
    assert identifier.key_identifier == b"their own way"
    chain = issuer.issue(new_key().public_key(), pki.id(), now=pki.now, lifetime=HOUR)
    assert verify_chain(chain, foreign.bundle, pki.now).id == pki.id()


def test_what_a_p_384_authority_signs_is_hashed_as_strongly(pki: Pki) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = forge(pki.ca_template(), key.public_key(), pki.root.certificate, pki.root.key)
    (leaf, *_) = Authority(key, (certificate, *pki.root.chain)).issue(
        new_key().public_key(), pki.id(), now=pki.now, lifetime=HOUR
    )
    assert isinstance(leaf.signature_hash_algorithm, hashes.SHA384)


def test_two_roots_differ_in_name_and_key(pki: Pki) -> None:
    other = Authority.new_root(pki.domain, now=pki.now, lifetime=DAY)
    assert other.root.subject != pki.root.root.subject
    assert fingerprint(other.root.public_key()) != fingerprint(pki.root.root.public_key())


def test_files_that_make_no_authority_are_refused(pki: Pki, partner: Pki) -> None:
    key, chain = pki.intermediate.key_pem(), pki.intermediate.chain_pem()
    own, root = (each.public_bytes(serialization.Encoding.PEM) for each in pki.intermediate.chain)
    foreign = pki.forge_ca(evolve(pki.ca_template(), uris=("spiffe://partner.example",)))
    no_ca = pki.forge_ca(evolve(pki.ca_template(), constraints=x509.BasicConstraints(ca=False, path_length=None)))
    too_deep = pki.forge_ca(pki.ca_template(), by=pki.intermediate)
    faults: list[tuple[bytes, bytes, str]] = [
        (key, b"", "cannot be read"),
        (key, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
        (key_to_pem(new_key()), chain, "not for the CA's key"),
        (key, own, "not signed by itself"),
        (key, own + partner.bundle.to_pem(), "another trust domain"),
        (key, own + Pki(now=pki.now).bundle.to_pem(), "not in order"),
        (key, root + own, "not signed by itself"),
        (foreign.key_pem(), foreign.chain_pem(), "another trust domain"),
        (no_ca.key_pem(), no_ca.chain_pem(), "no CA"),
        (too_deep.key_pem(), too_deep.chain_pem(), "path length"),
    ]
    for key_pem, chain_pem, why in faults:
        with pytest.raises(BundleMalformed, match=why):
            Authority.load(key_pem, chain_pem)
    with pytest.raises(KeyRefused):
        Authority.load(b"no key", chain)


def test_the_signing_key_is_not_shown(pki: Pki) -> None:
    assert "key=" not in repr(pki.root)
