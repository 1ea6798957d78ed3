"""decide() against a plain reference, and the laws that hold for any policy set and any call."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from random import Random
from urllib.parse import unquote

from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st

from certs.spiffe import SpiffeId, TrustDomain, WorkloadName
from mesh.policy import (
    AuditFinding,
    Decision,
    Default,
    Facts,
    HttpFacts,
    Kind,
    Mode,
    Mtls,
    NamespaceDefaults,
    Policy,
    PolicySet,
    Reason,
    compile_rules,
    decide,
)
from mesh.policy.clauses import HttpClause
from mesh.policy.model import Destination, HttpRule, IdentitySource, Source, UnauthenticatedSource, WorkloadSource
from tests.support.examples import examples

OWN = TrustDomain("cluster.local")

names = st.sampled_from(["a", "b"])
workloads = st.sampled_from(["a", "b", "*"])
ports = st.sampled_from([1, 2, 3])
methods = st.sampled_from(["GET", "POST"])
patterns = st.sampled_from(["/", "/x", "/x/*", "/{id}", "/x/{id}", "/{id}/*", "/*", "/x@y", "/x%3Ay", "/x%3By"])
networks = st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "fd00::/8", "10.1.2.3/32"]).map(ip_network)
identities = st.sampled_from(
    [
        "spiffe://cluster.local/ns/a/sa/a",
        "spiffe://cluster.local/ns/a/sa/b",
        "spiffe://cluster.local/ns/b/sa/a",
        "spiffe://cluster.local/ns/a/sa/b/more",
        "spiffe://cluster.local/operator/a",
        "spiffe://partner.example/ns/a/sa/a",
    ]
).map(SpiffeId.parse)
unique = {"unique": True, "max_size": 2}
sources: st.SearchStrategy[Source] = st.one_of(
    st.builds(WorkloadSource, names, workloads),
    st.builds(IdentitySource, identities),
    st.builds(UnauthenticatedSource, st.lists(networks, max_size=2).map(tuple)),
)
rules = st.builds(HttpRule, st.lists(methods, **unique).map(tuple), st.lists(patterns, **unique).map(tuple)).filter(
    lambda rule: bool(rule.methods or rule.paths)
)
policies = st.builds(
    Policy,
    st.sampled_from(Kind),
    names,
    st.sampled_from(["p1", "p2", "p3", "p4"]),
    st.builds(Destination, workloads, st.lists(ports, **unique).map(tuple)),
    st.lists(sources, min_size=1, max_size=3).map(tuple),
    st.none() | st.lists(rules, min_size=1, max_size=2).map(tuple),
    st.sampled_from(Mode),
)
policy_sets = st.builds(
    PolicySet,
    st.lists(policies, max_size=7, unique_by=lambda policy: policy.key).map(tuple),
    st.lists(
        st.builds(NamespaceDefaults, names, st.sampled_from(Default), st.sampled_from(Mtls)),
        max_size=2,
        unique_by=lambda defaults: defaults.namespace,
    ).map(tuple),
)
addresses = st.sampled_from(["10.1.2.3", "10.2.0.1", "192.0.2.1", "::ffff:10.1.2.3", "fd00::1"]).map(ip_address)
request_paths = st.sampled_from(["/", "/x", "/x/", "/x/1", "/x/1/2", "/x;v=1", "/x@y", "/x%40y", "/x%3Ay", "/x:y", "*"])
request_paths |= st.sampled_from(["/x;y", "/x%3By", "/x%3By;v", "/x/;v", "/;v/x", "/x;v/1;w"])
request_paths |= st.sampled_from(["/x%3Fy", "/x%23", "/x/1/", "/x/%3F1", "/x;/"])
requests = st.builds(HttpFacts, st.sampled_from(["GET", "POST", "post", "PUT"]), request_paths)
facts_of_calls = st.builds(
    Facts,
    st.builds(WorkloadName, st.sampled_from(["a", "a", "a", "b", "c"]), st.sampled_from(["a", "b", "c"])),
    ports,
    st.none() | identities,
    st.none() | addresses,
    st.none() | requests,
)


def reference(policy_set: PolicySet, facts: Facts) -> Decision:
    """What the order of the design says, word for word, over every policy there is. `nearest` and `tried` aside."""
    given_defaults = [each for each in policy_set.defaults if each.namespace == facts.to.namespace]
    defaults = given_defaults[0] if given_defaults else NamespaceDefaults(facts.to.namespace)
    if facts.caller is None and defaults.mtls is Mtls.STRICT:
        return Decision(False, Reason.CERTIFICATE_MISSING)
    mine = [
        each
        for each in sorted(policy_set.policies, key=lambda each: (each.kind is Kind.ALLOW, each.name))
        if each.namespace == facts.to.namespace
        and each.to.workload in ("*", facts.to.name)
        and (not each.to.ports or facts.port in each.to.ports)
    ]
    matching = [each for each in mine if _matches(each, facts)]
    audit = tuple(
        AuditFinding("allow" if each.kind is Kind.ALLOW else "deny", each.full_name, _rule(each, facts))
        for each in matching
        if each.mode is Mode.AUDIT
    )
    for each in matching:
        if each.mode is Mode.ENFORCE:
            allow = each.kind is Kind.ALLOW
            reason = Reason.ALLOWED_BY_POLICY if allow else Reason.DENIED_BY_POLICY
            return Decision(allow, reason, each.full_name, _rule(each, facts), audit=audit)
    own = facts.caller is not None and facts.caller.trust_domain == OWN.name
    if defaults.default is Default.ALLOW_MESH and own:
        return Decision(True, Reason.ALLOWED_BY_MESH_DEFAULT, audit=audit)
    if defaults.default is Default.AUDIT:
        return Decision(True, Reason.ALLOWED_BY_AUDIT_DEFAULT, audit=(*audit, AuditFinding("deny", None, None)))
    any_allow = any(each.kind is Kind.ALLOW and each.mode is Mode.ENFORCE for each in mine)
    return Decision(False, Reason.NO_POLICY_MATCHED if any_allow else Reason.NO_POLICY_FOR_WORKLOAD, audit=audit)


def _matches(policy: Policy, facts: Facts) -> bool:
    deny = policy.kind is Kind.DENY
    if not any(_source_matches(each, facts, deny) for each in policy.sources):
        return False
    if policy.http is None:
        return True
    return deny if facts.http is None else _rule(policy, facts) is not None


def _source_matches(source: Source, facts: Facts, deny: bool) -> bool:
    if isinstance(source, UnauthenticatedSource):
        if facts.caller is not None:
            return False
        if not source.addresses:
            return True
        return deny if facts.address is None else any(_inside(facts.address, each) for each in source.addresses)
    if facts.caller is None:
        return deny
    if isinstance(source, IdentitySource):
        return source.identity == facts.caller
    workload = facts.caller.workload if facts.caller.trust_domain == OWN.name else None
    return workload is not None and source.namespace == workload.namespace and source.workload in ("*", workload.name)


def _inside(address: IPv4Address | IPv6Address, network: object) -> bool:
    plain = address.ipv4_mapped if isinstance(address, IPv6Address) and address.ipv4_mapped else address
    return plain in network


def _rule(policy: Policy, facts: Facts) -> int | None:
    if facts.http is None:
        return None
    deny = policy.kind is Kind.DENY
    method = facts.http.method.upper() if deny else facts.http.method
    for index, rule in enumerate(policy.http or ()):
        method_fits = not rule.methods or method in rule.methods
        path_fits = not rule.paths or any(_path_matches(each, facts.http.path, deny) for each in rule.paths)
        if method_fits and path_fits:
            return index
    return None


def _path_matches(pattern: str, path: str, deny: bool) -> bool:
    if path == "*":
        return deny
    if _pattern_matches(pattern, path):
        return True
    bare = [re.sub("//+", "/", re.sub(parameters, "", path)) for parameters in (";[^/]*", "(;|%3B)[^/]*")]
    whole = [unquote(each) for each in (path, *bare)]
    whole += [re.sub("[?#].*", "", each) for each in whole]
    open_ended = [each.rstrip("/") or "/" for each in whole]
    return deny and any(_pattern_matches(unquote(pattern), each) for each in (*whole, *open_ended))


def _pattern_matches(pattern: str, path: str) -> bool:
    wanted, got = pattern[1:].split("/"), path[1:].split("/")
    if wanted[-1] == "*":
        wanted, got = wanted[:-1], got[: len(wanted) - 1] if len(got) >= len(wanted) else ["too short", *wanted]
    return len(wanted) == len(got) and all(
        have == want if not want.startswith("{") else have != "" for want, have in zip(wanted, got, strict=True)
    )


def outcome(decision: Decision) -> tuple[object, ...]:
    return (decision.allowed, decision.reason, decision.policy, decision.rule)


@given(policy_sets, facts_of_calls)
@examples(250)
def test_decide_agrees_with_the_reference(policy_set: PolicySet, facts: Facts) -> None:
    decision = decide(compile_rules(policy_set, OWN), facts)
    expected = reference(policy_set, facts)
    assert outcome(decision) == outcome(expected)
    assert decision.audit == expected.audit


@given(policies, facts_of_calls)
@examples(150)
def test_one_policy_that_governs_a_call_is_read_as_the_reference_reads_it(policy: Policy, facts: Facts) -> None:
    policy = evolve(policy, namespace="a", mode=Mode.ENFORCE, to=Destination("*"))
    policy_set = PolicySet((policy,), (NamespaceDefaults("a", mtls=Mtls.PERMISSIVE),))
    facts = evolve(facts, to=WorkloadName("a", "a"))
    assert outcome(decide(compile_rules(policy_set, OWN), facts)) == outcome(reference(policy_set, facts))


@given(rules, requests)
@examples(150)
@example(HttpRule((), ("/x%3By",)), HttpFacts("GET", "/x%3By;v"))
def test_one_http_rule_is_read_as_the_reference_reads_it(rule: HttpRule, http: HttpFacts) -> None:
    clause = HttpClause.compile(rule)
    for kind, answer in ((Kind.ALLOW, clause.allows(http)), (Kind.DENY, clause.denies(http))):
        policy = Policy(kind, "a", "p", Destination("a"), (), (rule,))
        assert answer == (_rule(policy, Facts(WorkloadName("a", "a"), 1, http=http)) is not None)


@given(policy_sets, facts_of_calls)
@examples(50)
def test_the_concerning_part_of_a_set_decides_the_same(policy_set: PolicySet, facts: Facts) -> None:
    whole = compile_rules(policy_set, OWN)
    assert decide(compile_rules(whole.concerning(facts.to), OWN), facts) == decide(whole, facts)


@given(policy_sets, facts_of_calls, st.randoms())
@examples(50)
def test_the_order_of_documents_does_not_matter(policy_set: PolicySet, facts: Facts, random: Random) -> None:
    shuffled = list(policy_set.policies)
    random.shuffle(shuffled)
    other = evolve(policy_set, policies=tuple(shuffled))
    assert decide(compile_rules(other, OWN), facts) == decide(compile_rules(policy_set, OWN), facts)


@given(policy_sets, policies, facts_of_calls)
@examples(50)
def test_a_further_deny_allows_nothing_more(policy_set: PolicySet, policy: Policy, facts: Facts) -> None:
    deny = evolve(policy, kind=Kind.DENY, name="further")
    more = evolve(policy_set, policies=(*policy_set.policies, deny))
    if decide(compile_rules(more, OWN), facts).allowed:
        assert decide(compile_rules(policy_set, OWN), facts).allowed


@given(policy_sets, policies, facts_of_calls)
@examples(50)
def test_audit_mode_never_changes_the_outcome(policy_set: PolicySet, policy: Policy, facts: Facts) -> None:
    trial = evolve(policy, mode=Mode.AUDIT, name="trial")
    more = evolve(policy_set, policies=(*policy_set.policies, trial))
    before, after = (decide(compile_rules(each, OWN), facts) for each in (policy_set, more))
    assert outcome(before) == outcome(after)
    assert [each for each in after.audit if each.policy != trial.full_name] == list(before.audit)


@given(policy_sets, facts_of_calls)
@examples(50)
def test_a_refusal_without_a_deny_names_an_allow_that_came_near(policy_set: PolicySet, facts: Facts) -> None:
    decision = decide(compile_rules(policy_set, OWN), facts)
    allows = {
        each.full_name: each
        for each in policy_set.policies
        if (each.kind, each.mode, each.namespace) == (Kind.ALLOW, Mode.ENFORCE, facts.to.namespace)
        and each.to.workload in (facts.to.name, "*")
    }
    if decision.reason in (Reason.NO_POLICY_MATCHED, Reason.NO_POLICY_FOR_WORKLOAD):
        assert (decision.nearest is not None) == bool(allows)
    if decision.nearest is None or decision.reason is Reason.DENIED_BY_POLICY:
        return
    near = allows[decision.nearest.policy]
    other_port = bool(near.to.ports) and facts.port not in near.to.ports
    assert (decision.nearest.clause == "spec.to.ports") == other_port
    if decision.nearest.clause.startswith("spec.http"):
        assert any(_source_matches(each, facts, deny=False) for each in near.sources)
