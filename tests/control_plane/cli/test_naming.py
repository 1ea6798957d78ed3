"""Policies named as kubectl would name them: what was understood is said, and what to write."""

import pytest
import yaml

from control_plane.cli.naming import kind_of
from control_plane.resources.objects import PLURALS
from tests.support.admin import policy


def test_what_the_api_calls_each_kind_is_known():
    assert {plural: kind_of(plural) for plural in PLURALS.values()} == {each: kind for kind, each in PLURALS.items()}


@pytest.fixture
def stored(admin):
    """Two policies of one name, and one in a namespace that is called as a kind is."""
    deny, elsewhere = {**policy("a"), "kind": "DenyPolicy"}, policy("b")
    elsewhere["metadata"]["namespace"] = "allow"
    admin("policy", "apply", "-f", "-", stdin=yaml.safe_dump_all([policy("a"), deny, elsewhere]))


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("AllowPolicy", "AllowPolicy"),
        ("allowpolicies", "AllowPolicy"),
        ("allow", "AllowPolicy"),
        ("denypolicy.doorward.dev", "DenyPolicy"),
        ("DENYPOLICIES.V1.DOORWARD.DEV", "DenyPolicy"),
        ("nsdefaults", "NamespaceDefaults"),
        ("namespacedefaults", "NamespaceDefaults"),
        ("allower", None),
        ("allowpolicy.example.com", None),
        ("", None),
    ],
)
def test_kinds_are_known_in_every_spelling_of_kubectl(word, kind):
    assert kind_of(word) == kind


@pytest.mark.parametrize(
    ("words", "write"),
    [
        (("delete", "AllowPolicy", "shop/a"), "delete shop/a --kind AllowPolicy"),
        (("delete", "shop/a", "AllowPolicy"), "delete shop/a --kind AllowPolicy"),
        (("delete", "allowpolicy/a"), "delete a --kind AllowPolicy"),
        (("delete", "allowpolicies.doorward.dev", "a", "-n", "shop"), "delete shop/a --kind AllowPolicy"),
        (("delete", "a", "--namespace", "shop"), "delete shop/a"),
        (("delete", "a", "-n", "shop", "--kind", "DenyPolicy"), "delete shop/a --kind DenyPolicy"),
        (("delete", "allow/a", "deny/b"), "delete NAMESPACE/NAME --kind AllowPolicy"),
        (("delete", "allow", "$(x)"), "delete '$(x)' --kind AllowPolicy"),
        (("delete", "allow"), "delete NAMESPACE/NAME --kind AllowPolicy"),
        (("get", "AllowPolicy", "shop/a"), "get shop/a"),
        (("get", "allowpolicy/a"), "get a"),
        (("get", "allowpolicy", "a", "-n", "shop"), "get shop/a"),
        (("get", "allowpolicies"), "get"),
        (("get", "-n", "shop"), "get"),
        (("get", "shop/a", "shop/b"), "get shop/a"),
        (("release", "shop/a", "AllowPolicy"), "release AllowPolicy shop/a"),
        (("release", "allow/shop/a"), "release AllowPolicy shop/a"),
        (("release", "allow", "a", "-n", "shop"), "release AllowPolicy shop/a"),
        (("release", "allow", "a"), "release AllowPolicy NAMESPACE/a"),
        (("release", "shop/a"), "release KIND shop/a"),
        (("release", "AllowPolicy"), "release AllowPolicy NAMESPACE/NAME"),
    ],
)
def test_what_is_named_in_another_way_changes_nothing_and_says_what_to_write(admin, stored, words, write):
    answer = admin("policy", *words)
    assert (answer.exit, answer.out) == (2, "")
    assert f"Write: doorward policy {write}\n" in answer.err
    assert len(admin("policy", "get", "-o", "json").json["policies"]) == 3


def test_what_was_understood_is_said(admin, stored):
    answer = admin("policy", "delete", "AllowPolicy", "shop/a")
    assert "Understood: kind AllowPolicy, name shop/a." in answer.err
    assert "there is no policy AllowPolicy" in answer.err


def test_a_namespace_that_is_called_as_a_kind_is_a_namespace(admin, stored):
    assert "removed   AllowPolicy allow/b" in admin("policy", "delete", "allow/b").out


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("show", "doorward policy get"),
        ("list", "doorward policy get"),
        ("rollback", "doorward policy history --diff"),
        ("delte", "Did you mean 'delete'?"),
    ],
)
def test_a_command_that_does_not_exist_names_the_one_that_does_it(doorward, word, hint):
    answer = doorward("policy", word, "shop/a")
    assert (answer.exit, hint in answer.err) == (2, True)


@pytest.mark.parametrize("words", [("AllowPolicy", "shop/a"), ("a",), ("/a",)])
def test_history_says_how_it_takes_a_name(doorward, words):
    answer = doorward("policy", "history", *words)
    assert (answer.exit, "NAMESPACE/NAME" in answer.err) == (2, True)
