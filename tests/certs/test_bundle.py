"""Trust bundles: every root stands for the one trust domain that it names, or the bundle is refused."""

import pytest
from attrs import evolve
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from certs.bundle import TrustBundle, root_fingerprint
from certs.errors import BundleMalformed
from certs.keys import key_to_pem, new_key
from certs.spiffe import TrustDomain
from tests.support.mutations import mutated
from tests.support.pki import Pki, Template, forge, key_usage

GOOD = Pki().bundle.to_der()[0]


def self_signed(pki: Pki, template: Template) -> bytes:
    """A certificate in DER that says what the template says, signed by its own key."""
    key = new_key()
    name_only = pki.root.certificate
    certificate = forge(evolve(template, subject=name_only.subject), key.public_key(), name_only, key)
    return certificate.public_bytes(serialization.Encoding.DER)


def test_roots_are_kept_by_trust_domain_and_in_order(pki: Pki, partner: Pki) -> None:
    next_root = Pki(now=pki.now).root.root
    bundle = TrustBundle([pki.root.root, partner.root.root, next_root])
    assert bundle.trust_domains == (TrustDomain("cluster.local"), TrustDomain("partner.example"))
    assert bundle.roots_of("cluster.local") == (pki.root.root, next_root)
    assert bundle.roots_of("partner.example") == (partner.root.root,)
    assert bundle.roots_of("nobody.example") == ()


def test_pem_and_der_round_trip(bundle: TrustBundle) -> None:
    assert TrustBundle.from_pem(bundle.to_pem()) == bundle
    assert TrustBundle.from_der(bundle.to_der()) == bundle


def test_one_trust_domain_can_be_written_alone(pki: Pki, bundle: TrustBundle) -> None:
    assert TrustBundle.from_pem(bundle.to_pem(pki.domain)) == pki.bundle


def test_a_root_given_twice_counts_once(pki: Pki) -> None:
    assert TrustBundle.from_pem(pki.bundle.to_pem() * 2) == pki.bundle


def test_text_around_the_certificates_is_ignored(pki: Pki) -> None:
    assert TrustBundle.from_pem(b"# the mesh of the shop\n" + pki.bundle.to_pem() + b"\n# end\n") == pki.bundle


def test_a_fingerprint_is_the_sha_256_of_the_der(pki: Pki) -> None:
    assert root_fingerprint(pki.root.root) == pki.root.root.fingerprint(hashes.SHA256()).hex()


@pytest.mark.parametrize(
    "pem",
    [b"", b"no certificate", key_to_pem(new_key()), b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
    ids=["empty", "text", "a key", "a broken certificate"],
)
def test_a_file_without_certificates_is_refused(pem: bytes) -> None:
    with pytest.raises(BundleMalformed, match="cannot be read"):
        TrustBundle.from_pem(pem)


def test_an_empty_bundle_is_refused() -> None:
    with pytest.raises(BundleMalformed, match="no certificate"):
        TrustBundle.from_der([])


def test_what_is_no_root_of_a_trust_domain_is_refused_and_numbered(pki: Pki) -> None:
    root = pki.ca_template(path_length=1)
    faults = {
        "no CA": self_signed(pki, pki.template()),
        "keyCertSign": self_signed(pki, evolve(root, usage=key_usage("digital_signature"))),
        "names no trust domain": self_signed(pki, evolve(root, uris=())),
        "2 URI SANs": self_signed(pki, evolve(root, uris=("spiffe://a", "spiffe://b"))),
        "must be spiffe://<trust-domain>": self_signed(pki, evolve(root, uris=("spiffe://a/b",))),
        "does not start with spiffe://": self_signed(pki, evolve(root, uris=("https://a",))),
        "not signed by itself": pki.intermediate.certificate.public_bytes(serialization.Encoding.DER),
    }
    for fault, der in faults.items():
        with pytest.raises(BundleMalformed, match=f"certificate 2 .*{fault}"):
            TrustBundle.from_der([GOOD, der])


def test_a_root_with_a_weak_key_is_refused(pki: Pki) -> None:
    key = rsa.generate_private_key(65537, 1024)
    name_only = pki.root.certificate
    root = forge(evolve(pki.ca_template(), subject=name_only.subject), key.public_key(), name_only, key)
    with pytest.raises(BundleMalformed):
        TrustBundle([root])


@given(st.lists(mutated(GOOD) | st.binary(max_size=50), max_size=3))
def test_no_bytes_raise_anything_else(roots: list[bytes]) -> None:
    try:
        bundle = TrustBundle.from_der(roots)
    except BundleMalformed:
        return
    assert set(bundle.to_der()) == set(roots)


@given(mutated(TrustBundle.from_der([GOOD]).to_pem()) | st.binary(max_size=80))
def test_no_file_raises_anything_else(pem: bytes) -> None:
    try:
        bundle = TrustBundle.from_pem(pem)
    except BundleMalformed:
        return
    assert bundle.to_der() == (GOOD,)
