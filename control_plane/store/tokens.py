"""Join tokens, and the certificates that were issued for them, for an attested pod, or renewed (law 8).

A token is 256 random bits; only its SHA-256 is kept. Redeeming binds a use to the fingerprint of the CSR's key, so an
answer that was lost can be asked for again by the same key without a further use. The use, the issuance, the signature
and the audit entry share one transaction: if signing fails, the use is given back.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from cryptography import x509

from certs.spiffe import SpiffeId, WorkloadName
from control_plane.store import audit, bans
from control_plane.store.database import Transaction
from control_plane.store.errors import RenewalRefused, StoreError, TokenRefused
from control_plane.store.records import Issuance, Method, TokenInfo
from control_plane.store.schema import issuances, redemptions, tokens

PREFIX: Final = "dwt_"
"""Every token starts so, for people and for secret scanners."""

KEEP: Final = timedelta(days=7)
"""How long an expired token or certificate is remembered, so that a late use is told `expired` and not `unknown`."""

KEPT_OF_PODS: Final = 1000
"""Certificates of one identity that its pods attested: they renew nothing, so older ones are not needed."""

FORGOTTEN_AT_ONCE: Final = 256
"""Issuances that one write or sweep takes out at most."""

Sign = Callable[[WorkloadName], tuple[x509.Certificate, ...]]
"""Signs for the attested workload: the chain, leaf first. What it raises undoes the transaction and is passed on.

It runs inside the transaction, so it must not call the store.
"""


def create(
    tx: Transaction, workload: WorkloadName, lifetime: timedelta, uses: int, author: str
) -> tuple[str, TokenInfo]:
    """Make a token: its text, and what is known of it. Raises StoreError (`bad_token`)."""
    if lifetime <= timedelta(0) or uses < 1:
        raise StoreError("a token needs a lifetime above zero and at least one use", code="bad_token")
    tx.connection.execute(tokens.delete().where(tokens.c.expires < tx.now - KEEP))
    token = PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode("ascii")
    info = TokenInfo(secrets.token_hex(6), str(workload), tx.now + lifetime, uses, author, tx.now)
    tx.connection.execute(
        tokens.insert().values(
            id=info.id,
            hash=_hash(token),
            workload=info.workload,
            expires=info.expires,
            uses=uses,
            created_by=author,
            time=tx.now,
        )
    )
    detail = {"id": info.id, "workload": info.workload, "expires": info.expires.isoformat(), "uses": uses}
    audit.append(tx, author, "token.created", detail)
    return token, info


def read_all(tx: Transaction) -> tuple[TokenInfo, ...]:
    """Every known token, newest first."""
    used = sa.select(sa.func.count()).where(redemptions.c.token == tokens.c.id).correlate(tokens).scalar_subquery()
    rows = tx.connection.execute(sa.select(tokens, used.label("used")).order_by(tokens.c.time.desc(), tokens.c.id))
    return tuple(
        TokenInfo(row.id, row.workload, row.expires, row.uses - row.used, row.created_by, row.time) for row in rows
    )


def revoke(tx: Transaction, token_id: str, author: str) -> bool:
    """Forget a token and its uses; False where there is none."""
    row = tx.connection.execute(sa.select(tokens.c.workload).where(tokens.c.id == token_id)).first()
    if row is None:
        return False
    tx.connection.execute(tokens.delete().where(tokens.c.id == token_id))
    audit.append(tx, author, "token.revoked", {"id": token_id, "workload": row.workload})
    return True


def issue_with_token(tx: Transaction, token: str, key: str, sign: Sign) -> tuple[x509.Certificate, ...]:
    """Redeem and issue. Raises TokenRefused, and whatever `sign` raises."""
    row = _find(tx, token)
    identity = _unbanned(tx, WorkloadName.parse(row.workload))
    _redeem(tx, row, key)
    return _issue(tx, identity, key, sign, attested_at=tx.now, method="token", ground={"token": row.id})


def issue_for_pod(
    tx: Transaction, workload: WorkloadName, key: str, sign: Sign, ground: Mapping[str, str]
) -> tuple[x509.Certificate, ...]:
    """Issue to a pod that the API server has vouched for. Raises TokenRefused, and whatever `sign` raises."""
    identity = _unbanned(tx, workload)
    return _issue(tx, identity, key, sign, attested_at=tx.now, method="kubernetes", ground=ground)


def issue_renewal(
    tx: Transaction, serial: int, identity: SpiffeId, key: str, sign: Sign, max_age: timedelta
) -> tuple[x509.Certificate, ...]:
    """Issue on the ground of an earlier certificate. Raises RenewalRefused, and whatever `sign` raises."""
    row = tx.connection.execute(sa.select(issuances).where(issuances.c.serial == str(serial))).first()
    if row is None or row.identity != str(identity):
        raise RenewalRefused(
            f"certificate {serial} of {identity} was not issued from this store: join again with a new token",
            code="unknown_certificate",
        )
    if bans.concerning(tx, str(identity), f"serial:{serial}"):
        raise RenewalRefused(f"{identity} is banned: an operator must lift the ban first", code="banned")
    if row.method == "kubernetes":
        raise RenewalRefused(
            f"{identity} was attested by its service account's token, and is so for every certificate: send the token",
            code="token_required",
        )
    if tx.now - row.attested_at > max_age:
        raise RenewalRefused(
            f"{identity} last proved itself at {row.attested_at:%Y-%m-%d %H:%M:%S}Z, longer ago than "
            f"{max_age}: join again with a new token",
            code="attestation_too_old",
        )
    ground = {"renewed": str(serial)}
    return _issue(tx, identity, key, sign, attested_at=row.attested_at, method="certificate", ground=ground)


def read_issuances(tx: Transaction, limit: int) -> tuple[Issuance, ...]:
    """The latest issuances, newest first."""
    query = sa.select(issuances).order_by(issuances.c.time.desc(), issuances.c.serial).limit(limit)
    return tuple(issuance(row) for row in tx.connection.execute(query))


def issuance(row: sa.Row[Any]) -> Issuance:
    """A row of the issuances as a value."""
    return Issuance(int(row.serial), row.identity, row.key, row.not_after, row.attested_at, row.method, row.time)


def _unbanned(tx: Transaction, workload: WorkloadName) -> SpiffeId:
    """The workload's identity here. Raises TokenRefused (`banned`)."""
    identity = workload.in_domain(tx.trust_domain)
    if bans.concerning(tx, str(identity)):
        raise TokenRefused(f"{identity} is banned: an operator must lift the ban first", code="banned")
    return identity


