"""What `doorward check` finds, and that each finding says what to do."""

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from attrs import evolve

from control_plane.admin import health
from control_plane.admin.client import Client
from control_plane.admin.errors import AdminRefused
from control_plane.admin.health import Check
from control_plane.injector.registration import Registered
from control_plane.kubernetes.contact import Contact
from control_plane.metrics import Metrics
from control_plane.settings import Lifetimes
from control_plane.store.records import Lease
from mesh.policy import Fault
from tests.support.admin import AdminHouse, policy, put


def found(client: Client) -> dict[str, str]:
    return {each["name"]: each["status"] for each in client.get("/v1/health")["checks"]}


def gathered(house: AdminHouse, **how: object) -> health.Gathered:
    now = house.clock()
    return evolve(health.gather(house.backend, house.backend.links.status(), now), **how)


def check(house: AdminHouse, name: str, **how: object) -> Check:
    (one,) = [each for each in health.examine(gathered(house, **how)) if each.name == name]
    return one


def test_an_empty_mesh_warns_of_what_is_not_there_yet(client: Client) -> None:
    statuses = found(client)
    assert {name for name, status in statuses.items() if status != "ok"} == {"policies", "sidecars"}
    assert "fail" not in statuses.values()


def test_in_a_cluster_an_empty_mesh_says_what_is_done_there(house: AdminHouse) -> None:
    contact = Contact(Metrics(), ever=True)
    assert "kubectl label namespace" in check(house, "sidecars", contact=contact).advice
    assert "kubectl logs" in check(house, "sidecars", contact=contact).advice
    assert "kubectl apply" in check(house, "policies", contact=contact).advice


def test_an_api_server_that_is_away_holds_up_renewals_too(house: AdminHouse) -> None:
    line = check(house, "cluster", contact=Contact(Metrics(), away="no answer", ever=True))
    assert (line.status, "neither issued nor renewed" in line.advice) == ("warn", True)


def test_of_certificates_that_live_for_minutes_few_minutes_are_enough(house: AdminHouse) -> None:
    house.backend = evolve(house.backend, lifetimes=Lifetimes(certificate=timedelta(minutes=4)))
    house.connect("shop/payments", certificate=timedelta(minutes=2))
    assert check(house, "sidecar certificates").status == "ok"
    house.connect("shop/late", certificate=timedelta(minutes=1))
    assert check(house, "sidecar certificates").status == "warn"


def test_a_mesh_in_order_is_all_ok(house: AdminHouse, client: Client) -> None:
    client.post("/v1/policies", put(policy("a")))
    house.acknowledge(house.connect("shop/payments"))
    assert set(found(client).values()) == {"ok"}


def test_whatever_is_not_ok_says_what_to_do(house: AdminHouse) -> None:
    house.refuse(house.connect("shop/payments", "shop/ledger:80", certificate=timedelta(seconds=-1)), "x")
    later = house.clock() + timedelta(days=36500)
    checks = health.examine(gathered(house, now=later, audit="entry 3 was changed"))
    assert [each.name for each in checks if each.status != "ok" and not each.advice] == []
    assert {each.name for each in checks if each.status == "fail"} == {
        "root certificates",
        "issuing certificate",
        "audit log",
        "enforcement",
        "sidecar certificates",
    }


def test_a_changed_audit_log_fails(house: AdminHouse, client: Client) -> None:
    with closing(sqlite3.connect(house.directory / "state" / "store.db")) as db, db:
        db.execute("UPDATE audit SET actor = 'nobody' WHERE seq = 1")
    assert found(client)["audit log"] == "fail"
    verdict = client.get("/v1/audit/verification")
    assert (verdict["intact"], verdict["first_bad"]) == (False, 1)


def test_stored_policies_that_cannot_be_read_fail_and_are_named(house: AdminHouse, client: Client) -> None:
    client.post("/v1/policies", put(policy("a"), policy("b")))
    with closing(sqlite3.connect(house.directory / "state" / "store.db")) as db, db:
        db.execute("UPDATE policies SET document = replace(document, '\"from\"', '\"since-2.0\"') WHERE name = 'a'")
    (line,) = [each for each in client.get("/v1/health")["checks"] if each["name"] == "policies"]
    assert (line["status"], "AllowPolicy shop/a" in line["detail"]) == ("fail", True)
    assert "policy delete" in line["advice"]
    with pytest.raises(AdminRefused, match="cannot be read") as refused:
        client.post("/v1/decisions", {"from": "shop/checkout", "to": "shop/payments:8080"})
    assert any("since-2.0" in fault for fault in refused.value.faults)


def test_a_root_that_ends_soon_warns_and_one_that_ended_fails(house: AdminHouse) -> None:
    end = house.backend.authority.root_not_after
    assert check(house, "root certificates", now=end - health.ROOT_SOON).status == "ok"
    assert check(house, "root certificates", now=end - timedelta(days=1)).status == "warn"
    assert check(house, "root certificates", now=end).status == "fail"


