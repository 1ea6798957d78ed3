"""Signing requests: only a key that its holder proved comes out, whatever else the request asks for."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from certs.csr import MAX_CSR_BYTES, build_csr, read_csr
from certs.errors import CsrRefused
from certs.keys import fingerprint, new_key
from tests.support.mutations import mutated

KEY = new_key()
GOOD = build_csr(KEY)


def test_the_key_of_a_request_of_ours_comes_out() -> None:
    assert fingerprint(read_csr(GOOD)) == fingerprint(KEY.public_key())


def test_a_request_of_ours_asks_for_nothing() -> None:
    request = x509.load_der_x509_csr(GOOD)
    assert not list(request.subject)
    assert not list(request.extensions)


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=["P-384", "P-521"])
def test_a_stronger_curve_is_accepted(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    assert fingerprint(read_csr(build_csr(key))) == fingerprint(key.public_key())


def test_a_key_that_is_not_accepted_is_named() -> None:
    rsa_request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(rsa.generate_private_key(65537, 2048), hashes.SHA256())
    )
    for der in (
        rsa_request.public_bytes(serialization.Encoding.DER),
        build_csr(ec.generate_private_key(ec.SECP256K1())),
    ):
        with pytest.raises(CsrRefused, match="P-256"):
            read_csr(der)


def test_a_request_signed_by_another_key_is_refused() -> None:
    """The proof of one request under the key of another."""
    other = build_csr(new_key())
    signature = x509.load_der_x509_csr(GOOD).signature
    theirs = x509.load_der_x509_csr(other).signature
    while len(signature) != len(theirs):
        other = build_csr(new_key())
        theirs = x509.load_der_x509_csr(other).signature
    with pytest.raises(CsrRefused, match="not signed by its own key"):
        read_csr(GOOD.replace(signature, theirs))


def test_a_request_that_is_too_large_is_refused_unread() -> None:
    key = new_key()
    fat = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), bytes(MAX_CSR_BYTES)), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    with pytest.raises(CsrRefused, match=f"more than {MAX_CSR_BYTES}"):
        read_csr(fat)


@pytest.mark.parametrize("der", [b"", b"\x30", b"garbage", GOOD + b"\x00", GOOD[:-1]])
def test_what_is_no_request_is_refused(der: bytes) -> None:
    with pytest.raises(CsrRefused, match="cannot be read"):
        read_csr(der)


@given(st.binary(max_size=300) | mutated(GOOD))
def test_no_bytes_raise_anything_else(der: bytes) -> None:
    try:
        read_csr(der)
    except CsrRefused:
        assert der != GOOD
