"""The certificate authority of one control plane: a root that signs little, an issuing intermediate that signs leaves.

    root.key, root.pem        made on the first run, unless a CA of your own is given
    given-roots.pem           the roots of the CAs that were given, the newest first; never their keys
    issuer.key, issuer.pem    the intermediate with its chain up to the root; replaced at half of its life

Only the intermediate is needed from day to day: take `root.key` away to keep the root offline, and bring it back before
the intermediate ends. A CA that is given (by path, or from a Secret) takes over on the next start. The state's own root
and those given before stay trusted until they end, so that certificates that they issued are good until then. The
control plane's own SVID and its key are never written down.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from certs.authority import BACKDATE, Authority
from certs.bundle import TrustBundle, root_domain, root_fingerprint
from certs.certificate import load_pem
from certs.errors import BundleMalformed, CertsError, KeyRefused
from certs.keys import new_key
from certs.spiffe import SpiffeId, TrustDomain
from certs.svid import Svid
from certs.tls import server_context
from control_plane.settings import Lifetimes
from control_plane.state import State

GIVEN_ROOTS: Final = "given-roots.pem"


class AuthorityRefused(Exception):
    """The CA cannot be used. The message says why and what to do."""


@frozen
class GivenCa:
    """A CA of your own, in PEM: its chain up to the root, and its key. `source` and `advice` are for messages."""

    chain: bytes
    key: bytes = field(repr=False)
    source: str
    """Where it is from, such as `the Secret doorward/doorward-ca`."""
    advice: str = "give a CA whose root carries the URI SAN of this trust domain"
    """How to make one that can be used."""

    @classmethod
    def from_files(cls, certificate: Path, key: Path) -> Self:
        """Read both files. Raises AuthorityRefused."""
        try:
            if key.stat().st_mode & 0o007:
                raise AuthorityRefused(f"{key} can be used by everybody on this machine: run chmod o= {key}")
            return cls(certificate.read_bytes(), key.read_bytes(), str(certificate))
        except OSError as error:
            raise AuthorityRefused(f"the given CA cannot be read: {error}") from error


@define(eq=False)
class IssuingAuthority:
    """Issues certificates. `issue` may be called from any thread; renewals swap whole values under it."""

    trust_domain: TrustDomain
    bundle: TrustBundle
    """Every root that sidecars are to trust."""
    issuer: Authority
    svid: Svid
    """The control plane's own, as `spiffe://<td>/doorward/control-plane`."""
    _signer: Authority | None
    """Signs the intermediates; None where the root's key is kept elsewhere."""
    _state: State
    _clock: Callable[[], datetime]
    _lifetimes: Lifetimes
    _contexts: dict[bytes, tuple[Svid, SSL.Context]] = field(init=False, factory=dict)

    def server_context(self, alpn: bytes, *, client_certificate: bool = True) -> SSL.Context:
        """For the door that speaks `alpn`, with the own SVID: a renewed one gets a new context, open connections keep
        theirs."""
        made = self._contexts.get(alpn)
        if made is None or made[0] is not self.svid:
            context = server_context(self.svid, self.bundle, [alpn], client_certificate=client_certificate)
            made = self._contexts[alpn] = self.svid, context
        return made[1]

    def issue(
        self, public_key: ec.EllipticCurvePublicKey, identity: SpiffeId, *, lifetime: timedelta | None = None
    ) -> tuple[x509.Certificate, ...]:
        """A chain for `identity`, leaf first and without the root. Raises CannotIssue."""
        lifetime = lifetime or self._lifetimes.certificate
        return self.issuer.issue(public_key, identity, now=self._clock(), lifetime=lifetime)

    def renew_issuer_if_due(self) -> bool:
        """Replace the intermediate once it has passed half of its life; True where it was. Blocks on the disk.

        Raises AuthorityRefused where the root's key is not at hand or cannot sign, StateRefused where it cannot write.
        """
        if self._clock() < _half_life(self.issuer.certificate):
            return False
        try:
            self.issuer = _new_issuer(self._signer, self._state, self._clock(), self._lifetimes)
        except CertsError as error:
            raise AuthorityRefused(f"the root cannot sign a new issuing certificate: {error}") from error
        return True

    def renew_own_if_due(self) -> bool:
        """Replace the control plane's own SVID once it has passed half of its life; True where it was.

        Raises AuthorityRefused where the intermediate cannot sign any more.
        """
        if self._clock() < _half_life(self.svid.leaf):
            return False
        try:
            self.svid = _own_svid(self.issuer, self.trust_domain, self._clock(), self._lifetimes)
        except CertsError as error:
            raise AuthorityRefused(f"the control plane's own certificate cannot be renewed: {error}") from error
        return True

    def next_due(self) -> datetime:
        """When there is something to renew next, unless the clock is moved."""
        return min(_half_life(self.svid.leaf), _half_life(self.issuer.certificate))

    @property
    def issuer_not_after(self) -> datetime:
        """When the issuing intermediate ends, aware UTC."""
        return self.issuer.not_after

    @property
    def root_not_after(self) -> datetime:
        """When the first of the own trust domain's roots ends, aware UTC."""
        return min(root.not_valid_after_utc for root in self.bundle.roots_of(self.trust_domain.name))

    @property
    def root_is_offline(self) -> bool:
        """True where the key that signs the intermediate is kept elsewhere."""
        return self._signer is None


