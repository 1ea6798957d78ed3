"""A signing authority: a root, or an intermediate below it, that turns a public key and an ID into an SVID.

The root may stay offline: it signs an issuing intermediate, which signs leaves. What an authority signs never outlives
it, begins a little before `now` for peers whose clocks are behind, and always belongs to its own trust domain.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Self

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certs import certificate as read
from certs import profile
from certs.bundle import TrustBundle, root_domain
from certs.errors import BundleMalformed, CannotIssue, CertificateRefused
from certs.keys import PrivateKey, fingerprint, key_from_pem, key_to_pem, new_key
from certs.serving import is_dns_name
from certs.spiffe import SpiffeId, TrustDomain

BACKDATE = timedelta(minutes=2)  # how far behind a peer's clock may be before it refuses a new certificate


@frozen
class Authority:
    """A signing key and its certificates: its own first, then those above it, up to and including the root."""

    key: PrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...]

    @classmethod
    def new_root(cls, trust_domain: TrustDomain, *, now: datetime, lifetime: timedelta) -> Self:
        """A new root with a new key, valid for `lifetime` from `now` on. It has room for one intermediate below it."""
        key = new_key()
        name = profile.ca_name("root", key.public_key())
        builder = profile.ca_builder(
            key.public_key(), name, trust_domain, now - BACKDATE, now + lifetime, path_length=1
        )
        return cls(key, (profile.sign(builder, key, None, name),))

    def new_intermediate(self, *, now: datetime, lifetime: timedelta) -> Self:
        """An issuing authority with a new key below this one. Raises CannotIssue where no room or time is left."""
        constraints = read.extension(self.certificate, x509.BasicConstraints)
        if constraints is not None and constraints.path_length == 0:
            raise CannotIssue("this authority has path length 0: it issues leaves, no authority below it")
        not_before, not_after = self._validity(now, lifetime)
        key = new_key()
        name = profile.ca_name("issuer", key.public_key())
        builder = profile.ca_builder(key.public_key(), name, self.trust_domain, not_before, not_after, path_length=0)
        return type(self)(key, (self._sign(builder), *self.chain))

    @classmethod
    def load(cls, key_pem: bytes, chain_pem: bytes) -> Self:
        """Read what `key_pem` and `chain_pem` wrote, or a foreign CA's files. Raises KeyRefused, BundleMalformed."""
        key = key_from_pem(key_pem)
        try:
            chain = read.load_pem(chain_pem)
        except CertificateRefused as error:
            raise BundleMalformed(f"the CA's certificates cannot be read: {error}") from error
        authority = cls(key, chain)
        authority._check()
        return authority

    def key_pem(self) -> bytes:
        """The signing key as unencrypted PKCS #8 PEM: guard the file that it goes to."""
        return key_to_pem(self.key)

    def chain_pem(self) -> bytes:
        """The certificates as PEM, the authority's own first, the root last."""
        return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in self.chain)

    @property
    def certificate(self) -> x509.Certificate:
        """The authority's own certificate."""
        return self.chain[0]

    @property
    def root(self) -> x509.Certificate:
        """The root that peers trust."""
        return self.chain[-1]

    @cached_property
    def trust_domain(self) -> TrustDomain:
        """The one trust domain for which it signs: that of its root."""
        return root_domain(self.root)

    @property
    def bundle(self) -> TrustBundle:
        """A trust bundle of the one root."""
        return TrustBundle([self.root])

    @property
    def not_before(self) -> datetime:
        """From when on all of its certificates are valid, aware UTC."""
        return max(each.not_valid_before_utc for each in self.chain)

    @property
    def not_after(self) -> datetime:
        """Until when all of its certificates are valid, aware UTC: nothing that it signs lives longer."""
        return min(each.not_valid_after_utc for each in self.chain)

    def issue(
        self, public_key: ec.EllipticCurvePublicKey, spiffe_id: SpiffeId, *, now: datetime, lifetime: timedelta
    ) -> tuple[x509.Certificate, ...]:
        """An SVID for the key and ID: leaf first, intermediates, without the root.

        Valid from BACKDATE before `now` until `lifetime` after it, cut to the authority's own validity. Raises
        CannotIssue for an ID of another trust domain, and where nothing is left of the authority's own lifetime.
        """
        if spiffe_id.trust_domain != self.trust_domain.name:
            raise CannotIssue(f"this authority signs for {self.trust_domain}, not for {spiffe_id}")
        not_before, not_after = self._validity(now, lifetime)
        leaf = self._sign(profile.leaf_builder(public_key, spiffe_id, not_before, not_after))
        return (leaf, *self.chain[:-1])

    def issue_serving(
        self, public_key: ec.EllipticCurvePublicKey, dns_names: Sequence[str], *, now: datetime, lifetime: timedelta
    ) -> tuple[x509.Certificate, ...]:
        """As `issue`, for a server that is known by DNS names and not by an ID: it never passes for an SVID."""
        if not dns_names or not all(map(is_dns_name, dns_names)):
            raise CannotIssue(f"{', '.join(dns_names)[:200]!r}: a serving certificate needs DNS names, in lower case")
        not_before, not_after = self._validity(now, lifetime)
        leaf = self._sign(profile.serving_builder(public_key, dns_names, not_before, not_after))
        return (leaf, *self.chain[:-1])

    def _validity(self, now: datetime, lifetime: timedelta) -> tuple[datetime, datetime]:
        """From when until when something signed now may be valid. Raises CannotIssue."""
        if lifetime < timedelta(seconds=1):
            raise CannotIssue("a lifetime of less than a second cannot be issued")
        if now < self.not_before:
            raise CannotIssue(f"the authority is valid from {self.not_before.isoformat()} on: check the clock")
        if now + timedelta(seconds=1) > self.not_after:
            raise CannotIssue(f"the authority expired at {self.not_after.isoformat()}: renew it first")
        return max(now - BACKDATE, self.not_before), min(now + lifetime, self.not_after)

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return profile.sign(builder, self.key, self.certificate, self.certificate.subject)

    def _check(self) -> None:
        """Key and chain belong together and lead to a root that names its trust domain. Raises BundleMalformed."""
        domain = root_domain(self.root)
        try:
            if read.public_key_fingerprint(self.certificate) != fingerprint(self.key.public_key()):
                raise BundleMalformed("the CA's first certificate is not for the CA's key")
            for below, signer in enumerate(self.chain):
                read.check_signer(signer, intermediates_below=below)
                if read.signer_domain(signer) not in {None, domain}:
                    raise BundleMalformed(f"a CA certificate belongs to another trust domain than its root {domain}")
        except CertificateRefused as error:
            raise BundleMalformed(f"the CA's certificates cannot be used: {error}") from error
        for lower, upper in zip(self.chain, self.chain[1:], strict=False):
            if not read.issued(upper, lower):
                raise BundleMalformed("the CA's certificates are not in order: its own first, each signed by the next")
