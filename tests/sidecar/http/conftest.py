"""One PKI for the room, and conversations in memory."""

from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio

from tests.support.conversations import TalkTo, start_talk
from tests.support.pki import Pki


@pytest.fixture(scope="session")
def pki() -> Pki:
    return Pki()


@pytest.fixture
async def talk(pki: Pki, nursery: trio.Nursery) -> AsyncIterator[TalkTo]:
    """`talk(limits=..., denies=..., reused=...)` starts serving a client in memory."""
    yield partial(start_talk, pki, nursery)
    nursery.cancel_scope.cancel()
