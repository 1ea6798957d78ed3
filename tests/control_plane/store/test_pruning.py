"""What is pruned hides nothing, costs no write a long time, and leaves operators their part."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from control_plane.store import audit
from control_plane.store.chain import digest
from control_plane.store.errors import AuditBroken
from control_plane.store.records import AuditEntry
from control_plane.store.retention import MIB, Retention
from control_plane.store.store import Store
from tests.support.stores import HOME, Clock, document

SMALL = Retention(versions=3, age=timedelta(days=1), history_bytes=12_000, audit_bytes=12_000)


@pytest.fixture
def kept(path: Path, clock: Clock) -> Iterator[Callable[[Retention], Store]]:
    stores: list[Store] = []

    def opened(retention: Retention) -> Store:
        stores.append(Store.open(f"sqlite:///{path}", trust_domain=HOME, clock=clock, retention=retention))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


def put(store: Store, name: str, generation: int) -> None:
    store.change_policies([document(name, generation)], [], author="ann", message="m")


def by_hand(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def forged(entry: AuditEntry) -> str:
    """The hash of this entry as somebody else's."""
    detail = json.dumps(entry.detail, sort_keys=True, separators=(",", ":"))
    return digest(entry.seq, entry.time, "mallory", entry.event, detail, entry.previous)


@contextmanager
def counted_steps() -> Iterator[list[int]]:
    """How many thousand steps of its virtual machine SQLite has taken, which is the same on every machine."""
    steps = [0]

    def took_some() -> int:
        steps[0] += 1
        return 0

    def watch(connection: sqlite3.Connection, *_: object) -> None:
        connection.set_progress_handler(took_some, 1000)

    sa.event.listen(sa.Pool, "checkout", watch)
    try:
        yield steps
    finally:
        sa.event.remove(sa.Pool, "checkout", watch)


def test_a_gap_without_entries_hides_no_other_entry(kept: Callable[[Retention], Store], path: Path) -> None:
    store = kept(SMALL)
    for generation in range(5):
        put(store, "a", generation)
    entry = store.audit()[2]
    by_hand(path, "UPDATE audit SET actor = 'mallory', hash = ? WHERE seq = ?", forged(entry), entry.seq)
    gap = (entry.seq + 1, entry.seq, forged(entry), entry.hash)
    by_hand(path, "INSERT INTO audit_gaps (first, last, previous, hash) VALUES (?, ?, ?, ?)", *gap)
    with pytest.raises(AuditBroken, match=f"audit entry {entry.seq + 1} does not follow"):
        store.verify_audit()


@pytest.mark.parametrize("with_its_hash", [False, True])
def test_an_entry_that_was_changed_is_still_found_when_it_was_pruned_since(
    kept: Callable[[Retention], Store], path: Path, with_its_hash: bool
) -> None:
    store = kept(SMALL)
    for generation in range(5):
        put(store, "loud", generation)
    entry = store.audit()[3]
    if with_its_hash:
        by_hand(path, "UPDATE audit SET actor = 'mallory', hash = ? WHERE seq = ?", forged(entry), entry.seq)
    else:
        by_hand(path, "UPDATE audit SET actor = 'mallory' WHERE seq = ?", entry.seq)
    for generation in range(50):
        put(store, "loud", generation)
    assert entry.seq not in {each.seq for each in store.audit()}
    with pytest.raises(AuditBroken):
        store.verify_audit()


@pytest.mark.parametrize("pruned_since", [False, True])
def test_what_stands_before_a_gap_cannot_be_rewritten_with_the_gap(
    kept: Callable[[Retention], Store], path: Path, pruned_since: bool
) -> None:
    store = kept(SMALL)
    for generation in range(40):
        put(store, "loud", generation)
    entry = store.audit()[0]
    assert entry.seq == 1
    assert store.verify_audit()
    by_hand(path, "UPDATE audit SET actor = 'mallory', hash = ? WHERE seq = 1", forged(entry))
    by_hand(path, "UPDATE audit_gaps SET previous = ? WHERE previous = ?", forged(entry), entry.hash)
    for generation in range(40 if pruned_since else 0):
        put(store, "loud", generation)
    with pytest.raises(AuditBroken, match="what bridges the pruned audit entries"):
        store.verify_audit()


