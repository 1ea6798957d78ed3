"""Trust bundles: the roots that we believe, each for its own trust domain and for no other.

A root says by its URI SAN `spiffe://<trust-domain>` whose root it is, so that a bundle is a plain list of certificates
in a file. Several roots of one trust domain let a root be rotated with no restart; several trust domains let two
meshes talk. (SPIFFE Trust Domain and Bundle §4; X509-SVID §3.2.)
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Self

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certs import certificate as read
from certs.errors import BundleMalformed, CertificateRefused
from certs.spiffe import TrustDomain


def root_fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of a root in DER, as 64 hex digits: the name by which `Peer.root`, bans and join tokens call it."""
    return read.sha256_hex(certificate)


def _distinct(roots: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    return tuple(dict.fromkeys(roots))


@frozen
class TrustBundle:
    """Roots in the order given, without repetition. Raises BundleMalformed for none, or for one that is no root."""

    all_roots: tuple[x509.Certificate, ...] = field(converter=_distinct)
    _by_domain: Mapping[str, tuple[x509.Certificate, ...]] = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not self.all_roots:
            raise BundleMalformed("the trust bundle holds no certificate")
        domains: dict[str, tuple[x509.Certificate, ...]] = {}
        for number, root in enumerate(self.all_roots, start=1):
            try:
                name = str(root_domain(root))
            except BundleMalformed as error:
                raise BundleMalformed(f"certificate {number} of the trust bundle: {error}") from error
            domains[name] = (*domains.get(name, ()), root)
        object.__setattr__(self, "_by_domain", MappingProxyType(domains))

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read PEM certificates one after another; text between them is ignored. Raises BundleMalformed."""
        try:
            return cls(read.load_pem(pem))
        except CertificateRefused as error:
            raise BundleMalformed(f"the trust bundle cannot be read: {error}") from error

    @classmethod
    def from_der(cls, roots: Iterable[bytes]) -> Self:
        """Read certificates in DER. Raises BundleMalformed."""
        try:
            return cls([read.load(root) for root in roots])
        except CertificateRefused as error:
            raise BundleMalformed(f"the trust bundle cannot be read: {error}") from error

    def to_pem(self, trust_domain: TrustDomain | None = None) -> bytes:
        """The roots of `trust_domain`, or of all, as PEM."""
        roots = self.all_roots if trust_domain is None else self.roots_of(trust_domain.name)
        return b"".join(root.public_bytes(serialization.Encoding.PEM) for root in roots)

    def to_der(self) -> tuple[bytes, ...]:
        """All roots in DER, in order."""
        return tuple(read.to_der(root) for root in self.all_roots)

    def roots_of(self, trust_domain: str) -> tuple[x509.Certificate, ...]:
        """The roots of one trust domain by its name; none for one that the bundle does not know."""
        return self._by_domain.get(trust_domain, ())

    @property
    def trust_domains(self) -> tuple[TrustDomain, ...]:
        """The trust domains that the bundle knows, in the order of their first roots."""
        return tuple(TrustDomain(name) for name in self._by_domain)


def root_domain(root: x509.Certificate) -> TrustDomain:
    """The trust domain of a root: a self-signed CA that may sign and names its domain. Raises BundleMalformed."""
    try:
        read.check_signer(root, intermediates_below=0)
        domain = read.signer_domain(root)
    except CertificateRefused as error:
        raise BundleMalformed(f"it is no signing certificate of a trust domain: {error}") from error
    if domain is None:
        raise BundleMalformed("it names no trust domain: a root carries the URI SAN spiffe://<trust-domain>")
    if not read.issued(root, root):
        raise BundleMalformed("it is not signed by itself: a trust bundle holds roots only, no intermediates")
    return domain
