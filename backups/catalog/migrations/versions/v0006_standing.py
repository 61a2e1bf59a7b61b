"""How things stand with customers and databases; whether a rebuilt catalog knows its stores."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

ID = sa.String(64)
INSTANT = sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Three tables beside what is there: nobody stands otherwise than active yet."""
    op.create_table(
        "standings",
        sa.Column("customer", ID, nullable=False),
        sa.Column("database", ID, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("until", sa.Date),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("customer", "database", name="pk_standings"),
        sa.CheckConstraint(
            "state IN ('active', 'paused', 'leaving', 'left', 'erased', 'retired')",
            name=op.f("ck_standings_state"),
        ),
        sa.CheckConstraint(
            "state = 'active' OR (state = 'retired') = (database <> '')",
            name=op.f("ck_standings_whose"),
        ),
    )
    op.create_table(
        "doubts",
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
    )
    op.create_table(
        "readings",
        sa.Column("store_url", sa.Text, nullable=False),
        sa.Column("read_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("store_url", name="pk_readings"),
    )
