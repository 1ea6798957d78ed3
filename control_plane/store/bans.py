"""Who is refused everywhere: identities, and single certificates by serial."""

import re
from typing import Final

import sqlalchemy as sa

from certs.errors import SpiffeIdMalformed
from certs.spiffe import SpiffeId
from control_plane.store import audit, counter
from control_plane.store.database import Transaction
from control_plane.store.errors import StoreError
from control_plane.store.records import Ban
from control_plane.store.schema import bans

_SERIAL: Final = re.compile(r"serial:(0|[1-9][0-9]{0,60})", re.ASCII)


def add(tx: Transaction, subject: str, reason: str, author: str) -> Ban:
    """Ban `subject`; again, and only the reason is new. Raises StoreError (`bad_subject`)."""
    _check(subject)
    banned = Ban(subject, reason, author, tx.now)
    new = not tx.connection.execute(bans.delete().where(bans.c.subject == subject)).rowcount
    tx.connection.execute(bans.insert().values(subject=subject, reason=reason, author=author, time=tx.now))
    if new:
        counter.advance(tx)
    audit.append(tx, author, "ban.added", {"subject": subject, "reason": reason})
    return banned


def remove(tx: Transaction, subject: str, author: str) -> bool:
    """Lift a ban; False where there is none."""
    if not tx.connection.execute(bans.delete().where(bans.c.subject == subject)).rowcount:
        return False
    counter.advance(tx)
    audit.append(tx, author, "ban.removed", {"subject": subject})
    return True


def read_all(tx: Transaction) -> tuple[Ban, ...]:
    """Every ban, ordered by subject."""
    found = [Ban(row.subject, row.reason, row.author, row.time) for row in tx.connection.execute(sa.select(bans))]
    return tuple(sorted(found, key=lambda ban: ban.subject))


def concerning(tx: Transaction, *subjects: str) -> Ban | None:
    """A ban of one of these subjects, if there is any."""
    row = tx.connection.execute(sa.select(bans).where(bans.c.subject.in_(subjects)).limit(1)).first()
    return None if row is None else Ban(row.subject, row.reason, row.author, row.time)


def _check(subject: str) -> None:
    if _SERIAL.fullmatch(subject):
        return
    try:
        SpiffeId.parse(subject)
    except SpiffeIdMalformed as error:
        raise StoreError(
            f"{subject[:80]!r} cannot be banned: give a SPIFFE ID or serial:<decimal> ({error})", code="bad_subject"
        ) from None
