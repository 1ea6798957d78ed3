"""Changing policies through the API: all or nothing, numbered, with an author, and counted where they are enforced."""

from typing import Any

import pytest

from control_plane.admin.client import Client
from control_plane.admin.errors import AdminRefused
from tests.support.admin import AdminHouse, policy, put


def actions(answer: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["action"] for each in answer["changes"]}


def names(client: Client) -> set[str]:
    return {each["name"] for each in client.get("/v1/policies")["policies"]}


def test_what_was_applied_is_there_with_number_author_and_message(house: AdminHouse, client: Client) -> None:
    answer = client.post("/v1/policies", put(policy("a"), policy("b"), message="why"))
    assert actions(answer) == {"a": "added", "b": "added"}
    assert answer["number"] == house.backend.store.policy_number()
    assert answer["targets"] == ["shop/payments"]
    stored = client.get("/v1/policies")["policies"]
    assert {each["number"] for each in stored} == {answer["number"]}
    (revision,) = client.get("/v1/revisions")["revisions"]
    assert (revision["message"], revision["author"]) == ("why", answer["author"])


def test_a_change_wakes_those_who_push_it(house: AdminHouse, client: Client) -> None:
    before = house.backend.advance.count
    client.post("/v1/policies", put(policy("a")))
    assert house.backend.advance.count == before + 1
    client.post("/v1/policies", put(policy("a")))
    assert house.backend.advance.count == before + 1


def test_applying_the_same_again_changes_nothing(client: Client) -> None:
    first = client.post("/v1/policies", put(policy("a")))
    again = client.post("/v1/policies", put(policy("a")))
    assert actions(again) == {"a": "unchanged"}
    assert again["number"] == first["number"]
    assert len(client.get("/v1/revisions")["revisions"]) == 1


def test_a_replacement_concerns_the_old_target_and_the_new(client: Client) -> None:
    client.post("/v1/policies", put(policy("a", workload="payments")))
    answer = client.post("/v1/policies", put(policy("a", workload="ledger")))
    assert actions(answer) == {"a": "replaced"}
    assert answer["targets"] == ["shop/ledger", "shop/payments"]


def test_several_faults_store_nothing_and_are_all_listed(client: Client) -> None:
    wrong = policy("b", frm=1)
    wrong["spec"]["to"]["prots"] = wrong["spec"]["to"].pop("ports")
    with pytest.raises(AdminRefused) as refused:
        client.post("/v1/policies", put(policy("good"), wrong, {"kind": "AllowPolicy"}))
    assert refused.value.error == "policy_faults"
    text = "\n".join(refused.value.faults)
    assert "test.yaml#2 spec.frm" in text
    assert "test.yaml#2 spec.to.prots" in text
    assert "test.yaml#3" in text
    assert names(client) == set()


def test_prune_removes_what_the_files_lack(client: Client) -> None:
    client.post("/v1/policies", put(policy("a"), policy("b")))
    answer = client.post("/v1/policies", put(policy("b"), policy("c"), prune=True))
    assert actions(answer) == {"a": "removed", "b": "unchanged", "c": "added"}
    assert names(client) == {"b", "c"}


def test_a_dry_run_says_the_same_and_stores_nothing(house: AdminHouse, client: Client) -> None:
    client.post("/v1/policies", put(policy("a"), policy("b")))
    number = house.backend.store.number()
    change = put(policy("b", workload="ledger"), policy("c"), prune=True)
    dry = client.post("/v1/policies", {**change, "dry_run": True})
    assert house.backend.store.number() == number
    assert actions(dry) == actions(client.post("/v1/policies", change))


def test_delete_removes_by_kind_namespace_and_name(client: Client) -> None:
    client.post("/v1/policies", put(policy("a"), policy("b")))
    key = {"kind": "AllowPolicy", "namespace": "shop", "name": "a"}
    assert actions(client.post("/v1/policies", {"delete": [key]})) == {"a": "removed"}
    assert names(client) == {"b"}


@pytest.mark.parametrize(
    "body",
    [
        {"put": "policies"},
        {"put": [1]},
        {"put": [{"source": "a", "index": 1}]},
        {"put": [{"source": "a", "index": 1, "content": {}, "more": 1}]},
        {"delete": [{"kind": "AllowPolicy"}]},
        {"prune": "yes"},
        {"puts": []},
        {"message": "x" * 1001},
    ],
)
def test_a_change_that_is_not_well_formed_is_refused(client: Client, body: dict[str, Any]) -> None:
    with pytest.raises(AdminRefused):
        client.post("/v1/policies", body)
    assert client.get("/v1/revisions")["revisions"] == []


