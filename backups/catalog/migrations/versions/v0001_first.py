"""Databases, policies, runs, backups, operations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.String(64)
INSTANT = sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """From an empty database."""
    op.create_table(
        "databases",
        sa.Column("id", ID, nullable=False),
        sa.Column("customer", ID, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_databases"),
        sa.UniqueConstraint("id", "customer", name="uq_databases_id_customer"),
    )
    op.create_table(
        "policies",
        sa.Column("database", ID, nullable=False),
        sa.Column("version", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("customer", ID, nullable=False),
        sa.Column("rule", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("database", "version", name="pk_policies"),
        _of_one_customer("policies"),
        sa.CheckConstraint("version > 0", name=op.f("ck_policies_version")),
    )
    op.create_table(
        "runs",
        sa.Column("id", ID, nullable=False),
        sa.Column("customer", ID, nullable=False),
        sa.Column("database", ID, nullable=False),
        sa.Column("policy_version", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT),
        sa.Column("error", sa.Text),
        sa.Column("envelope", sa.LargeBinary),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        _of_one_customer("runs"),
        sa.ForeignKeyConstraint(
            ["database", "policy_version"],
            ["policies.database", "policies.version"],
            name="fk_runs_policy_version",
        ),
        sa.CheckConstraint(
            "state IN ('running', 'prepared', 'committed', 'failed', 'interrupted')",
            name=op.f("ck_runs_state"),
        ),
        sa.CheckConstraint(
            "(state IN ('running', 'prepared')) = (ended_at IS NULL)",
            name=op.f("ck_runs_ended"),
        ),
        sa.CheckConstraint(
            "(state = 'prepared') = (envelope IS NOT NULL)", name=op.f("ck_runs_envelope")
        ),
    )
    op.create_table(
        "backups",
        sa.Column("id", ID, nullable=False),
        sa.Column("customer", ID, nullable=False),
        sa.Column("database", ID, nullable=False),
        sa.Column("engine", ID, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("plain_bytes", sa.BigInteger, nullable=False),
        sa.Column("stored_bytes", sa.BigInteger, nullable=False),
        sa.Column("store_url", sa.Text, nullable=False),
        sa.Column("manifest_sha256", sa.String(64), nullable=False),
        sa.Column("seconds", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_backups"),
        _of_one_customer("backups"),
        sa.CheckConstraint(
            "plain_bytes >= 0 AND stored_bytes >= 0", name=op.f("ck_backups_bytes")
        ),
    )
    op.create_table(
        "operations",
        sa.Column("id", ID, nullable=False),
        sa.Column("customer", ID, nullable=False),
        sa.Column("database", ID, nullable=False),
        sa.Column("backup", ID, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_operations"),
        _of_one_customer("operations"),
        sa.CheckConstraint(
            "state IN ('running', 'done', 'failed', 'interrupted')",
            name=op.f("ck_operations_state"),
        ),
        sa.CheckConstraint(
            "(state = 'running') = (ended_at IS NULL)", name=op.f("ck_operations_ended")
        ),
    )
    for table, at in (
        ("runs", "started_at"),
        ("backups", "created_at"),
        ("operations", "started_at"),
    ):
        op.create_index(f"ix_{table}_database_{at}", table, ["database", at])
        op.create_index(f"ix_{table}_{at}", table, [at])


def _of_one_customer(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["database", "customer"],
        ["databases.id", "databases.customer"],
        name=f"fk_{table}_database",
    )
