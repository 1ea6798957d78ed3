"""Policy: from plain documents to a decision about one call that explains itself.

    Document        one policy document as plain data, and where it was read
    PolicySet       the policies and namespace defaults that were read (model.py)
    Rules           a policy set, compiled and indexed by called workload, port and caller
    Facts           what is known of one call: who calls whom, on which port, with which request
    Decision        the answer: allowed or not, the reason, the policy and rule, what was tried, the nearest miss

Data flows: Document -> read_policies (reading.py; fields.py and values.py below it) -> PolicySet -> compile_rules
(rules.py, clauses.py, patterns.py) -> Rules; and for each call canonical_target (paths.py) -> Facts ->
decide(rules, facts) (decide.py, nearest.py) -> Decision. Beside it: to_document (writing.py) writes a policy back to
plain data, lint (lint.py, covering.py) warns of what is well formed but surprising, faults.py says what is wrong and
where, reasons.py holds every reason code of the mesh.
"""

from mesh.policy.decide import decide
from mesh.policy.decision import AuditFinding, Decision, Facts, HttpFacts, NearMiss
from mesh.policy.faults import Fault, PolicyFaults
from mesh.policy.lint import lint
from mesh.policy.model import Default, Key, Kind, Mode, Mtls, NamespaceDefaults, Policy, PolicySet
from mesh.policy.paths import PathRefused, Target, canonical_target
from mesh.policy.reading import Document, document_key, read_policies
from mesh.policy.reasons import Reason
from mesh.policy.rules import Rules, compile_rules
from mesh.policy.writing import to_document

__all__ = [
    "AuditFinding",
    "Decision",
    "Default",
    "Document",
    "Facts",
    "Fault",
    "HttpFacts",
    "Key",
    "Kind",
    "Mode",
    "Mtls",
    "NamespaceDefaults",
    "NearMiss",
    "PathRefused",
    "Policy",
    "PolicyFaults",
    "PolicySet",
    "Reason",
    "Rules",
    "Target",
    "canonical_target",
    "compile_rules",
    "decide",
    "document_key",
    "lint",
    "read_policies",
    "to_document",
]
