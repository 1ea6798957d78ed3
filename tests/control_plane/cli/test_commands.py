"""The smaller commands: bundle, token, sidecars, check, ban, audit."""

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from certs.bundle import TrustBundle
from control_plane.metrics import Metrics
from tests.support.admin import policy

DOCS = (Path(__file__).parents[3] / "docs" / "configuration" / "control-plane.md").read_text()


def keys_in(value):
    """Every key in `value`, but those of policy documents and of the details of audit entries."""
    if isinstance(value, list):
        return {key for each in value for key in keys_in(each)}
    if not isinstance(value, dict):
        return set()
    below = (keys_in(each) for key, each in value.items() if key not in {"document", "before", "after", "detail"})
    return set(value).union(*below)


def test_every_key_of_json_is_documented(admin, house, tmp_path):
    (tmp_path / "policy.json").write_text(json.dumps(policy("a", mode="audit")))
    house.refuse(house.connect("shop/payments", "shop/ledger:80"), "no")
    for command in (
        "bundle show",
        "token create --workload shop/checkout",
        "token list",
        f"policy apply -f {tmp_path / 'policy.json'} --wait 0.01",
        "policy get",
        "policy history",
        "policy check --from shop/checkout --to shop/payments:8080",
        "policy check --from shop/frontend --to shop/payments:8080",
        f"policy lint {tmp_path / 'policy.json'}",
        "sidecars",
        "check",
        "ban add shop/frontend",
        "ban list",
        "ban remove shop/frontend",
        "audit verify",
        "audit list",
    ):
        answer = admin(*command.split(), "-o", "json")
        undocumented = {key for key in keys_in(answer.json) if f"`{key}`" not in DOCS}
        assert undocumented == set(), command


def test_every_metric_is_documented():
    for metric in Metrics().registry.collect():
        assert f"| `{metric.name}{'_total' if metric.type == 'counter' else ''}` | {metric.type} |" in DOCS


def test_bundle_show_prints_pem_and_nothing_else(admin, house):
    answer = admin("bundle", "show")
    assert (answer.exit, answer.err) == (0, "")
    assert TrustBundle.from_pem(answer.out.encode()) == house.backend.authority.bundle
    assert admin("bundle", "show", "-o", "json").json["pem"] == answer.out


def test_token_create_prints_the_token_alone_so_that_a_shell_can_take_it(admin):
    answer = admin("token", "create", "--workload", "shop/checkout", "--ttl", "1h", "--uses", "3")
    assert answer.exit == 0
    (token,) = answer.out.split()
    assert token.startswith("dwt_")
    assert token not in answer.err
    assert "spiffe://cluster.local/ns/shop/sa/checkout: can be used 3 times, until" in answer.err


def test_token_create_as_json_holds_everything(admin):
    answer = admin("token", "create", "--workload", "shop/checkout", "-o", "json")
    assert list(answer.json) == ["token", "id", "workload", "identity", "expires", "uses_left", "created_by", "time"]


def test_tokens_are_listed_without_secrets_and_can_be_revoked(admin):
    made = admin("token", "create", "--workload", "shop/checkout", "-o", "json").json
    listed = admin("token", "list")
    assert made["id"] in listed.out
    assert made["token"] not in listed.out
    assert admin("token", "revoke", made["id"]).exit == 0
    again = admin("token", "revoke", made["id"])
    assert (again.exit, "there is no token" in again.err) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [("--workload", "checkout"), ("--workload", "a/b", "--ttl", "soon"), ("--workload", "a/b", "--uses", "0"), ()],
)
def test_a_token_that_makes_no_sense_exits_2(admin, arguments):
    answer = admin("token", "create", *arguments)
    assert (answer.exit, answer.out) == (2, "")


def test_sidecars_shows_identity_snapshot_and_expiry(admin, house):
    assert admin("sidecars").out == "no sidecar is connected\n"
    link = house.connect("shop/checkout", certificate=timedelta(minutes=30, seconds=30))
    house.acknowledge(link)
    header, line = admin("sidecars").out.splitlines()
    assert header.startswith("IDENTITY")
    assert line.startswith("spiffe://cluster.local/ns/shop/sa/checkout  127.0.0.1  doorward 0.1.0")
    assert "in 30m" in line
    (found,) = admin("sidecars", "-o", "json").json["sidecars"]
    keys = "identity instance address version acknowledged current certificate_expires connected_since"
    assert list(found) == [*keys.split(), "listeners", "destinations", "refused"]


def test_a_sidecar_that_is_behind_or_refuses_is_marked(admin, house):
    house.acknowledge(house.connect("shop/payments"), number=0, epoch="another")
    house.refuse(house.connect("shop/ledger"), "cannot read that")
    answer = admin("sidecars")
    assert "0 (behind)" in answer.out
    assert "none yet" in answer.out
    assert "spiffe://cluster.local/ns/shop/sa/ledger refused a snapshot: cannot read that" in answer.err


def test_what_a_sidecar_says_of_itself_does_not_drive_the_terminal(admin, house):
    house.connect("shop/payments").version = "\x1b[2J\x1b]0;owned\x07"
    answer = admin("sidecars")
    assert "\x1b" not in answer.out
    assert "\\x1b[2J" in answer.out


def test_check_exits_0_with_warnings_and_1_with_failures(admin, house):
    fine = admin("check")
    assert fine.exit == 0
    assert "warn policies" in fine.out
    assert "-> doorward policy apply -f DIR" in fine.out
    house.refuse(house.connect("shop/payments"), "cannot read that")
    broken = admin("check", "-o", "json")
    assert broken.exit == 1
    assert [each["name"] for each in broken.json["checks"] if each["status"] == "fail"] == ["enforcement"]


def test_a_ban_comes_and_goes(admin):
    assert "is banned" in admin("ban", "add", "shop/checkout", "--reason", "leaked").out
    assert "leaked" in admin("ban", "list").out
    assert admin("ban", "add", "not a subject").exit == 2
    assert "no longer banned" in admin("ban", "remove", "shop/checkout").out
    assert admin("ban", "remove", "shop/checkout").exit == 2
    assert admin("ban", "list").out == "nothing is banned\n"


def test_audit_verify_exits_0_while_intact_and_1_once_somebody_changed_it(admin, house):
    admin("ban", "add", "shop/checkout")
    assert "ban.added" in admin("audit", "list").out
    intact = admin("audit", "verify")
    assert (intact.exit, intact.out.startswith("intact ")) == (0, True)
    with closing(sqlite3.connect(house.directory / "state" / "store.db")) as db, db:
        db.execute("UPDATE audit SET actor = 'nobody' WHERE seq = 1")
    broken = admin("audit", "verify")
    assert (broken.exit, broken.out.startswith("BROKEN at entry 1")) == (1, True)
