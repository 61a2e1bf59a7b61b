"""The nouns of retention, of the audit chain and of looking back, as plain values, beside
`model`. No behaviour, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from backups.declared import Policy, Standing
from backups.model import Backup, Operation, Run, Scrub


@dataclass(frozen=True, slots=True)
class Hold:
    """A person's word that a backup stays, whatever retention says."""

    id: str
    customer: str
    database: str
    backup: str
    reason: str
    name: str
    """Of the person who answers for it."""
    placed_at: datetime
    until: datetime | None = None
    """Its end, where one was set."""


@dataclass(frozen=True, slots=True)
class Release:
    """A person's word that a hold is over."""

    hold: str
    customer: str
    database: str
    backup: str
    name: str
    released_at: datetime


@dataclass(frozen=True, slots=True)
class Grant:
    """A customer's consent to the use of their own restore key, for a while."""

    id: str
    customer: str
    reason: str
    name: str
    """Of the person who consented, or who has their consent."""
    granted_at: datetime
    until: datetime
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Lies beside a backup that will be deleted, a grace time ahead. Until then the backup is
    one like any other."""

    customer: str
    database: str
    backup: str
    reason: str
    """In words, as the plan gave it."""
    marked_at: datetime


@dataclass(frozen=True, slots=True)
class Deletion:
    """A backup that retention took away: listed no more, its record kept."""

    backup: str
    customer: str
    database: str
    rule: str
    """The stable name of the reason."""
    reason: str
    """The same in words."""
    deleted_at: datetime
    removed_at: datetime | None = None
    """When the last of its objects was gone; None: some are still there."""


@dataclass(frozen=True, slots=True)
class Chronicle:
    """What the catalog's records say of time, around an instant some days before now."""

    newest: datetime | None
    """The newest instant recorded."""
    first_since: datetime | None
    """The first one since that instant."""
    last_before: datetime | None
    """The last one before it."""


# --- the audit chain ----------------------------------------------------------------

FIRST = "0" * 64
"""The digest that stands before the first record."""


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that was done."""

    sequence: int
    """From 1, without gaps."""
    at: datetime
    actor: str
    """Who did it: a login at this machine, or a part of the program."""
    action: str
    """`thing.happened`, such as `backup.committed`."""
    customer: str | None
    subject: str
    """The id of what it was done to."""
    details: Mapping[str, str] = field(default_factory=dict)
    """Never a secret, never a customer's data."""
    salt: str = ""
    """32 random bytes, hex."""
    previous: str = FIRST
    """The digest of the record before it."""


# --- chores ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last time that a chore was begun."""

    began_at: datetime
    ended_at: datetime | None = None
    """None: it is under way, or its process died."""
    error: str | None = None


# --- looking back ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Annals:
    """All that the catalog knows of a span of time, of every customer, oldest first."""

    policies: Sequence[Policy]
    """Every version of every one, whenever it was saved."""
    standings: Sequence[Standing]
    """As they are now; the audit chain says how they were."""
    runs: Sequence[Run]
    backups: Sequence[Backup]
    """Deleted ones too."""
    kept: Sequence[tuple[str, str, int]]
    """Customer, database, and how many backups of it were listed at the span's end."""
    deletions: Sequence[Deletion]
    scrubs: Sequence[Scrub]
    operations: Sequence[Operation]
