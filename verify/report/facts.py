"""What a report is made from, as plain values: all of it was on record before. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from backups.declared import Policy, Standing
from backups.keeping import Deletion, Hold, Record, Release
from backups.model import Backup, Operation, Run, Scrub
from backups.proving import Begun, Drill, Examination, Opinion, SelfTest
from verify.report.month import Month


@dataclass(frozen=True, slots=True)
class Version:
    """A policy, and since when it is in force."""

    policy: Policy
    since: datetime | None
    """None: from before the records begin."""


@dataclass(frozen=True, slots=True)
class Alarmed:
    """An alarm that stood at some time of the month."""

    kind: str
    customer: str
    """Empty: the whole house's."""
    subject: str
    words: str
    opened_at: datetime
    closed_at: datetime | None
    cause: str = ""
    """As a person stated it for the incident, with a URL of its post-mortem."""
    post_mortem: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """How far the audit chain reached when the evidence was read."""

    sequence: int
    digest: str


@dataclass(frozen=True, slots=True)
class Facts:
    """The evidence of one month, of every customer; the report takes what it is about."""

    month: Month
    until: datetime
    """Nothing later was looked at: the month's end, or an instant within it."""
    program: str
    """Version of the program that builds the report."""
    versions: Sequence[Version] = ()
    """Every version of every policy, oldest first."""
    standings: Sequence[Standing] = ()
    """Every one there was, oldest first."""
    runs: Sequence[Run] = ()
    backups: Sequence[Backup] = ()
    """Those taken since some days before the month, deleted ones too."""
    kept: Sequence[tuple[str, str, int]] = ()
    """Customer, database, and how many backups of it were listed at the end."""
    deletions: Sequence[Deletion] = ()
    holds: Sequence[tuple[Hold, Release | None]] = ()
    begun: Sequence[Begun] = ()
    drills: Sequence[Drill] = ()
    self_tests: Sequence[SelfTest] = ()
    opinions: Sequence[Opinion] = ()
    alarms: Sequence[Alarmed] = ()
    records: Sequence[Record] = ()
    """Of the audit chain: uses of keys, and who restored what."""
    scrubs: Sequence[Scrub] = ()
    examined: Sequence[Examination] = ()
    operations: Sequence[Operation] = ()
    head: Head | None = None


@dataclass(frozen=True, slots=True)
class Previous:
    """The report's place among others."""

    statement: str | None = None
    """Digest of the statement of the month before."""
    corrects: str = ""
    reason: str = ""
