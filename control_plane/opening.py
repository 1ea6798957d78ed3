"""Opens what all of the control plane stands on, as one Office: the store, the CA, and the board over both.

The CA is given, by files or by a Secret of the cluster, or else is the state directory's own.
"""

import secrets
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import trio

from certs.bundle import root_fingerprint
from certs.spiffe import TrustDomain
from control_plane.advance import Advance
from control_plane.authority import GivenCa, IssuingAuthority, known_roots, open_authority
from control_plane.cluster import own_namespace
from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.ca_secret import open_ca_secret
from control_plane.kubernetes.token_review import TokenReviewer
from control_plane.metrics import Metrics
from control_plane.push.board import Board
from control_plane.push.links import Links
from control_plane.push.office import Office, in_thread
from control_plane.push.platform import Platform
from control_plane.settings import ControlPlaneSettings
from control_plane.state import STORE_FILE, State
from control_plane.store.store import Store


async def open_office(
    settings: ControlPlaneSettings, state: State, metrics: Metrics, api: KubernetesApi | None, stack: AsyncExitStack
) -> Office:
    """Whatever has to be closed at the end is on `stack`. Raises StoreError, AuthorityRefused, StateRefused."""
    domain, url = state.trust_domain, settings.store_url or state.store_url
    given = await _given_ca(settings, domain, api)
    roots = None if given else known_roots(state)
    if roots and settings.store_url is None:
        state.require(STORE_FILE)
    kept = settings.retention
    store = await in_thread(lambda: Store.open(url, trust_domain=domain, clock=_now, roots=roots, retention=kept))
    stack.callback(store.close)  # not in a thread: at the end this is cancelled, and nothing else runs by then
    authority = await in_thread(lambda: open_authority(state, domain, _now, given, lifetimes=settings.lifetimes))
    fingerprints = [root_fingerprint(root) for root in authority.bundle.all_roots]
    await in_thread(lambda: store.note_roots(fingerprints))
    await in_thread(lambda: store.record("doorward", "control_plane.started", _own_certificates(authority)))
    links = Links()
    _show_expiry(authority, metrics)
    board = Board(store, authority, links, metrics, None if settings.kubernetes.enabled else Platform())
    await board.hang()
    return Office(
        trust_domain=domain,
        store=store,
        authority=authority,
        board=board,
        links=links,
        advance=Advance(),
        metrics=metrics,
        clock=_now,
        lifetimes=settings.lifetimes,
        limits=settings.limits,
        instance=secrets.token_hex(8),
        proofs=trio.CapacityLimiter(settings.limits.proofs_at_once),
        reviewer=None if api is None else _reviewer(settings, api),
    )


async def _given_ca(settings: ControlPlaneSettings, domain: TrustDomain, api: KubernetesApi | None) -> GivenCa | None:
    """The CA of one's own, where there is one. Raises AuthorityRefused."""
    cluster, certificate, key = settings.kubernetes, settings.ca_certificate, settings.ca_key
    if api is not None and cluster.ca_secret is not None:
        lifetime = settings.lifetimes.root
        return await open_ca_secret(
            api, own_namespace(cluster), cluster.ca_secret, domain, now=_now(), lifetime=lifetime
        )
    if certificate is not None and key is not None:
        return await in_thread(lambda: GivenCa.from_files(certificate, key))
    return None


def _reviewer(settings: ControlPlaneSettings, api: KubernetesApi) -> TokenReviewer:
    limits = settings.limits
    return TokenReviewer(api, settings.kubernetes.token_audience, limits.reviews_at_once, limits.review_timeout)


def _show_expiry(authority: IssuingAuthority, metrics: Metrics) -> None:
    def issuer() -> float:
        return authority.issuer_not_after.timestamp()

    def root() -> float:
        return authority.root_not_after.timestamp()

    metrics.issuer_expiry.set_function(issuer)
    metrics.root_expiry.set_function(root)


def _own_certificates(authority: IssuingAuthority) -> dict[str, object]:
    return {
        "roots": [root_fingerprint(root) for root in authority.bundle.all_roots],
        "issuer": str(authority.issuer.certificate.serial_number),
        "own": str(authority.svid.serial),
    }


def _now() -> datetime:
    return datetime.now(UTC)
