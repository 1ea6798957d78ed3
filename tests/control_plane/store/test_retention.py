"""How much of the past is kept: of one document, of one namespace among others, and of all of it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from control_plane.store import audit, shares
from control_plane.store.records import Revision
from control_plane.store.retention import MIB, Retention
from control_plane.store.store import Store
from tests.support.postgresql import new_database, running_postgresql
from tests.support.stores import HOME, Clock, document

Opened = Callable[[Retention], Store]

SMALL = Retention(versions=3, age=timedelta(days=1), history_bytes=20_000, audit_bytes=20_000)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_postgresql(tmp_path_factory.mktemp("postgresql")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, path: Path) -> str:
    """Where a new store can be made, on either database."""
    if request.param == "sqlite":
        return f"sqlite:///{path}"
    return new_database(request.getfixturevalue("postgresql"))


@pytest.fixture
def kept(store_url: str, clock: Clock) -> Iterator[Opened]:
    """Opens the store with other bounds."""
    stores: list[Store] = []

    def opened(retention: Retention) -> Store:
        stores.append(Store.open(store_url, trust_domain=HOME, clock=clock, retention=retention))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


def policy(namespace: str, name: str, generation: int) -> dict[str, Any]:
    found = document(name, generation)
    found["metadata"]["namespace"] = namespace
    return found


def put(store: Store, name: str, generation: int, namespace: str = "shop") -> int:
    return store.change_policies([policy(namespace, name, generation)], [], author="ann", message="m").number


def remove(store: Store, name: str) -> int:
    return store.change_policies([], [("AllowPolicy", "shop", name)], author="ann", message="m").number


def numbers(revisions: tuple[Revision, ...]) -> list[int]:
    return [each.number for each in reversed(revisions)]


def rows(url: str, table: str) -> int:
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            return int(connection.execute(sa.text(f"SELECT COUNT(*) FROM {table}")).scalar_one())  # ours
    finally:
        engine.dispose()


class TestOfOneDocument:
    def test_versions_go_that_are_neither_among_the_newest_nor_young(self, kept: Opened, clock: Clock) -> None:
        store = kept(SMALL)
        for generation in range(6):
            put(store, "a", generation)
        assert numbers(store.revisions()) == [1, 2, 3, 4, 5, 6], "they are young"
        clock.advance(days=2)
        put(store, "a", 7)
        assert numbers(store.revisions()) == [5, 6, 7]
        assert (store.pruned().versions, store.pruned().through) == (4, 4)
        assert store.verify_audit() == 8

    def test_the_version_in_force_stays_however_old_it_is(self, kept: Opened, clock: Clock) -> None:
        store = kept(SMALL)
        put(store, "a", 1)
        for generation in range(4):
            clock.advance(days=2)
            put(store, "b", generation)
        assert numbers(store.revisions()) == [1, 3, 4, 5]

    def test_a_document_that_was_removed_is_forgotten_after_a_while(self, kept: Opened, clock: Clock) -> None:
        store = kept(SMALL)
        put(store, "a", 1)
        remove(store, "a")
        put(store, "b", 1)
        store.tidy()
        assert numbers(store.revisions()) == [1, 2, 3]
        clock.advance(days=2)
        while store.tidy():
            pass
        assert numbers(store.revisions()) == [3]

    def test_the_latest_revision_stays_also_where_it_took_away_the_last_document(
        self, kept: Opened, clock: Clock
    ) -> None:
        store = kept(SMALL)
        put(store, "a", 1)
        remove(store, "a")
        clock.advance(days=2)
        while store.tidy():
            pass
        assert numbers(store.revisions()) == [2]
        assert store.policy_number() == 2

    def test_a_revision_of_which_something_is_left_says_how_much_is_gone(self, kept: Opened, clock: Clock) -> None:
        store = kept(SMALL)
        both = [policy("shop", "a", 1), policy("shop", "b", 1)]
        store.change_policies(both, [], author="ann", message="m")
        for generation in range(2, 6):
            clock.advance(days=2)
            put(store, "a", generation)
        first = store.revision(1)
        assert first is not None
        assert ([each.name for each in first.changes], first.pruned) == (["b"], 1)
        assert store.revision(2) is None


class TestOfAll:
    def test_who_holds_most_gives_way_and_nobody_else_loses_anything(self, kept: Opened) -> None:
        store = kept(SMALL)
        for generation in range(5):
            put(store, "quiet", generation, "bank")
        for generation in range(80):
            put(store, "loud", generation)
        assert len(store.revisions(1000, "bank", "quiet")) == 5
        assert 5 < len(store.revisions(1000, "shop")) < 25
        of_bank = [entry for entry in store.audit() if "bank/quiet" in str(entry.detail)]
        assert len(of_bank) == 5
        assert store.verify_audit() > 85
        assert store.pruned().entries > 40

    def test_what_is_in_force_takes_no_room_from_the_history_of_others(self, kept: Opened) -> None:
        store = kept(SMALL)
        put(store, "quiet", 1, "bank")
        put(store, "quiet", 2, "bank")
        for number in range(60):
            put(store, f"p{number}", 1)
        assert len(store.policies()) == 61
        assert len(store.revisions(1000, "bank")) == 2
        assert store.verify_audit() > 60

    def test_names_that_come_and_go_are_bounded_too(self, kept: Opened, store_url: str) -> None:
        store = kept(SMALL)
        for number in range(40):
            put(store, f"p{number}", 1)
            remove(store, f"p{number}")
        assert rows(store_url, "changes") < SMALL.history_bytes // shares.OVERHEAD
        assert rows(store_url, "revisions") <= rows(store_url, "changes")
        assert rows(store_url, "audit") < SMALL.audit_bytes // shares.OVERHEAD
        assert store.policies() == ()
        assert store.verify_audit() > 80

    def test_a_document_whose_entries_are_gone_is_still_held_to_what_was_stored(
        self, kept: Opened, store_url: str
    ) -> None:
        store = kept(SMALL)
        put(store, "old", 1)
        for generation in range(80):
            put(store, "loud", generation)
        assert all("shop/old" not in str(each.detail.get("changes")) for each in store.audit())
        assert store.verify_audit() > 80
        engine = sa.create_engine(store_url)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE policies SET document = '{}' WHERE name = 'old'"))
        engine.dispose()
        with pytest.raises(audit.AuditBroken, match="AllowPolicy shop/old is not what audit entry"):
            store.verify_audit()

    def test_an_entry_that_was_taken_out_by_hand_is_told_from_pruned_ones(self, kept: Opened, store_url: str) -> None:
        store = kept(SMALL)
        for generation in range(60):
            put(store, "loud", generation)
        victim = store.audit()[-5]
        engine = sa.create_engine(store_url)
        with engine.begin() as connection:
            gap = {"seq": victim.seq, "previous": victim.previous, "hash": victim.hash}
            connection.execute(sa.text("DELETE FROM audit WHERE seq = :seq"), gap)
            connection.execute(sa.text("INSERT INTO audit_gaps VALUES (:seq, :seq, :previous, :hash)"), gap)
        engine.dispose()
        with pytest.raises(audit.AuditBroken, match="entries are gone, and the log says that"):
            store.verify_audit()

    def test_a_store_that_is_large_already_is_mended_in_slices(
        self, kept: Opened, store_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = kept(Retention())
        for generation in range(120):
            put(store, "loud", generation)
        before = rows(store_url, "changes")
        store = kept(SMALL)
        monkeypatch.setattr(shares, "SLICE_ROWS", 20)
        assert store.tidy()
        assert before - 20 <= rows(store_url, "changes") < before
        slices = 1
        while store.tidy():
            slices += 1
        assert slices >= 3
        assert rows(store_url, "changes") <= SMALL.history_bytes // shares.OVERHEAD
        assert rows(store_url, "audit") <= SMALL.audit_bytes // shares.OVERHEAD
        assert store.verify_audit() > 120


def test_a_tenant_who_changes_a_policy_in_a_loop_fills_no_volume(path: Path, clock: Clock) -> None:
    bounds = Retention(versions=5, age=timedelta(days=30), history_bytes=MIB // 16, audit_bytes=MIB // 16)
    store = Store.open(f"sqlite:///{path}", trust_domain=HOME, clock=clock, retention=bounds)

    def size_after(generations: range) -> int:
        for generation in generations:
            put(store, "loud", generation)
        return path.stat().st_size + path.with_suffix(".db-wal").stat().st_size

    full = size_after(range(200))
    assert size_after(range(200, 500)) <= full * 1.1
    store.close()
