"""The audit chain: whoever changes, removes, swaps or cuts an entry is found out, at that entry."""

from collections.abc import Callable

import pytest

from control_plane.store.audit import GENESIS
from control_plane.store.errors import AuditBroken
from control_plane.store.store import Store
from tests.support.policies import allow_policy
from tests.support.stores import Clock

Tamper = Callable[[str], None]


@pytest.fixture
def filled(store: Store, clock: Clock) -> Store:
    """A store with six audit entries."""
    for number in range(5):
        clock.advance(seconds=1)
        store.record("ann", "looked", {"at": number})
    return store


def test_each_entry_holds_the_hash_of_the_one_before(filled: Store) -> None:
    entries = filled.audit()
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert [entry.previous for entry in entries] == [GENESIS, *(entry.hash for entry in entries[:-1])]
    assert filled.verify_audit() == 6


def test_recording_gives_back_the_entry_that_is_read_later(store: Store, clock: Clock) -> None:
    entry = store.record("bob", "certificate.refused", {"reason": "expired", "é": ["\u2028", 1, None]})
    assert store.audit()[-1] == entry
    assert (entry.actor, entry.event, entry.time) == ("bob", "certificate.refused", clock.now)


def test_entries_are_read_in_pages(filled: Store) -> None:
    assert [entry.seq for entry in filled.audit(after=2, limit=2)] == [3, 4]
    assert filled.audit(after=6) == ()


@pytest.mark.parametrize(
    "change",
    [
        "actor = 'eve'",
        "event = 'slept'",
        "detail = '{\"at\":9}'",
        "time = '2020-01-01 00:00:00.000000'",
        f"hash = '{'0' * 64}'",
        f"previous = '{'0' * 64}'",
    ],
)
def test_a_changed_entry_is_named(filled: Store, tamper: Tamper, change: str) -> None:
    tamper(f"UPDATE audit SET {change} WHERE seq = 4")
    with pytest.raises(AuditBroken, match="entry 4") as broken:
        filled.verify_audit()
    assert (broken.value.seq, broken.value.code) == (4, "audit_broken")


def test_closing_the_gap_after_a_removed_entry_is_found_out(filled: Store, tamper: Tamper) -> None:
    tamper("DELETE FROM audit WHERE seq = 4")
    tamper("UPDATE audit SET seq = 4 WHERE seq = 5")
    tamper("UPDATE audit SET seq = 5 WHERE seq = 6")
    tamper("UPDATE house SET audit_seq = 5")
    with pytest.raises(AuditBroken, match="does not follow") as broken:
        filled.verify_audit()
    assert broken.value.seq == 4


@pytest.mark.parametrize(("where", "seq"), [("seq = 1", 1), ("seq = 3", 3), ("seq = 6", 6), ("seq > 2", 3)])
def test_a_missing_entry_is_named_also_at_the_end(filled: Store, tamper: Tamper, where: str, seq: int) -> None:
    tamper(f"DELETE FROM audit WHERE {where}")
    with pytest.raises(AuditBroken) as broken:
        filled.verify_audit()
    assert broken.value.seq == seq


def test_an_entry_that_nobody_wrote_is_named(filled: Store, tamper: Tamper) -> None:
    tamper("INSERT INTO audit SELECT 7, time, actor, event, detail, hash, hash, '' FROM audit WHERE seq = 6")
    with pytest.raises(AuditBroken) as broken:
        filled.verify_audit()
    assert broken.value.seq == 7


def test_a_long_log_is_verified_to_its_end(store: Store, tamper: Tamper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.store.audit._CHUNK", 3)
    for number in range(10):
        store.record("ann", "looked", {"at": number})
    assert store.verify_audit() == 11
    tamper("UPDATE audit SET actor = 'eve' WHERE seq = 11")
    with pytest.raises(AuditBroken, match="entry 11"):
        store.verify_audit()


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE policies SET document = replace(document, 'checkout', 'frontend')", "is not what audit entry 2 says"),
        ("DELETE FROM policies", "is gone, and audit entry 2 says that it was stored"),
        ("UPDATE policies SET name = 'other'", "other is not what audit entry 0 says"),
    ],
)
def test_a_policy_that_was_changed_behind_the_log_is_named(
    store: Store, tamper: Tamper, statement: str, problem: str
) -> None:
    store.change_policies([allow_policy("checkout", "payments", 8080)], [], author="ann", message="")
    assert store.verify_audit() == 2
    tamper(statement)
    with pytest.raises(AuditBroken, match=problem):
        store.verify_audit()


def test_policies_that_came_changed_and_went_agree_with_the_log(store: Store) -> None:
    policy = allow_policy("checkout", "payments", 8080)
    store.change_policies([policy], [], author="ann", message="")
    store.change_policies([allow_policy("checkout", "payments", 8080, http=False)], [], author="ann", message="")
    store.change_policies([], [("AllowPolicy", "shop", policy["metadata"]["name"])], author="ann", message="")
    assert store.verify_audit() == 4
