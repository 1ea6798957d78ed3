"""Warnings about policies that are well formed and probably not what was meant. A warning never blocks anything.

Each check takes a policy and its namespace and yields the place and the message; `lint` puts the file before it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from attrs import Factory, define

from mesh.policy.covering import http_covers, rule_covers, sources_cover, target_covers, targets_meet
from mesh.policy.faults import Fault
from mesh.policy.model import (
    EVERY,
    Default,
    Kind,
    Mode,
    Mtls,
    NamespaceDefaults,
    Policy,
    PolicySet,
    UnauthenticatedSource,
    WorkloadSource,
)

Warning_ = tuple[str, str]
"""Path and message."""


@define
class _Namespace:
    """What the checks ask about a policy's surroundings."""

    allow_names: set[str] = Factory(set)
    by_target: dict[str, list[Policy]] = Factory(lambda: defaultdict(list))
    defaults: NamespaceDefaults = Factory(lambda: NamespaceDefaults(EVERY))

    def overlapping(self, policy: Policy) -> Iterable[Policy]:
        """The other policies that share a workload and port with `policy`."""
        names = self.by_target if policy.to.workload == EVERY else {policy.to.workload, EVERY}
        found = (each for name in names for each in self.by_target.get(name, ()))
        return (each for each in found if each is not policy and targets_meet(each.to, policy.to))


def lint(policies: PolicySet) -> tuple[Fault, ...]:
    """What is surprising in `policies`, in their order."""
    namespaces: defaultdict[str, _Namespace] = defaultdict(_Namespace)
    for defaults in policies.defaults:
        namespaces[defaults.namespace].defaults = defaults
    for policy in policies.policies:
        namespaces[policy.namespace].by_target[policy.to.workload].append(policy)
        if policy.kind is Kind.ALLOW:
            namespaces[policy.namespace].allow_names.add(policy.name)
    return tuple(
        Fault(policy.origin.source, policy.origin.index, path, f"{message} ({policy.kind} {policy.full_name})")
        for policy in policies.policies
        for check in _CHECKS
        for path, message in check(policy, namespaces[policy.namespace])
    )


def _wide(policy: Policy, _: _Namespace) -> Iterator[Warning_]:
    """Allows that reach further than their author may see."""
    if policy.kind is Kind.DENY:
        return
    if policy.to.workload == EVERY:
        yield "spec.to.workload", "'*' opens every workload of this namespace, also those that are added later"
    for index, source in enumerate(policy.sources):
        if isinstance(source, WorkloadSource) and source.workload == EVERY and source.namespace == policy.namespace:
            text = "'*' admits every workload of this namespace, also those that are added later"
            yield f"spec.from[{index}].workload", text
        if isinstance(source, UnauthenticatedSource) and not source.addresses:
            yield f"spec.from[{index}]", "admits plaintext callers from anywhere: write their addresses"


def _plaintext(policy: Policy, namespace: _Namespace) -> Iterator[Warning_]:
    """Clauses about plaintext callers where there are none, and denies that plaintext callers fall under unasked."""
    strict = namespace.defaults.mtls is Mtls.STRICT
    for index, source in enumerate(policy.sources):
        plaintext = isinstance(source, UnauthenticatedSource)
        if plaintext and strict:
            yield (
                f"spec.from[{index}]",
                "never matches: the namespace's mtls is strict, so no plaintext caller gets here",
            )
        if not plaintext and not strict and policy.kind is Kind.DENY:
            text = "a plaintext caller has no identity and counts as matched: it is denied too"
            yield f"spec.from[{index}]", text


def _lacking_http(policy: Policy, namespace: _Namespace) -> Iterator[Warning_]:
    """A deny about HTTP where raw TCP would be let through otherwise."""
    if policy.kind is Kind.ALLOW or policy.http is None:
        return
    admits_tcp = any(each.kind is Kind.ALLOW and each.http is None for each in namespace.overlapping(policy))
    if admits_tcp or namespace.defaults.default is not Default.DENY:
        yield (
            "spec.http",
            "raw TCP counts as matched, since it is no HTTP request: on a tcp port all are denied",
        )


def _paths(policy: Policy, _: _Namespace) -> Iterator[Warning_]:
    """Patterns and methods that do less than they seem to."""
    for index, rule in enumerate(policy.http or ()):
        for number, path in enumerate(rule.paths):
            above = path.removesuffix("/*")
            if policy.kind is Kind.DENY and above not in ("", path) and above not in rule.paths:
                yield f"spec.http[{index}].paths[{number}]", f"does not match {above} itself: list it too"
        for number, method in enumerate(rule.methods):
            if method == "CONNECT":
                yield f"spec.http[{index}].methods[{number}]", "CONNECT is always refused, whatever a policy says"


def _redundant_rules(policy: Policy, _: _Namespace) -> Iterator[Warning_]:
    """HTTP rules that another rule of the same policy covers."""
    rules = policy.http or ()
    for index, rule in enumerate(rules):
        for other, wide in enumerate(rules):
            if other != index and rule_covers(wide, rule) and not (other > index and rule_covers(rule, wide)):
                yield f"spec.http[{index}]", f"has no effect: spec.http[{other}] matches all that it matches"
                break


def _shadowed(policy: Policy, namespace: _Namespace) -> Iterator[Warning_]:
    """Policies that another one makes idle."""
    for other in namespace.overlapping(policy):
        if other.mode is Mode.AUDIT or not _covers(other, policy):
            continue
        if other.kind is policy.kind and policy.mode is Mode.ENFORCE:
            if other.key < policy.key or not _covers(policy, other):
                yield "", f"has no effect: {other.kind} {other.full_name} matches all that it matches"
                return
        elif other.kind is Kind.DENY and policy.kind is Kind.ALLOW:
            yield "", f"never allows anything: {other.kind} {other.full_name} denies all that it matches"
            return


def _namesakes(policy: Policy, namespace: _Namespace) -> Iterator[Warning_]:
    """An allow and a deny of one name, which decisions and logs cannot tell apart."""
    if policy.kind is Kind.DENY and policy.name in namespace.allow_names:
        yield "metadata.name", "an AllowPolicy has the same name: decisions name policies without their kind"


def _covers(wide: Policy, narrow: Policy) -> bool:
    return (
        target_covers(wide.to, narrow.to)
        and sources_cover(wide.sources, narrow.sources)
        and http_covers(wide.http, narrow.http)
    )


_CHECKS = (_wide, _plaintext, _lacking_http, _paths, _redundant_rules, _shadowed, _namesakes)
