"""The nouns of retention, as plain values: beside `model`, and like it. No behaviour, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


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
