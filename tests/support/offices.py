"""An Office on a real store, CA and board, for what stands on one without a whole program around it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from certs.bundle import root_fingerprint
from control_plane.advance import Advance
from control_plane.authority import open_authority
from control_plane.kubernetes.token_review import TokenReviewer
from control_plane.metrics import Metrics
from control_plane.push.board import Board
from control_plane.push.links import Links
from control_plane.push.office import Office, in_thread
from control_plane.push.platform import Platform
from control_plane.settings import Lifetimes, Limits
from control_plane.state import State
from control_plane.store.store import Store
from tests.support.plane import Clock

PLATFORM = Platform()
"""Of a control plane without a cluster."""


@asynccontextmanager
async def open_office(
    state: State,
    platform: Platform | None = PLATFORM,
    *,
    clock: Clock | None = None,
    lifetimes: Lifetimes | None = None,
    limits: Limits | None = None,
    reviewer: TokenReviewer | None = None,
) -> AsyncIterator[Office]:
    """The parts in a state directory; the board shows `platform`, None for one that is not known yet, and watches."""
    clock, metrics, links = clock or Clock(), Metrics(), Links()
    lifetimes, limits = lifetimes or Lifetimes(), limits or Limits()
    store = await in_thread(lambda: Store.open(state.store_url, trust_domain=state.trust_domain, clock=clock))
    authority = open_authority(state, state.trust_domain, clock, lifetimes=lifetimes)
    store.note_roots([root_fingerprint(root) for root in authority.bundle.all_roots])
    board = Board(store, authority, links, metrics, platform)
    await board.hang()
    office = Office(
        trust_domain=state.trust_domain,
        store=store,
        authority=authority,
        board=board,
        links=links,
        advance=Advance(),
        metrics=metrics,
        clock=clock,
        lifetimes=lifetimes,
        limits=limits,
        instance="control plane under test",
        proofs=trio.CapacityLimiter(limits.proofs_at_once),
        reviewer=reviewer,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.watch, office.advance)
        yield office
        nursery.cancel_scope.cancel()
    store.close()
