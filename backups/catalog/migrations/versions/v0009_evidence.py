"""Evidence of restore tests."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

ID = sa.String(64)
INSTANT = sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")
SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """A table that takes evidence and lets none of it be changed."""
    op.create_table(
        "evidence",
        sa.Column("sequence", SEQUENCE, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("customer", ID),
        sa.Column("database", ID),
        sa.Column("about", ID),
        sa.Column("outcome", sa.String(16)),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_evidence"),
        sa.UniqueConstraint("id", "kind", name="uq_evidence_id_kind"),
    )
    op.create_index("ix_evidence_kind_at", "evidence", ["kind", "at"])
    op.create_index("ix_evidence_database_kind_at", "evidence", ["database", "kind", "at"])
    op.create_index(
        "ix_evidence_kind_outcome_database_at",
        "evidence",
        ["kind", "outcome", "database", "at"],
    )
    op.create_index("ix_evidence_about", "evidence", ["about"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION evidence_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'evidence is append-only'; END $$"
        )
        op.execute(
            "CREATE TRIGGER evidence_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON "
            "evidence EXECUTE FUNCTION evidence_is_append_only()"
        )
        return
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER evidence_no_{event.lower()} BEFORE {event} ON evidence "
            "BEGIN SELECT RAISE(ABORT, 'evidence is append-only'); END"
        )