def open_authority(
    state: State,
    trust_domain: TrustDomain,
    clock: Callable[[], datetime],
    given: GivenCa | None = None,
    *,
    lifetimes: Lifetimes | None = None,
) -> IssuingAuthority:
    """Read the CA from the state directory, making what an empty one lacks; or take the one that is given.

    `clock` gives aware UTC times. Raises AuthorityRefused, and StateRefused for files that others may read.
    """
    lifetimes = lifetimes or Lifetimes()
    now = clock()
    try:
        own_roots, given_roots = _stored_roots(state), _stored_roots(state, GIVEN_ROOTS)
        if given is not None:
            signer: Authority | None = Authority.load(given.key, given.chain)
        else:
            signer = _stored_signer(state, trust_domain, own_roots, now, lifetimes)
            own_roots = own_roots or _stored_roots(state)
        root = signer.root if signer else own_roots[0]
        _check(root, trust_domain, now)
        issuer = _usable_issuer(state, root, signer, now, lifetimes)
        svid = _own_svid(issuer, trust_domain, now, lifetimes)
        former = [each for each in (*own_roots, *given_roots) if each.not_valid_after_utc > now]
        bundle = TrustBundle((root, *former))
    except CertsError as error:
        source, advice = (given.source, f"; {given.advice}") if given else (str(state.path), "")
        raise AuthorityRefused(f"the CA in {source} cannot be used: {error}{advice}") from error
    if given is not None:
        _remember(state, root, given_roots)
    return IssuingAuthority(trust_domain, bundle, issuer, svid, signer, state, clock, lifetimes)


def _check(root: x509.Certificate, trust_domain: TrustDomain, now: datetime) -> None:
    """Raises BundleMalformed."""
    domain = root_domain(root)
    if domain != trust_domain:
        raise BundleMalformed(f"its root is that of the trust domain {domain}, not {trust_domain}")
    if root.not_valid_after_utc <= now:
        raise BundleMalformed(f"its root ended at {root.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: give a new CA")


def _remember(state: State, root: x509.Certificate, before: tuple[x509.Certificate, ...]) -> None:
    """Keep the root of the given CA, so that it stays trusted once another one is given."""
    if before[:1] != (root,):
        state.write(GIVEN_ROOTS, TrustBundle((root, *before)).to_pem())


def known_roots(state: State) -> list[str]:
    """The fingerprints of the roots that the state directory keeps; none before the first run.

    Raises AuthorityRefused, and StateRefused for a file that others may read.
    """
    try:
        return [root_fingerprint(root) for root in _stored_roots(state)]
    except CertsError as error:
        raise AuthorityRefused(f"the CA in {state.path} cannot be used: {error}") from error


def _stored_roots(state: State, file: str = "root.pem") -> tuple[x509.Certificate, ...]:
    pem = state.read(file)
    return () if pem is None else TrustBundle.from_pem(pem).all_roots


def _stored_signer(
    state: State, trust_domain: TrustDomain, roots: tuple[x509.Certificate, ...], now: datetime, lifetimes: Lifetimes
) -> Authority | None:
    """The state's own root with its key, made on the first run; None where its key has been taken away."""
    if not roots:
        if state.read("issuer.pem") is not None:
            raise AuthorityRefused(f"{state.file('root.pem')} is missing: bring it back from a backup")
        root = Authority.new_root(trust_domain, now=now, lifetime=lifetimes.root)
        state.write("root.key", root.key_pem())
        state.write("root.pem", root.chain_pem())  # last: without it the first run has not happened yet
        return root
    key = state.read("root.key")
    return None if key is None else Authority.load(key, state.file("root.pem").read_bytes())


def _usable_issuer(
    state: State, root: x509.Certificate, signer: Authority | None, now: datetime, lifetimes: Lifetimes
) -> Authority:
    """The stored intermediate, or a new one where it is missing, past half of its life, or of another root."""
    stored = _stored_issuer(state, signer)
    if stored is not None and stored.root == root:
        if now < _half_life(stored.certificate):
            return stored
        if signer is None and now < stored.not_after:
            return stored  # the root is offline: this one serves until its end, and the log says so
    return _new_issuer(signer, state, now, lifetimes)


def _stored_issuer(state: State, signer: Authority | None) -> Authority | None:
    key, chain = state.read("issuer.key"), state.read("issuer.pem")
    if key is None or chain is None:
        return None
    try:
        return Authority.load(key, chain)
    except KeyRefused:
        raise  # no crash leaves such a file: it is written whole
    except CertsError:
        if signer is None or not _readable(chain):
            raise
        return None  # a crash came between the two files: a new pair is as good


def _readable(chain: bytes) -> bool:
    try:
        return bool(load_pem(chain))
    except CertsError:
        return False


def _new_issuer(signer: Authority | None, state: State, now: datetime, lifetimes: Lifetimes) -> Authority:
    if signer is None:
        raise AuthorityRefused(
            f"the issuing certificate must be renewed and {state.file('root.key')} is not there: put the root's key "
            "back (or give the CA by path) and start again"
        )
    issuer = signer.new_intermediate(now=now, lifetime=lifetimes.issuer)
    state.write("issuer.key", issuer.key_pem())
    state.write("issuer.pem", issuer.chain_pem())
    return issuer


def _own_svid(issuer: Authority, trust_domain: TrustDomain, now: datetime, lifetimes: Lifetimes) -> Svid:
    key = new_key()
    identity = trust_domain.control_plane()
    return Svid(key, issuer.issue(key.public_key(), identity, now=now, lifetime=lifetimes.own_certificate))


def _half_life(certificate: x509.Certificate) -> datetime:
    begin, end = certificate.not_valid_before_utc + BACKDATE, certificate.not_valid_after_utc
    return begin + (end - begin) / 2
