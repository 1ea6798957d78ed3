"""The numbered revisions that led to the policies in force: written, read, and pruned to what there is room for.

A version is one change of one document. It goes once it is not among the newest of its document and old enough, or
where all versions that are not in force have no room any more: then those of the namespace that holds most, oldest
first. What brought a document in force into force, and the latest revision's number, always stay.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby, takewhile
from typing import Any, Final

import sqlalchemy as sa

from control_plane.store import shares
from control_plane.store.database import Transaction
from control_plane.store.records import Change, Document, Pruned, Revision
from control_plane.store.schema import changes, house, policies, revisions

TRIMMED_AT_ONCE: Final = 64
"""Documents whose surplus versions one write looks for; the others' turn comes by `sweep`."""

_LENGTHS: Final = sa.func.coalesce(sa.func.length(changes.c.before), 0) + sa.func.coalesce(
    sa.func.length(changes.c.after), 0
)
_COST: Final = (_LENGTHS + shares.OVERHEAD).label("cost")
_IN_FORCE: Final = sa.and_(
    policies.c.number == changes.c.number,
    policies.c.kind == changes.c.kind,
    policies.c.namespace == changes.c.namespace,
    policies.c.name == changes.c.name,
)
_KEY: Final = (changes.c.kind, changes.c.namespace, changes.c.name)


def write(tx: Transaction, revision: Revision, steps: Sequence[Change]) -> int:
    """Write down `steps`, the effective ones of `revision`; says how many bytes that took."""
    tx.connection.execute(
        revisions.insert().values(
            number=revision.number, author=revision.author, time=revision.time, message=revision.message
        )
    )
    rows = [_row(revision.number, position, step) for position, step in enumerate(steps)]
    tx.connection.execute(changes.insert(), rows)
    costs = [(row["namespace"], shares.OVERHEAD + len(row["before"] or "") + len(row["after"] or "")) for row in rows]
    for namespace, own in groupby(sorted(costs), key=lambda cost: cost[0]):
        shares.add(tx, shares.HISTORY, namespace, sum(cost for _, cost in own))
    return sum(cost for _, cost in costs)


def latest(tx: Transaction) -> int:
    """The number of the latest revision, or 0."""
    return tx.connection.execute(sa.select(sa.func.max(revisions.c.number))).scalar() or 0


def read(tx: Transaction, limit: int, namespace: str | None, name: str | None) -> tuple[Revision, ...]:
    """The latest revisions, newest first; only those that changed a document of this namespace and name, if given."""
    own = _only(namespace, name)
    query = sa.select(revisions).order_by(revisions.c.number.desc()).limit(limit)
    if own:
        query = query.where(revisions.c.number.in_(sa.select(changes.c.number).where(*own)))
    return _with_changes(tx, tx.connection.execute(query).all(), own)


def read_one(tx: Transaction, number: int) -> Revision | None:
    """The revision of this number, if it is kept."""
    found = tx.connection.execute(sa.select(revisions).where(revisions.c.number == number)).all()
    return next(iter(_with_changes(tx, found, ())), None)


def pruned(tx: Transaction) -> Pruned:
    """What is no longer there."""
    row = tx.connection.execute(sa.select(house)).one()
    return Pruned(row.history_pruned, row.history_through, row.audit_pruned)


def prune(tx: Transaction, steps: Iterable[Change], added: int) -> None:
    """Make the documents of `steps` keep to their number of versions, and all of it to its room."""
    left = shares.rows_for(added)
    for step in [*steps][:TRIMMED_AT_ONCE]:
        left -= _trim(tx, (step.kind, step.namespace, step.name), left)
    make_room(tx, added)


def make_room(tx: Transaction, added: int = 0) -> bool:
    """Prune a slice of what has no room, after a write of `added` bytes; True where more has none."""
    held, bound = shares.sizes(tx, shares.HISTORY), tx.retention.history_bytes
    if sum(held.values()) <= bound:
        return False
    for namespace, fixed in _in_force(tx).items():
        held[namespace] = held.get(namespace, 0) - fixed
    excess = sum(held.values()) - bound
    left, rows = min(excess, shares.SLICE_BYTES + added), shares.rows_for(added)
    for namespace in sorted(held, key=lambda each: -held[each]):
        if left <= 0 or rows <= 0:
            break
        found = _superseded(tx, changes.c.namespace == namespace, limit=rows)
        before = accumulate((row.cost for row in found), initial=0)
        gone = [row for row, held_before in zip(found, before, strict=False) if held_before < left]
        rows, left, excess = rows - len(gone), left - _cost(gone), excess - _cost(gone)
        _forget(tx, gone)
    return excess > 0


def sweep(tx: Transaction, after: tuple[str, str, str] | None) -> tuple[str, str, str] | None:
    """Forget what time has made superfluous of the next few documents behind `after`; answers the last one's key.

    None where there is none behind them.
    """
    rows = shares.SLICE_ROWS
    for _ in range(TRIMMED_AT_ONCE):
        query = sa.select(*_KEY).order_by(*_KEY).limit(1)
        if after is not None:
            query = query.where(sa.tuple_(*_KEY) > sa.tuple_(*map(sa.literal, after)))
        row = tx.connection.execute(query).first()
        if row is None:
            return None
        key = (row.kind, row.namespace, row.name)
        rows -= _trim(tx, key, rows)
        if rows <= 0:
            break  # there may be more of this one
        after = key
    return after


