"""A question written by a person is answered as the sidecar would."""

import pytest

from certs.spiffe import TrustDomain
from control_plane.questions import Question, QuestionMalformed, answer
from mesh.policy import Document, PolicySet, Reason, read_policies

HOME = TrustDomain("cluster.local")


def ask(
    policies: PolicySet, caller: str, to: str, request: str | None = None, address: str | None = None
) -> dict[str, object]:
    return answer(Question.parse(caller, to, request, address, HOME), policies, HOME)


@pytest.fixture(scope="module")
def shop() -> PolicySet:
    allow = {
        "apiVersion": "doorward.dev/v1",
        "kind": "AllowPolicy",
        "metadata": {"name": "charging", "namespace": "shop"},
        "spec": {
            "to": {"workload": "payments", "ports": [8080]},
            "from": [{"workload": "checkout"}, {"unauthenticated": True, "addresses": ["10.0.0.0/8"]}],
            "http": [{"methods": ["POST"], "paths": ["/charges"]}],
        },
    }
    defaults = {
        "apiVersion": "doorward.dev/v1",
        "kind": "NamespaceDefaults",
        "metadata": {"name": "defaults", "namespace": "shop"},
        "spec": {"default": "deny", "mtls": "permissive"},
    }
    return read_policies([Document("test", 1, allow), Document("test", 2, defaults)])


def test_an_allowed_call_names_policy_rule_and_what_was_asked(shop: PolicySet) -> None:
    found = ask(shop, "shop/checkout", "shop/payments:8080", "POST /charges?amount=1")
    assert (found["allowed"], found["reason"], found["policy"], found["rule"]) == (
        True,
        "allowed_by_policy",
        "shop/charging",
        0,
    )
    assert found["meaning"] == Reason.ALLOWED_BY_POLICY.text
    assert found["from"] == "spiffe://cluster.local/ns/shop/sa/checkout"
    assert (found["to"], found["request"]) == ("shop/payments:8080", "POST /charges")


def test_a_denied_call_names_the_nearest_miss(shop: PolicySet) -> None:
    found = ask(shop, "shop/frontend", "shop/payments:8080", "POST /charges")
    assert (found["allowed"], found["reason"]) == (False, "no_policy_matched")
    nearest = found["nearest"]
    assert isinstance(nearest, dict)
    assert (nearest["policy"], nearest["clause"].startswith("spec.from")) == ("shop/charging", True)


def test_the_path_is_made_canonical_before_it_is_matched(shop: PolicySet) -> None:
    found = ask(shop, "shop/checkout", "shop/payments:8080", "POST /x/..//%63harges")
    assert (found["allowed"], found["request"]) == (True, "POST /charges")


@pytest.mark.parametrize(
    ("request_", "reason"),
    [("GET /a%2fb", "path_refused"), ("GET /../etc", "path_refused"), ("CONNECT /charges", "method_refused")],
)
def test_what_the_sidecar_refuses_unasked_is_denied_with_that_reason(
    shop: PolicySet, request_: str, reason: str
) -> None:
    found = ask(shop, "shop/checkout", "shop/payments:8080", request_)
    assert (found["allowed"], found["reason"]) == (False, reason)


def test_a_request_whose_path_is_refused_is_shown_as_it_was_asked(shop: PolicySet) -> None:
    found = ask(shop, "shop/checkout", "shop/payments:8080", "GET /../x")
    assert (found["reason"], found["request"]) == ("path_refused", "GET /../x")


def test_without_a_request_it_is_raw_tcp(shop: PolicySet) -> None:
    assert ask(shop, "shop/checkout", "shop/payments:8080")["allowed"] is False


def test_a_plaintext_caller_is_asked_for_by_name_and_address(shop: PolicySet) -> None:
    def plaintext(address: str | None) -> object:
        return ask(shop, "plaintext", "shop/payments:8080", "POST /charges", address)["allowed"]

    assert [plaintext("10.1.2.3"), plaintext("192.0.2.1"), plaintext(None)] == [True, False, False]


@pytest.mark.parametrize(
    ("caller", "to", "request_", "address", "part"),
    [
        ("checkout", "a/b:80", None, None, "--from"),
        ("spiffe://Cluster.Local/x", "a/b:80", None, None, "--from"),
        ("a/b", "a/b", None, None, "--to"),
        ("a/b", "b:80", None, None, "--to"),
        ("a/b", "a/b:0", None, None, "--to"),
        ("a/b", "a/b:65536", None, None, "--to"),
        ("a/b", "a/b:80", "/charges", None, "--request"),
        ("a/b", "a/b:80", "GET charges", None, "--request"),
        ("a/b", "a/b:80", "GET /a b", None, "--request"),
        ("a/b", "a/b:80", "", None, "--request"),
        ("a/b", "a/b:80", "GÉT /", None, "--request"),
        ("a/b", "a/b:80", None, "10.0.0.300", "--address"),
    ],
)
def test_a_part_that_cannot_be_read_is_named(
    caller: str, to: str, request_: str | None, address: str | None, part: str
) -> None:
    with pytest.raises(QuestionMalformed, match=part):
        Question.parse(caller, to, request_, address, HOME)


@pytest.mark.parametrize("workload", ["checkout", "payments"])
def test_a_ban_of_either_end_comes_before_any_policy(shop: PolicySet, workload: str) -> None:
    question = Question.parse("shop/checkout", "shop/payments:8080", "POST /charges", None, HOME)
    assert answer(question, shop, HOME)["allowed"] is True
    found = answer(question, shop, HOME, {f"spiffe://cluster.local/ns/shop/sa/{workload}", "serial:1"})
    assert (found["allowed"], found["reason"], found["policy"]) == (False, "banned", None)


def test_a_ban_says_nothing_about_who_has_no_certificate(shop: PolicySet) -> None:
    question = Question.parse("plaintext", "shop/payments:8080", "POST /charges", "10.0.0.7", HOME)
    assert answer(question, shop, HOME, {"spiffe://cluster.local/ns/shop/sa/payments"})["allowed"] is True
