"""A call that somebody asks about, answered by the very function that enforces it.

`doorward policy check` asks it offline from files; the admin API asks it about the stored policies. Both read the
question here and get the same plain answer, so that neither can drift from the sidecar. Pure: text and policies in,
plain data out.
"""

import re
from collections.abc import Collection
from ipaddress import ip_address
from typing import Any

from attrs import asdict, frozen

from certs.errors import SpiffeIdMalformed
from certs.spiffe import SpiffeId, TrustDomain, WorkloadName
from mesh.policy import (
    Decision,
    Facts,
    HttpFacts,
    PathRefused,
    PolicySet,
    Reason,
    canonical_target,
    compile_rules,
    decide,
)

PLAINTEXT = "plaintext"
"""As `from`: a caller without a certificate."""

_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", re.ASCII)  # RFC 9110 §5.6.2, token
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


class QuestionMalformed(ValueError):
    """The question cannot be read. The message names the part and shows how to write it."""


@frozen
class Question:
    """One call: `caller` None is a plaintext caller; `request` None is raw TCP, else method and target as sent."""

    caller: SpiffeId | None
    address: str | None
    to: WorkloadName
    port: int
    request: tuple[str, str] | None

    @classmethod
    def parse(
        cls, caller: str, to: str, request: str | None, address: str | None, trust_domain: TrustDomain
    ) -> "Question":
        """Read what a person wrote. Raises QuestionMalformed."""
        workload, port = _destination(to)
        return cls(_caller(caller, trust_domain), _address(address), workload, port, _request(request))


def answer(
    question: Question, policies: PolicySet, trust_domain: TrustDomain, bans: Collection[str] = ()
) -> dict[str, Any]:
    """Decide `question` as the sidecars at both ends would under `policies` and `bans`, which names SPIFFE IDs.

    The keys are those of `-o json`.
    """
    refused, facts = _facts(question)
    if _is_banned(question, trust_domain, bans):
        refused = Decision(allowed=False, reason=Reason.BANNED)
    decision = refused or decide(compile_rules(policies, trust_domain), facts)
    return {
        "allowed": decision.allowed,
        "reason": str(decision.reason),
        "meaning": decision.reason.text,
        "policy": decision.policy,
        "rule": decision.rule,
        "nearest": asdict(decision.nearest) if decision.nearest else None,
        "tried": list(decision.tried),
        "audit": [asdict(finding) for finding in decision.audit],
        "from": str(question.caller) if question.caller else PLAINTEXT,
        "to": f"{question.to}:{question.port}",
        "request": _said(question, facts),
    }


def _said(question: Question, facts: Facts) -> str | None:
    """The request as policy saw it; as it was asked where its path has no canonical form; None for raw TCP."""
    if facts.http is not None:
        return f"{facts.http.method} {facts.http.path}"
    return " ".join(question.request) if question.request else None


def _facts(question: Question) -> tuple[Decision | None, Facts]:
    """The facts, and the refusal that comes before any policy where the sidecar would not ask one."""
    address = ip_address(question.address) if question.address else None
    facts = Facts(question.to, question.port, question.caller, address)
    if question.request is None:
        return None, facts
    method, target = question.request
    try:
        path = canonical_target(target).path
    except PathRefused:
        return Decision(allowed=False, reason=Reason.PATH_REFUSED), facts
    facts = Facts(question.to, question.port, question.caller, address, HttpFacts(method, path))
    if method == "CONNECT":
        return Decision(allowed=False, reason=Reason.METHOD_REFUSED), facts
    return None, facts


def _is_banned(question: Question, trust_domain: TrustDomain, bans: Collection[str]) -> bool:
    """Whether one end would not believe the other: known before any request, and only where both have certificates."""
    ends = (question.caller, question.to.in_domain(trust_domain)) if question.caller else ()
    return any(str(end) in bans for end in ends)


def _caller(text: str, trust_domain: TrustDomain) -> SpiffeId | None:
    if text == PLAINTEXT:
        return None
    try:
        if text.startswith("spiffe:"):
            return SpiffeId.parse(text)
        return WorkloadName.parse(text).in_domain(trust_domain)
    except SpiffeIdMalformed as error:
        raise QuestionMalformed(
            f"--from: {error}; write namespace/workload, a SPIFFE ID, or {PLAINTEXT} for a caller without a certificate"
        ) from error


def _destination(text: str) -> tuple[WorkloadName, int]:
    workload, _, port = text.rpartition(":")
    if not workload or not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise QuestionMalformed(f"--to: {text[:80]!r}: write namespace/workload:port, such as shop/payments:8080")
    try:
        return WorkloadName.parse(workload), int(port)
    except SpiffeIdMalformed as error:
        raise QuestionMalformed(f"--to: {error}") from error


def _address(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return str(ip_address(text))
    except ValueError as error:
        raise QuestionMalformed(f"--address: {text[:80]!r} is no IP address") from error


def _request(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    method, _, target = text.strip().partition(" ")
    if not _METHOD.fullmatch(method) or not target.startswith(("/", "*")) or " " in target:
        raise QuestionMalformed(f'--request: {text[:80]!r}: write a method and a path, such as "POST /charges"')
    return method, target