def _trim(tx: Transaction, key: tuple[str, str, str], limit: int) -> int:
    """Forget at most `limit` versions of one document that are too many or of a document long gone; says how many."""
    if limit <= 0:
        return 0
    own = sa.and_(*(column == value for column, value in zip(_KEY, key, strict=True)))
    newest = sa.select(changes.c.number).where(own).order_by(changes.c.number.desc())
    cutoff = tx.now - tx.retention.age
    versions = min(tx.retention.versions, sys.maxsize)  # more is no number to a database
    surplus = tx.connection.execute(newest.offset(versions).limit(1)).scalar()
    if _is_long_gone(tx, own, cutoff):
        surplus = tx.connection.execute(newest.limit(1)).scalar()
    if surplus is None:
        return 0
    oldest = sa.select(changes.c.number, revisions.c.time).join(revisions).where(own, changes.c.number <= surplus)
    rows = tx.connection.execute(oldest.order_by(changes.c.number).limit(limit))
    old = [row.number for row in takewhile(lambda row: row.time < cutoff, rows)]  # not all: most may be young
    if not old:
        return 0
    gone = _superseded(tx, own, changes.c.number <= old[-1], limit=limit)
    _forget(tx, gone)
    return len(gone)


def _is_long_gone(tx: Transaction, own: sa.ColumnElement[bool], cutoff: Any) -> bool:
    query = sa.select(changes.c.after, revisions.c.time).join(revisions).where(own)
    row = tx.connection.execute(query.order_by(changes.c.number.desc()).limit(1)).first()
    return row is not None and row.after is None and row.time < cutoff


def _superseded(tx: Transaction, *where: sa.ColumnElement[bool], limit: int) -> list[sa.Row[Any]]:
    """The oldest versions that are not in force, nor of the latest revision."""
    query = (
        sa.select(changes.c.number, changes.c.position, changes.c.namespace, _COST)
        .join(revisions)
        .where(*where, changes.c.number < latest(tx), ~sa.exists().where(_IN_FORCE))
    )
    return list(tx.connection.execute(query.order_by(changes.c.number, changes.c.position).limit(limit)))


def _in_force(tx: Transaction) -> dict[str, int]:
    """The bytes of the versions that are in force, by namespace."""
    query = sa.select(changes.c.namespace, sa.func.sum(_COST)).join(policies, _IN_FORCE).group_by(changes.c.namespace)
    return {namespace: int(size) for namespace, size in tx.connection.execute(query)}


def _forget(tx: Transaction, gone: Sequence[sa.Row[Any]]) -> None:
    """Take these versions out, and the revisions of which nothing is left."""
    if not gone:
        return
    own = [changes.c.number == sa.bindparam("of_number"), changes.c.position == sa.bindparam("of_position")]
    tx.connection.execute(
        changes.delete().where(*own), [{"of_number": row.number, "of_position": row.position} for row in gone]
    )
    numbers = [{"of_number": number} for number in dict.fromkeys(row.number for row in gone)]
    of_number = revisions.c.number == sa.bindparam("of_number")
    tx.connection.execute(
        revisions.update().where(of_number).values(pruned=revisions.c.pruned + 1),
        [{"of_number": row.number} for row in gone],
    )
    tx.connection.execute(
        revisions.delete().where(of_number, ~sa.exists().where(changes.c.number == revisions.c.number)), numbers
    )
    for namespace in {row.namespace for row in gone}:
        shares.add(tx, shares.HISTORY, namespace, -_cost(row for row in gone if row.namespace == namespace))
    through = max(row.number for row in gone)
    tx.connection.execute(
        house.update().values(
            history_pruned=house.c.history_pruned + len(gone),
            history_through=sa.case((house.c.history_through < through, through), else_=house.c.history_through),
        )
    )


def _cost(rows: Iterable[sa.Row[Any]]) -> int:
    return sum(row.cost for row in rows)


def _only(namespace: str | None, name: str | None) -> tuple[sa.ColumnElement[bool], ...]:
    wanted = ((changes.c.namespace, namespace), (changes.c.name, name))
    return tuple(column == value for column, value in wanted if value is not None)


def _with_changes(
    tx: Transaction, rows: Sequence[sa.Row[Any]], own: Sequence[sa.ColumnElement[bool]]
) -> tuple[Revision, ...]:
    numbers = [row.number for row in rows]
    query = sa.select(changes).where(changes.c.number.in_(numbers), *own)
    found = tx.connection.execute(query.order_by(changes.c.number, changes.c.position))
    steps = {number: tuple(_step(row) for row in group) for number, group in groupby(found, key=lambda row: row.number)}
    return tuple(
        Revision(row.number, row.author, row.time, row.message, steps.get(row.number, ()), row.pruned) for row in rows
    )


def _row(number: int, position: int, step: Change) -> dict[str, Any]:
    return {
        "number": number,
        "position": position,
        "action": step.action,
        "kind": step.kind,
        "namespace": step.namespace,
        "name": step.name,
        "before": text(step.before),
        "after": text(step.after),
    }


def _step(row: sa.Row[Any]) -> Change:
    return Change(row.action, row.kind, row.namespace, row.name, _document(row.before), _document(row.after))


def text(document: Document | None) -> str | None:
    """A document as it is stored."""
    return None if document is None else json.dumps(document)


def _document(stored: str | None) -> Document | None:
    return None if stored is None else json.loads(stored)
