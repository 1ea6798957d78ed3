"""`doorward policy apply|get|delete|history`: all or nothing, numbered, and counted where it is enforced."""

import os
import threading
import time
from pathlib import Path

import pytest
import yaml

from tests.support.admin import policy
from tests.support.patience import PATIENCE

SHOP = Path(__file__).parents[3] / "examples" / "shop"


def written(*documents: object) -> str:
    return yaml.safe_dump_all(documents)


def test_apply_says_what_it_did_and_by_whom(admin):
    first = admin("policy", "apply", "-f", str(SHOP), "-m", "open the shop")
    assert first.exit == 0
    assert "added     AllowPolicy shop/checkout-calls-payments" in first.out
    assert "Revision " in first.out
    again = admin("policy", "apply", "-f", str(SHOP))
    assert again.exit == 0
    assert "unchanged AllowPolicy shop/checkout-calls-payments" in again.out
    assert "Nothing changed" in again.out


def test_apply_as_json_has_stable_keys(admin):
    answer = admin("policy", "apply", "-f", "-", "-o", "json", stdin=written(policy("a")))
    keys = "number author time message changes dry_run targets warnings left enforced"
    assert list(answer.json) == keys.split()
    assert list(answer.json["changes"][0]) == ["action", "kind", "namespace", "name", "before", "after"]


def test_several_faults_in_several_files_store_nothing_and_are_all_listed(admin, tmp_path):
    (tmp_path / "good.yaml").write_text(written(policy("good")))
    (tmp_path / "one.yaml").write_text(written(policy("one", mod="audit")))
    (tmp_path / "two.yaml").write_text(written(policy("two", http=[])))
    answer = admin("policy", "apply", "-f", str(tmp_path))
    assert (answer.exit, answer.out) == (2, "")
    assert f"{tmp_path / 'one.yaml'}#1 spec.mod" in answer.err
    assert f"{tmp_path / 'two.yaml'}#1 spec.http" in answer.err
    assert "no policies" in admin("policy", "get").out


def test_a_faulty_yaml_file_names_the_line(admin):
    answer = admin("policy", "apply", "-f", "-", stdin="kind: &a AllowPolicy\nother: *a\n")
    assert answer.exit == 2
    assert "line 2" in answer.err


def test_prune_and_dry_run(admin):
    admin("policy", "apply", "-f", "-", stdin=written(policy("a"), policy("b")))
    changed = written(policy("b", caller="frontend"))
    dry = admin("policy", "apply", "-f", "-", "--prune", "--dry-run", stdin=changed)
    assert dry.exit == 0
    assert "removed   AllowPolicy shop/a" in dry.out
    assert "    -  - workload: checkout" in dry.out
    assert "    +  - workload: frontend" in dry.out
    assert "Nothing was stored (--dry-run)." in dry.out
    assert len(admin("policy", "get", "-o", "json").json["policies"]) == 2
    assert "removed   AllowPolicy shop/a" in admin("policy", "apply", "-f", "-", "--prune", stdin=changed).out
    assert [each["name"] for each in admin("policy", "get", "-o", "json").json["policies"]] == ["b"]


def test_what_get_prints_as_documents_goes_back_into_apply(admin):
    admin("policy", "apply", "-f", str(SHOP))
    documents = admin("policy", "get", "--documents")
    answer = admin("policy", "apply", "-f", "-", "--prune", stdin=documents.out)
    assert (answer.exit, "Nothing changed" in answer.out) == (0, True)


def test_get_shows_one_by_either_name(admin):
    admin("policy", "apply", "-f", "-", stdin=written(policy("a"), policy("b")))
    for name in ("a", "shop/a"):
        answer = admin("policy", "get", name, "-o", "json")
        assert [each["name"] for each in answer.json["policies"]] == ["a"]
    missing = admin("policy", "get", "c")
    assert (missing.exit, "there is no policy c" in missing.err) == (2, True)


def test_get_shows_where_each_is_enforced(admin, house):
    links = house.connect("shop/payments"), house.connect("shop/payments")
    admin("policy", "apply", "-f", "-", stdin=written(policy("a")))
    house.acknowledge(links[0])
    lines = admin("policy", "get").out.splitlines()
    assert lines[0].split()[:6] == ["NAMESPACE", "NAME", "KIND", "MODE", "ENFORCED", "REVISION"]
    assert lines[1].split()[:5] == ["shop", "a", "AllowPolicy", "enforce", "1/2"]


