"""The report as a document: frozen values that become canonical JSON. Pure.

Counts and ids, no floating-point numbers: bytes, milliseconds, and instants as ISO 8601 in UTC.
Coverage comes first, since it is what a reader must not overlook.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from backups.errors import Damaged
from backups.format import canonical

FORMAT = "bloomneo.backups.report.v1"

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


@dataclass(frozen=True, slots=True)
class CheckRow:
    """Expected against actual."""

    level: int
    name: str
    subject: str
    passed: bool | None
    expected: str
    actual: str


@dataclass(frozen=True, slots=True)
class Voice:
    """Somebody else's verdict; it changes nothing in ours."""

    name: str
    passed: bool
    words: str
    at: str


@dataclass(frozen=True, slots=True)
class Test:
    """One restore test."""

    id: str
    customer: str
    database: str
    backup: str
    kind: str
    began_at: str
    ended_at: str | None
    outcome: Outcome
    level: int | None
    reason: str
    rule: str
    """By which the backup was chosen."""
    seed: str
    among: int
    checks: tuple[CheckRow, ...]
    retest: str | None
    """The test that passed later and answers one that did not."""
    tables: int
    rows: int
    plain_bytes: int
    policy_version: int | None
    procedure: str
    opinions: tuple[Voice, ...]


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """A part of a test."""

    name: str
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a restore took, how old its data was, against what was promised."""

    test: str
    customer: str
    database: str
    restore_milliseconds: int
    """Preparing, fetching, loading and comparing."""
    rto_seconds: int | None
    rto_met: bool | None
    phases: tuple[PhaseRow, ...]


@dataclass(frozen=True, slots=True)
class Age:
    """The longest time in the month without a newer backup."""

    customer: str
    database: str
    longest_seconds: int | None
    """None: there was never a backup."""
    rpo_seconds: int
    rpo_met: bool


@dataclass(frozen=True, slots=True)
class Timings:
    """Measured against target."""

    restores: tuple[Timing, ...]
    ages: tuple[Age, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """One backup."""

    customer: str
    database: str
    backup: str
    taken_at: str
    plain_bytes: int
    stored_bytes: int
    seconds: int | None


@dataclass(frozen=True, slots=True)
class Use:
    """Who used what opens or restores backups, how often."""

    customer: str
    subject: str
    actor: str
    action: str
    times: int
    last_at: str


@dataclass(frozen=True, slots=True)
class Key:
    """A recipient that tested backups are encrypted to."""

    customer: str
    key_id: str
    databases: int
    last_seen: str


@dataclass(frozen=True, slots=True)
class Restored:
    """A restore that a person asked for."""

    id: str
    customer: str
    database: str
    backup: str
    target: str
    state: str
    started_at: str
    ended_at: str | None
    error: str


@dataclass(frozen=True, slots=True)
class Access:
    """Uses of keys, and restores."""

    keys: tuple[Key, ...]
    uses: tuple[Use, ...]
    restores: tuple[Restored, ...]


@dataclass(frozen=True, slots=True)
class LookRow:
    """One property of a store."""

    name: str
    outcome: str
    words: str


@dataclass(frozen=True, slots=True)
class Posture:
    """A store: when it was last looked at and scrubbed, and what that found."""

    customer: str
    store: str
    examined_at: str | None
    looks: tuple[LookRow, ...]
    scrubbed_at: str | None
    scrubs: int
    objects: int | None
    findings: tuple[LookRow, ...]


@dataclass(frozen=True, slots=True)
class Exceptional:
    """Something that was not as promised."""

    customer: str
    subject: str
    kind: str
    words: str
    at: str | None


@dataclass(frozen=True, slots=True)
class Control:
    """Where evidence for a rule stands. A pointer: it claims nothing."""

    framework: str
    rule: str
    asks: str
    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Damage:
    """What was done to copies of a real backup on purpose, and how often that was caught."""

    name: str
    damage: str
    check: str
    tried: int
    caught: int


@dataclass(frozen=True, slots=True)
class SelfTested:
    """The verifier, tested with copies that it must reject."""

    runs: int
    unfinished: int
    tried: int
    caught: int
    last_at: str | None
    damages: tuple[Damage, ...]


@dataclass(frozen=True, slots=True)
class Plaintext:
    """Where a copy lay decrypted, and that it is gone."""

    test: str
    customer: str
    database: str
    kind: str
    region: str
    """Empty: the operator's settings don't say."""
    server_version: str
    boundary: tuple[str, ...]
    destroyed_at: str | None
    proof: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a test took out of the customer's store."""

    test: str
    customer: str
    database: str
    read_bytes: int
    requests: int


@dataclass(frozen=True, slots=True)
class Report:
    """One month of one customer, or of the fleet."""

    format: Literal["bloomneo.backups.report.v1"]
    state: State
    headline: str
    """The first line."""
    identity: Identity
    coverage: Coverage
    policy: tuple[Rule, ...]
    backups: Backups
    retention: Retention
    tests: tuple[Test, ...]
    cold_starts: tuple[Test, ...]
    timings: Timings
    sizes: tuple[Size, ...]
    access: Access
    posture: tuple[Posture, ...]
    exceptions: tuple[Exceptional, ...]
    controls: tuple[Control, ...]
    self_test: SelfTested
    plaintext: tuple[Plaintext, ...]
    cost: tuple[Cost, ...]


REPORT = TypeAdapter(Report)


def to_json(report: Report) -> bytes:
    """The document: the same report has the same bytes."""
    return canonical.dumps(asdict(report))


def read(data: bytes) -> Report:
    """Raises Damaged when these are not the bytes of a report."""
    try:
        report = REPORT.validate_json(data, strict=True)
    except ValidationError:
        raise Damaged("this is not a report of a form that we know") from None
    if to_json(report) != data:
        raise Damaged("the report is not in its canonical form")
    return report


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the document, as it is published."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": FORMAT,
        **REPORT.json_schema(),
    }


def day_of(text: str) -> date:
    """The day of an instant or of a day."""
    return date.fromisoformat(text[:10])
