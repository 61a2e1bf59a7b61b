"""What is noticed and told: alarms, incidents, events, and what became of each delivery."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

ID = sa.String(64)
INSTANT = sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """What was recorded before is not told any more: events begin here."""
    op.create_table(
        "alarms",
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("customer", ID, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("opened_at", INSTANT, nullable=False),
        sa.Column("told_at", INSTANT, nullable=False),
        sa.Column("closed_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_alarms"),
    )
    open_ = sa.text("closed_at IS NULL")
    op.create_index(
        "ix_alarms_open",
        "alarms",
        ["kind", "customer", "subject"],
        unique=True,
        sqlite_where=open_,
        postgresql_where=open_,
    )
    op.create_table(
        "incidents",
        sa.Column("id", ID, nullable=False),
        sa.Column("alarm", ID, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("customer", ID, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT),
        sa.Column("cause", sa.Text),
        sa.Column("post_mortem", sa.Text),
        sa.Column("closed_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_incidents"),
        sa.ForeignKeyConstraint(["alarm"], ["alarms.id"], name="fk_incidents_alarm"),
        sa.CheckConstraint(
            "closed_at IS NULL OR "
            "(ended_at IS NOT NULL AND cause IS NOT NULL AND post_mortem IS NOT NULL)",
            name=op.f("ck_incidents_closed"),
        ),
    )
    op.create_index("ix_incidents_alarm", "incidents", ["alarm"])
    op.create_table(
        "events",
        sa.Column("id", ID, nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("customer", ID, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("alarm", ID),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_at", "events", ["at"])
    op.create_index("ix_events_alarm", "events", ["alarm"])
    op.create_table(
        "deliveries",
        sa.Column("event", ID, nullable=False),
        sa.Column("endpoint", ID, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("last_at", INSTANT),
        sa.Column("words", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("event", "endpoint", name="pk_deliveries"),
        sa.ForeignKeyConstraint(["event"], ["events.id"], name="fk_deliveries_event"),
        sa.CheckConstraint(
            "state IN ('pending', 'delivered', 'dead')", name=op.f("ck_deliveries_state")
        ),
    )
    op.create_index("ix_deliveries_state_due_at", "deliveries", ["state", "due_at"])
    op.create_table(
        "endpoints",
        sa.Column("id", ID, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("failing_since", INSTANT),
        sa.Column("next_at", INSTANT),
        sa.Column("disabled_at", INSTANT),
        sa.Column("words", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_endpoints"),
    )
    op.create_table(
        "watched",
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("customer", ID, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("since", INSTANT),
        sa.PrimaryKeyConstraint("kind", "customer", "subject", name="pk_watched"),
    )
    moments = op.create_table(
        "moments",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("at", INSTANT),
        sa.Column("position", sa.BigInteger),
        sa.PrimaryKeyConstraint("name", name="pk_moments"),
    )
    newest = sa.text("SELECT coalesce(max(sequence), 0) FROM audit")
    position = op.get_bind().execute(newest).scalar_one()
    op.bulk_insert(moments, [{"name": "audit", "position": position}])
