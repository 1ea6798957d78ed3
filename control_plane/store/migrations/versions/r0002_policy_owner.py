"""Policies belong to whoever made them; what was there was made by the command."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Give every policy document an owner."""
    op.add_column("policies", sa.Column("owner", sa.Text, nullable=False, server_default="cli"))
