"""The audit log: append-only, each entry chained to the one before by SHA-256.

An entry's hash covers its sequence number, time, actor, event, detail and the hash before it, so a change, a removal
or a swap anywhere breaks the chain from there on; the row of `house` holds the end, so cutting the tail is seen too.
An entry is written in the transaction of the change that it tells of: neither exists without the other. Details hold
names, numbers and hashes, never secrets.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from control_plane.store.database import Transaction
from control_plane.store.errors import AuditBroken
from control_plane.store.records import AuditEntry
from control_plane.store.schema import audit, house

GENESIS: Final = "0" * 64
"""What stands before the first entry."""

_CHUNK: Final = 1000


def append(tx: Transaction, actor: str, event: str, detail: Mapping[str, Any]) -> AuditEntry:
    """Add one entry to the chain."""
    end = tx.connection.execute(sa.select(house.c.audit_seq, house.c.audit_hash)).one()
    text = json.dumps(detail, sort_keys=True, separators=(",", ":"))
    seq, previous = end.audit_seq + 1, end.audit_hash
    digest = _digest(seq, tx.now, actor, event, text, previous)
    tx.connection.execute(
        audit.insert().values(
            seq=seq, time=tx.now, actor=actor, event=event, detail=text, previous=previous, hash=digest
        )
    )
    tx.connection.execute(house.update().values(audit_seq=seq, audit_hash=digest))
    return AuditEntry(seq, tx.now, actor, event, json.loads(text), previous, digest)


def read(tx: Transaction, after: int, limit: int) -> tuple[AuditEntry, ...]:
    """At most `limit` entries above `after`, oldest first."""
    return tuple(_entry(row) for row in _rows(tx, after, limit))


def verify(tx: Transaction) -> int:
    """Walk the chain from its beginning to its end and say how many entries it has. Raises AuditBroken."""
    seq, previous = 0, GENESIS
    for row in _walk(tx):
        seq += 1
        if row.seq != seq:
            raise AuditBroken(f"audit entry {seq} is missing", seq=seq)
        if row.previous != previous:
            raise AuditBroken(f"audit entry {seq} does not follow from the one before it", seq=seq)
        if row.hash != _digest(row.seq, row.time, row.actor, row.event, row.detail, row.previous):
            raise AuditBroken(f"audit entry {seq} is not what was written", seq=seq)
        previous = row.hash
    end = tx.connection.execute(sa.select(house.c.audit_seq, house.c.audit_hash)).one()
    if (seq, previous) != (end.audit_seq, end.audit_hash):
        raise AuditBroken(f"the audit log ends at entry {seq}, not at {end.audit_seq}", seq=min(seq, end.audit_seq) + 1)
    return seq


def _walk(tx: Transaction) -> Iterator[sa.Row[Any]]:
    after = None
    while rows := _rows(tx, after, _CHUNK):
        yield from rows
        after = rows[-1].seq


def _rows(tx: Transaction, after: int | None, limit: int) -> list[sa.Row[Any]]:
    query = sa.select(audit).order_by(audit.c.seq).limit(limit)
    return list(tx.connection.execute(query if after is None else query.where(audit.c.seq > after)))


def _entry(row: sa.Row[Any]) -> AuditEntry:
    return AuditEntry(row.seq, row.time, row.actor, row.event, json.loads(row.detail), row.previous, row.hash)


def _digest(seq: int, time: datetime, actor: str, event: str, detail: str, previous: str) -> str:
    content = json.dumps([seq, time.isoformat(timespec="microseconds"), actor, event, detail, previous])
    return hashlib.sha256(content.encode("ascii")).hexdigest()
