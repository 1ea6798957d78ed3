"""A throw-away PKI: certificates as Doorward issues them, and every malformed one that a verifier must refuse.

    pki = Pki()                             a root, an intermediate and a bundle of cluster.local, valid now
    pki.svid("shop/checkout")               a good SVID
    pki.expired(), pki.two_uri_sans(), …    bad ones, named after the fault, each signed by the same intermediate

A good certificate goes through `certs.authority`. A bad one is made with `Pki.forge`, from a template that differs from
a good leaf in one field: so a test that refuses it refuses it for that field alone.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from attrs import evolve, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from certs.authority import Authority
from certs.bundle import TrustBundle
from certs.keys import PrivateKey, new_key
from certs.spiffe import SpiffeId, TrustDomain, WorkloadName
from certs.svid import Svid

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def key_usage(*names: str) -> x509.KeyUsage:
    """A key usage with just the named bits, such as `digital_signature`."""
    bits = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    assert set(names) <= set(bits), names
    return x509.KeyUsage(**{bit: bit in names for bit in bits})


@frozen
class Template:
    """What a forged certificate says. None or empty leaves the extension out."""

    not_before: datetime
    not_after: datetime
    uris: tuple[str, ...] = ("spiffe://cluster.local/ns/shop/sa/checkout",)
    dns_names: tuple[str, ...] = ()
    subject: x509.Name = field(factory=lambda: x509.Name([]))
    constraints: x509.BasicConstraints | None = field(factory=lambda: x509.BasicConstraints(ca=False, path_length=None))
    usage: x509.KeyUsage | None = field(factory=lambda: key_usage("digital_signature"))
    extended: tuple[ObjectIdentifier, ...] = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    extra: tuple[tuple[x509.ExtensionType, bool], ...] = ()  # with whether critical; instead of one of the same kind


def _trust_domain(name: TrustDomain | str) -> TrustDomain:
    return name if isinstance(name, TrustDomain) else TrustDomain(name)


@frozen
class Pki:
    """One trust domain's authority. `now` is when it was made, and the default time of all that it issues."""

    domain: TrustDomain = field(factory=lambda: TrustDomain("cluster.local"), converter=_trust_domain)
    now: datetime = field(factory=lambda: datetime.now(UTC).replace(microsecond=0))
    root: Authority = field(init=False)
    intermediate: Authority = field(init=False)

    @root.default
    def _new_root(self) -> Authority:
        return Authority.new_root(self.domain, now=self.now, lifetime=365 * DAY)

    @intermediate.default
    def _new_intermediate(self) -> Authority:
        return self.root.new_intermediate(now=self.now, lifetime=30 * DAY)

    @property
    def bundle(self) -> TrustBundle:
        """The bundle that trusts this PKI and no other."""
        return self.root.bundle

    def bundle_with(self, *others: "Pki") -> TrustBundle:
        """The bundle that trusts this PKI and others, each for its own trust domain."""
        return TrustBundle([self.root.root, *(other.root.root for other in others)])

    # Good ones

    def id(self, workload: str = "shop/checkout") -> SpiffeId:
        """The SPIFFE ID of a workload in this trust domain."""
        return WorkloadName.parse(workload).in_domain(self.domain)

    def svid(self, workload: str = "shop/checkout", *, now: datetime | None = None, lifetime: timedelta = HOUR) -> Svid:
        """A good SVID of a workload, issued at `now`."""
        return self.svid_for(self.id(workload), now=now, lifetime=lifetime)

    def control_plane_svid(self, *, now: datetime | None = None, lifetime: timedelta = HOUR) -> Svid:
        """A good SVID of the control plane."""
        return self.svid_for(self.domain.control_plane(), now=now, lifetime=lifetime)

    def svid_for(self, spiffe_id: SpiffeId, *, now: datetime | None = None, lifetime: timedelta = HOUR) -> Svid:
        """A good SVID for any ID of this trust domain."""
        key = new_key()
        return Svid(key, self.intermediate.issue(key.public_key(), spiffe_id, now=now or self.now, lifetime=lifetime))

    # Bad ones

    def two_uri_sans(self) -> Svid:
        """Names two workloads."""
        return self.forge(evolve(self.template(), uris=(str(self.id()), str(self.id("shop/payments")))))

    def no_san(self) -> Svid:
        """Has no SAN at all."""
        return self.forge(evolve(self.template(), uris=()))

    def no_uri_san(self) -> Svid:
        """Has a SAN with a DNS name only."""
        return self.forge(evolve(self.template(), uris=(), dns_names=("checkout.shop.svc",)))

    def with_uri(self, uri: str) -> Svid:
        """Has this text as its one URI SAN."""
        return self.forge(evolve(self.template(), uris=(uri,)))

    def ca_leaf(self) -> Svid:
        """Is a leaf with CA:TRUE."""
        return self.forge(evolve(self.template(), constraints=x509.BasicConstraints(ca=True, path_length=None)))

    def with_usage(self, *names: str) -> Svid:
        """Has just these key usages; without names, no such extension."""
        return self.forge(evolve(self.template(), usage=key_usage(*names) if names else None))

    def with_extended_usage(self, *purposes: ObjectIdentifier) -> Svid:
        """Has just these extended key usages; without any, no such extension."""
        return self.forge(evolve(self.template(), extended=purposes))

    def expired(self) -> Svid:
        """Expired an hour before `now`."""
        return self.forge(evolve(self.template(), not_before=self.now - 2 * HOUR, not_after=self.now - HOUR))

    def not_yet_valid(self) -> Svid:
        """Is valid an hour after `now`."""
        return self.forge(evolve(self.template(), not_before=self.now + HOUR, not_after=self.now + 2 * HOUR))

    def with_extension(self, extension: x509.ExtensionType, *, critical: bool) -> Svid:
        """Carries one more extension."""
        return self.forge(evolve(self.template(), extra=((extension, critical),)))

    # How bad ones are made

    def template(self, workload: str = "shop/checkout") -> Template:
        """A good leaf, as a template to change."""
        return Template(self.now - HOUR, self.now + HOUR, uris=(str(self.id(workload)),))

    def ca_template(self, *, path_length: int | None = 0) -> Template:
        """A good intermediate, as a template to change."""
        return Template(
            self.now - HOUR,
            self.now + DAY,
            uris=(f"spiffe://{self.domain}",),
            subject=x509.Name.from_rfc4514_string(f"CN=forged-{x509.random_serial_number():x}"[:60]),
            constraints=x509.BasicConstraints(ca=True, path_length=path_length),
            usage=key_usage("key_cert_sign", "crl_sign"),
            extended=(),
        )

    def forge(self, template: Template, *, by: Authority | None = None) -> Svid:
        """Whatever the template says, signed by `by` (this PKI's intermediate)."""
        key = new_key()
        signer = by or self.intermediate
        return Svid(key, (forge(template, key.public_key(), signer.certificate, signer.key), *signer.chain[:-1]))

    def forge_ca(self, template: Template, *, by: Authority | None = None) -> Authority:
        """A signing authority whose certificate says whatever the template says, signed by `by` (this PKI's root)."""
        key = new_key()
        signer = by or self.root
        return Authority(key, (forge(template, key.public_key(), signer.certificate, signer.key), *signer.chain))


def forge(
    template: Template,
    public_key: CertificatePublicKeyTypes,
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    *,
    hash_algorithm: hashes.SHA256 | hashes.SHA224 | None = None,
) -> x509.Certificate:
    """Sign what the template says."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(template.subject)
        .issuer_name(issuer.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(template.not_before)
        .not_valid_after(template.not_after)
    )
    for extension, critical in {each[0].oid: each for each in _extensions(template)}.values():
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, hash_algorithm or hashes.SHA256())


def _extensions(template: Template) -> Iterable[tuple[x509.ExtensionType, bool]]:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in template.uris]
    names += [x509.DNSName(name) for name in template.dns_names]
    if template.constraints is not None:
        yield template.constraints, True
    if template.usage is not None:
        yield template.usage, True
    if template.extended:
        yield x509.ExtendedKeyUsage(template.extended), False
    if names:
        yield x509.SubjectAlternativeName(names), True
    yield from template.extra
