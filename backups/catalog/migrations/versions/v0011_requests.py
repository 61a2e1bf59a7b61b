"""What was asked for over the API."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

ID = sa.String(64)
INSTANT = sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """A queue that outlives processes; a key that a caller chose is taken once."""
    op.create_table(
        "requests",
        sa.Column("id", ID, nullable=False),
        sa.Column("customer", ID, nullable=False),
        sa.Column("database", ID, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("body", sa.String(64), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_requests"),
        sa.UniqueConstraint("customer", "key", name="uq_requests_customer_key"),
        sa.ForeignKeyConstraint(
            ["database", "customer"],
            ["databases.id", "databases.customer"],
            name="fk_requests_database",
        ),
    )
    op.create_index("ix_requests_state_created_at", "requests", ["state", "created_at"])
    op.create_index("ix_requests_customer_created_at", "requests", ["customer", "created_at"])
