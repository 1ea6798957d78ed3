"""One certificate, read strictly: what it says of itself, before anybody asks who signed it.

`cryptography` parses lazily and raises various errors, some of them late. Every access goes through here, so that a
certificate that cannot be read is always CertificateMalformed and nothing foreign escapes.
Source: X509-SVID, https://spiffe.io/docs/latest/spiffe-specs/x509-svid, sections 2 to 4; RFC 5280 §4.2.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from certs.errors import (
    CertificateExpired,
    CertificateMalformed,
    CertificateNotYetValid,
    LeafIsCa,
    MalformedId,
    NoUriSan,
    SeveralUriSans,
    SpiffeIdMalformed,
    WrongUsage,
)
from certs.keys import fingerprint, is_strong
from certs.spiffe import SpiffeId, TrustDomain

MAX_CERTIFICATE_BYTES = 16 * 1024  # an SVID has 600 bytes; a root of a large organisation 2,000

_UNDERSTOOD = frozenset(
    {
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    }
)
_BOTH_ENDS = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
_STRONG_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def load(der: bytes) -> x509.Certificate:
    """Read one certificate in DER. Raises CertificateMalformed."""
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise CertificateMalformed(f"a certificate of {len(der)} bytes is longer than {MAX_CERTIFICATE_BYTES}")
    with _translated():
        return x509.load_der_x509_certificate(der)


def load_pem(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read certificates in PEM one after another; text between them is ignored. Raises CertificateMalformed."""
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise CertificateMalformed("there is no block BEGIN CERTIFICATE")
    with _translated():
        return tuple(x509.load_pem_x509_certificates(pem))


def to_der(certificate: x509.Certificate) -> bytes:
    """The certificate in DER."""
    return certificate.public_bytes(serialization.Encoding.DER)


def sha256_hex(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate in DER, as 64 hex digits."""
    return sha256(to_der(certificate)).hexdigest()


def public_key_fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate's public key, as `keys.fingerprint` makes it. Raises CertificateMalformed."""
    with _translated():
        return fingerprint(certificate.public_key())


def leaf_id(certificate: x509.Certificate) -> SpiffeId:
    """The SPIFFE ID of a leaf (X509-SVID §2). Raises NoUriSan, SeveralUriSans, MalformedId, CertificateMalformed."""
    uris = _uris(certificate)
    if not uris:
        raise NoUriSan("the certificate has no URI SAN, so it names no workload")
    if len(uris) > 1:
        raise SeveralUriSans(f"the certificate has {len(uris)} URI SANs: an SVID has exactly one")
    try:
        return SpiffeId.parse(uris[0])
    except SpiffeIdMalformed as error:
        raise MalformedId(f"the certificate's URI SAN is no workload's SPIFFE ID: {error}") from error


def signer_domain(certificate: x509.Certificate) -> TrustDomain | None:
    """The trust domain that a signing certificate names (X509-SVID §3.2), None where it has no URI SAN.

    Raises SeveralUriSans, MalformedId (a path, or no SPIFFE ID), CertificateMalformed.
    """
    uris = _uris(certificate)
    if not uris:
        return None
    if len(uris) > 1:
        raise SeveralUriSans(f"the signing certificate has {len(uris)} URI SANs: at most one is allowed")
    scheme, _, name = uris[0].partition("://")
    if scheme != "spiffe":
        raise MalformedId(f"the signing certificate's URI SAN {uris[0][:80]!r} does not start with spiffe://")
    try:
        return TrustDomain(name)
    except SpiffeIdMalformed as error:
        raise MalformedId(f"the signing certificate's URI SAN must be spiffe://<trust-domain>: {error}") from error


def check_leaf(certificate: x509.Certificate) -> None:
    """The leaf authenticates and cannot sign (X509-SVID §4). Raises LeafIsCa, WrongUsage, CertificateMalformed."""
    check_critical_extensions(certificate)
    with _translated():
        key = certificate.public_key()
    if not is_strong(key):
        raise CertificateMalformed("the leaf's key is neither EC on P-256 or better nor RSA of 2,048 bits or more")
    constraints = extension(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise LeafIsCa("the leaf is itself a CA certificate")
    usage = extension(certificate, x509.KeyUsage)
    if usage is None or not usage.digital_signature:
        raise WrongUsage("the leaf's key usage lacks digitalSignature")
    if usage.key_cert_sign or usage.crl_sign:
        raise WrongUsage("the leaf's key usage has keyCertSign or cRLSign, which only a CA may have")
    extended = extension(certificate, x509.ExtendedKeyUsage)
    if extended is not None and not set(extended) >= _BOTH_ENDS:
        raise WrongUsage("the leaf's extended key usage lacks serverAuth or clientAuth: an SVID serves both ends")


def check_signer(certificate: x509.Certificate, intermediates_below: int) -> None:
    """The certificate may sign, with `intermediates_below` CAs between it and a leaf. Raises WrongUsage, …Malformed."""
    constraints = extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise WrongUsage("a certificate that is no CA signed another")
    usage = extension(certificate, x509.KeyUsage)
    if usage is None or not usage.key_cert_sign:
        raise WrongUsage("a CA without keyCertSign signed a certificate")
    if constraints.path_length is not None and intermediates_below > constraints.path_length:
        raise WrongUsage(f"a CA of path length {constraints.path_length} has {intermediates_below} CAs below it")


def check_critical_extensions(certificate: x509.Certificate) -> None:
    """Nothing critical is there that is not checked here (RFC 5280 §4.2). Raises CertificateMalformed."""
    for each in _extensions(certificate):
        if each.critical and each.oid not in _UNDERSTOOD:
            raise CertificateMalformed(f"the critical extension {each.oid.dotted_string} is not understood")


def check_dates(certificate: x509.Certificate, now: datetime, what: str) -> None:
    """`now` lies within the certificate's validity. Raises CertificateExpired, CertificateNotYetValid, …Malformed."""
    begins, ends = validity(certificate)
    if now > ends:
        raise CertificateExpired(
            f"the {what} expired at {ends.isoformat()}, {_seconds(now - ends)} ago by the clock here: "
            "was it renewed, and do both clocks agree?"
        )
    if now < begins:
        raise CertificateNotYetValid(
            f"the {what} is valid from {begins.isoformat()} on, {_seconds(begins - now)} from now by the clock here: "
            "compare both clocks"
        )


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"


def validity(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    """NotBefore and NotAfter, both aware UTC and inclusive. Raises CertificateMalformed."""
    with _translated():
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether `issuer` signed `certificate`, by name, strong key and hash. Says nothing of whether it may sign."""
    try:
        if certificate.issuer != issuer.subject or not is_strong(issuer.public_key()):
            return False
        if not isinstance(certificate.signature_hash_algorithm, _STRONG_HASHES):
            return False
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # noqa: BLE001 - a key or signature of a kind that cannot be checked proves nothing
        return False
    return True


def extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    """The value of an extension, None where the certificate lacks it. Raises CertificateMalformed."""
    extensions = _extensions(certificate)
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _extensions(certificate: x509.Certificate) -> x509.Extensions:
    with _translated():
        return certificate.extensions


def _uris(certificate: x509.Certificate) -> list[str]:
    names = extension(certificate, x509.SubjectAlternativeName)
    return [] if names is None else names.get_values_for_type(x509.UniformResourceIdentifier)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what `cryptography` raises while it parses into CertificateMalformed.

    Its kinds are not documented (an unknown TLS feature is a KeyError), and all of them come from the peer's bytes.
    """
    try:
        yield
    except Exception as error:
        raise CertificateMalformed(f"the certificate cannot be read: {error}"[:300]) from error