def _find(tx: Transaction, token: str) -> sa.Row[Any]:
    """The token's row. The lookup is by hash, which tells a guesser nothing about the token's text."""
    digest = _hash(token)
    row = tx.connection.execute(sa.select(tokens).where(tokens.c.hash == digest)).first()
    if row is None or not hmac.compare_digest(row.hash, digest):
        raise TokenRefused(
            "this join token is not known here: it was revoked, or made by another control plane; make a new one",
            code="token_unknown",
        )
    if row.expires <= tx.now:
        raise TokenRefused(
            f"this join token expired at {row.expires:%Y-%m-%d %H:%M:%S}Z: make a new one", code="token_expired"
        )
    return row


def _redeem(tx: Transaction, row: sa.Row[Any], key: str) -> None:
    """Take one use for `key`, unless it has one already."""
    keys = tx.connection.execute(sa.select(redemptions.c.key).where(redemptions.c.token == row.id)).scalars().all()
    if key in keys:
        return
    if len(keys) >= row.uses:
        raise TokenRefused(f"this join token was used up ({row.uses} of {row.uses}): make a new one", code="token_used")
    tx.connection.execute(redemptions.insert().values(token=row.id, key=key, time=tx.now))


def _issue(
    tx: Transaction,
    identity: SpiffeId,
    key: str,
    sign: Sign,
    *,
    attested_at: datetime,
    method: Method,
    ground: Mapping[str, str],
) -> tuple[x509.Certificate, ...]:
    """Sign, and write down what was signed and on what ground."""
    workload = identity.workload
    if workload is None:
        raise RenewalRefused(f"{identity} is no workload: it gets no certificate here", code="unknown_certificate")
    chain = sign(workload)
    actor = str(identity)
    write_down(
        tx,
        chain[0],
        actor,
        key,
        attested_at=attested_at,
        method=method,
        actor=actor,
        ground=ground,
        namespace=workload.namespace,
    )
    return chain


def write_down(
    tx: Transaction,
    leaf: x509.Certificate,
    identity: str,
    key: str,
    *,
    attested_at: datetime,
    method: Method,
    actor: str,
    ground: Mapping[str, str],
    namespace: str = "",
) -> None:
    """Keep what was signed, for whom and on what ground, in the issuances and in the audit log (for `namespace`)."""
    serial, not_after = str(leaf.serial_number), leaf.not_valid_after_utc
    forget(tx)
    tx.connection.execute(
        issuances.insert().values(
            serial=serial,
            identity=identity,
            key=key,
            not_after=not_after,
            attested_at=attested_at,
            method=method,
            time=tx.now,
        )
    )
    detail = {"serial": serial, "key": key, "not_after": not_after.isoformat(), "method": method}
    audit.append(tx, actor, "certificate.issued", {**detail, **ground}, namespace=namespace)
    if method == "kubernetes":
        _forget_of_pods(tx, identity)


def forget(tx: Transaction) -> bool:
    """Forget a slice of the certificates that ended long ago; True where there were any."""
    return _forget(tx, sa.select(issuances.c.serial).where(issuances.c.not_after < tx.now - KEEP))


def _forget_of_pods(tx: Transaction, identity: str) -> None:
    own = sa.select(issuances.c.serial).where(issuances.c.identity == identity, issuances.c.method == "kubernetes")
    _forget(tx, own.order_by(issuances.c.time.desc(), issuances.c.serial).offset(KEPT_OF_PODS))


def _forget(tx: Transaction, found: sa.Select[tuple[str]]) -> bool:
    serials = tx.connection.execute(found.limit(FORGOTTEN_AT_ONCE)).scalars().all()
    if serials:
        tx.connection.execute(issuances.delete().where(issuances.c.serial.in_(serials)))
    return bool(serials)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
