"""The nearest miss: which enforced allow came closest to allowing a refused call, and which clause of it failed.

A policy's clauses are compared in one order: `to.ports`, `from`, `http` (is it HTTP at all), a rule's `paths`, then
its `methods`, since a path names what is called and a method only what is done with it. The nearest policy is the
one whose first failing clause comes latest; of several, the one with more matching clauses after it; then the first
by name. This runs only when a call is refused or let through by an audit default.
"""

from mesh.policy.clauses import Clauses, HttpClause
from mesh.policy.decision import Facts, HttpFacts, NearMiss
from mesh.policy.model import IdentitySource, Source, UnauthenticatedSource, WorkloadSource
from mesh.policy.rules import Guard, PortRules

_LISTED = 8  # items of a clause that an explanation repeats
_SHOWN = 200  # characters of a path, and of the caller's own words, that it repeats


def nearest_miss(guard: Guard, port: PortRules, facts: Facts) -> NearMiss | None:
    """The enforced allow of this workload that came closest, or None where it has none."""
    candidates = port.allows or guard.allows
    if not candidates:
        return None
    met = [each for each in candidates if each.from_matches(facts.caller, facts.address)]
    best = max(met or candidates, key=lambda each: _http_score(each, facts.http)[0])  # of equals the first by name
    return NearMiss(best.name, *_first_failure(best, port, facts))


def describe_sources(clauses: Clauses) -> str:
    """The callers that a policy is about, in words."""
    return _listed([_describe(source, clauses.own) for source in clauses.policy.sources])


def describe_caller(facts: Facts) -> str:
    """Who called, in words."""
    if facts.caller is not None:
        return str(facts.caller)
    return f"a plaintext caller from {facts.address or 'an unknown address'}"


def _http_score(clauses: Clauses, http: HttpFacts | None) -> tuple[int, int]:
    """How far the best HTTP rule got, and its index.

    0: the call is no HTTP; 1: nothing of the rule matched; 2: only the method; 3: only the path; 4: all of it.
    """
    if clauses.http is None:
        return (4, 0)
    if http is None:
        return (0, 0)
    scores = [_rule_score(rule, http) for rule in clauses.http]
    best = max(scores)
    return (best, scores.index(best))


def _rule_score(rule: HttpClause, http: HttpFacts) -> int:
    method = rule.methods is None or http.method in rule.methods
    path = rule.paths is None or rule.paths.match(http.path)
    return 1 + method + 2 * path


def _first_failure(clauses: Clauses, port: PortRules, facts: Facts) -> tuple[str, str, str]:
    """The clause that failed, what it wants and what the call has."""
    policy = clauses.policy
    if not port.allows:
        return ("spec.to.ports", _listed([str(each) for each in policy.to.ports]), str(facts.port))
    if not clauses.from_matches(facts.caller, facts.address):
        return ("spec.from", describe_sources(clauses), describe_caller(facts))
    assert policy.http is not None
    if facts.http is None:
        return ("spec.http", "an HTTP request", "raw TCP")
    score, index = _http_score(clauses, facts.http)
    rule = policy.http[index]
    if score < 3:
        return (f"spec.http[{index}].paths", _listed(rule.paths), facts.http.path[:_SHOWN])
    return (f"spec.http[{index}].methods", _listed(rule.methods), facts.http.method[:_SHOWN])


def _describe(source: Source, own: str) -> str:
    match source:
        case WorkloadSource(namespace, workload):
            return f"spiffe://{own}/ns/{namespace}/sa/{workload}"
        case IdentitySource(identity):
            return str(identity)
        case UnauthenticatedSource(addresses):
            where = f" from {_listed([str(each) for each in addresses])}" if addresses else ""
            return f"a plaintext caller{where}"


def _listed(items: "list[str] | tuple[str, ...]") -> str:
    more = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {more} more" if more > 0 else "")
