"""Bans: what can be banned, and that a snapshot learns of it."""

import pytest

from control_plane.store.errors import StoreError
from control_plane.store.records import Ban
from control_plane.store.store import Store
from tests.support.stores import CHECKOUT, Clock, identity


@pytest.mark.parametrize(
    "subject", ["serial:12345678901234567890", str(identity(CHECKOUT)), "spiffe://other.example/x"]
)
def test_an_identity_or_a_serial_is_banned_until_the_ban_is_lifted(store: Store, clock: Clock, subject: str) -> None:
    ban = store.ban(subject, reason="laptop lost", author="ann")
    assert store.bans() == (ban,) == (Ban(subject, "laptop lost", "ann", clock.now),)
    assert store.number() == 1
    assert store.unban(subject, "bob")
    assert (store.bans(), store.number()) == ((), 2)
    assert [(entry.actor, entry.event) for entry in store.audit()[1:]] == [("ann", "ban.added"), ("bob", "ban.removed")]


def test_banning_again_renews_the_reason_and_changes_no_snapshot(store: Store) -> None:
    store.ban("serial:1", reason="a guess", author="ann")
    store.ban("serial:1", reason="known now", author="bob")
    assert [(ban.reason, ban.author) for ban in store.bans()] == [("known now", "bob")]
    assert store.number() == 1


def test_lifting_what_was_not_banned_changes_nothing(store: Store) -> None:
    assert not store.unban("serial:1", "ann")
    assert (store.number(), len(store.audit())) == (0, 1)


@pytest.mark.parametrize(
    "subject",
    ["", "shop/checkout", "serial:", "serial:01", "serial:-1", "serial:1\n", "serial:\u0661", "spiffe://x", "*"],
)
def test_a_subject_that_would_never_match_is_refused(store: Store, subject: str) -> None:
    with pytest.raises(StoreError, match="cannot be banned: give a SPIFFE ID or serial:") as refused:
        store.ban(subject, reason="", author="ann")
    assert refused.value.code == "bad_subject"
