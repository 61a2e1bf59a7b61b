"""The parts of a report's document, block by block, as frozen values. Pure.

Counts and ids, no floating-point numbers: bytes, milliseconds, and instants as ISO 8601 in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

State = Literal["ISSUED", "BLOCKED"]
"""BLOCKED: the verifier passed a copy that was damaged on purpose, so its word counts for
nothing this month."""

Outcome = Literal[
    "PASSED", "FAILED", "DIED", "ENVIRONMENT", "INCONCLUSIVE", "NOT TESTED"
]  # fmt: skip
"""Of a database in the month. DIED: a restore test was begun and never came to an end."""

Day = Literal["taken", "late", "missed", "failed", "open", "not expected", "extra"]
"""Of one local day of a database. failed: missed, after runs that came to nothing. open: not
over when the evidence was read. extra: taken although none was expected."""


def text_of(at: datetime) -> str:
    """An instant as the document has it, to the second."""
    return at.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which report this is."""

    month: str
    customer: str | None
    """None: the whole fleet."""
    program: str
    evidence_until: str
    previous: str | None
    """Digest of the signed statement of the report before."""
    corrects: str | None
    reason: str
    audit_sequence: int | None
    audit_digest: str | None


@dataclass(frozen=True, slots=True)
class Covered:
    """One database, and what its restore tests of the month say together."""

    customer: str
    database: str
    outcome: Outcome
    reason: str
    """Why it is not PASSED; empty where it is."""
    level: int | None
    """Of the ladder, in the newest test that passed."""
    backup: str | None
    tested_at: str | None
    tests: int
    owed: int
    """Tests that the plan asks of the month, at least one."""


@dataclass(frozen=True, slots=True)
class Outside:
    """A database that is not counted, and why."""

    customer: str
    database: str
    reason: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """Every database of every paying customer is counted; only PASSED counts for."""

    databases: int
    passed: int
    rows: tuple[Covered, ...]
    outside: tuple[Outside, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One version of a policy that was in force in the month."""

    customer: str
    database: str
    version: int
    since: str | None
    plan: str
    engine: str
    window: str
    paused: bool
    retention_days: int
    keep_weekly: int
    keep_monthly: int
    keep_yearly: int
    rpo_seconds: int
    rto_seconds: int | None
    restore_test: str
    restore_test_gb: int | None
    stores: tuple[str, ...]
    recipients: int


@dataclass(frozen=True, slots=True)
class DayRow:
    """One local day of one database."""

    customer: str
    database: str
    day: str
    state: Day
    backups: tuple[str, ...]
    failures: int
    error: str
    """Of the last failure."""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A database's days, added up."""

    customer: str
    database: str
    zone: str
    expected: int
    ran: int
    """Expected days that have a backup."""
    late: int
    """Of them, after the window."""
    missed: int
    failures: int
    """Runs that came to nothing."""


@dataclass(frozen=True, slots=True)
class Backups:
    """Expected against actual."""

    totals: tuple[LedgerRow, ...]
    days: tuple[DayRow, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """How many backups of a database there were in the end."""

    customer: str
    database: str
    listed: int
    deleted: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """A backup that retention took away, and why."""

    customer: str
    database: str
    backup: str
    rule: str
    reason: str
    deleted_at: str
    removed_at: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """A hold that was in force in the month."""

    customer: str
    database: str
    backup: str
    reason: str
    name: str
    placed_at: str
    until: str | None
    released_by: str | None
    released_at: str | None


@dataclass(frozen=True, slots=True)
class Retention:
    """What was kept, deleted and held."""

    databases: tuple[Kept, ...]
    deletions: tuple[Deleted, ...]
    holds: tuple[Held, ...]


def day_of(text: str) -> date:
    """The day of an instant or of a day."""
    return date.fromisoformat(text[:10])
