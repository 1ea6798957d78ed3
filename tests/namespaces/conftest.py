"""What every test here stands on. Without root all of them are skipped with one reason, and in CI they fail."""

from collections.abc import AsyncIterator

import pytest

from tests.support.namespaces import Network, open_network, require_namespaces


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before a test here makes anything: can it?"""
    require_namespaces()


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    """A network without pods yet."""
    async with open_network() as network:
        yield network
