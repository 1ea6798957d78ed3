"""One policy, compiled: its clauses in the form in which one call is compared with them fastest.

An allow and a deny read the same clause differently where the traffic lacks what the clause asks about: it then never
allows, and a deny counts as matched. So both fail closed. A deny also compares methods without case, and every
reading of a path that an application may take (mesh.policy.paths.readings).
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Self

from attrs import frozen

from certs.spiffe import SpiffeId, TrustDomain
from mesh.policy.decision import HttpFacts
from mesh.policy.model import EVERY, HttpRule, IdentitySource, Kind, Policy, UnauthenticatedSource, WorkloadSource
from mesh.policy.paths import readings
from mesh.policy.patterns import PathPattern, PathPatterns

Address = IPv4Address | IPv6Address
CallerKey = tuple[str, str]
"""A caller's trust domain and path: hashed in C, unlike a SpiffeId."""


@frozen(eq=False)
class HttpClause:
    """One HTTP rule. None stands for any method, or for any path."""

    methods: frozenset[str] | None
    paths: PathPatterns | None
    decoded_paths: PathPatterns | None

    @classmethod
    def compile(cls, rule: HttpRule) -> Self:
        """Compile one rule."""
        patterns = [PathPattern.parse(path) for path in rule.paths]
        return cls(
            frozenset(rule.methods) or None,
            PathPatterns.compile(patterns) if patterns else None,
            PathPatterns.compile([each.decoded() for each in patterns]) if patterns else None,
        )

    def allows(self, http: HttpFacts) -> bool:
        """Whether the request is one of this rule's, as it stands."""
        return (self.methods is None or http.method in self.methods) and (
            self.paths is None or self.paths.match(http.path)
        )

    def denies(self, http: HttpFacts) -> bool:
        """Whether any reading of the request is one of this rule's. The target `*` has no path, so it is."""
        if self.methods is not None and http.method.upper() not in self.methods:
            return False
        if self.paths is None or self.decoded_paths is None or http.path == "*":
            return True
        return self.paths.match(http.path) or any(self.decoded_paths.match(each) for each in readings(http.path))


@frozen(eq=False)
class Clauses:
    """A compiled policy. `networks` is None where no clause is about plaintext callers; empty means from anywhere."""

    policy: Policy
    name: str
    callers: frozenset[CallerKey]
    namespaces: frozenset[str]
    networks: tuple[IPv4Network | IPv6Network, ...] | None
    http: tuple[HttpClause, ...] | None
    own: str

    @classmethod
    def compile(cls, policy: Policy, trust_domain: TrustDomain) -> Self:
        """Compile `policy` for a mesh whose own trust domain is `trust_domain`: workload clauses mean that one."""
        named = [each for each in policy.sources if isinstance(each, WorkloadSource)]
        callers = {key_of(trust_domain.workload(each.namespace, each.workload)) for each in named if not _all(each)}
        callers |= {key_of(each.identity) for each in policy.sources if isinstance(each, IdentitySource)}
        return cls(
            policy,
            policy.full_name,
            frozenset(callers),
            frozenset(f"/ns/{each.namespace}/sa/" for each in named if _all(each)),
            _networks(each for each in policy.sources if isinstance(each, UnauthenticatedSource)),
            None if policy.http is None else tuple(HttpClause.compile(rule) for rule in policy.http),
            trust_domain.name,
        )

    def from_matches(self, caller: SpiffeId | None, address: Address | None) -> bool:
        """Whether `from` matches this caller, in the way in which this kind of policy reads it."""
        if caller is not None:
            return key_of(caller) in self.callers or (
                caller.trust_domain == self.own and namespace_of(caller.path) in self.namespaces
            )
        return self.lacks_identity or self.plaintext_matches(address) or self._lacks_address(address)

    def plaintext_matches(self, address: Address | None) -> bool:
        """Whether a clause about plaintext callers matches. An IPv4 address mapped into IPv6 is an IPv4 address."""
        if self.networks is None:
            return False
        if not self.networks:
            return True
        if address is None:
            return False
        plain = (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
        return any(plain in network for network in self.networks)

    def _lacks_address(self, address: Address | None) -> bool:
        return self.policy.kind is Kind.DENY and address is None and bool(self.networks)

    @property
    def lacks_identity(self) -> bool:
        """Whether a plaintext caller is matched for want of an identity: any identity clause of a deny (law 13)."""
        return self.policy.kind is Kind.DENY and bool(self.callers or self.namespaces)

    def rule_matching(self, http: HttpFacts | None) -> int | None:
        """The index of the first HTTP rule that matches, as this kind of policy reads it; None where none does."""
        if http is None or self.http is None:
            return None
        deny = self.policy.kind is Kind.DENY
        for index, rule in enumerate(self.http):
            if rule.denies(http) if deny else rule.allows(http):
                return index
        return None

    def http_matches(self, http: HttpFacts | None) -> bool:
        """Whether `http` matches, as this kind of policy reads it: raw TCP is denied by any HTTP clause."""
        if self.http is None:
            return True
        if http is None:
            return self.policy.kind is Kind.DENY
        return self.rule_matching(http) is not None


def key_of(identity: SpiffeId) -> CallerKey:
    """The key under which callers are looked up."""
    return (identity.trust_domain, identity.path)


def namespace_of(path: str) -> str:
    """All but the last segment: `/ns/shop/sa/` for a workload of shop. No other path gives that."""
    return path[: path.rindex("/") + 1]


def _all(source: WorkloadSource) -> bool:
    return source.workload == EVERY


def _networks(sources: Iterable[UnauthenticatedSource]) -> tuple[IPv4Network | IPv6Network, ...] | None:
    clauses = [each.addresses for each in sources]
    if not clauses:
        return None
    return () if () in clauses else tuple(network for clause in clauses for network in clause)
