"""Private keys: a fresh P-256 key for every certificate, kept in memory; PEM only for the authority's own.

A sidecar never writes its key down. The control plane does, for its root and its issuer, and may be given the key of a
foreign CA: that one may be RSA, which is the only reason why RSA is read here at all.
"""

from hashlib import sha256

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from certs.errors import KeyRefused

CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)  # P-256 or better
MIN_RSA_BITS = 2048

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key from the operating system's random numbers."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: PrivateKey) -> bytes:
    """The key as unencrypted PKCS #8 PEM: whoever stores it guards the file."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def key_from_pem(pem: bytes) -> PrivateKey:
    """Read an unencrypted private key: EC on P-256, P-384 or P-521, or RSA of 2,048 bits or more. Raises KeyRefused."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise KeyRefused("the private key is encrypted: decrypt it first, for example with openssl pkey") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyRefused("this is no private key in PEM: expected a block BEGIN PRIVATE KEY") from error
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < MIN_RSA_BITS:
            raise KeyRefused(f"an RSA key of {key.key_size} bits is too weak: use {MIN_RSA_BITS} or more, or EC P-256")
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if not isinstance(key.curve, CURVES):
            raise KeyRefused(f"the curve {key.curve.name} is not accepted: use P-256, P-384 or P-521")
        return key
    raise KeyRefused("the private key is neither EC nor RSA: use EC P-256")


def is_strong(key: CertificatePublicKeyTypes) -> bool:
    """Whether a public key is of a kind and size that a certificate may have: the same as for `key_from_pem`."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, CURVES)
    return isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS


def fingerprint(public_key: CertificatePublicKeyTypes) -> str:
    """SHA-256 of the key's SubjectPublicKeyInfo in DER, as 64 hex digits: the same for the CSR and the certificate."""
    spki = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return sha256(spki).hexdigest()
