"""Signing requests: they carry a key and the proof that its holder asks. Nothing else in them is believed.

The identity of the certificate comes from the attestation, never from the request, so `read_csr` returns the public
key alone: a SAN, subject or extension that the request asks for cannot be passed on by mistake. (PKCS #10, RFC 2986.)
"""

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certs.errors import CsrRefused
from certs.keys import CURVES

MAX_CSR_BYTES = 4096  # a P-521 request of ours has 400 bytes; room for the attributes of other tools


def build_csr(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A request in DER for `key`, with an empty subject and no extensions."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def read_csr(der: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a request in DER whose holder signed it. Raises CsrRefused: size, form, proof, kind of key."""
    if len(der) > MAX_CSR_BYTES:
        raise CsrRefused(f"the signing request has {len(der)} bytes, more than {MAX_CSR_BYTES}")
    try:
        request = x509.load_der_x509_csr(der)
        key = request.public_key()
        proven = request.is_signature_valid
    except Exception as error:
        raise CsrRefused(f"the signing request cannot be read: {error}"[:300]) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, CURVES):
        raise CsrRefused("the signing request's key is not accepted: use EC on P-256, P-384 or P-521")
    if not proven:
        raise CsrRefused("the signing request is not signed by its own key")
    return key
