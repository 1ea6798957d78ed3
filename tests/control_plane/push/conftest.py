"""`plane`: a real push server on `limits`, `lifetimes`, `reviewer` and `state`, which a test may override."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from control_plane.kubernetes.token_review import TokenReviewer
from control_plane.push.server import PushServer
from control_plane.settings import Lifetimes, Limits
from control_plane.state import State
from tests.support.offices import open_office
from tests.support.patience import PATIENCE
from tests.support.plane import DOMAIN, Clock, Plane
from transport import listen


@pytest.fixture
def limits() -> Limits:
    """The limits of `plane`; a test class or file overrides them."""
    return Limits(proof_timeout=PATIENCE, review_timeout=PATIENCE)


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
    clock, listeners = Clock(), await listen("127.0.0.1", 0)
    opening = open_office(state, clock=clock, lifetimes=lifetimes, limits=limits, reviewer=reviewer)
    async with opening as office, trio.open_nursery() as nursery:
        nursery.start_soon(PushServer(office).serve, listeners)
        plane = Plane(office, clock, listeners[0].socket.getsockname()[1])
        yield plane
        for stream in plane.streams:
            stream.abort()
        nursery.cancel_scope.cancel()
