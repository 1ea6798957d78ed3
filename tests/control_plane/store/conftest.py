"""A store on a fresh file with a clock that the test moves, and the means to fill and to read it."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certs.authority import Authority
from certs.keys import new_key
from certs.spiffe import WorkloadName
from control_plane.store.store import Store
from tests.support.stores import HOME, Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def open_store(path: Path, clock: Clock) -> Iterator[Callable[[], Store]]:
    """Opens the store at `path`, as often as the test wants."""
    stores: list[Store] = []

    def opened() -> Store:
        stores.append(Store.open(f"sqlite:///{path}", trust_domain=HOME, clock=clock))
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
