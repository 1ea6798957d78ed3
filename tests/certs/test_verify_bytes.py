"""No bytes make the verifier raise anything but a refusal: neither broken DER nor well-signed nonsense."""

from attrs import evolve
from cryptography import x509
from hypothesis import example, given
from hypothesis import strategies as st

from certs.bundle import root_fingerprint
from certs.errors import CertificateRefused
from certs.verify import verify_der
from tests.support.mutations import Nonsense, mutated, nonsense
from tests.support.pki import Pki

PKI = Pki()
SVID = PKI.svid()
LEAF, INTERMEDIATE = SVID.chain_der()

# cryptography raises a KeyError for a feature that it does not know
UNKNOWN_TLS_FEATURE = x509.UnrecognizedExtension(x509.TLSFeature.oid, b"0\x03\x02\x01\x00")


def refused_or_proven(chain: list[bytes]) -> None:
    try:
        peer = verify_der(chain, PKI.bundle, PKI.now)
    except CertificateRefused:
        return
    assert peer.root == root_fingerprint(PKI.root.root)


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_arbitrary_bytes(chain: list[bytes]) -> None:
    refused_or_proven(chain)


@given(mutated(LEAF))
def test_a_mutated_leaf(leaf: bytes) -> None:
    refused_or_proven([leaf, INTERMEDIATE])


@given(mutated(INTERMEDIATE))
def test_a_mutated_intermediate(intermediate: bytes) -> None:
    refused_or_proven([LEAF, intermediate])


@given(nonsense())
@example(((UNKNOWN_TLS_FEATURE, False),))
def test_a_well_signed_leaf_that_says_nonsense(extra: Nonsense) -> None:
    refused_or_proven([*PKI.forge(evolve(PKI.template(), extra=extra)).chain_der()])


@given(nonsense())
def test_a_well_signed_intermediate_that_says_nonsense(extra: Nonsense) -> None:
    issuer = PKI.forge_ca(evolve(PKI.ca_template(), extra=extra))
    refused_or_proven([*PKI.forge(PKI.template(), by=issuer).chain_der()])
