"""The policies that people copy, in examples/shop and docs/policy.md, are right and do what is said of them."""

import re
from pathlib import Path

import pytest
import yaml

from certs.spiffe import TrustDomain, WorkloadName
from mesh.policy import Document, Facts, HttpFacts, NearMiss, Reason, Rules, compile_rules, decide, lint, read_policies

ROOT = Path(__file__).parents[3]
OWN = TrustDomain("cluster.local")


@pytest.fixture(scope="module")
def shop() -> Rules:
    """The compiled set of examples/shop."""
    documents = [
        Document(str(path), index, content)
        for path in sorted((ROOT / "examples/shop").glob("*.yaml"))
        for index, content in enumerate(yaml.safe_load_all(path.read_text()), 1)
    ]
    policies = read_policies(documents)
    assert lint(policies) == ()
    return compile_rules(policies, OWN)


@pytest.mark.parametrize(
    ("caller", "to", "request_line", "allowed"),
    [
        ("shop/checkout", "shop/payments", "POST /charges", True),
        ("shop/checkout", "shop/payments", "POST /charges/17/refund", True),
        ("shop/checkout", "shop/payments", "GET /charges/17", True),
        ("shop/checkout", "shop/payments", "DELETE /charges/17", False),
        ("shop/checkout", "shop/payments", "GET /", False),
        ("shop/frontend", "shop/payments", "POST /charges", False),
        ("shop/frontend", "shop/checkout", "POST /orders", True),
        ("shop/payments", "shop/checkout", "POST /orders", False),
        ("shop/checkout", "shop/frontend", "GET /", False),
    ],
)
def test_the_shop_lets_through_what_it_says(
    shop: Rules, caller: str, to: str, request_line: str, allowed: bool
) -> None:
    http = HttpFacts(*request_line.split())
    facts = Facts(WorkloadName.parse(to), 8080, WorkloadName.parse(caller).in_domain(OWN), http=http)
    assert decide(shop, facts).allowed is allowed


def test_the_shop_explains_why_frontend_may_not_charge(shop: Rules) -> None:
    caller = OWN.workload("shop", "frontend")
    decision = decide(shop, Facts(WorkloadName("shop", "payments"), 8080, caller, http=HttpFacts("POST", "/charges")))
    assert decision.reason is Reason.NO_POLICY_MATCHED
    wanted = "spiffe://cluster.local/ns/shop/sa/checkout"
    assert decision.nearest == NearMiss("shop/checkout-calls-payments", "spec.from", wanted, str(caller))


def test_the_documents_in_the_reference_are_read_without_a_fault() -> None:
    blocks = re.findall(r"```yaml\n(.+?)```", (ROOT / "docs/policy.md").read_text(), re.DOTALL)
    documents = [Document("docs/policy.md", index, yaml.safe_load(block)) for index, block in enumerate(blocks)]
    found = read_policies(documents)
    assert len(found.policies) + len(found.defaults) == len(blocks) > 1
