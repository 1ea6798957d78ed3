"""The first tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table in an empty database."""
    op.create_table(
        "house",
        _number("id", autoincrement=False),
        _text("trust_domain"),
        _number("number"),
        _text("roots"),
        _number("audit_seq"),
        _text("audit_hash"),
        sa.PrimaryKeyConstraint("id", name="pk_house"),
    )
    op.create_table(
        "audit",
        _number("seq", autoincrement=False),
        _time("time"),
        _text("actor"),
        _text("event"),
        _text("detail"),
        _text("previous"),
        _text("hash"),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    _policies()
    _certificates()
    _leases_and_bans()


def _policies() -> None:
    op.create_table(
        "policies",
        _text("kind"),
        _text("namespace"),
        _text("name"),
        _text("document"),
        _number("number"),
        _text("author"),
        _time("time"),
        sa.PrimaryKeyConstraint("kind", "namespace", "name", name="pk_policies"),
    )
    op.create_table(
        "revisions",
        _number("number", autoincrement=False),
        _text("author"),
        _time("time"),
        _text("message"),
        sa.PrimaryKeyConstraint("number", name="pk_revisions"),
    )
    op.create_table(
        "changes",
        _number("number", autoincrement=False),
        _number("position", autoincrement=False),
        _text("action"),
        _text("kind"),
        _text("namespace"),
        _text("name"),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
        sa.PrimaryKeyConstraint("number", "position", name="pk_changes"),
        sa.ForeignKeyConstraint(["number"], ["revisions.number"], name="fk_changes_number"),
    )


def _certificates() -> None:
    op.create_table(
        "tokens",
        _text("id"),
        _text("hash"),
        _text("workload"),
        _time("expires"),
        _number("uses"),
        _text("created_by"),
        _time("time"),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("hash", name="uq_tokens_hash"),
    )
    op.create_table(
        "redemptions",
        _text("token"),
        _text("key"),
        _time("time"),
        sa.PrimaryKeyConstraint("token", "key", name="pk_redemptions"),
        sa.ForeignKeyConstraint(["token"], ["tokens.id"], name="fk_redemptions_token", ondelete="CASCADE"),
    )
    op.create_table(
        "issuances",
        _text("serial"),
        _text("identity"),
        _text("key"),
        _time("not_after"),
        _time("attested_at"),
        _text("method"),
        _time("time"),
        sa.PrimaryKeyConstraint("serial", name="pk_issuances"),
    )
    op.create_index("ix_issuances_not_after", "issuances", ["not_after"])
    op.create_index("ix_issuances_time", "issuances", ["time"])


def _leases_and_bans() -> None:
    op.create_table(
        "leases",
        _text("address"),
        _number("mesh_port", autoincrement=False),
        _text("identity"),
        _text("instance"),
        _text("workload"),
        _number("port"),
        _text("protocol"),
        _time("expires"),
        sa.Column("confirmed", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("address", "mesh_port", name="pk_leases"),
    )
    op.create_index("ix_leases_expires", "leases", ["expires"])
    op.create_table(
        "bans",
        _text("subject"),
        _text("reason"),
        _text("author"),
        _time("time"),
        sa.PrimaryKeyConstraint("subject", name="pk_bans"),
    )


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str, **how: Any) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, **how)


def _time(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)
