"""Policies that belong to the cluster, as the API treats them, and the way by which others get there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.admin.client import Client
from control_plane.admin.errors import AdminRefused
from tests.support.admin import AdminHouse, admin_house, policy, put

KEY = "AllowPolicy", "shop", "a"
RELEASE = {"kind": "AllowPolicy", "namespace": "shop", "name": "a"}


def from_cluster(house: AdminHouse, *documents: dict[str, Any]) -> None:
    """What the cluster's objects have put into the store."""
    house.backend.store.change_policies(documents, [], author="kubernetes", message="", owner="cluster")


@pytest.fixture
def house(short_directory: Path) -> Iterator[AdminHouse]:
    """Of a control plane that watches a cluster."""
    with admin_house(short_directory, in_cluster=True) as house:
        yield house


@pytest.fixture
def alone(short_directory: Path) -> Iterator[AdminHouse]:
    """Of one that does not, or does not any more."""
    with admin_house(short_directory) as house:
        yield house


def owners(client: Client) -> dict[str, str]:
    return {each["name"]: each["owner"] for each in client.get("/v1/policies")["policies"]}


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("body", [put(policy("b"), policy("a", mode="audit")), {"delete": [RELEASE]}])
def test_what_belongs_to_the_cluster_is_not_changed_here(
    house: AdminHouse, client: Client, body: dict[str, Any], dry_run: bool
) -> None:
    from_cluster(house, policy("a"))
    with pytest.raises(AdminRefused, match="kubectl edit allowpolicy -n shop a") as refused:
        client.post("/v1/policies", {**body, "dry_run": dry_run})
    assert refused.value.error == "owned_by_cluster"
    assert owners(client) == {"a": "cluster"}


def test_a_prune_leaves_what_belongs_to_the_cluster_and_says_so(house: AdminHouse, client: Client) -> None:
    client.post("/v1/policies", put(policy("b"), policy("c")))
    from_cluster(house, policy("a"))
    answer = client.post("/v1/policies", put(policy("c"), prune=True))
    assert answer["left"] == [RELEASE]
    assert owners(client) == {"a": "cluster", "c": "cli"}


def test_a_release_hands_over_to_the_object_that_waits(house: AdminHouse, client: Client) -> None:
    client.post("/v1/policies", put(policy("a")))
    house.backend.not_accepted.waiting = {KEY: policy("a", workload="ledger")}
    before = house.backend.advance.count
    answer = client.post("/v1/policies/release", {**RELEASE, "message": "to git"})
    assert [each["action"] for each in answer["changes"]] == ["released"]
    assert (answer["targets"], answer["message"]) == (["shop/ledger", "shop/payments"], "to git")
    assert owners(client) == {"a": "cluster"}
    assert house.backend.advance.count == before + 1


@pytest.mark.parametrize(
    ("documents", "code"), [({}, "no_object_waits"), ({KEY: None}, "object_has_faults")], ids=["none", "faulty"]
)
def test_a_release_without_an_object_that_could_take_it_is_refused(
    house: AdminHouse, client: Client, documents: dict[Any, Any], code: str
) -> None:
    client.post("/v1/policies", put(policy("a")))
    house.backend.not_accepted.waiting = documents
    with pytest.raises(AdminRefused) as refused:
        client.post("/v1/policies/release", RELEASE)
    assert refused.value.error == code
    assert owners(client) == {"a": "cli"}


def test_a_release_of_what_was_deleted_meanwhile_stores_nothing(house: AdminHouse, client: Client) -> None:
    house.backend.not_accepted.waiting = {KEY: policy("a")}
    with pytest.raises(AdminRefused) as refused:
        client.post("/v1/policies/release", RELEASE)
    assert refused.value.error == "not_ours"
    assert owners(client) == {}


@pytest.mark.parametrize("body", [RELEASE, {"all": True}])
def test_without_a_cluster_its_documents_become_the_command_s_and_can_be_deleted(
    alone: AdminHouse, body: dict[str, Any]
) -> None:
    from_cluster(alone, policy("a"))
    before = alone.backend.advance.count
    with alone.client() as client:
        with pytest.raises(AdminRefused, match="doorward policy release AllowPolicy shop/a"):
            client.post("/v1/policies", {"delete": [RELEASE]})
        answer = client.post("/v1/policies/release", {**body, "message": "the cluster is gone"})
        assert [(each["action"], each["name"]) for each in answer["changes"]] == [("released", "a")]
        assert answer["changes"][0]["before"] == answer["changes"][0]["after"]
        assert (answer["targets"], answer["message"]) == (["shop/payments"], "the cluster is gone")
        assert (owners(client), alone.backend.advance.count) == ({"a": "cli"}, before + 1)
        client.post("/v1/policies", {"delete": [RELEASE]})
        assert owners(client) == {}


def test_without_a_cluster_there_may_be_nothing_to_take_over(alone: AdminHouse) -> None:
    with alone.client() as client:
        client.post("/v1/policies", put(policy("a")))
        number = alone.backend.store.policy_number()
        with pytest.raises(AdminRefused, match="is no document of the cluster") as refused:
            client.post("/v1/policies/release", RELEASE)
        assert refused.value.error == "not_ours"
        answer = client.post("/v1/policies/release", {"all": True})
        assert (answer["changes"], answer["number"]) == ([], number)


def test_in_a_cluster_nothing_is_taken_from_it(house: AdminHouse, client: Client) -> None:
    from_cluster(house, policy("a"))
    for body, code in (({"all": True}, "in_a_cluster"), (RELEASE, "no_object_waits")):
        with pytest.raises(AdminRefused) as refused:
            client.post("/v1/policies/release", body)
        assert refused.value.error == code
    assert owners(client) == {"a": "cluster"}


def test_all_and_one_at_the_same_time_is_refused(alone: AdminHouse) -> None:
    with alone.client() as client, pytest.raises(AdminRefused, match="unknown field"):
        client.post("/v1/policies/release", {**RELEASE, "all": True})
