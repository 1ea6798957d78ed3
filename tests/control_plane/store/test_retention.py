"""How much of the past is kept: of one document, of one namespace among others, and of all of it."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count, pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from hypothesis import given
from hypothesis import strategies as st

from control_plane.store import audit, schema, shares
from control_plane.store.errors import StoreError
from control_plane.store.pruning import Gap, joined
from control_plane.store.records import Revision
from control_plane.store.retention import MIB, Retention
from control_plane.store.store import Store
from tests.support.examples import examples
from tests.support.stores import HOME, Clock, document

LARGEST = 6_000
"""Bytes of the largest version that is made here, with what stands before it and after."""

Opened = Callable[[Retention], Store]

SMALL = Retention(versions=3, age=timedelta(days=1), history_bytes=12_000, audit_bytes=12_000)


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


def shares_of(url: str, ledger: str) -> dict[str, int]:
    engine = sa.create_engine(url)
    query = sa.select(schema.shares.c.namespace, schema.shares.c.size).where(schema.shares.c.ledger == ledger)
    try:
        with engine.connect() as connection:
            return {row.namespace: row.size for row in connection.execute(query)}
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
        for generation in range(50):
            put(store, "loud", generation)
        assert len(store.revisions(1000, "bank", "quiet")) == 5
        assert 5 < len(store.revisions(1000, "shop")) < 25
        of_bank = [entry for entry in store.audit() if "bank/quiet" in str(entry.detail)]
        assert len(of_bank) == 5
        assert store.verify_audit() > 55
        assert store.pruned().entries > 15

    def test_what_is_in_force_takes_no_room_from_the_history_of_others(self, kept: Opened) -> None:
        store = kept(SMALL)
        put(store, "quiet", 1, "bank")
        put(store, "quiet", 2, "bank")
        for number in range(40):
            put(store, f"p{number}", 1)
        assert len(store.policies()) == 41
        assert len(store.revisions(1000, "bank")) == 2
        assert store.verify_audit() > 40

    def test_names_that_come_and_go_are_bounded_too(self, kept: Opened, store_url: str) -> None:
        store = kept(SMALL)
        for number in range(25):
            put(store, f"p{number}", 1)
            remove(store, f"p{number}")
        assert rows(store_url, "changes") < SMALL.history_bytes // shares.OVERHEAD
        assert rows(store_url, "revisions") <= rows(store_url, "changes")
        assert rows(store_url, "audit") < SMALL.audit_bytes // shares.OVERHEAD
        assert store.policies() == ()
        assert store.verify_audit() > 50

    def test_a_document_whose_entries_are_gone_is_still_held_to_what_was_stored(
        self, kept: Opened, store_url: str
    ) -> None:
        store = kept(SMALL)
        put(store, "old", 1)
        for generation in range(50):
            put(store, "loud", generation)
        assert all("shop/old" not in str(each.detail.get("changes")) for each in store.audit())
        assert store.verify_audit() > 50
        engine = sa.create_engine(store_url)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE policies SET document = '{}' WHERE name = 'old'"))
        engine.dispose()
        with pytest.raises(audit.AuditBroken, match="AllowPolicy shop/old is not what audit entry"):
            store.verify_audit()

    def test_an_entry_that_was_taken_out_by_hand_is_told_from_pruned_ones(self, kept: Opened, store_url: str) -> None:
        store = kept(SMALL)
        for generation in range(40):
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
        for generation in range(70):
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
        assert store.verify_audit() > 70


def test_a_tenant_who_changes_a_policy_in_a_loop_fills_no_volume(path: Path, clock: Clock) -> None:
    bounds = Retention(versions=5, age=timedelta(days=30), history_bytes=MIB // 32, audit_bytes=MIB // 32)
    store = Store.open(f"sqlite:///{path}", trust_domain=HOME, clock=clock, retention=bounds)

    def size_after(generations: range) -> int:
        for generation in generations:
            put(store, "loud", generation)
        return path.stat().st_size + path.with_suffix(".db-wal").stat().st_size

    full = size_after(range(80))
    assert size_after(range(80, 200)) <= full * 1.1
    store.close()


def test_a_write_that_fails_while_it_prunes_leaves_the_old_state_whole(kept: Opened) -> None:
    store = kept(SMALL)
    for generation in range(30):
        put(store, "loud", generation)

    def state() -> object:
        return store.contents(), store.revisions(1000), store.audit(), store.pruned(), store.verify_audit()

    before = state()
    for last in count(1, 4):
        left = count(last, -1)

        @sa.event.listens_for(sa.Engine, "before_cursor_execute")
        def fail(*_: object, left: Iterator[int] = left) -> None:
            if next(left) == 0:
                raise sa.exc.SQLAlchemyError("out of order")

        try:
            put(store, "loud", 100)
        except StoreError:
            sa.event.remove(sa.Engine, "before_cursor_execute", fail)
            assert state() == before, last
        else:
            sa.event.remove(sa.Engine, "before_cursor_execute", fail)
            break
    assert last > 25, "the write, what it pruned of both, and the entries of both"
    assert store.pruned().versions > 5


def test_what_was_written_before_there_were_bounds_is_counted_and_pruned(
    tmp_path: Path, clock: Clock, kept: Opened, store_url: str
) -> None:
    modern = Store.open(f"sqlite:///{tmp_path}/modern.db", trust_domain=HOME, clock=clock)
    put(modern, "old", 1, "bank")
    for generation in range(50):
        put(modern, "loud", generation)
    entries = modern.verify_audit()
    modern.close()
    as_it_was(f"sqlite:///{tmp_path}/modern.db", store_url)
    store = kept(SMALL)
    assert (len(store.revisions(1000)), store.verify_audit()) == (51, entries)
    while store.tidy():
        pass
    assert rows(store_url, "changes") <= SMALL.history_bytes // shares.OVERHEAD
    assert rows(store_url, "audit") <= SMALL.audit_bytes // shares.OVERHEAD
    assert store.verify_audit() > entries
    assert len(store.revisions(1000, "bank")) == 1


def as_it_was(source: str, target: str) -> None:
    """Make at `target` what a Doorward before the bounds would have kept of the store at `source`."""
    if target.startswith("sqlite"):
        Path(target.removeprefix("sqlite:///")).touch(mode=0o600)
    config = Config()
    config.set_main_option("script_location", "control_plane.store:migrations")
    new, old = sa.create_engine(source), sa.create_engine(target)
    with new.connect() as reading, old.begin() as writing:
        config.attributes["connection"] = writing
        command.upgrade(config, "0002")
        for table in (schema.house, schema.policies, schema.revisions, schema.changes, schema.audit):
            known = {each["name"] for each in sa.inspect(writing).get_columns(table.name)}
            columns = [sa.column(each.name, each.type) for each in table.columns if each.name in known]
            found = [row._asdict() for row in reading.execute(sa.select(*columns).select_from(table))]
            writing.execute(sa.table(table.name, *columns).insert(), found)
    new.dispose()
    old.dispose()


@examples(3)
@given(
    writes=st.lists(st.tuples(st.sampled_from(["bank", "shop", "ops"]), st.integers(1, 40)), min_size=20, max_size=40)
)
def test_whoever_holds_no_more_than_an_even_share_loses_nothing(writes: list[tuple[str, int]]) -> None:
    bounds = Retention(versions=1000, history_bytes=30_000, audit_bytes=30_000)
    made: Counter[str] = Counter()
    with TemporaryDirectory() as directory:
        url = f"sqlite:///{directory}/store.db"
        store = Store.open(url, trust_domain=HOME, clock=Clock(), retention=bounds)
        for generation, (namespace, callers) in enumerate(writes):
            large = policy(namespace, "a", generation)
            large["spec"]["from"] = [{"workload": f"caller-{number}"} for number in range(callers)]
            store.change_policies([large], [], author="ann", message="m")
            made[namespace] += 1
        held, said = shares_of(url, shares.HISTORY), shares_of(url, shares.AUDIT)
        for namespace, count_made in made.items():
            if len(store.revisions(1000, namespace)) < count_made:
                assert held[namespace] > bounds.history_bytes / 3 - LARGEST
        assert sum(said.values()) <= bounds.audit_bytes + LARGEST
        assert sum(held.values()) <= bounds.history_bytes + 3 * LARGEST, "the three in force beside it"
        assert store.verify_audit() > len(writes)
        store.close()


@given(st.sets(st.integers(1, 60)), st.randoms())
def test_gaps_hold_the_same_entries_in_whichever_order_they_went(gone: set[int], random: Random) -> None:
    left, gaps = list(gone), list[Gap]()
    random.shuffle(left)
    for seq in left:
        gaps = joined([*gaps, Gap(seq, seq, f"hash {seq - 1}", f"hash {seq}")])
    assert {seq for gap in gaps for seq in range(gap.first, gap.last + 1)} == gone
    assert all((gap.previous, gap.hash) == (f"hash {gap.first - 1}", f"hash {gap.last}") for gap in gaps)
    assert all(one.last + 1 < other.first for one, other in pairwise(gaps))
