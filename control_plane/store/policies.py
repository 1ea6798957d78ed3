"""Policy documents in force, and how they change."""

import hashlib
import json
from collections.abc import Collection, Sequence
from itertools import groupby

import sqlalchemy as sa

from control_plane.store import audit, counter, history, pruning
from control_plane.store.changes import canonical, changes_between, check_owner, in_order
from control_plane.store.database import Transaction
from control_plane.store.errors import AuditBroken, OwnedByOther
from control_plane.store.pruning import namespace_in
from control_plane.store.records import Change, Document, Owner, PolicyKey, Revision, StoredPolicy, key_of
from control_plane.store.schema import audit as entries
from control_plane.store.schema import policies

_CHANGED = "policies.changed"


def read_all(tx: Transaction) -> tuple[StoredPolicy, ...]:
    """Every document in force, ordered by namespace, kind and name."""
    rows = tx.connection.execute(sa.select(policies))
    stored = [
        StoredPolicy(
            row.kind, row.namespace, row.name, json.loads(row.document), row.number, row.author, row.time, row.owner
        )
        for row in rows
    ]
    return tuple(sorted(stored, key=lambda policy: (policy.namespace, policy.kind, policy.name)))


def change(
    tx: Transaction, put: Sequence[Document], delete: Sequence[PolicyKey], author: str, message: str, owner: Owner
) -> Revision:
    """Add, replace and remove documents of `owner` as one revision.

    Raises StoreError (`conflicting_change`), OwnedByOther.
    """
    stored = read_all(tx)
    check_owner(stored, [*map(key_of, put), *delete], owner)
    plain = [json.loads(json.dumps(document)) for document in put]
    steps = changes_between({policy.key: policy.document for policy in stored}, plain, delete)
    return _store(tx, steps, author, message, owner)


def release(tx: Transaction, document: Document, author: str, message: str) -> Revision:
    """Hand a document of the command over to the cluster, whose version of it is `document`. Raises OwnedByOther."""
    key = key_of(document)
    before = next((policy for policy in read_all(tx) if policy.key == key and policy.owner == "cli"), None)
    if before is None:
        raise OwnedByOther(f"{_name(*key)} is no document of the command: there is nothing to release", code="not_ours")
    plain = json.loads(json.dumps(document))
    return _store(tx, (Change("released", *key, before.document, plain),), author, message, "cluster")


def take_over(tx: Transaction, keys: Collection[PolicyKey] | None, author: str, message: str) -> Revision:
    """Make the cluster's documents of `keys` (None: all) the command's, as they are. Raises OwnedByOther."""
    found = {policy.key: policy.document for policy in read_all(tx) if policy.owner == "cluster"}
    missing = [key for key in keys or () if key not in found]
    if missing:
        raise OwnedByOther(
            f"{_name(*missing[0])} is no document of the cluster: there is nothing to take over", code="not_ours"
        )
    wanted = found if keys is None else {key: found[key] for key in keys}
    steps = [Change("released", *key, document, document) for key, document in wanted.items()]
    return _store(tx, in_order(steps), author, message, "cli")


def _store(tx: Transaction, steps: tuple[Change, ...], author: str, message: str, owner: Owner) -> Revision:
    effective = [step for step in steps if step.action != "unchanged"]
    if not effective:
        return Revision(counter.number(tx), author, tx.now, message, steps)
    revision = Revision(counter.advance(tx), author, tx.now, message, steps)
    added = history.write(tx, revision, effective)
    _take_effect(tx, revision, effective, owner)
    history.prune(tx, effective, added)
    for namespace, own in groupby(effective, key=lambda step: step.namespace):  # in its order: see `changes`
        detail = {"number": revision.number, "message": message, "changes": [_summary(step) for step in own]}
        audit.append(tx, author, _CHANGED, detail, namespace=namespace)
    return revision


def verify(tx: Transaction) -> None:
    """Hold the documents in force to what the audit log says was stored last. Raises AuditBroken."""
    written, floors = _written(tx)
    for policy in read_all(tx):
        name = _name(*policy.key)
        digest, seq = written.pop(name, (None, 0))
        if digest != _sha256(policy.document):
            raise AuditBroken(f"{name} is not what audit entry {seq} says was stored", seq=seq)
    for name, (digest, seq) in written.items():
        removed_unseen = seq < floors.get(namespace_in(name), 0)  # the entry that says so may have been pruned
        if digest is not None and not removed_unseen:
            raise AuditBroken(f"{name} is gone, and audit entry {seq} says that it was stored", seq=seq)


def _written(tx: Transaction) -> tuple[dict[str, tuple[str | None, int]], dict[str, int]]:
    """What the log says of each document last, and where; and up to where each namespace's entries were pruned."""
    written: dict[str, tuple[str | None, int]] = {}
    floors: dict[str, int] = {}
    query = sa.select(entries).where(entries.c.event.in_([_CHANGED, pruning.PRUNED])).order_by(entries.c.seq)
    for row in tx.connection.execute(query):
        detail = json.loads(row.detail)
        for step in detail["changes" if row.event == _CHANGED else "policies"]:
            written[step["policy"]] = step.get("sha256"), row.seq
        if row.event == pruning.PRUNED:
            floors[detail["namespace"]] = detail["through"]
    return written, floors


def _take_effect(tx: Transaction, revision: Revision, steps: Sequence[Change], owner: Owner) -> None:
    """Take the old documents out and put the new ones in, in two statements: sets of ten thousand are not rare."""
    own = [policies.c[name] == sa.bindparam(f"of_{name}") for name in ("kind", "namespace", "name")]
    gone = [step for step in steps if step.before is not None]
    if gone:
        keys = [{"of_kind": step.kind, "of_namespace": step.namespace, "of_name": step.name} for step in gone]
        tx.connection.execute(policies.delete().where(*own), keys)
    come = [
        {
            "kind": step.kind,
            "namespace": step.namespace,
            "name": step.name,
            "document": history.text(step.after),
            "number": revision.number,
            "author": revision.author,
            "time": revision.time,
            "owner": owner,
        }
        for step in steps
        if step.after is not None
    ]
    if come:
        tx.connection.execute(policies.insert(), come)


def _summary(step: Change) -> dict[str, str]:
    """What the audit log says of one document: the hash pins its content."""
    summary = {"action": step.action, "policy": _name(step.kind, step.namespace, step.name)}
    if step.after is not None:
        summary["sha256"] = _sha256(step.after)
    return summary


def _name(kind: str, namespace: str, name: str) -> str:
    return f"{kind} {namespace}/{name}"


def _sha256(document: Document) -> str:
    return hashlib.sha256(canonical(document).encode("ascii")).hexdigest()
