"""Holds, and what retention deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ID = sa.String(64)
INSTANT = sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Two tables beside what is there."""
    op.create_table(
        "holds",
        sa.Column("id", ID, nullable=False),
        sa.Column("customer", ID, nullable=False),
        sa.Column("database", ID, nullable=False),
        sa.Column("backup", ID, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("placed_at", INSTANT, nullable=False),
        sa.Column("until", INSTANT),
        sa.Column("released_by", sa.Text),
        sa.Column("released_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_holds"),
        _of_one_customer("holds"),
        sa.ForeignKeyConstraint(["backup"], ["backups.id"], name="fk_holds_backup"),
        sa.CheckConstraint(
            "(released_by IS NULL) = (released_at IS NULL)", name=op.f("ck_holds_released")
        ),
    )
    op.create_index("ix_holds_database_placed_at", "holds", ["database", "placed_at"])
    op.create_index("ix_holds_backup", "holds", ["backup"])
    op.create_table(
        "deletions",
        sa.Column("backup", ID, nullable=False),
        sa.Column("customer", ID, nullable=False),
        sa.Column("database", ID, nullable=False),
        sa.Column("rule", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("deleted_at", INSTANT, nullable=False),
        sa.Column("removed_at", INSTANT),
        sa.PrimaryKeyConstraint("backup", name="pk_deletions"),
        _of_one_customer("deletions"),
        sa.ForeignKeyConstraint(["backup"], ["backups.id"], name="fk_deletions_backup"),
    )
    op.create_index("ix_deletions_database_deleted_at", "deletions", ["database", "deleted_at"])


def _of_one_customer(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["database", "customer"],
        ["databases.id", "databases.customer"],
        name=f"fk_{table}_database",
    )
