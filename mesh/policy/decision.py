"""What goes into a decision and what comes out: facts about one call, and the answer that explains itself."""

from ipaddress import IPv4Address, IPv6Address

from attrs import field, frozen

from certs.spiffe import SpiffeId, WorkloadName
from mesh.policy.reasons import Reason


@frozen
class HttpFacts:
    """One HTTP request as policy sees it. `path` is canonical (mesh.policy.paths), without its query."""

    method: str
    path: str


@frozen
class Facts:
    """Everything that a decision may depend on.

    `to` and `port` are the called workload (always the sidecar's own, law 6) and the application's port. `caller` is
    None for a plaintext caller. `http` is None for raw TCP: a clause about HTTP then never allows.
    """

    to: WorkloadName
    port: int
    caller: SpiffeId | None = None
    address: IPv4Address | IPv6Address | None = None
    http: HttpFacts | None = None


@frozen
class NearMiss:
    """The policy that came closest to allowing a call, and the first clause of it that failed.

    `clause` is a path into the policy document, such as `spec.http[0].methods`; `wanted` is what stands there and
    `got` what the call had. Where a deny counted as matched since the call lacks what its clause asks about, the near
    miss names that deny and that clause.
    """

    policy: str
    clause: str
    wanted: str
    got: str


@frozen
class AuditFinding:
    """What a policy in audit mode would have done: `would` is "allow" or "deny".

    `policy` is None for an audit default: it let the call through, and no allow would have. `rule` is as in Decision.
    """

    would: str
    policy: str | None
    rule: int | None


@frozen
class Decision:
    """The answer for one call.

    `policy` is `<namespace>/<name>` of the policy that decided, or None for a default. `rule` is the index of the
    matching `http` rule, or None where the policy has no `http` key or the call is no HTTP. `tried` names every policy
    that governs the called workload and port, in the order in which they are tried: denies, then allows, each by name.
    `nearest` explains a call that was refused, or let through by an audit default. `audit` holds what each policy in
    audit mode that matches the call would have done, whatever became of it.
    """

    allowed: bool
    reason: Reason
    policy: str | None = None
    rule: int | None = None
    nearest: NearMiss | None = None
    tried: tuple[str, ...] = ()
    audit: tuple[AuditFinding, ...] = field(default=())
