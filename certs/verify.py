"""Who is the peer? A chain and a trust bundle in, one identity out, or one error that says why not.

TLS proves that the peer holds the leaf's key, and OpenSSL that some root leads to it. Neither knows SPIFFE. Here the
whole question is asked once more, in this order, each step with its own error:

    1. the leaf names exactly one workload            NoUriSan, SeveralUriSans, MalformedId
    2. the leaf authenticates and cannot sign         LeafIsCa, WrongUsage, CertificateMalformed
    3. signatures lead to a root of the leaf's OWN
       trust domain, through what the peer presented  UnknownIssuer, OtherTrustDomain
    4. everyone on the path may sign                  WrongUsage, OtherTrustDomain, …
    5. everyone on the path is valid now              CertificateExpired, CertificateNotYetValid

The path is walked upwards without going back, so a chain of n certificates costs at most n² signature checks, and n is
bounded. Source: X509-SVID §5; RFC 5280 §6.1; RFC 8446 §4.4.2 for the order of a presented chain.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from attrs import frozen
from cryptography import x509

from certs import certificate as read
from certs.bundle import TrustBundle, root_fingerprint
from certs.errors import CertificateMalformed, CertificateMissing, OtherTrustDomain, UnknownIssuer
from certs.spiffe import SpiffeId

MAX_CHAIN = 8  # certificates that a peer may present; SPIFFE meshes send two or three


@frozen
class Peer:
    """A proven identity: what a connection remembers of its peer until it ends."""

    id: SpiffeId
    serial: int  # of the leaf
    root: str  # fingerprint of the root that it chains to: SHA-256, hex
    not_before: datetime  # of the leaf, aware UTC
    not_after: datetime  # of the leaf, aware UTC


def verify_chain(chain: Sequence[x509.Certificate], bundle: TrustBundle, now: datetime) -> Peer:
    """Verify a presented chain, leaf first, at `now` (aware). Raises exactly one kind of CertificateRefused."""
    if not chain:
        raise CertificateMissing("the peer presented no certificate")
    if len(chain) > MAX_CHAIN:
        raise CertificateMalformed(f"the peer presented {len(chain)} certificates, more than {MAX_CHAIN}")
    leaf = chain[0]
    identity = read.leaf_id(leaf)
    read.check_leaf(leaf)
    if not bundle.roots_of(identity.trust_domain):
        raise OtherTrustDomain(f"the trust bundle has no root of the peer's trust domain {identity.trust_domain}")
    path = _path(chain, bundle, identity.trust_domain, now)
    _check_signers(path, identity.trust_domain)
    _check_dates(path, now)
    return Peer(
        id=identity,
        serial=leaf.serial_number,
        root=root_fingerprint(path[-1]),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )


def verify_der(chain: Sequence[bytes], bundle: TrustBundle, now: datetime) -> Peer:
    """As `verify_chain`, for certificates in DER."""
    return verify_chain([read.load(der) for der in chain[: MAX_CHAIN + 1]], bundle, now)


def _path(
    chain: Sequence[x509.Certificate], bundle: TrustBundle, trust_domain: str, now: datetime
) -> list[x509.Certificate]:
    """Leaf, intermediates and root, each signed by the next. Raises UnknownIssuer, OtherTrustDomain."""
    path = [chain[0]]
    unused = list(chain[1:])
    while True:
        root = _issuer(path[-1], bundle.roots_of(trust_domain), now)
        if root is not None:
            return [*path, root]
        above = _issuer(path[-1], unused, now)
        if above is None:
            break
        unused.remove(above)
        path.append(above)
    if _issuer(path[-1], bundle.all_roots, now) is not None:
        raise OtherTrustDomain(f"a root of another trust domain vouches for a peer of {trust_domain}")
    raise UnknownIssuer(f"no signatures lead from the peer's certificate to a known root of {trust_domain}")


def _issuer(
    certificate: x509.Certificate, candidates: Iterable[x509.Certificate], now: datetime
) -> x509.Certificate | None:
    """Who of the candidates signed the certificate; one that is valid now before one that is not."""
    first: x509.Certificate | None = None
    for candidate in candidates:
        if read.issued(candidate, certificate):
            not_before, not_after = read.validity(candidate)
            if not_before <= now <= not_after:
                return candidate
            first = first or candidate
    return first


def _check_signers(path: Sequence[x509.Certificate], trust_domain: str) -> None:
    """Every CA above the leaf may sign what it signed, for this trust domain. The root's own domain is known."""
    for below, signer in enumerate(path[1:]):
        read.check_signer(signer, intermediates_below=below)
    for intermediate in path[1:-1]:
        read.check_critical_extensions(intermediate)
        domain = read.signer_domain(intermediate)
        if domain is not None and domain.name != trust_domain:
            raise OtherTrustDomain(f"an intermediate of {domain} vouches for a peer of {trust_domain}")


def _check_dates(path: Sequence[x509.Certificate], now: datetime) -> None:
    leaf, *intermediates, root = path
    read.check_dates(leaf, now, "certificate")
    for intermediate in intermediates:
        read.check_dates(intermediate, now, "intermediate certificate")
    read.check_dates(root, now, "root certificate")
