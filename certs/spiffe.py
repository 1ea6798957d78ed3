"""SPIFFE IDs and trust domains: text in, checked value out, and nothing lenient between.

A workload's ID here is `spiffe://<trust-domain>/ns/<namespace>/sa/<workload>`; the control plane is
`spiffe://<trust-domain>/doorward/control-plane` and an operator `spiffe://<trust-domain>/operator/<name>`.
Source: the SPIFFE-ID standard, https://spiffe.io/docs/latest/spiffe-specs/spiffe-id, sections 2.1 to 2.4.
"""

import re
from functools import lru_cache
from typing import Self

from attrs import field, frozen

from certs.errors import SpiffeIdMalformed

MAX_ID_BYTES = 2048  # SPIFFE-ID §2.3
MAX_TRUST_DOMAIN_BYTES = 255  # SPIFFE-ID §2.3
MAX_NAME_BYTES = 253  # of a namespace, workload or operator, as in Kubernetes: so each has an ID in every trust domain

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)


@frozen(order=True)
class TrustDomain:
    """One trust domain, such as `cluster.local`. Raises SpiffeIdMalformed for anything else."""

    name: str = field()

    def __attrs_post_init__(self) -> None:
        if len(self.name) > MAX_TRUST_DOMAIN_BYTES:
            raise SpiffeIdMalformed(f"trust domain is longer than {MAX_TRUST_DOMAIN_BYTES} bytes")
        if not _TRUST_DOMAIN.fullmatch(self.name):
            raise SpiffeIdMalformed(f"trust domain {self.name[:80]!r}: only a-z, 0-9, '.', '_' and '-' are allowed")

    def __str__(self) -> str:
        return self.name

    def workload(self, namespace: str, workload: str) -> "SpiffeId":
        """The ID of one workload in this trust domain."""
        return SpiffeId(self.name, f"/ns/{_segment(namespace)}/sa/{_segment(workload)}")

    def control_plane(self) -> "SpiffeId":
        """The one ID that a sidecar lets its control plane have."""
        return SpiffeId(self.name, "/doorward/control-plane")

    def operator(self, name: str) -> "SpiffeId":
        """The ID of a person or program that may use the admin API."""
        if len(_segment(name)) > MAX_NAME_BYTES:
            raise SpiffeIdMalformed(f"the name {name[:80]!r}… is longer than {MAX_NAME_BYTES} bytes")
        return SpiffeId(self.name, f"/operator/{name}")


@frozen(order=True)
class SpiffeId:
    """A SPIFFE ID with a path. `trust_domain` is its name, `path` starts with a slash. Raises SpiffeIdMalformed."""

    trust_domain: str = field()
    path: str = field()

    def __attrs_post_init__(self) -> None:
        TrustDomain(self.trust_domain)
        if not self.path.startswith("/"):
            raise SpiffeIdMalformed("a SPIFFE ID of a workload needs a path")
        for segment in self.path[1:].split("/"):
            _segment(segment)
        if len(str(self)) > MAX_ID_BYTES:
            raise SpiffeIdMalformed(f"SPIFFE ID is longer than {MAX_ID_BYTES} bytes")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `spiffe://<trust-domain>/<path>`. Raises SpiffeIdMalformed, saying what is wrong."""
        if len(text) > MAX_ID_BYTES:
            raise SpiffeIdMalformed(f"SPIFFE ID is longer than {MAX_ID_BYTES} bytes")
        if not text.startswith("spiffe://"):
            raise SpiffeIdMalformed(f"{text[:80]!r} does not start with spiffe://")
        trust_domain, slash, rest = text.removeprefix("spiffe://").partition("/")
        return cls(trust_domain, slash + rest)

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}{self.path}"

    @property
    def workload(self) -> "WorkloadName | None":
        """Namespace and workload, or None for an ID that is not of the form /ns/<namespace>/sa/<workload>."""
        match self.path[1:].split("/"):
            case ["ns", namespace, "sa", workload] if max(len(namespace), len(workload)) <= MAX_NAME_BYTES:
                return WorkloadName(namespace, workload)
        return None

    @property
    def operator(self) -> str | None:
        """The operator's name, or None for an ID that is not of the form /operator/<name>."""
        match self.path[1:].split("/"):
            case ["operator", name] if len(name) <= MAX_NAME_BYTES:
                return name
        return None


@frozen(order=True)
class WorkloadName:
    """A workload within the own trust domain, written `<namespace>/<workload>`, such as `shop/checkout`."""

    namespace: str = field()
    name: str = field()

    def __attrs_post_init__(self) -> None:
        for each in (self.namespace, self.name):
            if len(_segment(each)) > MAX_NAME_BYTES:
                raise SpiffeIdMalformed(f"the name {each[:80]!r}… is longer than {MAX_NAME_BYTES} bytes")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `namespace/workload`. Raises SpiffeIdMalformed."""
        parts = text.split("/")
        if len(parts) != 2:
            raise SpiffeIdMalformed(f"{text[:80]!r} is no workload: write namespace/workload, such as shop/checkout")
        return cls(*parts)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    def in_domain(self, trust_domain: TrustDomain) -> SpiffeId:
        """This workload's SPIFFE ID in `trust_domain`."""
        return trust_domain.workload(self.namespace, self.name)


@lru_cache(maxsize=4096)
def _segment(segment: str) -> str:
    """One path segment (SPIFFE-ID §2.2), returned as it came. Raises SpiffeIdMalformed."""
    if segment in {".", ".."}:
        raise SpiffeIdMalformed(f"SPIFFE ID: the path segment {segment!r} is not allowed")
    if not _SEGMENT.fullmatch(segment):
        raise SpiffeIdMalformed(
            f"SPIFFE ID: the path segment {segment[:80]!r} is not allowed: write A-Z, a-z, 0-9, '.', '_' and '-'"
        )
    return segment
