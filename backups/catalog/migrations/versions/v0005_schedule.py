"""Leases, and the slot and epoch of each run."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

INSTANT = sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Runs of before have neither slot nor epoch."""
    op.add_column("runs", sa.Column("slot", sa.Date))
    op.add_column("runs", sa.Column("epoch", sa.BigInteger))
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("ends_at", INSTANT),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
