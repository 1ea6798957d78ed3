"""The tables, in SQL that SQLite and PostgreSQL share. The migrations make them; a test holds the two together.

One row of `house` is the store itself: whose it is, its number, and where the audit chain ends. Every change locks
that row first, so changes happen one after the other on either database.
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa


class UtcTime(sa.types.TypeDecorator[datetime]):
    """An aware UTC datetime. SQLite keeps text without a zone, in which order of text is order of time."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Refuse naive times, and hand over UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """Give back an aware UTC datetime."""
        if value is None:
            return None
        aware: datetime = value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)
        return aware


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _text(name: str, **how: Any) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, **how)


def _number(name: str, **how: Any) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, **how)


def _time(name: str, **how: Any) -> sa.Column[datetime]:
    return sa.Column(name, UtcTime, nullable=False, **how)


house = sa.Table(
    "house",
    metadata,
    _number("id", primary_key=True, autoincrement=False),
    _text("trust_domain"),
    _number("number"),
    _text("roots"),
    _number("audit_seq"),
    _text("audit_hash"),
    _number("audit_pruned", server_default="0"),  # entries that are no longer there
    sa.Column("gaps_state", sa.Text, nullable=False, server_default="1"),  # see set_hash
    _number("history_pruned", server_default="0"),  # versions of policies that are no longer there
    _number("history_through", server_default="0"),  # the latest revision that lacks one
)

policies = sa.Table(
    "policies",
    metadata,
    _text("kind", primary_key=True),
    _text("namespace", primary_key=True),
    _text("name", primary_key=True),
    _text("document"),
    _number("number"),
    _text("author"),
    _time("time"),
    _text("owner", server_default="cli"),
)

revisions = sa.Table(
    "revisions",
    metadata,
    _number("number", primary_key=True, autoincrement=False),
    _text("author"),
    _time("time"),
    _text("message"),
    _number("pruned", server_default="0"),  # changes of it that are no longer there
)

changes = sa.Table(
    "changes",
    metadata,
    _number("number", primary_key=True, autoincrement=False),
    _number("position", primary_key=True, autoincrement=False),
    _text("action"),
    _text("kind"),
    _text("namespace"),
    _text("name"),
    sa.Column("before", sa.Text),
    sa.Column("after", sa.Text),
    sa.ForeignKeyConstraint(["number"], ["revisions.number"]),
    sa.Index(None, "namespace", "number"),
    sa.Index(None, "kind", "namespace", "name", "number"),
)

tokens = sa.Table(
    "tokens",
    metadata,
    _text("id", primary_key=True),
    _text("hash", unique=True),  # SHA-256 of the token's text, hex
    _text("workload"),
    _time("expires"),
    _number("uses"),
    _text("created_by"),
    _time("time"),
)

redemptions = sa.Table(
    "redemptions",
    metadata,
    _text("token", primary_key=True),
    _text("key", primary_key=True),  # fingerprint of the CSR's key
    _time("time"),
    sa.ForeignKeyConstraint(["token"], ["tokens.id"], ondelete="CASCADE"),
)

issuances = sa.Table(
    "issuances",
    metadata,
    _text("serial", primary_key=True),  # decimal: 159 bits are more than either database counts
    _text("identity"),
    _text("key"),
    _time("not_after", index=True),
    _time("attested_at"),
    _text("method"),
    _time("time", index=True),
    sa.Index(None, "identity", "time"),
)

leases = sa.Table(
    "leases",
    metadata,
    _text("address", primary_key=True),  # with mesh_port: the database itself keeps law 3
    _number("mesh_port", primary_key=True, autoincrement=False),
    _text("identity"),
    _text("instance"),
    _text("workload"),
    _number("port"),
    _text("protocol"),
    _time("expires", index=True),
    sa.Column("confirmed", sa.Boolean, nullable=False),
)

bans = sa.Table(
    "bans",
    metadata,
    _text("subject", primary_key=True),
    _text("reason"),
    _text("author"),
    _time("time"),
)

audit = sa.Table(
    "audit",
    metadata,
    _number("seq", primary_key=True, autoincrement=False),
    _time("time"),
    _text("actor"),
    _text("event"),
    _text("detail"),
    _text("previous"),
    _text("hash"),
    _text("namespace", server_default=""),  # whose share it is
    sa.Index(None, "namespace", "seq"),
)

audit_gaps = sa.Table(
    "audit_gaps",
    metadata,
    _number("first", primary_key=True, autoincrement=False),
    _number("last", index=True),
    _text("previous"),  # the hash before the first entry that is no longer there
    _text("hash"),  # the hash of the last one
)

shares = sa.Table(
    "shares",
    metadata,
    _text("ledger", primary_key=True),
    _text("namespace", primary_key=True),
    _number("size"),  # bytes
)