STRANGE = {"policies": [{}, 7, {"policy": [], "sha256": ""}, {"policy": "", "sha256": "", "number": []}], "gaps": 7}


@pytest.mark.parametrize(
    ("detail", "with_its_hash"),
    [("no JSON", False), ("[" * 2000, False), ("[]", True), (json.dumps(STRANGE), False)],
    ids=["text", "deep", "list", "strange"],
)
def test_what_pruning_said_can_be_damaged_and_is_named_and_writes_go_on(
    kept: Callable[[Retention], Store], path: Path, detail: str, with_its_hash: bool
) -> None:
    store = kept(SMALL)
    for generation in range(20):
        put(store, "loud", generation)
    entry = [each for each in store.audit() if each.event == "audit.pruned"][-1]
    own = digest(entry.seq, entry.time, entry.actor, entry.event, detail, entry.previous)
    hashed = own if with_its_hash else entry.hash
    by_hand(path, "UPDATE audit SET detail = ?, hash = ? WHERE seq = ?", detail, hashed, entry.seq)
    put(store, "loud", 20)
    assert entry.seq in {each.seq for each in store.audit()}
    with pytest.raises(AuditBroken, match=f"audit entry {entry.seq} "):
        store.verify_audit()
    for generation in range(21, 50):
        put(store, "loud", generation)
    assert entry.seq not in {each.seq for each in store.audit()}
    with pytest.raises(AuditBroken):
        store.verify_audit()


def test_what_a_change_said_can_be_damaged_and_writes_go_on(kept: Callable[[Retention], Store], path: Path) -> None:
    store = kept(SMALL)
    for generation in range(5):
        put(store, "loud", generation)
    entry = [each for each in store.audit() if each.event == "policies.changed"][1]
    by_hand(path, "UPDATE audit SET detail = 'no JSON' WHERE seq = ?", entry.seq)
    for generation in range(5, 24):
        put(store, "loud", generation)
    assert entry.seq not in {each.seq for each in store.audit()}
    with pytest.raises(AuditBroken):
        store.verify_audit()


def test_many_namespaces_leave_operators_half_of_the_log(kept: Callable[[Retention], Store]) -> None:
    store = kept(Retention(audit_bytes=MIB // 32))
    for number in range(20):
        store.record("operator", "tried", {"number": number})
    with store._database.write() as tx:
        for number in range(500):
            audit.append(tx, "tenant", "tried", {"number": number}, namespace=f"ns{number % 125}")
    kept_of_house = [entry for entry in store.audit(limit=10_000) if entry.actor == "operator"]
    assert len(kept_of_house) == 20
    assert store.pruned().entries > 250
    assert store.verify_audit() > 500


def test_operators_lose_their_own_oldest_beyond_their_half(kept: Callable[[Retention], Store]) -> None:
    store = kept(Retention(audit_bytes=MIB // 8))
    for number in range(400):
        store.record("operator", "tried", {"number": number})
    assert sum(entry.actor == "operator" for entry in store.audit(limit=10_000)) < 250
    assert store.verify_audit() > 400


def test_a_write_looks_at_few_of_the_young_versions_of_its_document(
    kept: Callable[[Retention], Store], path: Path
) -> None:
    store = kept(Retention(versions=1))
    put(store, "a", 0)
    by_hand(
        path,
        "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) "
        "INSERT INTO revisions SELECT i, author, time, message, 0 FROM n, revisions",
    )
    by_hand(
        path,
        "INSERT INTO changes SELECT revisions.number, 0, action, kind, namespace, name, after, after "
        "FROM revisions, changes WHERE revisions.number > 1",
    )
    by_hand(path, "UPDATE house SET number = 50000")
    put(store, "a", 1)
    with counted_steps() as steps:
        put(store, "a", 2)
    assert steps[0] < 50
    assert store.pruned().versions == 0


def test_the_greatest_number_of_versions_is_one_to_the_database_too(kept: Callable[[Retention], Store]) -> None:
    store = kept(Retention(versions=10**30))
    put(store, "a", 1)
    put(store, "a", 2)
    assert len(store.revisions()) == 2
