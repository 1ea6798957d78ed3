"""Records as plain JSON data: the keys that `-o json` shows (docs/configuration/control-plane.md lists them).

Times become ISO 8601 in UTC; nothing secret has a way in here. Pure.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from certs.bundle import TrustBundle, root_fingerprint
from certs.spiffe import SpiffeId, TrustDomain
from control_plane.admin.enforcement import Enforcement, enforces
from control_plane.push.links import LinkStatus
from control_plane.store.records import AuditEntry, Ban, Change, Issuance, PolicyKey, Revision, StoredPolicy, TokenInfo


def moment(time: datetime) -> str:
    """ISO 8601, UTC, with milliseconds."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def token(info: TokenInfo, workload_identity: str) -> dict[str, Any]:
    """A join token without its secret."""
    return {
        "id": info.id,
        "workload": info.workload,
        "identity": workload_identity,
        "expires": moment(info.expires),
        "uses_left": info.uses_left,
        "created_by": info.created_by,
        "time": moment(info.time),
    }


def policy(stored: StoredPolicy, enforcement: Enforcement) -> dict[str, Any]:
    """A stored document, and on how many of the connected sidecars that it concerns it is enforced."""
    return {
        "kind": stored.kind,
        "namespace": stored.namespace,
        "name": stored.name,
        "number": stored.number,
        "author": stored.author,
        "time": moment(stored.time),
        "owner": stored.owner,
        "enforced": {"on": enforcement.on, "of": enforcement.of},
        "document": stored.document,
    }


def key(of: PolicyKey) -> dict[str, str]:
    """What tells one document from another."""
    kind, namespace, name = of
    return {"kind": kind, "namespace": namespace, "name": name}


def change(each: Change) -> dict[str, Any]:
    """What happened to one document."""
    return {
        "action": each.action,
        "kind": each.kind,
        "namespace": each.namespace,
        "name": each.name,
        "before": each.before,
        "after": each.after,
    }


def revision(each: Revision) -> dict[str, Any]:
    """One change of the policies as a whole."""
    return {
        "number": each.number,
        "author": each.author,
        "time": moment(each.time),
        "message": each.message,
        "changes": [change(one) for one in each.changes],
    }


def sidecar(link: LinkStatus, *, number: int, epoch: str) -> dict[str, Any]:
    """One connected sidecar; `current` says whether it enforces everything up to policy revision `number`."""
    return {
        "identity": link.identity,
        "instance": link.instance,
        "address": link.address,
        "version": link.version,
        "acknowledged": link.acknowledged,
        "current": enforces(link, number, epoch),
        "certificate_expires": moment(link.certificate_not_after),
        "connected_since": moment(link.connected_since),
        "listeners": [
            {"port": each.port, "mesh_port": each.mesh_port, "protocol": each.protocol, "address": each.address}
            for each in link.listeners
        ],
        "destinations": list(link.destinations),
        "refused": {"code": link.last_nack.code, "message": link.last_nack.message} if link.last_nack else None,
    }


def ban(each: Ban) -> dict[str, Any]:
    """A refused identity or serial."""
    return {"subject": each.subject, "reason": each.reason, "author": each.author, "time": moment(each.time)}


def operator(issued: Issuance, bans: Collection[str]) -> dict[str, Any]:
    """An operator's certificate. `bans` are the subjects that are refused."""
    return {
        "name": SpiffeId.parse(issued.identity).operator,
        "identity": issued.identity,
        "serial": str(issued.serial),
        "expires": moment(issued.not_after),
        "time": moment(issued.time),
        "banned": issued.identity in bans or f"serial:{issued.serial}" in bans,
    }


def audit_entry(each: AuditEntry) -> dict[str, Any]:
    """One line of the audit log."""
    return {
        "seq": each.seq,
        "time": moment(each.time),
        "actor": each.actor,
        "event": each.event,
        "detail": each.detail,
        "previous": each.previous,
        "hash": each.hash,
    }


def bundle(trusted: TrustBundle, trust_domain: TrustDomain) -> dict[str, Any]:
    """The trust bundle: its PEM, and each root in short."""
    return {
        "trust_domain": trust_domain.name,
        "roots": list(_roots(trusted)),
        "pem": trusted.to_pem().decode("ascii"),
    }


def _roots(trusted: TrustBundle) -> Iterable[dict[str, Any]]:
    for name in sorted(str(each) for each in trusted.trust_domains):
        for root in trusted.roots_of(name):
            yield _root(name, root)


def _root(trust_domain: str, certificate: x509.Certificate) -> dict[str, Any]:
    return {
        "trust_domain": trust_domain,
        "fingerprint": root_fingerprint(certificate),
        "not_before": moment(certificate.not_valid_before_utc),
        "not_after": moment(certificate.not_valid_after_utc),
    }
