"""Policies as values: what a policy file says once it was read and found well formed.

A namespace's policies say who may call its workloads (AllowPolicy) and who may not, whatever else is allowed
(DenyPolicy); its NamespaceDefaults say what holds for a call that no policy matched. Order matters only where a
decision reports an index: sources and HTTP rules stay as they were written.
"""

from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from attrs import field, frozen

from certs.spiffe import SpiffeId

API_VERSION = "doorward.dev/v1"
EVERY = "*"
"""In place of a workload's name: every workload of that namespace, in the own trust domain."""

DEFAULTS_KIND = "NamespaceDefaults"
DEFAULTS_NAME = "defaults"
"""The only name that NamespaceDefaults may have, so that a namespace has one."""

Key = tuple[str, str, str]
"""Kind, namespace and name: what `apply` adds or replaces by."""


class Kind(StrEnum):
    """What a policy does with the calls that it matches."""

    ALLOW = "AllowPolicy"
    DENY = "DenyPolicy"


class Mode(StrEnum):
    """Whether a policy changes the outcome, or only reports what it would have done."""

    ENFORCE = "enforce"
    AUDIT = "audit"


class Default(StrEnum):
    """What becomes of a call that no enforced policy matched."""

    DENY = "deny"
    AUDIT = "audit"
    ALLOW_MESH = "allow-mesh"


class Mtls(StrEnum):
    """Whether a caller without a certificate is refused at once, or may be admitted by a policy."""

    STRICT = "strict"
    PERMISSIVE = "permissive"


@frozen
class Origin:
    """Where a document was read: a source's name and the document's index in it."""

    source: str = ""
    index: int = 0


@frozen
class Destination:
    """The called side, in the policy's own namespace: one workload or EVERY, and its ports; no ports means all."""

    workload: str
    ports: tuple[int, ...] = ()


@frozen
class WorkloadSource:
    """Callers of the own trust domain: one workload, or EVERY workload, of `namespace`."""

    namespace: str
    workload: str


@frozen
class IdentitySource:
    """One caller of any trust domain, by its whole SPIFFE ID."""

    identity: SpiffeId


@frozen
class UnauthenticatedSource:
    """Plaintext callers from these networks; no networks means from anywhere. Permissive mode only."""

    addresses: tuple[IPv4Network | IPv6Network, ...] = ()


Source = WorkloadSource | IdentitySource | UnauthenticatedSource


@frozen
class HttpRule:
    """Requests with one of these methods and a path of one of these patterns. Empty means any; not both are empty."""

    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@frozen
class Policy:
    """An AllowPolicy or DenyPolicy. `http` None means any traffic on these ports, raw TCP included."""

    kind: Kind
    namespace: str
    name: str
    to: Destination
    sources: tuple[Source, ...]
    http: tuple[HttpRule, ...] | None = None
    mode: Mode = Mode.ENFORCE
    origin: Origin = field(default=Origin(), eq=False, repr=False)

    @property
    def key(self) -> Key:
        """Kind, namespace and name."""
        return (self.kind.value, self.namespace, self.name)

    @property
    def full_name(self) -> str:
        """`<namespace>/<name>`, as decisions and logs name it."""
        return f"{self.namespace}/{self.name}"


@frozen
class NamespaceDefaults:
    """What holds in a namespace where no enforced policy matched. A namespace without any has these values."""

    namespace: str
    default: Default = Default.DENY
    mtls: Mtls = Mtls.STRICT
    name: str = DEFAULTS_NAME
    origin: Origin = field(default=Origin(), eq=False, repr=False)

    @property
    def key(self) -> Key:
        """Kind, namespace and name."""
        return (DEFAULTS_KIND, self.namespace, self.name)


@frozen
class PolicySet:
    """Policies and defaults that hold together, in the order in which they were read."""

    policies: tuple[Policy, ...] = ()
    defaults: tuple[NamespaceDefaults, ...] = ()
