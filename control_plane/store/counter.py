"""The store's one row: whose it is, its number, and the roots that are trusted."""

import json
from collections.abc import Collection, Sequence

import sqlalchemy as sa

from control_plane.store import audit
from control_plane.store.database import Transaction
from control_plane.store.errors import StoreError
from control_plane.store.schema import house


def settle(tx: Transaction) -> None:
    """Make the row in a new store; in an old one check that it is of this trust domain. Raises StoreError."""
    owner = tx.connection.execute(sa.select(house.c.trust_domain)).scalar()
    if owner is None:
        tx.connection.execute(
            house.insert().values(
                id=1,
                trust_domain=tx.trust_domain.name,
                number=0,
                roots="[]",
                audit_seq=0,
                audit_hash=audit.GENESIS,
            )
        )
        audit.append(tx, "doorward", "store.created", {"trust_domain": tx.trust_domain.name})
    elif owner != tx.trust_domain.name:
        raise StoreError(
            f"this store belongs to the trust domain {owner}, not {tx.trust_domain}: "
            "name that trust domain or use another store",
            code="other_trust_domain",
        )


def check_roots(tx: Transaction, fingerprints: Collection[str]) -> None:
    """The store has known at least one of these roots, or none at all yet. Raises StoreError."""
    known = _roots(tx)
    if known and known.isdisjoint(fingerprints):
        raise StoreError(
            "this store was kept under another CA than the one beside it: one of the two is missing or from elsewhere. "
            "Bring both back from one backup, or choose an empty state directory",
            code="other_ca",
        )


def _roots(tx: Transaction) -> set[str]:
    return set(json.loads(tx.connection.execute(sa.select(house.c.roots)).scalar_one()))


def number(tx: Transaction) -> int:
    """The store number now."""
    current: int = tx.connection.execute(sa.select(house.c.number)).scalar_one()
    return current


def advance(tx: Transaction) -> int:
    """Something that a snapshot shows has changed: the next number."""
    tx.connection.execute(house.update().values(number=house.c.number + 1))
    return number(tx)


def note_roots(tx: Transaction, fingerprints: Sequence[str]) -> bool:
    """Remember the trusted roots; True, and a new number, where they are others than before."""
    now, before = sorted(set(fingerprints)), sorted(_roots(tx))
    if now == before:
        return False
    tx.connection.execute(house.update().values(roots=json.dumps(now)))
    audit.append(tx, "doorward", "roots.changed", {"before": before, "after": now, "number": advance(tx)})
    return True
