"""The past is bounded: how much of it is whose, what is missing from the audit log, and indexes to prune by.

What was written before belongs to the house's share of the audit log: nothing there is rewritten.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_OVERHEAD = 512


def upgrade() -> None:
    """Add the columns, tables and indexes, and count what is there."""
    for name in ("audit_pruned", "history_pruned", "history_through"):
        op.add_column("house", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("house", sa.Column("gaps_state", sa.Text, nullable=False, server_default="1"))
    op.add_column("revisions", sa.Column("pruned", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("audit", sa.Column("namespace", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "audit_gaps",
        sa.Column("first", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("previous", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("first", name="pk_audit_gaps"),
    )
    op.create_index("ix_audit_gaps_last", "audit_gaps", ["last"])
    op.create_table(
        "shares",
        sa.Column("ledger", sa.Text, nullable=False),
        sa.Column("namespace", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("ledger", "namespace", name="pk_shares"),
    )
    op.create_index("ix_audit_namespace", "audit", ["namespace", "seq"])
    op.create_index("ix_changes_namespace", "changes", ["namespace", "number"])
    op.create_index("ix_changes_kind", "changes", ["kind", "namespace", "name", "number"])
    op.create_index("ix_issuances_identity", "issuances", ["identity", "time"])
    _count()


def _count() -> None:
    op.execute(
        "INSERT INTO shares (ledger, namespace, size) SELECT 'history', namespace, "  # noqa: S608  # our own number
        f"SUM({_OVERHEAD} + COALESCE(LENGTH(before), 0) + COALESCE(LENGTH(after), 0)) FROM changes GROUP BY namespace"
    )
    op.execute(
        "INSERT INTO shares (ledger, namespace, size) SELECT 'audit', '', "  # noqa: S608  # our own number
        f"SUM({_OVERHEAD} + LENGTH(detail)) FROM audit HAVING COUNT(*) > 0"
    )
