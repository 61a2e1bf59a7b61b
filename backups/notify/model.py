"""The nouns of this slice, as plain values. No behaviour, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that is not as promised, as one look at the facts finds it."""

    kind: str
    """One of `backups.notify.alarms.KINDS`; also the type of its events."""
    customer: str
    """Empty: it concerns the whole house."""
    subject: str
    """A database's or customer's id, a store's URL, an endpoint's id. With the kind and the
    customer it names the alarm: at most one such stands."""
    words: str
    """Ids, counts and instants; nothing of what a database contains, and nothing that changes
    from one look to the next while all else is the same."""
    since: datetime


@dataclass(frozen=True, slots=True)
class Recorded:
    """An alarm in the catalog, from when it was first seen to when it was no more."""

    id: str
    alarm: Alarm
    opened_at: datetime
    told_at: datetime
    """When it last became an event."""
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Incident:
    """What the SLA counts: a day missed, a restore test failed."""

    id: str
    alarm: str
    kind: str
    customer: str
    subject: str
    started_at: datetime
    ended_at: datetime | None = None
    """When all was well again; None: it goes on."""
    cause: str | None = None
    post_mortem: str | None = None
    """A URL."""
    closed_at: datetime | None = None
    """When a person stated cause and post-mortem."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, to be told."""

    id: str
    """The receiver's idempotency key; the same at every attempt."""
    type: str
    """`thing.happened`; each type has one shape of data."""
    customer: str
    """Empty: it concerns the whole house."""
    subject: str
    at: datetime
    data: Mapping[str, str]
    """Ids and states only."""
    alarm: str | None = None
    """The record that it tells of."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Somewhere events are sent to. A customer's is one more of these."""

    id: str
    kind: Literal["webhook", "email"]
    events: tuple[str, ...]
    """Patterns of event types, `*` for any part."""
    customer: str | None = None
    """Whose events it gets; None: the operator's, and it gets all."""
    url: str = ""
    secrets: tuple[str, ...] = ()
    """By reference: one, or two while they are being changed."""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    user: str | None = None
    password: str | None = None
    """By reference."""


@dataclass(frozen=True, slots=True)
class Health:
    """How an endpoint has been of late."""

    failures: int = 0
    """In a row."""
    failing_since: datetime | None = None
    next_at: datetime | None = None
    """No attempt before then."""
    disabled_at: datetime | None = None
    words: str = ""
    """What went wrong last."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one endpoint."""

    event: str
    endpoint: str
    type: str
    subject: str
    customer: str
    body: str
    """The very text that is sent, and signed."""
    state: str
    """pending, delivered or dead."""
    attempts: int
    since: datetime
    """When it was entered, or asked for again."""
    due_at: datetime
    last_at: datetime | None = None
    words: str = ""
    """What became of the last attempt."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one attempt."""

    delivered: bool
    words: str
    gone: bool = False
    """The receiver wants no more, ever (410)."""
    wait: timedelta | None = None
    """How long it asked us to wait (Retry-After)."""
