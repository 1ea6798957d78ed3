"""The three kinds of certificate that Doorward makes, as builders that only lack a signature.

    leaf    X509-SVID §2 and §4: empty subject, so a critical SAN (RFC 5280 §4.1.2.6); explicitly no CA; signs
            handshakes and nothing else; both ends of a connection
    serving RFC 6125: DNS names instead of an ID, and one end of a connection only, so that it is no SVID
    CA      X509-SVID §3.2 and §4: names its trust domain, may sign certificates and CRLs, bounded in depth

Serials are 159 random bits (RFC 5280 §4.1.2.2). Dates are whole seconds, since X.509 knows no fractions.
"""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.keys import PrivateKey, fingerprint
from certs.spiffe import SpiffeId, TrustDomain

_LEAF_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_CA_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
_BOTH_ENDS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
_SERVER_ONLY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


def ca_name(role: str, key: CertificatePublicKeyTypes) -> x509.Name:
    """A CA's subject, unique to its key, so that an issuer is found by name: `O=Doorward, CN=<role> <16 hex>`."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Doorward"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{role} {fingerprint(key)[:16]}"),
        ]
    )


def leaf_builder(
    key: CertificatePublicKeyTypes, spiffe_id: SpiffeId, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    """An SVID for `key`; the issuer's name and identifier are still missing."""
    return _leaf(key, [x509.UniformResourceIdentifier(str(spiffe_id))], _BOTH_ENDS, not_before, not_after)


def serving_builder(
    key: CertificatePublicKeyTypes, dns_names: Sequence[str], not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    """A certificate of a server by its DNS names; the issuer's name and identifier are still missing."""
    return _leaf(key, [x509.DNSName(name) for name in dns_names], _SERVER_ONLY, not_before, not_after)


def ca_builder(
    key: CertificatePublicKeyTypes,
    name: x509.Name,
    trust_domain: TrustDomain,
    not_before: datetime,
    not_after: datetime,
    *,
    path_length: int,
) -> x509.CertificateBuilder:
    """A signing certificate for `key` with `path_length` CAs below it; the issuer's name and identifier are missing."""
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")])
    return (
        _builder(name, key, not_before, not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(san, critical=False)
    )


def sign(
    builder: x509.CertificateBuilder, key: PrivateKey, issuer: x509.Certificate | None, name: x509.Name
) -> x509.Certificate:
    """Sign with the issuer's key; `issuer` is None and `name` the subject itself for a root."""
    return (
        builder.issuer_name(name)
        .add_extension(_authority_identifier(key, issuer), critical=False)
        .sign(key, _hash_for(key))
    )


def _leaf(
    key: CertificatePublicKeyTypes,
    names: Sequence[x509.GeneralName],
    ends: x509.ExtendedKeyUsage,
    not_before: datetime,
    not_after: datetime,
) -> x509.CertificateBuilder:
    return (
        _builder(x509.Name([]), key, not_before, not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_LEAF_USAGE, critical=True)
        .add_extension(ends, critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
    )


def _builder(
    subject: x509.Name, key: CertificatePublicKeyTypes, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before.replace(microsecond=0))
        .not_valid_after(not_after.replace(microsecond=0))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _authority_identifier(key: PrivateKey, issuer: x509.Certificate | None) -> x509.AuthorityKeyIdentifier:
    """The issuer's own key identifier, which a foreign CA may have made in its own way."""
    if issuer is not None:
        try:
            own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            pass
        else:
            return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _hash_for(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384:
    """A hash as strong as the key (RFC 5480 §4)."""
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256:
        return hashes.SHA384()
    return hashes.SHA256()