def test_an_issuer_that_was_not_replaced_in_time_warns_and_asks_for_the_root_key(house: AdminHouse) -> None:
    end = house.backend.authority.issuer_not_after
    late = check(house, "issuing certificate", now=end - timedelta(days=5), root_is_offline=True)
    assert (late.status, "root.key" in late.advice) == ("warn", True)
    assert check(house, "issuing certificate", now=end).status == "fail"


def test_a_sidecar_that_is_behind_warns_and_one_that_refuses_fails(house: AdminHouse, client: Client) -> None:
    link = house.connect("shop/payments")
    house.acknowledge(link)
    client.post("/v1/policies", put(policy("a")))
    assert found(client)["enforcement"] == "warn"
    house.refuse(link, "unknown key spec.new")
    line = check(house, "enforcement")
    assert (line.status, "unknown key spec.new" in line.detail) == ("fail", True)


def test_a_sidecar_whose_snapshot_is_too_large_fails_and_is_named(house: AdminHouse, client: Client) -> None:
    link = house.connect("shop/payments")
    house.acknowledge(link)
    assert found(client)["snapshots"] == "ok"
    link.unsent = "40000000 bytes, more than 33554432"
    line = check(house, "snapshots")
    assert (line.status, bool(line.advice)) == ("fail", True)
    assert "spiffe://cluster.local/ns/shop/sa/payments: 40000000 bytes, more than 33554432" in line.detail


def test_policy_objects_that_are_not_accepted_warn_and_are_named(house: AdminHouse) -> None:
    in_cluster = {"contact": Contact(Metrics(), ever=True)}
    assert check(house, "policy objects", **in_cluster).status == "ok"
    fault = Fault("AllowPolicy shop/a", 0, "spec.htttp", "unknown key")
    house.backend.not_accepted.faulty = {("AllowPolicy", "shop", "a"): (fault, fault)}
    line = check(house, "policy objects", **in_cluster)
    assert (line.status, line.detail) == (
        "warn",
        "1 not accepted: AllowPolicy shop/a: 2 faults, the first: spec.htttp: unknown key",
    )
    assert "kubectl get allowpolicy -n shop a -o yaml" in line.advice
    house.backend.not_accepted.waiting = {("DenyPolicy", "shop", "b"): policy("b")}
    line = check(house, "policy objects", **in_cluster)
    assert "2 not accepted: " in line.detail
    assert "DenyPolicy shop/b: the command made what is in force" in line.detail
    assert "doorward policy release DenyPolicy shop/b" in line.advice


def test_of_an_object_that_is_both_faulty_and_waiting_the_fault_comes_first(house: AdminHouse) -> None:
    key = "AllowPolicy", "shop", "a"
    house.backend.not_accepted.faulty = {key: (Fault("AllowPolicy shop/a", 0, "", "is too large"),)}
    house.backend.not_accepted.waiting = {key: None}
    line = check(house, "policy objects", contact=Contact(Metrics(), ever=True))
    assert line.detail == "1 not accepted: AllowPolicy shop/a: 1 fault: is too large"
    assert "release" not in line.advice


def test_without_a_cluster_there_is_no_line_about_its_objects(client: Client) -> None:
    assert "policy objects" not in found(client)


def test_a_destination_that_nobody_offers_warns_and_names_who_wants_it(house: AdminHouse) -> None:
    house.connect("shop/checkout", "shop/payments:8080")
    line = check(house, "destinations")
    assert line.status == "warn"
    assert "shop/payments:8080 (wanted by spiffe://cluster.local/ns/shop/sa/checkout)" in line.detail
    offered = Lease("id", "i", "shop/payments", 8080, 8443, "127.0.0.1", "http", house.clock(), confirmed=True)
    assert check(house, "destinations", leases=(offered,)).status == "ok"
    assert check(house, "destinations", leases=(evolve(offered, confirmed=False),)).status == "warn"


@pytest.mark.parametrize(
    ("registered", "status", "said"),
    [
        (Registered("doorward-injector", "current"), "ok", "doorward-injector is registered"),
        (Registered("doorward-injector", "missing"), "fail", "new pods get no sidecar"),
        (Registered("doorward-injector", "stale", "Forbidden (403)"), "fail", "caBundle: Forbidden (403)"),
        (Registered("doorward-injector", "unknown", "no answer"), "warn", "no answer"),
    ],
)
def test_how_the_injector_is_registered_is_said(
    house: AdminHouse, registered: Registered, status: str, said: str
) -> None:
    line = check(house, "injector", registered=registered)
    assert (line.status, bool(line.advice)) == (status, status != "ok")
    assert said in line.detail


def test_without_an_injector_there_is_no_line_about_one(client: Client) -> None:
    assert "injector" not in found(client)


def test_a_long_list_names_three_and_counts_the_rest(house: AdminHouse) -> None:
    for number in range(5):
        house.connect(f"shop/w{number}", certificate=timedelta(minutes=1))
    assert "and 2 more" in check(house, "sidecar certificates").detail
