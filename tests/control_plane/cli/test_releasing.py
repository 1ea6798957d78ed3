"""`doorward policy release`: a policy handed over, to the cluster and, where there is none any more, from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.admin import AdminHouse, admin_house, policy


def from_cluster(house, *names):
    documents = [policy(name) for name in names]
    house.backend.store.change_policies(documents, [], author="kubernetes", message="", owner="cluster")


class TestInACluster:
    @pytest.fixture
    def house(self, short_directory: Path) -> Iterator[AdminHouse]:
        with admin_house(short_directory, in_cluster=True) as house:
            yield house

    def test_release_says_what_it_did_and_why_it_does_not(self, admin, house):
        admin("policy", "apply", "-f", "-", stdin=yaml.safe_dump(policy("a")))
        refused = admin("policy", "release", "AllowPolicy", "shop/a")
        assert (refused.exit, "no cluster object AllowPolicy shop/a waits" in refused.err) == (2, True)
        house.backend.not_accepted.waiting = {("AllowPolicy", "shop", "a"): policy("a")}
        done = admin("policy", "release", "allowpolicy", "shop/a", "-m", "to git", "--wait", "1")
        assert (done.exit, "released  AllowPolicy shop/a" in done.out) == (0, True)
        assert "~1" in admin("policy", "history").out

    def test_release_takes_nothing_from_the_cluster(self, admin, house):
        from_cluster(house, "a")
        refused = admin("policy", "release", "--all")
        assert (refused.exit, "watches a cluster" in refused.err, "kubectl" in refused.err) == (2, True, True)


def test_without_a_cluster_release_takes_over_one_or_all_of_what_it_left(admin, house):
    from_cluster(house, "a", "b", "c")
    refused = admin("policy", "delete", "shop/a")
    assert (refused.exit, "doorward policy release AllowPolicy shop/a" in refused.err) == (2, True)
    done = admin("policy", "release", "AllowPolicy", "shop/a", "-m", "the cluster is gone")
    assert (done.exit, "released  AllowPolicy shop/a" in done.out) == (0, True)
    assert [each["owner"] for each in admin("policy", "get", "-o", "json").json["policies"]] == [
        "cli",
        *["cluster"] * 2,
    ]
    every = admin("policy", "release", "--all", "-o", "json")
    assert [each["name"] for each in every.json["changes"]] == ["b", "c"]
    assert admin("policy", "delete", "a", "b", "c").exit == 0
    assert "Nothing changed" in admin("policy", "release", "--all").out


@pytest.mark.parametrize("words", [("--all", "AllowPolicy", "shop/a"), ()])
def test_release_wants_one_policy_or_all(admin, words):
    answer = admin("policy", "release", *words)
    assert (answer.exit, "--all" in answer.err) == (2, True)
