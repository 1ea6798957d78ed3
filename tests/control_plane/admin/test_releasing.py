"""Policies that belong to the cluster, as the API treats them, and the way by which others get there."""

from typing import Any

import pytest

from control_plane.admin.client import Client
from control_plane.admin.errors import AdminRefused
from tests.support.admin import AdminHouse, policy, put

KEY = "AllowPolicy", "shop", "a"
RELEASE = {"kind": "AllowPolicy", "namespace": "shop", "name": "a"}


def from_cluster(house: AdminHouse, *documents: dict[str, Any]) -> None:
    """What the cluster's objects have put into the store."""
    house.backend.store.change_policies(documents, [], author="kubernetes", message="", owner="cluster")


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
