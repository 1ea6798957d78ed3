"""Where a policy is enforced: counted from what the connected sidecars have acknowledged, never from what was sent.

A document concerns the sidecars of the workload that it targets, a NamespaceDefaults or a `*` target those of the whole
namespace. It is enforced on one of them once that one acknowledged a number, of this store's epoch, that is at least
the one at which the document took effect. Pure.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
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


def enforces(link: LinkStatus, number: int, epoch: str) -> bool:
    """Whether this sidecar acknowledged `number` of this epoch, or a later one."""
    return link.epoch == epoch and link.acknowledged is not None and link.acknowledged >= number


@frozen(eq=False)
class Fleet:
    """The connected sidecars of the own trust domain, by workload, so that one count looks at no others."""

    epoch: str
    _by_target: Mapping[Target, tuple[LinkStatus, ...]]

    @classmethod
    def of(cls, links: Iterable[LinkStatus], trust_domain: TrustDomain, epoch: str) -> Self:
        """Index what is connected. `epoch` is that of the store whose numbers are asked about."""
        found: defaultdict[Target, list[LinkStatus]] = defaultdict(list)
        for link in links:
            identity = SpiffeId.parse(link.identity)
            workload = identity.workload
            if workload is not None and identity.trust_domain == trust_domain.name:
                found[Target(workload.namespace, workload.name)].append(link)
                found[Target(workload.namespace, ALL)].append(link)
        return cls(epoch, {target: tuple(each) for target, each in found.items()})

    def enforcement(self, targets: Iterable[Target], number: int) -> Enforcement:
        """On how many of the sidecars that `targets` cover everything up to `number` is enforced."""
        links = (link for target in targets for link in self._by_target.get(target, ()))
        concerned = {(link.identity, link.instance): link for link in links}.values()
        waiting = tuple(link for link in concerned if not enforces(link, number, self.epoch))
        return Enforcement(len(concerned) - len(waiting), len(concerned), waiting)
