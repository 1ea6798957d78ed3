"""Every chain that a verifier must refuse, as data: a name, how to make it, and the one error that it deserves.

Each is made by a Pki and shown to a verifier that trusts that Pki's root and the root of `partner.example`. Tests of
`certs.verify` hand the chain over as it is; tests of TLS show it in a real handshake and expect the same reason.
"""

from collections.abc import Callable
from datetime import timedelta

from attrs import evolve, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, ObjectIdentifier

from certs import errors
from certs.authority import Authority
from certs.keys import new_key
from certs.svid import Svid
from tests.support.pki import DAY, HOUR, Pki, Template, forge, key_usage

UNKNOWN_OID = ObjectIdentifier("1.3.6.1.4.1.55555.1")
NO_CA = x509.BasicConstraints(ca=False, path_length=None)


@frozen
class BadChain:
    """One chain to refuse: `make(pki, partner)` builds it, `error` is what it deserves."""

    name: str
    error: type[errors.CertificateRefused]
    make: Callable[[Pki, Pki], Svid]

    def __str__(self) -> str:
        return self.name


def _leaf(name: str, error: type[errors.CertificateRefused], change: Callable[[Pki], Svid]) -> BadChain:
    return BadChain(name, error, lambda pki, _partner: change(pki))


def _uri(name: str, uri: str) -> BadChain:
    return _leaf(name, errors.MalformedId, lambda pki: pki.with_uri(uri))


def _below(pki: Pki, template: Template, *, by: Authority | None = None) -> Svid:
    """A good leaf below an intermediate that says what the template says."""
    return pki.forge(pki.template(), by=pki.forge_ca(template, by=by))


def _garbage(oid: ObjectIdentifier) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(oid, b"\x04\x03garbage")


