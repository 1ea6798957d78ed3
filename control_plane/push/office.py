"""What every link stands on: the parts of one running control plane, in one frozen bag, and how to call the store.

Store methods block, so each goes to a thread through `in_thread`. It is not abandoned on cancellation: a transaction
ends as it began.
"""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import trio
from attrs import frozen

from certs.bundle import root_fingerprint
from certs.spiffe import TrustDomain
from certs.verify import Peer
from control_plane.advance import Advance
from control_plane.authority import IssuingAuthority
from control_plane.kubernetes.token_review import TokenReviewer
from control_plane.metrics import Metrics
from control_plane.push.board import Board
from control_plane.push.links import Links
from control_plane.settings import Lifetimes, Limits
from control_plane.store.store import Store
from mesh.wire import Nack

T = TypeVar("T")


@frozen(eq=False)
class Office:
    """The parts. `clock` gives aware UTC times; `advance` is told of every change of the store."""

    trust_domain: TrustDomain
    store: Store
    authority: IssuingAuthority
    board: Board
    links: Links
    advance: Advance
    metrics: Metrics
    clock: Callable[[], datetime]
    lifetimes: Lifetimes
    limits: Limits
    instance: str
    """This process, as its Hello names it."""
    proofs: trio.CapacityLimiter
    """Addresses that may be dialled back at the same time."""
    reviewer: TokenReviewer | None = None
    """Who asks the cluster about service-account tokens; None where there is no cluster."""

    def objection(self, peer: Peer) -> Nack | None:
        """Why this peer may ask for nothing now, although its link stands; None where it may (law 2)."""
        if self.clock() > peer.not_after:
            return Nack("Link", "certificate_expired", f"the link's certificate ended at {peer.not_after:%H:%M:%S} UTC")
        banned = self.board.picture.banned
        if str(peer.id) in banned or f"serial:{peer.serial}" in banned:
            return Nack("Link", "banned", f"{peer.id} is banned")
        if peer.root not in {root_fingerprint(root) for root in self.authority.bundle.all_roots}:
            return Nack("Link", "unknown_issuer", "the root of the link's certificate is no longer trusted")
        return None


async def in_thread(call: Callable[[], T]) -> T:
    """Run one blocking store call in a thread."""
    return await trio.to_thread.run_sync(call)
