"""The audit log: append-only, each entry chained to the one before by SHA-256.

An entry's hash covers its sequence number, time, actor, event, detail and the hash before it, so a change, a removal
or a swap anywhere breaks the chain from there on; the row of `house` holds the end, so cutting the tail is seen too.
An entry is written in the transaction of the change that it tells of: neither exists without the other. Details hold
names, numbers and hashes, never secrets. What has no room any more is pruned (see `pruning`): a gap keeps the chain
together across what is gone, and the chain itself says how many entries its gaps hold.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import sqlalchemy as sa

from control_plane.store import pruning, set_hash, shares
from control_plane.store.chain import digest, told
from control_plane.store.database import Transaction
from control_plane.store.errors import AuditBroken
from control_plane.store.records import AuditEntry
from control_plane.store.schema import audit, house

GENESIS: Final = "0" * 64
"""What stands before the first entry."""

_CHUNK: Final = 1000


def append(tx: Transaction, actor: str, event: str, detail: Mapping[str, Any], *, namespace: str = "") -> AuditEntry:
    """Add one entry to the chain, on account of `namespace`; what there is no room for then is pruned."""
    entry = _write(tx, actor, event, detail, namespace)
    prune(tx, pruning.cost(json.dumps(entry.detail)))
    return entry


def prune(tx: Transaction, added: int = 0) -> bool:
    """Prune a slice of what there is no room for, after a write of `added` bytes; True where there was any."""
    done = pruning.make_room(tx, added)
    if done is not None:
        _write(tx, "doorward", pruning.PRUNED, done, done["namespace"])
    return done is not None


def _write(tx: Transaction, actor: str, event: str, detail: Mapping[str, Any], namespace: str) -> AuditEntry:
    end = tx.connection.execute(sa.select(house.c.audit_seq, house.c.audit_hash)).one()
    text = json.dumps(detail, sort_keys=True, separators=(",", ":"))
    seq, previous = end.audit_seq + 1, end.audit_hash
    own = digest(seq, tx.now, actor, event, text, previous)
    tx.connection.execute(
        audit.insert().values(
            seq=seq,
            time=tx.now,
            actor=actor,
            event=event,
            detail=text,
            previous=previous,
            hash=own,
            namespace=namespace,
        )
    )
    tx.connection.execute(house.update().values(audit_seq=seq, audit_hash=own))
    shares.add(tx, shares.AUDIT, namespace, pruning.cost(text))
    return AuditEntry(seq, tx.now, actor, event, json.loads(text), previous, own)


def read(tx: Transaction, after: int, limit: int) -> tuple[AuditEntry, ...]:
    """At most `limit` entries above `after`, oldest first."""
    return tuple(_entry(row) for row in _rows(tx, after, limit))


def verify(tx: Transaction) -> int:
    """Walk the chain from its beginning to its end and say how many entries were written. Raises AuditBroken."""
    seq, previous, missing = 0, GENESIS, 0
    said: dict[str, Any] = {"in_all": 0, "gaps": set_hash.digest(set_hash.text(set_hash.EMPTY))}
    gaps = _Gaps(tx)
    for row in _walk(tx):
        if (gap := gaps.at(seq + 1)) is not None:
            _check_follows(gap.first, gap.previous, previous)
            seq, previous, missing = gap.last, gap.hash, missing + gap.last - gap.first + 1
        seq += 1
        if row.seq != seq:
            raise AuditBroken(f"audit entry {seq} is missing", seq=seq)
        _check_follows(seq, row.previous, previous)
        if row.hash != digest(row.seq, row.time, row.actor, row.event, row.detail, row.previous):
            raise AuditBroken(f"audit entry {seq} is not what was written", seq=seq)
        previous = row.hash
        said = told(row.detail) if row.event == pruning.PRUNED else said
        if not said:
            raise AuditBroken(f"audit entry {seq} does not say what was pruned", seq=seq)
    _check_end(tx, seq, previous)
    _check_pruned(tx, seq, missing, said)
    return seq


def _check_follows(seq: int, said: str, previous: str) -> None:
    if said != previous:
        raise AuditBroken(f"audit entry {seq} does not follow from the one before it", seq=seq)


def _check_end(tx: Transaction, seq: int, previous: str) -> None:
    end = tx.connection.execute(sa.select(house.c.audit_seq, house.c.audit_hash)).one()
    if (seq, previous) != (end.audit_seq, end.audit_hash):
        raise AuditBroken(f"the audit log ends at entry {seq}, not at {end.audit_seq}", seq=min(seq, end.audit_seq) + 1)


def _check_pruned(tx: Transaction, seq: int, missing: int, said: Mapping[str, Any]) -> None:
    """`said` is what the last pruning says."""
    if missing != (claimed := said.get("in_all")):
        raise AuditBroken(f"{missing} audit entries are gone, and the log says that {claimed} were pruned", seq=seq)
    if pruning.gaps_hash(tx) != said.get("gaps"):
        raise AuditBroken("what bridges the pruned audit entries is not what pruning left there", seq=seq)


class _Gaps:
    """The gaps in their order, a chunk at a time."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._known: dict[int, pruning.Gap] = {}
        self._through = 0

    def at(self, seq: int) -> pruning.Gap | None:
        """The gap that begins at `seq`, asked in rising order."""
        if seq > self._through:
            found = pruning.gaps_from(self._tx, seq, _CHUNK)
            self._known = {gap.first: gap for gap in found}
            self._through = found[-1].first if len(found) == _CHUNK else sys.maxsize
        return self._known.get(seq)


def _walk(tx: Transaction) -> Iterator[sa.Row[Any]]:
    after = None
    while rows := _rows(tx, after, _CHUNK):
        yield from rows
        after = rows[-1].seq


def _rows(tx: Transaction, after: int | None, limit: int) -> list[sa.Row[Any]]:
    query = sa.select(audit).order_by(audit.c.seq).limit(limit)
    return list(tx.connection.execute(query if after is None else query.where(audit.c.seq > after)))


def _entry(row: sa.Row[Any]) -> AuditEntry:
    return AuditEntry(row.seq, row.time, row.actor, row.event, told(row.detail), row.previous, row.hash)
