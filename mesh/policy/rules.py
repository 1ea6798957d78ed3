"""A policy set, compiled: from the called workload and port straight to the few policies that govern them.

Rules -> Guard (one workload) -> PortRules (one port) -> Callers (one caller) -> Ruling (one policy there). Every step
is a dictionary look-up, so the cost of a decision does not grow with policies about other workloads, ports or
callers. The answers of the common outcomes are made beforehand: allowing a call allocates nothing.
A workload's guard is compiled at its first decision, so that a program that only asks who is concerned never pays.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Self, TypeVar

from attrs import Factory, define, field, frozen

from certs.spiffe import SpiffeId, TrustDomain, WorkloadName
from mesh.policy.clauses import CallerKey, Clauses, key_of, namespace_of
from mesh.policy.decision import Decision, HttpFacts, NearMiss
from mesh.policy.model import EVERY, Kind, Mode, NamespaceDefaults, Policy, PolicySet
from mesh.policy.reasons import Reason

K = TypeVar("K")


@frozen(eq=False)
class Ruling:
    """One policy on one port, with its answers made beforehand: one per HTTP rule, or one where it has none."""

    clauses: Clauses
    answers: tuple[Decision, ...]
    answer_without_http: Decision | None

    @classmethod
    def of(cls, clauses: Clauses, tried: tuple[str, ...]) -> Self:
        """The policy of `clauses`, on a port where `tried` are considered."""
        deny = clauses.policy.kind is Kind.DENY
        reason = Reason.DENIED_BY_POLICY if deny else Reason.ALLOWED_BY_POLICY
        rules: Iterable[int | None] = (None,) if clauses.http is None else range(len(clauses.http))
        answers = tuple(Decision(not deny, reason, clauses.name, rule, tried=tried) for rule in rules)
        if clauses.http is None:
            return cls(clauses, answers, answers[0])
        lacking = NearMiss(clauses.name, "spec.http", "an HTTP request", "raw TCP")
        return cls(clauses, answers, Decision(False, reason, clauses.name, None, lacking, tried) if deny else None)

    def answer(self, http: HttpFacts | None) -> Decision | None:
        """What this policy says of a call whose caller it matches; None where its HTTP rules do not match."""
        if http is None or self.clauses.http is None:
            return self.answer_without_http
        rule = self.clauses.rule_matching(http)
        return None if rule is None else self.answers[rule]


@frozen(eq=False)
class Callers:
    """The rulings of one kind on one port, by caller."""

    by_caller: dict[CallerKey, tuple[Ruling, ...]]
    by_namespace: dict[str, tuple[Ruling, ...]]
    for_plaintext: tuple[Ruling, ...]
    own: str

    @classmethod
    def compile(cls, rulings: Sequence[Ruling], own: str) -> Self:
        """Sort `rulings` by the callers that they name; `own` is the own trust domain's name."""
        by_caller: defaultdict[CallerKey, list[Ruling]] = defaultdict(list)
        by_namespace: defaultdict[str, list[Ruling]] = defaultdict(list)
        named = {key for ruling in rulings for key in ruling.clauses.callers}
        siblings: defaultdict[str, list[CallerKey]] = defaultdict(list)
        for key in named:
            if key[0] == own:
                siblings[namespace_of(key[1])].append(key)
        for ruling in rulings:
            clauses = ruling.clauses
            reached = set(clauses.callers)
            for namespace in clauses.namespaces:
                by_namespace[namespace].append(ruling)
                reached.update(siblings.get(namespace, ()))
            for key in reached:
                by_caller[key].append(ruling)
        plaintext = [each for each in rulings if each.clauses.networks is not None or each.clauses.lacks_identity]
        return cls(_settled(by_caller), _settled(by_namespace), tuple(plaintext), own)

    def of(self, caller: SpiffeId) -> tuple[Ruling, ...]:
        """The rulings whose `from` matches `caller`."""
        found = self.by_caller.get(key_of(caller))
        if found is not None:
            return found
        if caller.trust_domain == self.own and self.by_namespace:
            return self.by_namespace.get(namespace_of(caller.path), ())
        return ()


@frozen(eq=False)
class PortRules:
    """What governs one port of one workload. `allows` and `audits` are the enforced allows, and all in audit mode."""

    denying: Callers
    allowing: Callers
    allows: tuple[Clauses, ...]
    audits: tuple[Clauses, ...]
    tried: tuple[str, ...]
    allowed_by_mesh_default: Decision

    @classmethod
    def compile(cls, policies: Iterable[Clauses], own: str) -> Self:
        """Compile `policies`, which all govern the port; denies come first, then each kind by name."""
        ordered = sorted(policies, key=lambda each: (each.policy.kind is Kind.ALLOW, each.name))
        tried = tuple(each.name for each in ordered)
        enforced = [each for each in ordered if each.policy.mode is Mode.ENFORCE]
        allows = tuple(each for each in enforced if each.policy.kind is Kind.ALLOW)
        denies = [each for each in enforced if each.policy.kind is Kind.DENY]
        return cls(
            Callers.compile([Ruling.of(each, tried) for each in denies], own),
            Callers.compile([Ruling.of(each, tried) for each in allows], own),
            allows,
            tuple(each for each in ordered if each.policy.mode is Mode.AUDIT),
            tried,
            Decision(True, Reason.ALLOWED_BY_MESH_DEFAULT, tried=tried),
        )


