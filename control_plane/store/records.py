"""The values that the store hands out and takes. All frozen; every time is an aware UTC datetime."""

from datetime import datetime
from typing import Any, Literal

from attrs import frozen

Document = dict[str, Any]
"""A policy document as plain data, as `mesh.policy.to_document` writes it."""

Method = Literal["token", "kubernetes", "certificate", "operator"]
"""On what ground a certificate was issued: a join token, a service-account token that the API server vouched for, an
earlier certificate; `operator`: for an operator, because another one or a local user asked."""

Owner = Literal["cli", "cluster"]
"""Who made a policy document, and alone may change it: the `doorward` command, or an object in the cluster."""

PolicyKey = tuple[str, str, str]
"""Kind, namespace and name: what tells one document from another."""


def key_of(document: Document) -> PolicyKey:
    """The key of a document that `mesh.policy.read_policies` has accepted."""
    return document["kind"], document["metadata"]["namespace"], document["metadata"]["name"]


@frozen
class StoredPolicy:
    """One policy document in force. `number` is the store number at which it took effect."""

    kind: str
    namespace: str
    name: str
    document: Document
    number: int
    author: str
    time: datetime
    owner: Owner = "cli"

    @property
    def key(self) -> PolicyKey:
        """Kind, namespace and name."""
        return self.kind, self.namespace, self.name


@frozen
class Change:
    """What happened to one document: `before` is None where it was added, `after` None where it was removed.

    `released`: it belongs to the other owner now. From the command a cluster object took it over, whose document is
    `after`; from the cluster the command, as it was.
    """

    action: Literal["added", "replaced", "removed", "unchanged", "released"]
    kind: str
    namespace: str
    name: str
    before: Document | None
    after: Document | None


@frozen
class Revision:
    """One change of the policies as a whole. `number` is the store number that it took.

    `pruned` of its changes are not kept any more, beside those in `changes`.
    """

    number: int
    author: str
    time: datetime
    message: str
    changes: tuple[Change, ...]
    pruned: int = 0


@frozen
class Pruned:
    """What the store has had no room for: how much of each, and the latest revision of which something is missing."""

    versions: int
    through: int
    entries: int


@frozen
class Lease:
    """One port of one workload, reachable at `address`:`mesh_port` until `expires`.

    `identity` is the SPIFFE ID that answers there, `workload` its `<namespace>/<name>`, `port` the application's port.
    `confirmed` is true where the address was the link's own or has proved its identity (law 3).
    """

    identity: str
    instance: str
    workload: str
    port: int
    mesh_port: int
    address: str
    protocol: str
    expires: datetime
    confirmed: bool


@frozen
class Issuance:
    """One issued certificate. `key` is the fingerprint of its public key.

    `attested_at` is when the identity was last proved by other means than a certificate: renewals carry it on.
    """

    serial: int
    identity: str
    key: str
    not_after: datetime
    attested_at: datetime
    method: Method
    time: datetime


@frozen
class TokenInfo:
    """A join token without its secret. `id` is public: it names the token in listings and in the audit log."""

    id: str
    workload: str
    expires: datetime
    uses_left: int
    created_by: str
    time: datetime


@frozen
class Ban:
    """A SPIFFE ID, or a certificate as `serial:<decimal>`, that is refused everywhere."""

    subject: str
    reason: str
    author: str
    time: datetime


@frozen
class AuditEntry:
    """One line of the audit log. `hash` covers every other field; `previous` is the hash of the entry before."""

    seq: int
    time: datetime
    actor: str
    event: str
    detail: dict[str, Any]
    previous: str
    hash: str


@frozen
class Contents:
    """All that snapshots are made of, read in one transaction: it belongs together at `number`."""

    epoch: str
    number: int
    policies: tuple[StoredPolicy, ...]
    leases: tuple[Lease, ...]
    bans: tuple[Ban, ...]
