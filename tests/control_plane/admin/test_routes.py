"""Tokens, bans, the audit log, the bundle and the sidecars, asked over the socket."""

from datetime import timedelta

import pytest

from certs.bundle import TrustBundle
from certs.keys import fingerprint, new_key
from control_plane.admin.client import Client
from control_plane.admin.errors import AdminRefused, ServerAway
from tests.support.admin import AdminHouse


def test_the_bundle_is_the_authoritys(house: AdminHouse, client: Client) -> None:
    answer = client.get("/v1/bundle")
    assert TrustBundle.from_pem(answer["pem"].encode()) == house.backend.authority.bundle
    assert [root["trust_domain"] for root in answer["roots"]] == ["cluster.local"]


def test_a_token_buys_a_certificate_for_its_workload_and_is_listed_without_its_secret(
    house: AdminHouse, client: Client
) -> None:
    made = client.post("/v1/tokens", {"workload": "shop/checkout", "ttl": 600, "uses": 2})
    assert made["identity"] == "spiffe://cluster.local/ns/shop/sa/checkout"
    key = new_key().public_key()
    domain = house.backend.trust_domain
    house.backend.store.issue_with_token(
        made["token"], fingerprint(key), lambda workload: house.backend.authority.issue(key, workload.in_domain(domain))
    )
    (listed,) = client.get("/v1/tokens")["tokens"]
    assert listed == {**{name: made[name] for name in made if name != "token"}, "uses_left": 1}


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"workload": "checkout"}, "bad_workload"),
        ({"workload": "shop/checkout", "ttl": 0}, "bad_ttl"),
        ({"workload": "shop/checkout", "ttl": 8 * 86400}, "bad_ttl"),
        ({"workload": "shop/checkout", "ttl": 10**30}, "bad_ttl"),
        ({"workload": "shop/checkout", "ttl": "10m"}, "wrong_type"),
        ({"workload": "shop/checkout", "uses": 0}, "bad_uses"),
        ({"workload": "shop/checkout", "uses": True}, "wrong_type"),
        ({}, "missing_field"),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(client: Client, more: dict[str, object], error: str) -> None:
    with pytest.raises(AdminRefused) as refused:
        client.post("/v1/tokens", more)
    assert refused.value.error == error
    assert client.get("/v1/tokens")["tokens"] == []


def test_a_revoked_token_is_gone(client: Client) -> None:
    made = client.post("/v1/tokens", {"workload": "shop/checkout"})
    assert client.delete("/v1/tokens", id=made["id"]) == {"revoked": made["id"]}
    with pytest.raises(AdminRefused, match="there is no token"):
        client.delete("/v1/tokens", id=made["id"])


@pytest.mark.parametrize(
    ("subject", "stored"),
    [
        ("shop/checkout", "spiffe://cluster.local/ns/shop/sa/checkout"),
        ("spiffe://partner.example/ns/x/sa/y", "spiffe://partner.example/ns/x/sa/y"),
        ("serial:00123", "serial:123"),
    ],
)
def test_a_ban_is_kept_in_one_spelling_and_can_be_lifted(
    house: AdminHouse, client: Client, subject: str, stored: str
) -> None:
    before = house.backend.advance.count
    assert client.post("/v1/bans", {"subject": subject, "reason": "leaked"})["subject"] == stored
    assert [(each["subject"], each["reason"]) for each in client.get("/v1/bans")["bans"]] == [(stored, "leaked")]
    assert client.delete("/v1/bans", subject=subject) == {"lifted": stored}
    assert house.backend.advance.count == before + 2
    with pytest.raises(AdminRefused, match="is not banned"):
        client.delete("/v1/bans", subject=subject)


def test_the_audit_log_pages_and_verifies(client: Client) -> None:
    client.post("/v1/bans", {"subject": "shop/checkout"})
    entries = client.get("/v1/audit")["entries"]
    assert entries[-1]["event"] == "ban.added"
    assert client.get("/v1/audit", after=entries[0]["seq"], limit=1)["entries"] == entries[1:2]
    assert client.get("/v1/audit/verification") == {
        "intact": True,
        "entries": len(entries),
        "pruned": 0,
        "first_bad": None,
        "message": "every entry is as it was written",
    }


def test_a_sidecar_shows_what_it_acknowledged_and_what_it_refused(house: AdminHouse, client: Client) -> None:
    link = house.connect("shop/checkout", "shop/payments:8080", certificate=timedelta(minutes=30))
    (before,) = client.get("/v1/sidecars")["sidecars"]
    assert (before["acknowledged"], before["current"], before["refused"]) == (None, False, None)
    house.acknowledge(link)
    (after,) = client.get("/v1/sidecars")["sidecars"]
    assert (after["acknowledged"], after["current"]) == (house.backend.store.number(), True)
    assert after["destinations"] == ["shop/payments:8080"]
    house.refuse(link, "no such key")
    (refusing,) = client.get("/v1/sidecars")["sidecars"]
    assert refusing["refused"]["message"] == "no such key"


def test_a_socket_that_nobody_answers_says_what_to_do(house: AdminHouse) -> None:
    away = house.directory / "nowhere.sock"
    house.socket.rename(away)
    with pytest.raises(ServerAway, match=r"there is no admin socket at .*control-plane run"), house.client() as client:
        client.get("/v1/bans")
    away.rename(house.socket)
