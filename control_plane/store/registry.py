"""Where each workload can be reached, by leases (laws 3 and 4).

An address and mesh port belong to one identity while its lease lasts: that is the primary key, so the database itself
cannot hold two. A lease ends by its time or because its sidecar said so, never because a link dropped. While the
control plane is away nobody can renew, so every lease that was alive when it stopped gets RESTART_GRACE at the start.
"""

from collections.abc import Sequence
from datetime import timedelta
from ipaddress import IPv6Address, ip_address
from itertools import groupby
from typing import Any, Final

import sqlalchemy as sa
from attrs import evolve

from certs.spiffe import SpiffeId
from control_plane.store import audit, counter
from control_plane.store.database import Transaction
from control_plane.store.errors import LeaseRefused
from control_plane.store.records import Lease
from control_plane.store.schema import leases

RESTART_GRACE: Final = timedelta(seconds=90)
"""Long enough for every sidecar to reconnect with backoff and announce itself again."""

Shape = tuple[str, str, str, int, int, str, bool]
"""What a snapshot shows of a lease: when it ends and which process holds it are not seen."""


def lease(tx: Transaction, identity: SpiffeId, instance: str, wanted: Sequence[Lease]) -> bool:
    """Make `wanted` the leases of this instance; True, and a new number, where that shows. Raises LeaseRefused."""
    new = [evolve(each, address=one_spelling(each.address)) for each in wanted]
    _check_own(identity, instance, new)
    held = [*_held_by(tx, identity, instance), *_held_at(tx, new)]
    for other in held:
        if other.identity != str(identity):
            raise LeaseRefused(
                f"{other.address} port {other.mesh_port} is leased to another identity until "
                f"{other.expires:%H:%M:%S}Z: announce an address of your own, or wait",
                code="address_leased",
            )
    _replace(tx, identity, instance, new)
    return _note(tx, str(identity), "endpoints.leased", _namespace_of(str(identity.workload)), before=held, after=new)


def expire(tx: Transaction) -> bool:
    """Forget leases whose time is over; True where there were any."""
    over = sorted(_read(tx, leases.c.expires <= tx.now), key=_namespace)
    tx.connection.execute(leases.delete().where(leases.c.expires <= tx.now))
    for namespace, own in groupby(over, key=_namespace):
        _note(tx, "doorward", "endpoints.expired", namespace, before=[*own], after=())
    return bool(over)


def outlive_restart(tx: Transaction) -> None:
    """Give what was alive when the control plane stopped time to announce itself again."""
    until = tx.now + RESTART_GRACE
    tx.connection.execute(leases.update().where(leases.c.expires < until).values(expires=until))


def read_all(tx: Transaction) -> tuple[Lease, ...]:
    """Every unexpired lease, ordered by workload, port, address and mesh port."""
    found = _read(tx, leases.c.expires > tx.now)
    return tuple(sorted(found, key=lambda each: (each.workload, each.port, each.address, each.mesh_port)))


def one_spelling(address: str) -> str:
    """One spelling for one address, so that another spelling of it is not another lease."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address.lower().rstrip(".")
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(parsed)


def _check_own(identity: SpiffeId, instance: str, wanted: Sequence[Lease]) -> None:
    """Law 3: an identity registers only itself, and each address once."""
    for each in wanted:
        if (each.identity, each.instance, each.workload) != (str(identity), instance, str(identity.workload)):
            raise LeaseRefused(f"{identity} cannot register {each.identity} {each.workload}", code="foreign_identity")
    if len({(each.address, each.mesh_port) for each in wanted}) < len(wanted):
        raise LeaseRefused("one address and mesh port is announced twice", code="address_leased")


def _held_by(tx: Transaction, identity: SpiffeId, instance: str) -> list[Lease]:
    return _read(tx, leases.c.identity == str(identity), leases.c.instance == instance, leases.c.expires > tx.now)


def _held_at(tx: Transaction, wanted: Sequence[Lease]) -> list[Lease]:
    return _read(tx, _at(wanted), leases.c.expires > tx.now)


def _at(wanted: Sequence[Lease]) -> sa.ColumnElement[bool]:
    return sa.tuple_(leases.c.address, leases.c.mesh_port).in_([(each.address, each.mesh_port) for each in wanted])


def _replace(tx: Transaction, identity: SpiffeId, instance: str, new: Sequence[Lease]) -> None:
    own = sa.and_(leases.c.identity == str(identity), leases.c.instance == instance)
    tx.connection.execute(leases.delete().where(sa.or_(own, _at(new))))
    for each in new:
        tx.connection.execute(leases.insert().values(**_columns(each)))


def _namespace(each: Lease) -> str:
    return _namespace_of(each.workload)


def _namespace_of(workload: str) -> str:
    return workload.partition("/")[0]


def _note(
    tx: Transaction, actor: str, event: str, namespace: str, *, before: Sequence[Lease], after: Sequence[Lease]
) -> bool:
    """Advance the number and write the audit entry, where a snapshot would show the difference."""
    gone = {_shape(each) for each in before} - {_shape(each) for each in after}
    come = {_shape(each) for each in after} - {_shape(each) for each in before}
    if not gone and not come:
        return False
    detail = {"number": counter.advance(tx), "gone": sorted(map(_label, gone)), "come": sorted(map(_label, come))}
    audit.append(tx, actor, event, detail, namespace=namespace)
    return True


def _shape(each: Lease) -> Shape:
    return each.identity, each.workload, each.address, each.mesh_port, each.port, each.protocol, each.confirmed


def _label(shape: Shape) -> str:
    _, workload, address, mesh_port, port, protocol, _ = shape
    return f"{workload}:{port}/{protocol} at {address} port {mesh_port}"


def _read(tx: Transaction, *where: sa.ColumnElement[bool]) -> list[Lease]:
    return [_lease(row) for row in tx.connection.execute(sa.select(leases).where(*where))]


def _lease(row: sa.Row[Any]) -> Lease:
    return Lease(**row._asdict())


def _columns(each: Lease) -> dict[str, Any]:
    return {column.name: getattr(each, column.name) for column in leases.columns}