def _garbage_san(pki: Pki) -> Svid:
    garbage = _garbage(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    return pki.forge(evolve(pki.template(), uris=(), extra=((garbage, True),)))


def _garbage_constraints(pki: Pki) -> Svid:
    garbage = _garbage(ExtensionOID.BASIC_CONSTRAINTS)
    return pki.forge(evolve(pki.template(), constraints=None, extra=((garbage, True),)))


def _constrained_intermediate(pki: Pki) -> Svid:
    names = x509.NameConstraints([x509.UniformResourceIdentifier("other.example")], None)
    return _below(pki, evolve(pki.ca_template(), extra=((names, True),)))


def _leaf_signs_leaf(pki: Pki) -> Svid:
    template = evolve(pki.template(), subject=x509.Name.from_rfc4514_string("CN=a workload"))
    return pki.forge(pki.template(), by=pki.forge_ca(template, by=pki.intermediate))


def _self_signed(pki: Pki) -> Svid:
    key = new_key()
    name = x509.Name.from_rfc4514_string("CN=myself")
    issuer = forge(evolve(pki.ca_template(), subject=name), key.public_key(), pki.root.certificate, key)
    return Svid(key, (forge(pki.template(), key.public_key(), issuer, key),))


def _same_names_other_key(pki: Pki) -> Svid:
    """An impostor's intermediate that bears the real one's name."""
    impostor = Authority(new_key(), pki.intermediate.chain)
    return pki.forge(pki.template(), by=impostor)


def _weakly_signed(pki: Pki) -> Svid:
    key = new_key()
    signer = pki.intermediate
    leaf = forge(pki.template(), key.public_key(), signer.certificate, signer.key, hash_algorithm=hashes.SHA224())
    return Svid(key, (leaf, signer.certificate))


def _weak_key(pki: Pki) -> Svid:
    key = rsa.generate_private_key(65537, 1024)
    signer = pki.intermediate
    return Svid(key, (forge(pki.template(), key.public_key(), signer.certificate, signer.key), signer.certificate))


def _weak_intermediate(pki: Pki) -> Svid:
    key = rsa.generate_private_key(65537, 1024)
    certificate = forge(pki.ca_template(), key.public_key(), pki.root.certificate, pki.root.key)
    return pki.forge(pki.template(), by=Authority(key, (certificate, *pki.root.chain)))


def _without_intermediate(pki: Pki) -> Svid:
    good = pki.svid()
    return Svid(good.key, good.chain[:1])


def _by_a_stranger(pki: Pki) -> Svid:
    return Pki(pki.domain, now=pki.now).svid()


def _by_a_stranger_with_root(pki: Pki) -> Svid:
    stranger = Pki(pki.domain, now=pki.now)
    svid = stranger.svid()
    return Svid(svid.key, (*svid.chain, stranger.root.root))


def _circle(pki: Pki) -> Svid:
    """Two CAs that certify each other, and no root."""
    one, other = (Authority.new_root(pki.domain, now=pki.now, lifetime=DAY) for _ in range(2))
    crossed = [
        forge(
            evolve(pki.ca_template(path_length=None), subject=below.certificate.subject),
            below.key.public_key(),
            above.certificate,
            above.key,
        )
        for below, above in ((one, other), (other, one))
    ]
    key = new_key()
    return Svid(key, (forge(pki.template(), key.public_key(), one.certificate, one.key), *crossed))


def _of_an_unknown_domain(pki: Pki) -> Svid:
    return Pki("nobody.example", now=pki.now).svid()


def _too_long(pki: Pki) -> Svid:
    good = pki.svid()
    return Svid(good.key, (*good.chain, *[pki.svid().leaf for _ in range(8)]))


def _between(pki: Pki, begin: timedelta, end: timedelta) -> Template:
    return evolve(pki.ca_template(), not_before=pki.now + begin, not_after=pki.now + end)


BAD_CHAINS = [
    # The name
    _leaf("no SAN", errors.NoUriSan, Pki.no_san),
    _leaf("no URI among the SANs", errors.NoUriSan, Pki.no_uri_san),
    _leaf("two URI SANs", errors.SeveralUriSans, Pki.two_uri_sans),
    _uri("an https URI", "https://cluster.local/ns/shop/sa/checkout"),
    _uri("an ID without a path", "spiffe://cluster.local"),
    _uri("an ID with an empty path", "spiffe://cluster.local/"),
    _uri("an ID with a trailing slash", "spiffe://cluster.local/ns/shop/sa/checkout/"),
    _uri("an ID with a trailing newline", "spiffe://cluster.local/ns/shop/sa/checkout\n"),
    _uri("an ID with an empty segment", "spiffe://cluster.local/ns//sa/checkout"),
    _uri("an ID with a dot segment", "spiffe://cluster.local/ns/shop/../sa/checkout"),
    _uri("an ID in capitals", "spiffe://CLUSTER.local/ns/shop/sa/checkout"),
    _uri("a scheme in capitals", "SPIFFE://cluster.local/ns/shop/sa/checkout"),
    _uri("an ID with an escape", "spiffe://cluster.local/ns/shop/sa/check%6Fut"),
    _uri("an ID with a port", "spiffe://cluster.local:443/ns/shop/sa/checkout"),
    _uri("an ID with a user", "spiffe://root@cluster.local/ns/shop/sa/checkout"),
    _uri("an ID with a query", "spiffe://cluster.local/ns/shop/sa/checkout?x=1"),
    _uri("an ID with a fragment", "spiffe://cluster.local/ns/shop/sa/checkout#x"),
    _uri("an ID with a NUL", "spiffe://cluster.local/ns/shop/sa/checkout\0"),
    _uri("an ID that is too long", "spiffe://cluster.local/" + "a" * 2048),
    _uri("an empty URI", ""),
    # What the leaf may do
    _leaf("a CA leaf", errors.LeafIsCa, Pki.ca_leaf),
    _leaf("no key usage", errors.WrongUsage, lambda pki: pki.with_usage()),
    _leaf("no digitalSignature", errors.WrongUsage, lambda pki: pki.with_usage("key_agreement")),
    _leaf("cRLSign on the leaf", errors.WrongUsage, lambda pki: pki.with_usage("digital_signature", "crl_sign")),
    _leaf(
        "keyCertSign on the leaf", errors.WrongUsage, lambda pki: pki.with_usage("digital_signature", "key_cert_sign")
    ),
    _leaf("serverAuth only", errors.WrongUsage, lambda pki: pki.with_extended_usage(ExtendedKeyUsageOID.SERVER_AUTH)),
    _leaf("clientAuth only", errors.WrongUsage, lambda pki: pki.with_extended_usage(ExtendedKeyUsageOID.CLIENT_AUTH)),
    _leaf("neither of both", errors.WrongUsage, lambda pki: pki.with_extended_usage(ExtendedKeyUsageOID.CODE_SIGNING)),
    # What cannot be read
    _leaf("garbage for a SAN", errors.CertificateMalformed, _garbage_san),
    _leaf("garbage for constraints", errors.CertificateMalformed, _garbage_constraints),
    _leaf(
        "an unknown critical extension",
        errors.CertificateMalformed,
        lambda pki: pki.with_extension(_garbage(UNKNOWN_OID), critical=True),
    ),
    _leaf(
        "an unknown critical extension above",
        errors.CertificateMalformed,
        lambda pki: _below(pki, evolve(pki.ca_template(), extra=((_garbage(UNKNOWN_OID), True),))),
    ),
    _leaf("name constraints above", errors.CertificateMalformed, _constrained_intermediate),
    _leaf("a weak key", errors.CertificateMalformed, _weak_key),
    _leaf("too many certificates", errors.CertificateMalformed, _too_long),
    # Who signed
    _leaf("an unknown CA", errors.UnknownIssuer, _by_a_stranger),
    _leaf("an unknown CA that shows its root", errors.UnknownIssuer, _by_a_stranger_with_root),
    _leaf("a circle of CAs", errors.UnknownIssuer, _circle),
    _leaf("a self-signed leaf", errors.UnknownIssuer, _self_signed),
    _leaf("an impostor of the intermediate", errors.UnknownIssuer, _same_names_other_key),
    _leaf("no intermediate", errors.UnknownIssuer, _without_intermediate),
    _leaf("a weak signature", errors.UnknownIssuer, _weakly_signed),
    _leaf("a weak key above", errors.UnknownIssuer, _weak_intermediate),
    _leaf("an unknown trust domain", errors.OtherTrustDomain, _of_an_unknown_domain),
    _leaf(
        "the ID of an unknown trust domain, by our CA",
        errors.OtherTrustDomain,
        lambda pki: pki.with_uri("spiffe://nobody.example/ns/shop/sa/checkout"),
    ),
    BadChain(
        "our own ID, by a CA of another domain",
        errors.OtherTrustDomain,
        lambda pki, partner: partner.with_uri(str(pki.id())),
    ),
    BadChain(
        "our own ID, by the root of another domain itself",
        errors.OtherTrustDomain,
        lambda pki, partner: partner.forge(pki.template(), by=partner.root),
    ),
    BadChain(
        "an ID of another domain, by our CA",
        errors.OtherTrustDomain,
        lambda pki, partner: pki.with_uri(str(partner.id())),
    ),
    _leaf(
        "an intermediate of another domain",
        errors.OtherTrustDomain,
        lambda pki: _below(pki, evolve(pki.ca_template(), uris=("spiffe://partner.example",))),
    ),
    # Whether they might sign
    _leaf("a leaf signs a leaf", errors.WrongUsage, _leaf_signs_leaf),
    _leaf(
        "an intermediate that is no CA",
        errors.WrongUsage,
        lambda pki: _below(pki, evolve(pki.ca_template(), constraints=NO_CA)),
    ),
    _leaf(
        "an intermediate without constraints",
        errors.WrongUsage,
        lambda pki: _below(pki, evolve(pki.ca_template(), constraints=None)),
    ),
    _leaf(
        "an intermediate without keyCertSign",
        errors.WrongUsage,
        lambda pki: _below(pki, evolve(pki.ca_template(), usage=key_usage("digital_signature"))),
    ),
    _leaf(
        "a path longer than allowed",
        errors.WrongUsage,
        lambda pki: _below(pki, pki.ca_template(path_length=None), by=pki.intermediate),
    ),
    _leaf(
        "an intermediate that names a workload",
        errors.MalformedId,
        lambda pki: _below(pki, evolve(pki.ca_template(), uris=(str(pki.id()),))),
    ),
    _leaf(
        "an intermediate that names an https URI",
        errors.MalformedId,
        lambda pki: _below(pki, evolve(pki.ca_template(), uris=("https://cluster.local",))),
    ),
    _leaf(
        "an intermediate with two URI SANs",
        errors.SeveralUriSans,
        lambda pki: _below(pki, evolve(pki.ca_template(), uris=("spiffe://cluster.local", "spiffe://b"))),
    ),
    # When
    _leaf("an expired leaf", errors.CertificateExpired, Pki.expired),
    _leaf("a leaf not valid yet", errors.CertificateNotYetValid, Pki.not_yet_valid),
    _leaf(
        "an expired intermediate", errors.CertificateExpired, lambda pki: _below(pki, _between(pki, -2 * DAY, -HOUR))
    ),
    _leaf(
        "an intermediate not valid yet",
        errors.CertificateNotYetValid,
        lambda pki: _below(pki, _between(pki, HOUR, 2 * DAY)),
    ),
]
