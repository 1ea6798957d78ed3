"""`doorward policy check` and `policy lint`: offline from files, or from what the control plane has stored."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.admin import AdminHouse, policy

SHOP = Path(__file__).parents[3] / "examples" / "shop"
CHARGE = ("--from", "shop/checkout", "--to", "shop/payments:8080", "--request", "POST /charges")

TYPOS = """
apiVersion: doorward.dev/v1
kind: AllowPolicy
metadata: {name: typos, namespace: shop}
spec:
  to: {workload: payments, port: [8080]}
  from: [{workload: checkout}]
  http: [{method: [POST], paths: [/charges]}]
"""


def test_an_allowed_call_exits_0_and_names_policy_and_rule(doorward):
    answer = doorward("policy", "check", "--policies", str(SHOP), *CHARGE)
    assert (answer.exit, answer.err) == (0, "")
    assert answer.out.startswith(
        "ALLOWED spiffe://cluster.local/ns/shop/sa/checkout -> shop/payments:8080  POST /charges"
    )
    assert "policy   shop/checkout-calls-payments, rule spec.http[0]" in answer.out


def test_a_denied_call_exits_1_with_reason_and_nearest_miss(doorward):
    answer = doorward("policy", "check", "--policies", str(SHOP), "--from", "shop/frontend", *CHARGE[2:])
    assert (answer.exit, answer.err) == (1, "")
    assert answer.out.startswith("DENIED")
    assert "reason   no_policy_matched:" in answer.out
    assert "nearest  shop/checkout-calls-payments: spec.from" in answer.out


def test_a_file_with_two_typos_exits_2_and_lists_both_with_their_paths(doorward, tmp_path):
    (tmp_path / "typos.yaml").write_text(TYPOS)
    answer = doorward("policy", "check", "--policies", str(tmp_path), *CHARGE)
    assert (answer.exit, answer.out) == (2, "")
    assert "spec.to.port" in answer.err
    assert "spec.http[0].method" in answer.err


def test_the_answer_as_json_and_as_yaml_is_the_same(doorward):
    arguments = ("policy", "check", "--policies", str(SHOP), *CHARGE)
    as_json, as_yaml = doorward("-o", "json", *arguments), doorward(*arguments, "-o", "yaml")
    assert as_json.json == yaml.safe_load(as_yaml.out)
    keys = "allowed reason meaning policy rule nearest tried audit from to request revision"
    assert list(as_json.json) == keys.split()


def test_policies_can_come_from_standard_input(doorward):
    text = (SHOP / "payments.yaml").read_text()
    assert doorward("policy", "check", "--policies", "-", *CHARGE, stdin=text).exit == 0


def test_the_trust_domain_decides_who_a_workload_is(doorward):
    caller = ("--from", "spiffe://other.example/ns/shop/sa/checkout", *CHARGE[2:])
    arguments = ("policy", "check", "--policies", str(SHOP), *caller)
    assert doorward(*arguments).exit == 1
    assert doorward(*arguments, "--trust-domain", "other.example").exit == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--from", "checkout", "--to", "shop/payments:8080"), "--from"),
        (("--from", "shop/checkout", "--to", "shop/payments"), "--to"),
        ((*CHARGE[:4], "--request", "/charges"), "--request"),
        ((*CHARGE, "--trust-domain", "Upper.Case"), "trust domain"),
        (("--to", "shop/payments:8080"), "--from"),
    ],
)
def test_a_question_that_cannot_be_read_exits_2_and_names_the_option(doorward, arguments, says):
    answer = doorward("policy", "check", "--policies", str(SHOP), *arguments)
    assert (answer.exit, answer.out) == (2, "")
    assert says in answer.err


@pytest.mark.parametrize("path", ["missing", "empty"])
def test_a_path_without_policies_exits_2(doorward, tmp_path, path):
    (tmp_path / "empty").mkdir()
    answer = doorward("policy", "check", "--policies", str(tmp_path / path), *CHARGE)
    assert answer.exit == 2
    assert path in answer.err


def test_the_control_plane_answers_from_what_it_has_stored(admin):
    assert admin("policy", "check", *CHARGE).exit == 1
    assert admin("policy", "apply", "-f", str(SHOP)).exit == 0
    answer = admin("policy", "check", *CHARGE, "-o", "json")
    assert (answer.exit, answer.json["policy"]) == (0, "shop/checkout-calls-payments")
    assert answer.json["revision"] > 0


def test_the_control_plane_answers_with_its_bans(admin):
    admin("policy", "apply", "-f", str(SHOP))
    admin("ban", "add", "shop/checkout")
    answer = admin("policy", "check", *CHARGE, "-o", "json")
    assert (answer.exit, answer.json["reason"]) == (1, "banned")


def test_the_control_plane_knows_its_own_trust_domain(admin):
    answer = admin("policy", "check", *CHARGE, "--trust-domain", "other.example")
    assert (answer.exit, "--trust-domain goes with --policies" in answer.err) == (2, True)


def test_without_a_control_plane_it_says_so_and_exits_2(doorward, tmp_path):
    answer = doorward("--admin", str(tmp_path / "admin.sock"), "policy", "check", *CHARGE)
    assert (answer.exit, answer.out) == (2, "")
    assert f"there is no admin socket at {tmp_path / 'admin.sock'}" in answer.err
    assert "doorward control-plane run" in answer.err


def test_a_plaintext_caller_can_be_asked_about(doorward):
    answer = doorward("policy", "check", "--policies", str(SHOP), "--from", "plaintext", *CHARGE[2:])
    assert answer.exit == 1
    assert "plaintext -> shop/payments:8080" in answer.out


def test_lint_lists_faults_and_exits_2(doorward, tmp_path):
    (tmp_path / "typos.yaml").write_text(TYPOS)
    answer = doorward("policy", "lint", str(tmp_path), "-o", "json")
    assert answer.exit == 2
    assert len(answer.json["faults"]) == 2
    assert doorward("policy", "lint", str(tmp_path)).out.count("fault ") == 2


def test_lint_warns_of_what_is_well_formed_and_surprising_and_exits_0(doorward, tmp_path):
    document = policy("wide")
    document["spec"]["from"] = [{"unauthenticated": True}]
    (tmp_path / "wide.yaml").write_text(yaml.safe_dump(document))
    answer = doorward("policy", "lint", str(tmp_path), "-o", "json")
    assert (answer.exit, answer.json["faults"]) == (0, [])
    assert answer.json["warnings"]
    assert "warning " in doorward("policy", "lint", str(tmp_path)).out


def test_lint_of_good_policies_is_quiet(doorward):
    answer = doorward("policy", "lint", str(SHOP))
    assert (answer.exit, answer.out) == (0, "3 document(s), 0 warning(s)\n")


def test_offline_it_starts_fast_and_imports_nothing_of_servers_and_tls():
    heavy = "click, cryptography, OpenSSL, httpx2, sqlalchemy, starlette, hypercorn, trio, rich, msgpack, cattrs"
    script = (
        f"import sys\nfrom control_plane.cli.root import run\n"
        f"assert run({['policy', 'check', '--policies', str(SHOP), *CHARGE]!r}) == 0\n"
        f"print(sorted(name for name in {heavy.split(', ')!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "['click']"


def test_a_question_of_the_same_text_gets_the_same_answer_offline_and_live(admin, doorward, house: AdminHouse):
    admin("policy", "apply", "-f", str(SHOP))
    for request in ("POST /charges", "GET /charges/7", "DELETE /charges", "GET /a%2fb"):
        question = (*CHARGE[:4], "--request", request, "-o", "json")
        live, offline = (
            admin("policy", "check", *question),
            doorward("policy", "check", "--policies", str(SHOP), *question),
        )
        assert {**live.json, "revision": None} == offline.json
        assert live.exit == offline.exit


def test_a_reader_that_goes_away_is_an_error_and_no_denial():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "control_plane.cli", "policy", "check", "--policies", str(SHOP), *CHARGE]
    done = subprocess.run(command, check=False, stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (2, b"")
