"""The catalog's tables, in SQLAlchemy Core: what migration HEAD leaves behind.

States and their fields are constraints, so that no code path can store nonsense. A
database belongs to one customer for good: every other table refers to that pair, hence
no query by database can ever mix two customers' records.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Dialect,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    exists,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

HEAD = "0006"
"""The newest migration. Four digits that count up: a higher one is a newer release's."""


class Instant(TypeDecorator[datetime]):
    """An aware datetime, to the microsecond, in UTC.

    SQLite has no such type: there it is ISO 8601 text of one fixed width, so that order
    of texts is order in time. PostgreSQL has `timestamptz`.
    """

    impl = String(27)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column's own type."""
        native = dialect.name == "postgresql"
        return dialect.type_descriptor(DateTime(timezone=True) if native else String(27))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """To the database. Raises ValueError for a naive one."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs a time zone")
        value = value.astimezone(UTC)
        if dialect.name == "postgresql":
            return value
        return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From the database."""
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        return value.astimezone(UTC) if value is not None else None


metadata = MetaData(
    naming_convention={
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

Id = String(64)


def _of_one_customer() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["database", "customer"], ["databases.id", "databases.customer"]
    )


databases = Table(
    "databases",
    metadata,
    Column("id", Id, primary_key=True),
    Column("customer", Id, nullable=False),
    UniqueConstraint("id", "customer"),
)

policies = Table(
    "policies",
    metadata,
    Column("database", Id, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("customer", Id, nullable=False),
    # A document: rules gain fields, and old versions must stay readable as they were.
    Column("rule", JSON, nullable=False),
    _of_one_customer(),
    CheckConstraint("version > 0", name="version"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("customer", Id, nullable=False),
    Column("database", Id, nullable=False),
    Column("policy_version", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("error", Text),
    Column("envelope", LargeBinary),
    Column("slot", Date),
    Column("epoch", BigInteger),
    _of_one_customer(),
    ForeignKeyConstraint(
        ["database", "policy_version"],
        ["policies.database", "policies.version"],
        name="fk_runs_policy_version",
    ),
    CheckConstraint(
        "state IN ('running', 'prepared', 'committed', 'failed', 'interrupted')", name="state"
    ),
    CheckConstraint("(state IN ('running', 'prepared')) = (ended_at IS NULL)", name="ended"),
    CheckConstraint("(state = 'prepared') = (envelope IS NOT NULL)", name="envelope"),
    Index(None, "database", "started_at"),
    Index(None, "started_at"),
)

backups = Table(
    "backups",
    metadata,
    Column("id", Id, primary_key=True),
    Column("customer", Id, nullable=False),
    Column("database", Id, nullable=False),
    Column("engine", Id, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("plain_bytes", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("store_url", Text, nullable=False),
    Column("manifest_sha256", String(64), nullable=False),
    Column("seconds", Double),
    _of_one_customer(),
    CheckConstraint("plain_bytes >= 0 AND stored_bytes >= 0", name="bytes"),
    Index(None, "database", "created_at"),
    Index(None, "created_at"),
)

copies = Table(
    "copies",
    metadata,
    Column("backup", Id, primary_key=True),
    Column("store_url", Text, primary_key=True),
    Column("manifest_sha256", String(64), nullable=False),
    ForeignKeyConstraint(["backup"], ["backups.id"], name="fk_copies_backup"),
)

holds = Table(
    "holds",
    metadata,
    Column("id", Id, primary_key=True),
    Column("customer", Id, nullable=False),
    Column("database", Id, nullable=False),
    Column("backup", Id, nullable=False),
    Column("reason", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("placed_at", Instant, nullable=False),
    Column("until", Instant),
    Column("released_by", Text),
    Column("released_at", Instant),
    _of_one_customer(),
    ForeignKeyConstraint(["backup"], ["backups.id"], name="fk_holds_backup"),
    CheckConstraint("(released_by IS NULL) = (released_at IS NULL)", name="released"),
    Index(None, "database", "placed_at"),
    Index(None, "backup"),
)

deletions = Table(
    "deletions",
    metadata,
    Column("backup", Id, primary_key=True),
    Column("customer", Id, nullable=False),
    Column("database", Id, nullable=False),
    Column("rule", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("deleted_at", Instant, nullable=False),
    Column("removed_at", Instant),
    _of_one_customer(),
    ForeignKeyConstraint(["backup"], ["backups.id"], name="fk_deletions_backup"),
    Index(None, "database", "deleted_at"),
)

is_listed = ~exists().where(deletions.c.backup == backups.c.id)
"""Of a row of `backups`: retention has not taken it away. Its row stays, so that no rebuild
lists it anew."""

scrubs = Table(
    "scrubs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("customer", Id, nullable=False),
    Column("store_url", Text, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant, nullable=False),
    Column("objects", BigInteger, nullable=False),
    Column("backups", BigInteger, nullable=False),
    Column("read_bytes", BigInteger, nullable=False),
    Column("findings", JSON, nullable=False),
    Index(None, "customer", "started_at"),
    Index(None, "started_at"),
)

recipients = Table(
    "recipients",
    metadata,
    Column("customer", Id, primary_key=True),
    Column("recipient", Text, primary_key=True),
    Column("proven_at", Instant, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("customer", Id),
    Column("subject", Text, nullable=False),
    Column("details", JSON, nullable=False),
    Column("salt", String(64), nullable=False),
    Column("previous", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
)

operations = Table(
    "operations",
    metadata,
    Column("id", Id, primary_key=True),
    Column("customer", Id, nullable=False),
    Column("database", Id, nullable=False),
    # No foreign key: the record of a restore outlives the backup that it read.
    Column("backup", Id, nullable=False),
    Column("target", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("error", Text),
    _of_one_customer(),
    CheckConstraint("state IN ('running', 'done', 'failed', 'interrupted')", name="state"),
    CheckConstraint("(state = 'running') = (ended_at IS NULL)", name="ended"),
    Index(None, "database", "started_at"),
    Index(None, "started_at"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    # Counts takings; a row stays when its lease is over, so that none is ever given twice.
    Column("epoch", BigInteger, nullable=False),
    Column("holder", Text, nullable=False),
    Column("ends_at", Instant),
)

standings = Table(
    "standings",
    metadata,
    Column("customer", Id, primary_key=True),
    Column("database", Id, primary_key=True),  # empty: the customer as a whole
    Column("state", String(16), nullable=False),
    Column("since", Instant, nullable=False),
    Column("until", Date),
    Column("reason", Text, nullable=False),
    CheckConstraint(
        "state IN ('active', 'paused', 'leaving', 'left', 'erased', 'retired')", name="state"
    ),
    CheckConstraint("state = 'active' OR (state = 'retired') = (database <> '')", name="whose"),
)

doubts = Table(
    "doubts",
    metadata,
    Column("since", Instant, nullable=False),
    Column("why", Text, nullable=False),
)

readings = Table(
    "readings",
    metadata,
    Column("store_url", Text, primary_key=True),
    Column("read_at", Instant, nullable=False),
)
