"""`doorward policy history` where not everything is kept: what is there is told from what was pruned."""

from datetime import timedelta

import pytest
import yaml

from control_plane.state import STORE_FILE
from control_plane.store.retention import Retention
from control_plane.store.store import Store
from tests.support.admin import policy


def written(*documents: object) -> str:
    return yaml.safe_dump_all(documents)


@pytest.fixture
def filled(admin, house):
    """Three revisions of shop/a, one of which also made bank/b, and a ban between them."""
    other = {**policy("b"), "metadata": {"name": "b", "namespace": "bank"}}
    admin("policy", "apply", "-f", "-", "-m", "first", stdin=written(policy("a"), other))
    admin("ban", "add", "shop/checkout")
    admin("policy", "apply", "-f", "-", "-m", "second", stdin=written(policy("a", caller="frontend")))
    admin("policy", "apply", "-f", "-", "-m", "third", stdin=written(policy("a", caller="ops")))


@pytest.fixture
def pruned(filled, house):
    """The same with room for nothing but what is in force."""
    url, domain = f"sqlite:///{house.directory / 'state' / STORE_FILE}", house.backend.trust_domain
    tight = Retention(versions=1, age=timedelta(days=1), history_bytes=1)
    store = Store.open(url, trust_domain=domain, clock=house.clock, retention=tight)
    while store.tidy():
        pass
    store.close()


def test_the_history_of_one_policy_and_of_one_namespace(admin, filled):
    assert [each["number"] for each in admin("policy", "history", "shop/a", "-o", "json").json["revisions"]] == [
        4,
        3,
        1,
    ]
    (only,) = admin("policy", "history", "bank/", "-o", "json").json["revisions"]
    assert [each["name"] for each in only["changes"]] == ["b"]
    assert "no change of a policy is known" in admin("policy", "history", "shop/nothing").out


def test_one_revision_is_shown_with_what_it_changed(admin, filled):
    answer = admin("policy", "history", "--revision", "3")
    assert "second" in answer.out
    assert "+  - workload: frontend" in answer.out


@pytest.mark.parametrize("number", ["2", "5"])
def test_a_number_that_is_no_revision_is_told_so(admin, filled, number):
    answer = admin("policy", "history", "--revision", number)
    assert (answer.exit, f"no revision of the policies has the number {number}" in answer.err) == (2, True)


def test_a_revision_that_was_pruned_is_told_so_with_what_to_do(admin, pruned):
    answer = admin("policy", "history", "--revision", "3")
    assert answer.exit == 2
    assert "revision 3 is not kept any more" in answer.err
    assert "--max-policy-history-mib" in answer.err
    assert "doorward audit list" in answer.err


def test_what_is_left_says_how_much_was_pruned(admin, pruned):
    listed = admin("policy", "history")
    assert "+1 1 pruned" in listed.out
    assert "Pruned so far: 2 versions, up to revision 3." in listed.out
    assert "and 1 more, which are not kept any more" in admin("policy", "history", "--revision", "1").out
    assert admin("policy", "apply", "-f", "-", stdin=written(policy("a", caller="ops"))).exit == 0
    assert admin("audit", "verify").exit == 0
