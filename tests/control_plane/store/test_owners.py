"""A document belongs to whoever made it: the other side cannot change it, and only the command hands its own over."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from control_plane.store.errors import OwnedByOther
from control_plane.store.records import Owner, PolicyKey
from control_plane.store.store import Store
from tests.support.stores import document


def apply(store: Store, *put: dict[str, object], delete: tuple[PolicyKey, ...] = (), owner: Owner = "cli") -> None:
    store.change_policies(put, delete, author="ann", message="", owner=owner)


def key(name: str) -> PolicyKey:
    return "AllowPolicy", "shop", name


def state(store: Store) -> object:
    return store.contents(), store.revisions(), store.audit()


def test_a_document_remembers_who_made_it(store: Store, open_store: Callable[[], Store]) -> None:
    apply(store, document("a"))
    apply(store, document("b"), owner="cluster")
    assert [(each.name, each.owner) for each in open_store().policies()] == [("a", "cli"), ("b", "cluster")]


@pytest.mark.parametrize(
    ("mine", "other", "words"),
    [
        ("cli", "cluster", "doorward policy release AllowPolicy shop/a"),
        ("cluster", "cli", "kubectl edit allowpolicy -n shop a, or kubectl delete allowpolicy -n shop a"),
        ("cluster", "cli", "watches no cluster takes it over: doorward policy release AllowPolicy shop/a"),
    ],
)
@pytest.mark.parametrize("how", ["replace", "repeat", "delete"])
def test_the_other_side_cannot_change_it(store: Store, mine: Owner, other: Owner, words: str, how: str) -> None:
    apply(store, document("a"), owner=mine)
    before = state(store)
    put = {"replace": [document("a", 2)], "repeat": [document("a")], "delete": []}[how]
    with pytest.raises(OwnedByOther, match=words) as refused:
        apply(store, *put, document("b"), delete=(key("a"),) if how == "delete" else (), owner=other)
    assert refused.value.code == f"owned_by_{mine}"
    assert state(store) == before


def test_its_maker_changes_and_deletes_it(store: Store) -> None:
    apply(store, document("a"), owner="cluster")
    apply(store, document("a", 2), owner="cluster")
    assert [(each.document, each.owner) for each in store.policies()] == [(document("a", 2), "cluster")]
    apply(store, delete=(key("a"),), owner="cluster")
    apply(store, document("a"))
    assert store.policies()[0].owner == "cli"


def test_a_refusal_names_ten_documents_and_counts_the_rest(store: Store) -> None:
    every = [document(f"d{number:02}") for number in range(12)]
    apply(store, *every, owner="cluster")
    with pytest.raises(OwnedByOther, match=r"AllowPolicy shop/d09 and 2 more: .* -n shop d00"):
        apply(store, *every)


@pytest.mark.parametrize("keys", [None, [key("a"), key("b")]], ids=["all", "named"])
def test_documents_of_the_cluster_are_taken_over_as_they_are_in_one_revision(
    store: Store, keys: list[PolicyKey] | None
) -> None:
    apply(store, document("a"), document("b", 2), owner="cluster")
    apply(store, document("mine"))
    revision = store.take_over_policies(keys, author="ann", message="without a cluster")
    assert [(each.action, each.name) for each in revision.changes] == [("released", "a"), ("released", "b")]
    assert all(each.before == each.after for each in revision.changes)
    assert {(each.name, each.owner) for each in store.policies()} == {("a", "cli"), ("b", "cli"), ("mine", "cli")}
    assert store.revisions(1) == (revision,)
    assert store.verify_audit() == len(store.audit())
    apply(store, document("a", 3), delete=(key("b"),))


@pytest.mark.parametrize("name", ["mine", "nothing"])
def test_what_is_not_the_cluster_s_is_not_taken_over_and_nothing_with_it(store: Store, name: str) -> None:
    apply(store, document("a"), owner="cluster")
    apply(store, document("mine"))
    before = state(store)
    with pytest.raises(OwnedByOther, match=f"AllowPolicy shop/{name} is no document of the cluster") as refused:
        store.take_over_policies([key("a"), key(name)], author="ann", message="")
    assert refused.value.code == "not_ours"
    assert state(store) == before


def test_where_the_cluster_has_none_taking_over_all_of_them_changes_nothing(store: Store) -> None:
    apply(store, document("mine"))
    before = state(store)
    assert store.take_over_policies(None, author="ann", message="").changes == ()
    assert state(store) == before


@pytest.mark.parametrize("generation", [1, 2], ids=["the same", "another version"])
def test_a_release_is_one_revision_with_the_cluster_s_version(store: Store, generation: int) -> None:
    apply(store, document("a"))
    revision = store.release_policy(document("a", generation), author="ann", message="to git")
    (change,) = revision.changes
    assert (change.action, change.before, change.after) == ("released", document("a"), document("a", generation))
    (stored,) = store.policies()
    assert (stored.document, stored.owner, stored.number) == (document("a", generation), "cluster", revision.number)
    assert store.revisions(1) == (revision,)
    assert store.verify_audit() == len(store.audit())


@pytest.mark.parametrize("owner", [None, "cluster"])
def test_what_the_command_does_not_have_it_cannot_release(store: Store, owner: Owner | None) -> None:
    if owner is not None:
        apply(store, document("a"), owner=owner)
    before = state(store)
    with pytest.raises(OwnedByOther, match="AllowPolicy shop/a is no document of the command") as refused:
        store.release_policy(document("a"), author="ann", message="")
    assert (refused.value.code, state(store)) == ("not_ours", before)


def test_what_was_stored_before_owners_were_known_is_the_command_s(
    path: Path, open_store: Callable[[], Store], tamper: Callable[[str], None]
) -> None:
    path.touch(mode=0o600)
    config = Config()
    config.set_main_option("script_location", "control_plane.store:migrations")
    with sa.create_engine(f"sqlite:///{path}").connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    tamper(
        "INSERT INTO policies (kind, namespace, name, document, number, author, time) "
        "VALUES ('AllowPolicy', 'shop', 'a', '{}', 1, 'ann', '2026-11-20 12:00:00')"
    )
    assert [(each.key, each.owner) for each in open_store().policies()] == [(key("a"), "cli")]
