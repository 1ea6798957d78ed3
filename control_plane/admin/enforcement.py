"""Where a policy is enforced: counted from what the connected sidecars have acknowledged, never from what was sent.

A document concerns the sidecars of the workload that it targets, a NamespaceDefaults or a `*` target those of the whole
namespace. It is enforced on one of them once that one acknowledged a number, of this store's epoch, that is at least
the one at which the document took effect. Pure.
"""

from collections.abc import Iterable, Sequence
from typing import Self

from attrs import frozen

from certs.spiffe import SpiffeId, TrustDomain, WorkloadName
from control_plane.push.links import LinkStatus
from control_plane.store.records import Document, Revision

ALL = "*"


@frozen(order=True)
class Target:
    """The workloads that a document concerns: one, or with `*` every one of the namespace."""

    namespace: str
    workload: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.workload}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `namespace/workload` or `namespace/*`. Raises SpiffeIdMalformed."""
        namespace, _, workload = text.partition("/")
        checked = WorkloadName(namespace, "all" if workload == ALL else workload)
        return cls(checked.namespace, workload)

    def covers(self, workload: WorkloadName) -> bool:
        """Whether `workload` is one of them."""
        return workload.namespace == self.namespace and self.workload in {ALL, workload.name}


@frozen
class Enforcement:
    """`on` of `of` connected sidecars enforce it; `waiting` are the rest."""

    on: int
    of: int
    waiting: tuple[LinkStatus, ...]


def target_of(document: Document) -> Target:
    """Whom a stored document concerns."""
    workload = document["spec"].get("to", {}).get("workload", ALL)
    return Target(document["metadata"]["namespace"], workload)


def targets_of(revision: Revision) -> tuple[Target, ...]:
    """Whom a revision concerns: those that its documents target now, and those that they targeted before.

    What it left unchanged counts too: who applies a file wants to know that all of it is enforced.
    """
    documents = (each for change in revision.changes for each in (change.before, change.after) if each is not None)
    return tuple(sorted({target_of(document) for document in documents}))


def enforcement(
    targets: Iterable[Target], number: int, epoch: str, links: Sequence[LinkStatus], trust_domain: TrustDomain
) -> Enforcement:
    """On how many of the sidecars in `links` that `targets` cover everything up to `number` is enforced."""
    wanted = tuple(targets)
    concerned = [link for link in links if _concerned(link, wanted, trust_domain)]
    waiting = tuple(link for link in concerned if not enforces(link, number, epoch))
    return Enforcement(len(concerned) - len(waiting), len(concerned), waiting)


def enforces(link: LinkStatus, number: int, epoch: str) -> bool:
    """Whether this sidecar acknowledged `number` of this epoch, or a later one."""
    return link.epoch == epoch and link.acknowledged is not None and link.acknowledged >= number


def _concerned(link: LinkStatus, targets: Sequence[Target], trust_domain: TrustDomain) -> bool:
    identity = SpiffeId.parse(link.identity)
    workload = identity.workload
    if workload is None or identity.trust_domain != trust_domain.name:
        return False
    return any(target.covers(workload) for target in targets)
