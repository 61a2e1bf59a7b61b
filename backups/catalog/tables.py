"""The catalog's tables, in SQLAlchemy Core: what migration HEAD leaves behind.

States and their fields are constraints, so that no code path can store nonsense. A
database belongs to one customer for good: every other table refers to that pair, hence
no query by database can ever mix two customers' records.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    exists,
    text,
)

from backups.catalog.columns import Id, Instant, metadata

HEAD = "0013"
"""The newest migration. Four digits that count up: a higher one is a newer release's."""


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
    # None: listed before warnings were kept here. A rebuild fills it in.
    Column("warnings", JSON(none_as_null=True)),
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

alarms = Table(
    "alarms",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("customer", Id, nullable=False),  # empty: the whole house
    Column("subject", Text, nullable=False),
    Column("words", Text, nullable=False),
    Column("since", Instant, nullable=False),
    Column("opened_at", Instant, nullable=False),
    Column("told_at", Instant, nullable=False),
    Column("closed_at", Instant),
)
_open = text("closed_at IS NULL")
Index(
    "ix_alarms_open", alarms.c.kind, alarms.c.customer, alarms.c.subject,
    unique=True, sqlite_where=_open, postgresql_where=_open,
)  # fmt: skip

incidents = Table(
    "incidents",
    metadata,
    Column("id", Id, primary_key=True),
    Column("alarm", Id, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("customer", Id, nullable=False),
    Column("subject", Text, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("cause", Text),
    Column("post_mortem", Text),
    Column("closed_at", Instant),
    ForeignKeyConstraint(["alarm"], ["alarms.id"], name="fk_incidents_alarm"),
    CheckConstraint(
        "closed_at IS NULL OR "
        "(ended_at IS NOT NULL AND cause IS NOT NULL AND post_mortem IS NOT NULL)",
        name="closed",
    ),
    Index(None, "alarm"),
)

events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True),
    Column("type", String(64), nullable=False),
    Column("customer", Id, nullable=False),
    Column("subject", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("alarm", Id),
    Column("body", Text, nullable=False),  # the very text that is signed
    Index(None, "at"),
    Index(None, "alarm"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("event", Id, primary_key=True),
    Column("endpoint", Id, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("since", Instant, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("last_at", Instant),
    Column("words", Text, nullable=False),
    ForeignKeyConstraint(["event"], ["events.id"], name="fk_deliveries_event"),
    CheckConstraint("state IN ('pending', 'delivered', 'dead')", name="state"),
    Index(None, "state", "due_at"),
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", Id, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("failing_since", Instant),
    Column("next_at", Instant),
    Column("disabled_at", Instant),
    Column("words", Text, nullable=False),
)

watched = Table(
    "watched",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("customer", Id, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("since", Instant),  # none: not expected to do anything at present
)

moments = Table(
    "moments",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("at", Instant),
    Column("position", BigInteger),
)

chores = Table(
    "chores",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("began_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("error", Text),
)

evidence = Table(
    "evidence",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", Id, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("customer", Id),  # none: of the whole fleet
    Column("database", Id),
    Column("about", Id),  # the backup that was tested, the month of a report
    Column("outcome", String(16)),  # what alarms ask: the rest is in the document
    Column("at", Instant, nullable=False),
    Column("document", Text, nullable=False),  # canonical JSON: its digest is in the chain
    UniqueConstraint("id", "kind"),
    Index(None, "kind", "at"),
    Index(None, "database", "kind", "at"),
    Index(None, "kind", "outcome", "database", "at"),
    Index(None, "about"),
)

replacements = Table(
    "replacements",
    metadata,
    Column("id", Id, primary_key=True),
    Column("customer", Id, nullable=False),
    Column("database", Id, nullable=False),
    Column("state", String(16), nullable=False),
    Column("planned_at", Instant, nullable=False),
    Column("document", Text, nullable=False),
    _of_one_customer(),
    Index(None, "database", "planned_at"),
    Index(None, "state"),
)
