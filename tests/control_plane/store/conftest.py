"""A fresh store with a clock that the test moves, and the means to fill and to read it.

Every test is run on SQLite, and as a slow one on PostgreSQL, but for those that ask for the `path` of the file.
"""

import inspect
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography import x509

from certs.authority import Authority
from certs.keys import new_key
from certs.spiffe import WorkloadName
from control_plane.store.store import Store
from tests.support.postgresql import new_database, running_postgresql
from tests.support.stores import HOME, Clock

SERVER = pytest.param("postgresql", marks=pytest.mark.slow)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`database` is what the store is in."""
    if "database" in metafunc.fixturenames:
        on_file = {"path", "tamper"}.intersection(inspect.signature(metafunc.function).parameters)
        metafunc.parametrize("database", ["sqlite"] if on_file else ["sqlite", SERVER])


@pytest.fixture(scope="session")
def postgresql() -> Iterator[sa.URL]:
    """A server, by the URL of its own database."""
    with running_postgresql() as server:
        yield server


@pytest.fixture
def store_url(database: str, request: pytest.FixtureRequest, path: Path) -> str:
    """Where nothing is yet."""
    return f"sqlite:///{path}" if database == "sqlite" else new_database(request.getfixturevalue("postgresql"))


@pytest.fixture
def open_store(store_url: str, clock: Clock) -> Iterator[Callable[[], Store]]:
    """Opens the store at `store_url`, as often as the test wants."""
    stores: list[Store] = []

    def opened() -> Store:
        stores.append(Store.open(store_url, trust_domain=HOME, clock=clock))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()


@pytest.fixture
def tamper(path: Path) -> Callable[[str], None]:
    """Runs a statement on the store's file behind its back."""

    def run(statement: str) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(statement)

    return run


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority.new_root(HOME, now=Clock().now, lifetime=timedelta(days=3650))


@pytest.fixture
def sign(authority: Authority, clock: Clock) -> Callable[[WorkloadName], tuple[x509.Certificate, ...]]:
    """Signs a fresh key's certificate, as the control plane's authority does."""

    def signed(workload: WorkloadName) -> tuple[x509.Certificate, ...]:
        key = new_key().public_key()
        return authority.issue(key, workload.in_domain(HOME), now=clock.now, lifetime=timedelta(hours=1))

    return signed
