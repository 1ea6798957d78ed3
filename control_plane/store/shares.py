"""How much of a ledger is whose: bytes by namespace, kept up by whoever writes and prunes.

Two ledgers have room of their own: the versions of policies (`HISTORY`) and the audit log (`AUDIT`). Where one is full,
the namespace that holds most gives way, so nobody who holds no more than an even share loses anything to another one.
The share `HOUSE` is the house's own: operators, the control plane, and what was written before there were shares.
"""

from typing import Final

import sqlalchemy as sa

from control_plane.store.database import Transaction
from control_plane.store.schema import shares

HISTORY: Final = "history"
AUDIT: Final = "audit"
HOUSE: Final = ""

OVERHEAD: Final = 512
"""What a row costs beside its text, indexes included, in bytes; roughly."""

SLICE_ROWS: Final = 256
SLICE_BYTES: Final = 4 * 1024 * 1024
"""What one write prunes at most, beyond as much as it has added itself: a full store costs no write a long stall."""


def add(tx: Transaction, ledger: str, namespace: str, size: int) -> None:
    """Count `size` bytes more (or fewer, below zero) to a share."""
    own = sa.and_(shares.c.ledger == ledger, shares.c.namespace == namespace)
    counted = tx.connection.execute(shares.update().where(own).values(size=shares.c.size + size)).rowcount
    if not counted:
        tx.connection.execute(shares.insert().values(ledger=ledger, namespace=namespace, size=size))
    elif size < 0:
        tx.connection.execute(shares.delete().where(own, shares.c.size <= 0))


def sizes(tx: Transaction, ledger: str) -> dict[str, int]:
    """The bytes of each namespace."""
    query = sa.select(shares.c.namespace, shares.c.size).where(shares.c.ledger == ledger)
    return {row.namespace: row.size for row in tx.connection.execute(query)}


def total(tx: Transaction, ledger: str) -> int:
    """The bytes of all of it. Added up by the database: an audit entry asks, and one write can bring thousands."""
    found = tx.connection.execute(sa.select(sa.func.sum(shares.c.size)).where(shares.c.ledger == ledger)).scalar()
    return int(found or 0)


def largest(tx: Transaction, ledger: str, of_house: int) -> str:
    """The namespace that holds most; the house's own counts by what it holds beyond `of_house` bytes."""
    held = sa.case((shares.c.namespace == HOUSE, shares.c.size - of_house), else_=shares.c.size)
    query = sa.select(shares.c.namespace).where(shares.c.ledger == ledger).order_by(held.desc(), shares.c.namespace)
    return tx.connection.execute(query.limit(1)).scalar() or HOUSE


def rows_for(added: int) -> int:
    """How many rows a write of `added` bytes may prune: at least as much as it brings, since each costs OVERHEAD."""
    return SLICE_ROWS + added // OVERHEAD