def test_enforced_counts_the_acknowledged_sidecars_of_the_target(house: AdminHouse, client: Client) -> None:
    first, second = house.connect("shop/payments"), house.connect("shop/payments")
    bystander = house.connect("shop/frontend")
    house.acknowledge(first, second, bystander)
    number = client.post("/v1/policies", put(policy("a")))["number"]
    assert enforced(client) == {"on": 0, "of": 2}
    house.acknowledge(first)
    assert enforced(client) == {"on": 1, "of": 2}
    waiting = client.post("/v1/enforcement", {"number": number, "targets": ["shop/payments"]})
    assert (waiting["on"], waiting["of"]) == (1, 2)
    assert [each["instance"] for each in waiting["waiting"]] == [second.instance]
    house.acknowledge(second)
    assert enforced(client) == {"on": 2, "of": 2}


def test_an_acknowledgement_of_another_epoch_does_not_count(house: AdminHouse, client: Client) -> None:
    link = house.connect("shop/payments")
    client.post("/v1/policies", put(policy("a")))
    house.acknowledge(link, number=10_000, epoch="before the restore")
    assert enforced(client) == {"on": 0, "of": 1}


def test_the_defaults_of_a_namespace_concern_all_of_its_sidecars(house: AdminHouse, client: Client) -> None:
    links = house.connect("shop/payments"), house.connect("shop/frontend")
    house.connect("ops/prometheus")
    defaults = {
        "apiVersion": "doorward.dev/v1",
        "kind": "NamespaceDefaults",
        "metadata": {"name": "defaults", "namespace": "shop"},
        "spec": {"default": "deny", "mtls": "strict"},
    }
    assert client.post("/v1/policies", put(defaults))["targets"] == ["shop/*"]
    house.acknowledge(links[0])
    assert enforced(client) == {"on": 1, "of": 2}


def enforced(client: Client) -> dict[str, int]:
    (stored,) = client.get("/v1/policies")["policies"]
    found: dict[str, int] = stored["enforced"]
    return found


def test_the_stored_policies_answer_a_question(client: Client) -> None:
    number = client.post("/v1/policies", put(policy("a", http=[{"methods": ["POST"], "paths": ["/charges"]}])))[
        "number"
    ]
    question = {"from": "shop/checkout", "to": "shop/payments:8080", "request": "POST /charges"}
    answer = client.post("/v1/decisions", question)
    assert (answer["allowed"], answer["policy"], answer["rule"], answer["revision"]) == (True, "shop/a", 0, number)
    denied = client.post("/v1/decisions", {**question, "request": "GET /charges"})
    assert (denied["allowed"], denied["nearest"]["policy"]) == (False, "shop/a")


@pytest.mark.parametrize(
    "to",
    [
        "shop/payments",
        "payments:8080",
        "shop/payments:0",
        "shop/payments:99999",
        ":",
        "a/b:\N{FULLWIDTH DIGIT EIGHT}080",
    ],
)
def test_a_question_that_cannot_be_read_is_refused(client: Client, to: str) -> None:
    with pytest.raises(AdminRefused, match="--to"):
        client.post("/v1/decisions", {"from": "shop/checkout", "to": to})


@pytest.mark.parametrize("parameters", [{"limit": "0"}, {"limit": "x"}, {"limit": "1" * 30}, {"limit": "-1"}])
def test_a_parameter_out_of_bounds_is_refused(client: Client, parameters: dict[str, str]) -> None:
    with pytest.raises(AdminRefused, match="limit must be"):
        client.get("/v1/revisions", **parameters)


@pytest.mark.parametrize("target", ["shop", "shop/", "shop/**", "sh*p/x", ""])
def test_a_target_that_is_none_is_refused(client: Client, target: str) -> None:
    with pytest.raises(AdminRefused):
        client.post("/v1/enforcement", {"number": 1, "targets": [target]})


PERMISSIVE = {
    "apiVersion": "doorward.dev/v1",
    "kind": "NamespaceDefaults",
    "metadata": {"name": "defaults", "namespace": "shop"},
    "spec": {"default": "deny", "mtls": "permissive"},
}


def test_warnings_are_about_what_was_sent_beside_all_that_is_stored(client: Client) -> None:
    plaintext = policy("plain", **{"from": [{"unauthenticated": True, "addresses": ["10.0.0.0/8"]}]})
    assert "never matches" in client.post("/v1/policies", put(plaintext, dry_run=True))["warnings"][0]
    client.post("/v1/policies", put(PERMISSIVE, policy("wide", workload="*")))
    assert client.post("/v1/policies", put(plaintext, dry_run=True))["warnings"] == []
    assert "never matches" in client.post("/v1/policies", put(plaintext, dry_run=True, prune=True))["warnings"][0]


@pytest.mark.parametrize(
    "body",
    [
        {"message": "\udce9"},
        {"put": [{"source": "\udce9", "index": 1, "content": {}}]},
        {"put": [{"source": "a", "index": 1, "content": {"\udce9": 1}}]},
    ],
)
def test_a_text_that_is_no_unicode_is_refused_and_costs_nothing(client: Client, body: dict[str, Any]) -> None:
    with pytest.raises(AdminRefused) as refused:
        client.post("/v1/policies", body)
    assert refused.value.error == "bad_text"
    assert client.post("/v1/policies", {"message": "\U0001f6aa", **put(policy("a"))})["message"] == "\U0001f6aa"