def test_delete_removes_one_and_its_name_must_be_clear(admin):
    guard = {**policy("a"), "kind": "DenyPolicy"}
    admin("policy", "apply", "-f", "-", stdin=written(policy("a"), guard, policy("b")))
    unclear = admin("policy", "delete", "shop/a")
    assert (unclear.exit, "names several" in unclear.err) == (2, True)
    answer = admin("policy", "delete", "shop/a", "--kind", "DenyPolicy", "-m", "no longer needed")
    assert (answer.exit, "removed   DenyPolicy shop/a" in answer.out) == (0, True)
    assert admin("policy", "delete", "a", "b").exit == 0
    missing = admin("policy", "delete", "a")
    assert (missing.exit, "there is no policy a" in missing.err) == (2, True)


def test_history_lists_who_changed_what_and_why(admin):
    admin("policy", "apply", "-f", "-", "-m", "first", stdin=written(policy("a"), policy("b")))
    admin("policy", "apply", "-f", "-", "-m", "second", stdin=written(policy("b", caller="frontend"), policy("c")))
    admin("policy", "delete", "a")
    lines = admin("policy", "history").out.splitlines()
    assert [("second" in line, "first" in line) for line in lines[1:]] == [(False, False), (True, False), (False, True)]
    assert "+1 ~1" in lines[2]
    assert "-1" in lines[1]
    assert "+  - workload: frontend" in admin("policy", "history", "--diff").out
    assert len(admin("policy", "history", "--limit", "1", "-o", "json").json["revisions"]) == 1


def test_wait_reports_when_every_concerned_sidecar_has_acknowledged(admin, house):
    links = house.connect("shop/payments"), house.connect("shop/payments")
    house.connect("shop/frontend")

    def acknowledge() -> None:
        while house.backend.store.policy_number() == 0:
            time.sleep(0.01)
        house.acknowledge(*links)

    thread = threading.Thread(target=acknowledge)
    thread.start()
    answer = admin("policy", "apply", "-f", "-", "--wait", str(PATIENCE), "-o", "json", stdin=written(policy("a")))
    thread.join()
    assert answer.exit == 0
    assert (answer.json["enforced"]["on"], answer.json["enforced"]["of"]) == (2, 2)
    assert answer.json["enforced"]["seconds"] < PATIENCE


def test_wait_exits_1_and_names_who_is_missing_when_time_is_over(admin, house):
    house.refuse(house.connect("shop/payments"), "no such clause")
    answer = admin("policy", "apply", "-f", "-", "--wait", "0.1", stdin=written(policy("a")))
    assert answer.exit == 1
    assert "not yet enforced on 0 of 1 sidecars" in answer.out
    assert "waiting for spiffe://cluster.local/ns/shop/sa/payments at 127.0.0.1: no such clause" in answer.out


def test_wait_for_nobody_ends_at_once(admin):
    answer = admin("policy", "apply", "-f", "-", "--wait", "10", stdin=written(policy("a")))
    assert (answer.exit, "No connected sidecar is concerned." in answer.out) == (0, True)


@pytest.mark.parametrize("wait", ["0", "-1", "soon", "nan", "inf"])
def test_a_wait_that_is_no_time_exits_2(admin, wait):
    assert admin("policy", "apply", "-f", str(SHOP), "--wait", wait).exit == 2


def test_a_file_whose_name_is_not_utf_8_can_be_applied(admin, tmp_path):
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.yaml"))
    file.write_text(written(policy("a")))
    assert admin("policy", "apply", "-f", str(file)).exit == 0
    file.write_text("a: 1")
    answer = admin("policy", "apply", "-f", str(file))
    assert (answer.exit, "caf\N{REPLACEMENT CHARACTER}.yaml#1" in answer.err) == (2, True)


@pytest.mark.parametrize("words", [("policy", "apply", "-f", "-", "-m"), ("token", "revoke"), ("ban", "remove")])
def test_an_argument_that_is_not_utf_8_exits_2_and_says_so(admin, words):
    answer = admin(*words, "\udce9", stdin=written(policy("a")))
    assert (answer.exit, "not valid Unicode" in answer.err, "Traceback" in answer.err) == (2, True, False)


def test_get_says_whose_each_is_and_apply_leaves_the_cluster_its_own(admin, house):
    house.backend.store.change_policies([policy("a")], [], author="kubernetes", message="", owner="cluster")
    admin("policy", "apply", "-f", "-", stdin=written(policy("b")))
    assert [each["owner"] for each in admin("policy", "get", "-o", "json").json["policies"]] == ["cluster", "cli"]
    assert " cluster " in admin("policy", "get", "a").out
    for command in (("delete", "shop/a"), ("apply", "-f", "-")):
        answer = admin("policy", *command, stdin=written(policy("a", mode="audit")))
        assert (answer.exit, answer.out) == (2, "")
        assert "kubectl edit allowpolicy -n shop a" in answer.err
    pruned = admin("policy", "apply", "-f", "-", "--prune", stdin=written(policy("b")))
    assert (pruned.exit, "belong to the cluster: AllowPolicy shop/a" in pruned.out) == (0, True)