@frozen(eq=False)
class Guard:
    """Everything that governs one workload. `elsewhere` holds for the ports that no policy names."""

    defaults: NamespaceDefaults
    ports: dict[int, PortRules]
    elsewhere: PortRules
    allows: tuple[Clauses, ...]

    @classmethod
    def compile(cls, policies: Iterable[Policy], defaults: NamespaceDefaults, trust_domain: TrustDomain) -> Self:
        """Compile the policies that govern one workload."""
        compiled = [Clauses.compile(policy, trust_domain) for policy in policies]
        everywhere = [each for each in compiled if not each.policy.to.ports]
        by_port: defaultdict[int, list[Clauses]] = defaultdict(lambda: list(everywhere))
        for each in compiled:
            for port in each.policy.to.ports:
                by_port[port].append(each)
        elsewhere = PortRules.compile(everywhere, trust_domain.name)
        ports = {port: PortRules.compile(found, trust_domain.name) for port, found in by_port.items()}
        allows = [each for each in compiled if each.policy.kind is Kind.ALLOW and each.policy.mode is Mode.ENFORCE]
        return cls(defaults, ports, elsewhere, tuple(sorted(allows, key=lambda each: each.name)))

    def on(self, port: int) -> PortRules:
        """What governs `port`."""
        return self.ports.get(port, self.elsewhere)


@define(eq=False)
class _Namespace:
    """One namespace's policies by the workload that they name (EVERY included), and the guards made so far."""

    defaults: NamespaceDefaults | None = None
    policies: dict[str, list[Policy]] = Factory(dict)
    guards: dict[str, Guard] = Factory(dict)

    def concerning(self, workload: str) -> list[Policy]:
        found = [policy for name in {workload, EVERY} for policy in self.policies.get(name, ())]
        return sorted(found, key=lambda policy: policy.key)

    def compile_guard(self, namespace: str, workload: str, trust_domain: TrustDomain) -> Guard:
        """The guard of `workload`, kept for the next call only where a policy names it: callers choose no names."""
        name = workload if workload in self.policies else EVERY
        guard = self.guards.get(name)
        if guard is None:
            defaults = self.defaults or NamespaceDefaults(namespace)
            guard = self.guards[name] = Guard.compile(self.concerning(name), defaults, trust_domain)
        return guard


@frozen(eq=False)
class Rules:
    """A compiled policy set. Made by compile_rules; immutable to its users, so that it can be swapped whole."""

    trust_domain: TrustDomain
    _namespaces: dict[str, _Namespace] = field(repr=False)
    _unruled: Guard = field(repr=False)

    def guard(self, workload: WorkloadName) -> Guard:
        """What governs `workload`; only its namespace's defaults where no policy names it."""
        namespace = self._namespaces.get(workload.namespace)
        if namespace is None:
            return self._unruled
        guard = namespace.guards.get(workload.name)
        return guard or namespace.compile_guard(workload.namespace, workload.name, self.trust_domain)

    def defaults(self, namespace: str) -> NamespaceDefaults:
        """What holds in `namespace` where no policy matched."""
        found = self._namespaces.get(namespace)
        return (found.defaults if found else None) or NamespaceDefaults(namespace)

    def concerning(self, workload: WorkloadName) -> PolicySet:
        """The part of the set that governs `workload`, sorted: under it alone, decisions about it are the same."""
        namespace = self._namespaces.get(workload.namespace)
        if namespace is None:
            return PolicySet()
        defaults = namespace.defaults
        return PolicySet(tuple(namespace.concerning(workload.name)), (defaults,) if defaults else ())


def compile_rules(policies: PolicySet, trust_domain: TrustDomain) -> Rules:
    """Index `policies` for decisions in a mesh whose own trust domain is `trust_domain`."""
    namespaces: defaultdict[str, _Namespace] = defaultdict(_Namespace)
    for defaults in policies.defaults:
        namespaces[defaults.namespace].defaults = defaults
    for policy in policies.policies:
        namespaces[policy.namespace].policies.setdefault(policy.to.workload, []).append(policy)
    unruled = Guard.compile((), NamespaceDefaults(EVERY), trust_domain)
    return Rules(trust_domain, dict(namespaces), unruled)


def _settled(lists: dict[K, list[Ruling]]) -> dict[K, tuple[Ruling, ...]]:
    return {key: tuple(rulings) for key, rulings in lists.items()}
