"""Operators' certificates: who vouched is kept, and operators vouch for each other for a bounded time only (law 8)."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509

from certs.authority import Authority
from certs.keys import new_key
from certs.spiffe import SpiffeId, WorkloadName
from control_plane.store.errors import OperatorRefused
from control_plane.store.operators import Voucher
from control_plane.store.store import Store
from tests.support.stores import CHECKOUT, HOME, Clock

Issue = Callable[..., x509.Certificate]
MAX_AGE = timedelta(days=30)
ROOT = Voucher("root")


@pytest.fixture
def issue(store: Store, authority: Authority, clock: Clock) -> Issue:
    """Issues for an operator, vouched for by a local user or by the operator whose certificate is given."""

    def sign(identity: SpiffeId) -> tuple[x509.Certificate, ...]:
        return authority.issue(new_key().public_key(), identity, now=clock.now, lifetime=timedelta(days=40))

    def issued(name: str, by: x509.Certificate | None = None) -> x509.Certificate:
        voucher = ROOT if by is None else Voucher("operator:ann", by.serial_number)
        return store.issue_operator(name, "key", sign, voucher=voucher, max_age=MAX_AGE)[0]

    return issued


def refusal(issue: Issue, name: str, by: x509.Certificate | None = None) -> str:
    with pytest.raises(OperatorRefused) as refused:
        issue(name, by)
    return refused.value.code


def test_an_issuance_and_its_audit_entry_name_operator_and_voucher(store: Store, issue: Issue, clock: Clock) -> None:
    first = issue("ann")
    second = issue("bob", by=first)
    identity = str(HOME.operator("bob"))
    found = {each.identity: each for each in store.operators()}
    assert set(found) == {str(HOME.operator("ann")), identity}
    assert (found[identity].serial, found[identity].method) == (second.serial_number, "operator")
    entry = store.audit()[-1]
    assert (entry.actor, entry.event) == ("operator:ann", "certificate.issued")
    assert (entry.detail["identity"], entry.detail["vouched"]) == (identity, str(first.serial_number))
    assert "vouched" not in store.audit()[-2].detail
    assert store.verify_audit() == entry.seq
    clock.advance(days=41)
    assert store.operators() == ()


def test_where_signing_fails_nothing_is_written(store: Store) -> None:
    before = store.audit()
    with pytest.raises(ZeroDivisionError):
        store.issue_operator("ann", "key", lambda _: 1 / 0, voucher=ROOT, max_age=MAX_AGE)
    assert (store.operators(), store.audit()) == ((), before)


def test_operators_vouch_for_each_other_only_as_long_as_a_local_user_lately_did(issue: Issue, clock: Clock) -> None:
    first = issue("ann")
    clock.advance(days=29)
    second = issue("ann", by=first)
    clock.advance(days=2)
    assert refusal(issue, "ann", by=second) == "attestation_too_old"
    assert issue("ann", by=issue("ann"))


def test_only_an_operator_s_certificate_of_this_store_vouches(
    store: Store, issue: Issue, sign: Callable[[WorkloadName], tuple[x509.Certificate, ...]]
) -> None:
    token, _ = store.create_token(CHECKOUT, lifetime=timedelta(minutes=1), uses=1, author="ann")
    (workload, *_) = store.issue_with_token(token, "key", sign)
    assert refusal(issue, "ann", by=workload) == "unknown_certificate"
    (stranger, *_) = sign(CHECKOUT)
    assert refusal(issue, "ann", by=stranger) == "unknown_certificate"


def test_a_banned_operator_gets_nothing_and_vouches_for_nobody(store: Store, issue: Issue) -> None:
    first = issue("ann")
    store.ban(f"serial:{first.serial_number}", reason="", author="root")
    assert refusal(issue, "bob", by=first) == "banned"
    store.ban(str(HOME.operator("ann")), reason="", author="root")
    assert refusal(issue, "ann") == "banned"


def test_whether_one_of_several_is_banned_is_one_question(store: Store) -> None:
    store.ban("serial:7", reason="lost", author="root")
    found = store.banned(str(HOME.operator("ann")), "serial:7")
    assert found is not None
    assert found.reason == "lost"
    assert store.banned(str(HOME.operator("ann")), "serial:8") is None
