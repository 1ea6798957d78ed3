"""The compiled form: what concerns a workload, and that other workloads' policies cost it nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from certs.spiffe import TrustDomain, WorkloadName
from mesh.policy import Default, Facts, HttpFacts, Mtls, PolicySet, Rules, compile_rules, decide
from mesh.policy.clauses import Clauses

OWN = TrustDomain("cluster.local")
PAYMENTS = WorkloadName("shop", "payments")

Make = Callable[..., dict[str, Any]]
Read = Callable[..., PolicySet]


@pytest.fixture
def rules(read: Read, policy: Make, defaults: Make) -> Rules:
    """Policies of three workloads in two namespaces."""
    return compile_rules(
        read(
            policy("z"),
            policy("all", to={"workload": "*"}),
            policy("other", to={"workload": "checkout"}),
            policy("z", kind="DenyPolicy"),
            policy("foreign", namespace="ops"),
            defaults(mtls="permissive"),
        ),
        OWN,
    )


def test_concerning_is_what_governs_the_workload_sorted_by_key(rules: Rules) -> None:
    found = rules.concerning(PAYMENTS)
    assert [each.key for each in found.policies] == [
        ("AllowPolicy", "shop", "all"),
        ("AllowPolicy", "shop", "z"),
        ("DenyPolicy", "shop", "z"),
    ]
    assert [each.mtls for each in found.defaults] == [Mtls.PERMISSIVE]
    assert [each.name for each in rules.concerning(WorkloadName("shop", "unnamed")).policies] == ["all"]
    assert rules.concerning(WorkloadName("nowhere", "x")) == PolicySet()
    assert rules.concerning(WorkloadName("ops", "payments")).defaults == ()


def test_the_defaults_of_a_namespace_that_set_none_are_the_safe_ones(rules: Rules) -> None:
    assert rules.defaults("shop").mtls is Mtls.PERMISSIVE
    for namespace in ("ops", "nowhere"):
        assert (rules.defaults(namespace).default, rules.defaults(namespace).mtls) == (Default.DENY, Mtls.STRICT)


def test_a_decision_never_looks_at_policies_of_other_workloads_or_callers(
    read: Read, policy: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [policy(f"p{n}", source=[{"workload": f"w{n}"}], http=[{"methods": ["GET"]}]) for n in range(50)]
    documents += [policy(f"q{n}", to={"workload": f"x{n}"}, http=[{"methods": ["GET"]}]) for n in range(50)]
    rules = compile_rules(read(*documents), OWN)
    facts = Facts(PAYMENTS, 8080, OWN.workload("shop", "w7"), http=HttpFacts("GET", "/"))
    looked_at: list[str] = []
    plain = Clauses.rule_matching
    monkeypatch.setattr(Clauses, "rule_matching", lambda self, http: looked_at.append(self.name) or plain(self, http))
    assert decide(rules, facts).policy == "shop/p7"
    assert looked_at == ["shop/p7"]


def test_the_same_outcome_is_the_same_object(rules: Rules, read: Read, policy: Make) -> None:
    allowing = compile_rules(read(policy()), OWN)
    facts = Facts(PAYMENTS, 8080, OWN.workload("shop", "frontend"))
    assert decide(allowing, facts) is decide(allowing, facts), "allowing a call makes nothing new"
