"""Live databases that were replaced by a backup, or are to be."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

ID = sa.String(64)
INSTANT = sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Each is one document, which changes as it goes on; the audit chain keeps its steps."""
    op.create_table(
        "replacements",
        sa.Column("id", ID, nullable=False),
        sa.Column("customer", ID, nullable=False),
        sa.Column("database", ID, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("planned_at", INSTANT, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replacements"),
        sa.ForeignKeyConstraint(
            ["database", "customer"],
            ["databases.id", "databases.customer"],
            name="fk_replacements_database",
        ),
    )
    op.create_index(
        "ix_replacements_database_planned_at", "replacements", ["database", "planned_at"]
    )
    op.create_index("ix_replacements_state", "replacements", ["state"])
