"""Certificates for operators: who may use the admin API from elsewhere.

The first of a chain is vouched for by a local user of the control plane, whom the kernel names. An operator may vouch
for others, or for itself before its certificate ends; the moment at which a local user last vouched is carried on, and
bounds how long such a chain can go on by itself (law 8).
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from attrs import frozen
from cryptography import x509

from certs.spiffe import SpiffeId
from control_plane.store import bans, tokens
from control_plane.store.database import Transaction
from control_plane.store.errors import OperatorRefused
from control_plane.store.records import Issuance
from control_plane.store.schema import issuances

MAX_LISTED: Final = 1000

Sign = Callable[[SpiffeId], tuple[x509.Certificate, ...]]
"""Signs for the operator: the chain, leaf first. It runs inside the transaction, so it must not call the store."""


@frozen
class Voucher:
    """On whose word a certificate is issued. `serial` is that of an operator's certificate, None for a local user."""

    author: str
    serial: int | None = None


def issue(
    tx: Transaction, name: str, key: str, sign: Sign, voucher: Voucher, max_age: timedelta
) -> tuple[x509.Certificate, ...]:
    """Issue for the operator `name`. Raises OperatorRefused, and whatever `sign` raises."""
    identity = tx.trust_domain.operator(name)
    if bans.concerning(tx, str(identity)):
        raise OperatorRefused(f"{identity} is banned: lift the ban first", code="banned")
    attested_at, ground = tx.now, {"identity": str(identity)}
    if voucher.serial is not None:
        attested_at = _attested_at(tx, voucher, max_age)
        ground["vouched"] = str(voucher.serial)
    chain = sign(identity)
    tokens.write_down(
        tx,
        chain[0],
        str(identity),
        key,
        attested_at=attested_at,
        method="operator",
        actor=voucher.author,
        ground=ground,
    )
    return chain


def read_all(tx: Transaction) -> tuple[Issuance, ...]:
    """The operators' certificates that have not ended, newest first."""
    query = sa.select(issuances).where(issuances.c.method == "operator", issuances.c.not_after > tx.now)
    query = query.order_by(issuances.c.time.desc(), issuances.c.serial).limit(MAX_LISTED)
    return tuple(tokens.issuance(row) for row in tx.connection.execute(query))


def _attested_at(tx: Transaction, voucher: Voucher, max_age: timedelta) -> datetime:
    """When a local user last vouched for the voucher, or for whom it was that vouched for it."""
    row = tx.connection.execute(sa.select(issuances).where(issuances.c.serial == str(voucher.serial))).first()
    if row is None or row.method != "operator":
        raise OperatorRefused(
            f"certificate {voucher.serial} of {voucher.author} was not issued from this store: "
            "ask for a new one at the control plane's own socket",
            code="unknown_certificate",
        )
    if bans.concerning(tx, row.identity, f"serial:{row.serial}"):
        raise OperatorRefused(f"{row.identity} is banned", code="banned")
    if tx.now - row.attested_at > max_age:
        raise OperatorRefused(
            f"a local user last vouched for {voucher.author} at {row.attested_at:%Y-%m-%d %H:%M:%S}Z, longer ago than "
            f"{max_age}: run `doorward operator create` at the control plane's own socket",
            code="attestation_too_old",
        )
    attested_at: datetime = row.attested_at
    return attested_at
