"""`plane`: a real push server on `limits`, `lifetimes`, `reviewer` and `state`, which a test may override."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from certs.bundle import root_fingerprint
from control_plane.advance import Advance
from control_plane.authority import open_authority
from control_plane.kubernetes.token_review import TokenReviewer
from control_plane.metrics import Metrics
from control_plane.push.board import Board
from control_plane.push.links import Links
from control_plane.push.office import Office, in_thread
from control_plane.push.server import PushServer
from control_plane.settings import Lifetimes, Limits
from control_plane.state import State
from control_plane.store.store import Store
from tests.support.plane import DOMAIN, Clock, Plane
from transport import listen


@pytest.fixture
def limits() -> Limits:
    """The limits of `plane`; a test class or file overrides them."""
    return Limits()


@pytest.fixture
def lifetimes() -> Lifetimes:
    """The lifetimes of `plane`."""
    return Lifetimes()


@pytest.fixture
def reviewer() -> TokenReviewer | None:
    """Who asks a cluster for `plane` about service accounts' tokens."""
    return None


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state", trust_domain=DOMAIN.name) as state:
        yield state


@pytest.fixture
async def plane(
    state: State, limits: Limits, lifetimes: Lifetimes, reviewer: TokenReviewer | None
) -> AsyncIterator[Plane]:
    clock = Clock()
    store = await in_thread(lambda: Store.open(state.store_url, trust_domain=DOMAIN, clock=clock))
    authority = open_authority(state, DOMAIN, clock, lifetimes=lifetimes)
    store.note_roots([root_fingerprint(root) for root in authority.bundle.all_roots])
    metrics, links = Metrics(), Links()
    board = Board(store, authority, links, metrics)
    await board.hang()
    office = Office(
        trust_domain=DOMAIN,
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
    listeners = await listen("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.watch, office.advance)
        nursery.start_soon(PushServer(office).serve, listeners)
        plane = Plane(office, clock, listeners[0].socket.getsockname()[1])
        yield plane
        for stream in plane.streams:
            stream.abort()
        nursery.cancel_scope.cancel()
    store.close()
