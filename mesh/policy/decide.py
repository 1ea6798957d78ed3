"""The one function that decides every call. The sidecar enforces it, `policy check` shows it: there is no other.

Order: a matching enforced deny denies; else a matching enforced allow allows; else the namespace's default, which is
deny unless set. Before all that, a caller without a certificate is refused where the namespace's mTLS is strict.
Policies in audit mode, and an audit default, report what they would have done.
"""

from attrs import evolve

from mesh.policy.clauses import Clauses
from mesh.policy.decision import AuditFinding, Decision, Facts, NearMiss
from mesh.policy.model import Default, Kind, Mtls
from mesh.policy.nearest import describe_caller, describe_sources, nearest_miss
from mesh.policy.reasons import Reason
from mesh.policy.rules import Callers, Guard, PortRules, Rules


def decide(rules: Rules, facts: Facts) -> Decision:
    """The answer for one call, and why. Never raises; `facts.http.path` must be canonical (mesh.policy.paths)."""
    guard = rules.guard(facts.to)
    port = guard.on(facts.port)
    if facts.caller is None:
        if guard.defaults.mtls is Mtls.STRICT:
            return Decision(False, Reason.CERTIFICATE_MISSING)
        decision = _for_plaintext(port.denying, facts) or _for_plaintext(port.allowing, facts)
    else:
        decision = _for_caller(port.denying, facts) or _for_caller(port.allowing, facts)
    if decision is None:
        decision = _by_default(rules, guard, port, facts)
    if port.audits:
        findings = tuple(_finding(each, facts) for each in port.audits if _matches(each, facts))
        if findings:
            return evolve(decision, audit=findings + decision.audit)
    return decision


def _for_caller(callers: Callers, facts: Facts) -> Decision | None:
    assert facts.caller is not None
    http = facts.http
    for ruling in callers.of(facts.caller):
        answer = ruling.answer(http)
        if answer is not None:
            return answer
    return None


def _for_plaintext(callers: Callers, facts: Facts) -> Decision | None:
    for ruling in callers.for_plaintext:
        clauses = ruling.clauses
        if not clauses.from_matches(None, facts.address):
            continue
        answer = ruling.answer(facts.http)
        if answer is not None:
            if not clauses.plaintext_matches(facts.address):
                lacking = NearMiss(clauses.name, "spec.from", describe_sources(clauses), describe_caller(facts))
                return evolve(answer, nearest=lacking)
            return answer
    return None


def _by_default(rules: Rules, guard: Guard, port: PortRules, facts: Facts) -> Decision:
    """What holds where no enforced policy matched."""
    default = guard.defaults.default
    caller = facts.caller
    if default is Default.ALLOW_MESH and caller is not None and caller.trust_domain == rules.trust_domain.name:
        return port.allowed_by_mesh_default
    nearest = nearest_miss(guard, port, facts)
    if default is Default.AUDIT:
        unmatched = (AuditFinding("deny", None, None),)
        return Decision(True, Reason.ALLOWED_BY_AUDIT_DEFAULT, nearest=nearest, tried=port.tried, audit=unmatched)
    reason = Reason.NO_POLICY_MATCHED if port.allows else Reason.NO_POLICY_FOR_WORKLOAD
    return Decision(False, reason, nearest=nearest, tried=port.tried)


def _matches(clauses: Clauses, facts: Facts) -> bool:
    return clauses.from_matches(facts.caller, facts.address) and clauses.http_matches(facts.http)


def _finding(clauses: Clauses, facts: Facts) -> AuditFinding:
    would = "deny" if clauses.policy.kind is Kind.DENY else "allow"
    return AuditFinding(would, clauses.name, clauses.rule_matching(facts.http))
