"""Changing policies: what a revision says, when it gets a number, and that it happens whole or not at all."""

from collections.abc import Callable

import pytest

from control_plane.store.errors import StoreError
from control_plane.store.records import StoredPolicy, key_of
from control_plane.store.store import Store
from tests.support.stores import Clock, document


def actions(store: Store, *put: dict[str, object], delete: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Change policies of the namespace shop and give back what happened to which."""
    keys = [("AllowPolicy", "shop", name) for name in delete]
    revision = store.change_policies(list(put), keys, author="ann", message="because")
    return [(change.action, change.name) for change in revision.changes]


def test_a_revision_says_what_was_added_replaced_removed_and_unchanged(store: Store) -> None:
    assert actions(store, document("a"), document("b"), document("c")) == [("added", n) for n in "abc"]
    assert actions(store, document("d"), document("a"), document("b", 2), delete=("c",)) == [
        ("unchanged", "a"),
        ("replaced", "b"),
        ("removed", "c"),
        ("added", "d"),
    ]
    assert [policy.name for policy in store.policies()] == ["a", "b", "d"]


def test_a_policy_keeps_the_number_at_which_it_took_effect(store: Store, clock: Clock) -> None:
    actions(store, document("a"), document("b"))
    store.ban("serial:1", reason="", author="ann")
    actions(store, document("a"), document("b", 2))
    assert [(policy.name, policy.number) for policy in store.policies()] == [("a", 1), ("b", 3)]
    assert store.policies()[0] == StoredPolicy(
        "AllowPolicy", "shop", "a", document("a"), number=1, author="ann", time=clock.now
    )
    assert (store.number(), store.policy_number()) == (3, 3)


def test_where_nothing_changes_nothing_is_stored(store: Store) -> None:
    actions(store, document("a"))
    store.ban("serial:1", reason="", author="ann")
    entries, revisions = store.audit(), store.revisions()
    revision = store.change_policies([document("a")], [("AllowPolicy", "shop", "x")], author="bob", message="again")
    assert revision.number == store.number() == 2
    assert [change.action for change in revision.changes] == ["unchanged"]
    assert (store.audit(), store.revisions(), store.policy_number()) == (entries, revisions, 1)


def test_the_order_of_keys_is_kept_and_is_no_change(store: Store) -> None:
    actions(store, document("a"))
    reordered = dict(reversed(document("a").items()))
    assert actions(store, reordered) == [("unchanged", "a")]
    assert list(store.policies()[0].document) == list(document("a"))


def test_truth_and_one_are_different_documents(store: Store) -> None:
    one, true = document("a"), document("a")
    one["spec"]["from"] = [{"unauthenticated": 1}]
    true["spec"]["from"] = [{"unauthenticated": True}]
    actions(store, one)
    assert actions(store, true) == [("replaced", "a")]


@pytest.mark.parametrize(
    ("put", "delete"), [(["a", "a"], []), (["a"], ["a"]), (["b"], ["a", "a"])], ids=["put", "both", "delete"]
)
def test_a_key_named_twice_is_refused_and_nothing_changes(store: Store, put: list[str], delete: list[str]) -> None:
    with pytest.raises(StoreError, match="AllowPolicy shop/a is named twice") as refused:
        actions(store, *(document(name) for name in put), delete=tuple(delete))
    assert refused.value.code == "conflicting_change"
    assert (store.number(), store.policies(), len(store.audit())) == (0, (), 1)


def test_a_change_that_fails_late_leaves_no_trace(store: Store) -> None:
    actions(store, document("a"))
    before = (store.contents(), store.revisions(), store.audit())
    with pytest.raises(StoreError, match="not valid Unicode") as refused:
        store.change_policies([document("b")], [("AllowPolicy", "shop", "a")], author="ann", message="\udcff")
    assert refused.value.code == "bad_text"
    assert (store.contents(), store.revisions(), store.audit()) == before


def test_revisions_come_newest_first_with_their_diffs(store: Store, clock: Clock) -> None:
    actions(store, document("a"))
    clock.advance(hours=1)
    actions(store, document("a", 2), document("b"))
    newest, oldest = store.revisions()
    assert (newest.number, newest.author, newest.message, newest.time) == (2, "ann", "because", clock.now)
    assert [(change.action, change.before, change.after) for change in newest.changes] == [
        ("replaced", document("a"), document("a", 2)),
        ("added", None, document("b")),
    ]
    assert [change.action for change in oldest.changes] == ["added"]
    assert store.revisions(limit=1) == (newest,)


def test_the_audit_entry_names_every_document_and_pins_its_content(store: Store) -> None:
    actions(store, document("a"), document("b"))
    actions(store, document("a", 2), delete=("b",))
    first, second = (entry for entry in store.audit() if entry.event == "policies.changed")
    assert (second.actor, second.detail["number"], second.detail["message"]) == ("ann", 2, "because")
    assert [(each["action"], each["policy"]) for each in second.detail["changes"]] == [
        ("replaced", "AllowPolicy shop/a"),
        ("removed", "AllowPolicy shop/b"),
    ]
    assert first.detail["changes"][0]["sha256"] != second.detail["changes"][0]["sha256"]


def test_a_policy_survives_reopening(open_store: Callable[[], Store]) -> None:
    first = open_store()
    actions(first, document("a"))
    stored = first.policies()
    first.close()
    assert open_store().policies() == stored
    assert key_of(stored[0].document) == stored[0].key
