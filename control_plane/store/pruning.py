"""Pruning the audit log: the oldest entries of the namespace that holds most go, and a gap holds the chain together.

The house's own share gives way only where it has more than half of the room: a tenant may have many namespaces.

A gap says which entries are gone, the hash before the first and that of the last, so what follows is still seen to
follow. Every pruning is itself an entry: whose entries went, up to which, how many were pruned in all, a hash over the
gaps, and the hashes of those documents in force of which an entry that went was the last word. So `verify` can still
say that nothing else is missing, that what stands before a gap is what was written, and that the documents in force are
those that were stored.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final

import sqlalchemy as sa
from attrs import asdict, evolve, frozen

from control_plane.store import set_hash, shares
from control_plane.store.chain import digest, told
from control_plane.store.database import Transaction
from control_plane.store.schema import audit, audit_gaps, house, policies

PRUNED: Final = "audit.pruned"
"""The event by which the log tells of it."""

_SPARE: Final = 64  # one in so many bytes of the room is made free at once, so that few entries tell of pruning


@frozen
class Gap:
    """Entries `first` to `last` are gone. `previous` is the hash before the first, `hash` that of the last."""

    first: int
    last: int
    previous: str
    hash: str

    def __bytes__(self) -> bytes:
        return f"{self.first} {self.last} {self.previous} {self.hash}".encode()


def cost(detail: str) -> int:
    """The bytes of an entry with this detail."""
    return shares.OVERHEAD + len(detail)


def joined(gaps: Iterable[Gap]) -> list[Gap]:
    """The same as few gaps as possible, in order: neighbours become one where the chain holds between them."""
    found: list[Gap] = []
    for gap in sorted(gaps, key=lambda each: each.first):
        if found and (found[-1].last + 1, found[-1].hash) == (gap.first, gap.previous):
            found[-1] = evolve(found[-1], last=gap.last, hash=gap.hash)
        else:
            found.append(gap)
    return found


def gaps_from(tx: Transaction, seq: int, limit: int) -> list[Gap]:
    """At most `limit` gaps that begin at `seq` or behind it, in order. One that holds no entry is none."""
    own = sa.and_(audit_gaps.c.first >= seq, audit_gaps.c.last >= audit_gaps.c.first)
    query = sa.select(audit_gaps).where(own).order_by(audit_gaps.c.first).limit(limit)
    return _gaps(tx, query)


def gaps_hash(tx: Transaction) -> str:
    """Over all gaps: these are no entries, so the chain holds no more of them than this."""
    rows = tx.connection.execute(sa.select(audit_gaps))
    state = set_hash.added(set_hash.EMPTY, (bytes(Gap(**row._asdict())) for row in rows))
    return set_hash.digest(set_hash.text(state))


def make_room(tx: Transaction, added: int) -> dict[str, Any] | None:
    """Prune a slice of what has no room, after a write of `added` bytes: what the log has to tell of it, if anything.

    The latest entry stays.
    """
    bound = tx.retention.audit_bytes
    excess = shares.total(tx, shares.AUDIT) - bound
    if excess <= 0:
        return None
    namespace = shares.largest(tx, shares.AUDIT, of_house=bound // 2)
    wanted = min(excess + bound // _SPARE, shares.SLICE_BYTES + added)
    gone = list(_oldest(tx, namespace, wanted, shares.rows_for(added)))
    if not gone:
        return None
    gaps = _cut_out(tx, gone, _last_state(tx))
    shares.add(tx, shares.AUDIT, namespace, -sum(cost(row.detail) for row in gone))
    pruned = house.c.audit_pruned + len(gone)
    tx.connection.execute(house.update().values(audit_pruned=pruned, gaps_state=set_hash.text(gaps)))
    return {
        "namespace": namespace,
        "entries": len(gone),
        "through": gone[-1].seq,
        "gaps": set_hash.digest(set_hash.text(gaps)),
        "in_all": tx.connection.execute(sa.select(house.c.audit_pruned)).scalar_one(),
        "policies": _last_words(tx, namespace, gone),
    }


def namespace_in(policy: str) -> str:
    """The namespace of a document as the log names it, `KIND NAMESPACE/NAME`."""
    return policy.partition(" ")[2].partition("/")[0]


def _oldest(tx: Transaction, namespace: str, wanted: int, limit: int) -> Iterator[sa.Row[Any]]:
    """The oldest entries of a share, until they hold `wanted` bytes."""
    end = sa.select(house.c.audit_seq).scalar_subquery()
    query = sa.select(audit).where(audit.c.namespace == namespace, audit.c.seq < end)
    rows = tx.connection.execute(query.order_by(audit.c.seq).limit(limit)).all()
    before = accumulate((cost(row.detail) for row in rows), initial=0)
    return (row for row, held in zip(rows, before, strict=False) if held < wanted)


def _last_state(tx: Transaction) -> int:
    """The hash over the gaps that the last pruning left, if its entry in the chain knows it."""
    end = tx.connection.execute(sa.select(house.c.audit_pruned, house.c.gaps_state)).one()
    if not end.audit_pruned:
        return set_hash.EMPTY
    query = sa.select(audit.c.detail).where(audit.c.event == PRUNED).order_by(audit.c.seq.desc()).limit(1)
    said = tx.connection.execute(query).scalar()
    ours = said is not None and told(said).get("gaps") == set_hash.digest(end.gaps_state)
    return int(end.gaps_state, 16) if ours else set_hash.BROKEN


def _cut_out(tx: Transaction, gone: Sequence[sa.Row[Any]], state: int) -> int:
    """Put gaps in place of these entries; `state` is the hash over the gaps before, the answer that over those behind.

    What was tampered with since stays in it, so that it fits no gaps any more.
    """
    own = audit.c.seq == sa.bindparam("of_seq")
    tx.connection.execute(audit.delete().where(own), [{"of_seq": row.seq} for row in gone])
    before, behind = [row.seq - 1 for row in gone], [row.seq + 1 for row in gone]
    at = sa.or_(audit_gaps.c.last.in_(before), audit_gaps.c.first.in_(behind))
    beside = _gaps(tx, sa.select(audit_gaps).where(at))
    tx.connection.execute(audit_gaps.delete().where(at))
    gaps = joined([*beside, *(_in_place_of(row) for row in gone)])
    tx.connection.execute(audit_gaps.insert(), [asdict(gap) for gap in gaps])
    return set_hash.added(set_hash.removed(state, map(bytes, beside)), map(bytes, gaps))


def _in_place_of(row: sa.Row[Any]) -> Gap:
    """With the hash of what stands there: what was tampered with does not look whole once it is gone."""
    return Gap(
        row.seq, row.seq, row.previous, digest(row.seq, row.time, row.actor, row.event, row.detail, row.previous)
    )


def _last_words(tx: Transaction, namespace: str, gone: Iterable[sa.Row[Any]]) -> list[dict[str, Any]]:
    """What entries say of documents in force that no later entry speaks of: each with the number of its revision."""
    said = [word for row in gone for word in _words(row)]
    query = sa.select(policies.c.kind, policies.c.namespace, policies.c.name, policies.c.number)
    if namespace != shares.HOUSE:
        query = query.where(policies.c.namespace == namespace)
    in_force = {(f"{row.kind} {row.namespace}/{row.name}", row.number) for row in tx.connection.execute(query)}
    return [word for word in said if (word["policy"], word["number"]) in in_force]


def _words(row: sa.Row[Any]) -> Iterator[dict[str, Any]]:
    """What was tampered with may say anything: its gap does not fit the chain, so that nobody is deceived."""
    said = told(row.detail)
    steps = said.get({PRUNED: "policies", "policies.changed": "changes"}.get(row.event, ""))
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, dict) and isinstance(step.get("policy"), str) and "sha256" in step:
            number = (step if row.event == PRUNED else said).get("number")
            if isinstance(number, int):
                yield {"policy": step["policy"], "sha256": step["sha256"], "number": number}


def _gaps(tx: Transaction, query: sa.Select[Any]) -> list[Gap]:
    return [Gap(**row._asdict()) for row in tx.connection.execute(query)]
