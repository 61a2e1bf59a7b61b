"""Policies with several stores; copies, scrubs and proven recipients."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ID = sa.String(64)
INSTANT = sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """A rule's one `store_url` becomes the first of its `stores`."""
    policies = sa.table(
        "policies",
        sa.column("database", ID),
        sa.column("version", sa.Integer),
        sa.column("rule", sa.JSON),
    )
    connection = op.get_bind()
    for row in connection.execute(sa.select(policies)).all():
        rule = dict(row.rule)
        rule["stores"] = [{"url": rule.pop("store_url")}]
        connection.execute(
            sa.update(policies)
            .where(policies.c.database == row.database, policies.c.version == row.version)
            .values(rule=rule)
        )
    op.create_table(
        "copies",
        sa.Column("backup", ID, nullable=False),
        sa.Column("store_url", sa.Text, nullable=False),
        sa.Column("manifest_sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("backup", "store_url", name="pk_copies"),
        sa.ForeignKeyConstraint(["backup"], ["backups.id"], name="fk_copies_backup"),
    )
    op.create_table(
        "scrubs",
        sa.Column("id", ID, nullable=False),
        sa.Column("customer", ID, nullable=False),
        sa.Column("store_url", sa.Text, nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT, nullable=False),
        sa.Column("objects", sa.BigInteger, nullable=False),
        sa.Column("backups", sa.BigInteger, nullable=False),
        sa.Column("read_bytes", sa.BigInteger, nullable=False),
        sa.Column("findings", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_scrubs"),
    )
    op.create_index("ix_scrubs_customer_started_at", "scrubs", ["customer", "started_at"])
    op.create_index("ix_scrubs_started_at", "scrubs", ["started_at"])
    op.create_table(
        "recipients",
        sa.Column("customer", ID, nullable=False),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("proven_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("customer", "recipient", name="pk_recipients"),
    )
