"""Every way in which an identity can be refused, one class per reason.

CertsError
    SpiffeIdMalformed       a text that is no SPIFFE ID or trust domain
    KeyRefused              a private key that is unreadable, too weak, or not its certificate's
    CsrRefused              a signing request that is unreadable, too large, unsigned or too weak
    BundleMalformed         a trust bundle that cannot be used
    CertificateRefused      a peer's certificate chain that proves nothing
        CertificateMissing
        CertificateMalformed
        CertificateExpired
        CertificateNotYetValid
        UnknownIssuer
        OtherTrustDomain
        NoUriSan
        SeveralUriSans
        MalformedId
        LeafIsCa
        WrongUsage
    CannotIssue             the authority cannot issue what was asked for

`CertificateRefused.code` is the short name that logs, metrics and reason codes carry.
"""

from typing import ClassVar


class CertsError(Exception):
    """The base of every error that this package raises on purpose."""


class SpiffeIdMalformed(CertsError, ValueError):
    """The text is no SPIFFE ID or trust domain (SPIFFE-ID §2)."""


class KeyRefused(CertsError):
    """The private key is unreadable, weaker than P-256 or RSA 2,048, or not the one of its certificate."""


class CsrRefused(CertsError):
    """The signing request is unreadable, too large, not signed by its own key, or its key is too weak."""


class BundleMalformed(CertsError):
    """The trust bundle holds something that is no signing certificate of a trust domain."""


class CannotIssue(CertsError):
    """The authority has no lifetime left, or may not issue what was asked for."""


class CertificateRefused(CertsError):
    """The peer's chain does not prove an identity. `code` names the reason for logs and metrics."""

    code: ClassVar[str] = "certificate_refused"


class CertificateMissing(CertificateRefused):
    """The peer presented no certificate."""

    code = "certificate_missing"


class CertificateMalformed(CertificateRefused):
    """The certificate cannot be read, carries a critical extension that nobody here understands, or a weak key."""

    code = "certificate_malformed"


class CertificateExpired(CertificateRefused):
    """`now` lies after NotAfter of the leaf or of a certificate above it."""

    code = "certificate_expired"


class CertificateNotYetValid(CertificateRefused):
    """`now` lies before NotBefore of the leaf or of a certificate above it: a clock is wrong."""

    code = "certificate_not_yet_valid"


class UnknownIssuer(CertificateRefused):
    """No path of strong signatures leads from the leaf to a root of the bundle."""

    code = "unknown_issuer"


class OtherTrustDomain(CertificateRefused):
    """The bundle has no roots for the leaf's trust domain, or a certificate of another one vouches for it."""

    code = "other_trust_domain"


class NoUriSan(CertificateRefused):
    """The leaf has no URI SAN, so no SPIFFE ID (X509-SVID §2)."""

    code = "no_uri_san"


class SeveralUriSans(CertificateRefused):
    """The leaf has more than one URI SAN (X509-SVID §2)."""

    code = "several_uri_sans"


class MalformedId(CertificateRefused):
    """The leaf's one URI SAN is no SPIFFE ID, or has no path (X509-SVID §4.1)."""

    code = "malformed_id"


class LeafIsCa(CertificateRefused):
    """The leaf could itself sign certificates (X509-SVID §4.1)."""

    code = "leaf_is_ca"


class WrongUsage(CertificateRefused):
    """A certificate is used for what its constraints, path length or key usages do not allow (X509-SVID §4)."""

    code = "wrong_usage"
