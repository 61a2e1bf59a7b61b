"""What happened, as events, and their bodies. Pure.

A body is a CloudEvents 1.0 event in JSON, structured mode (cloudevents.io: spec 1.0.2, JSON
format section 3). It carries ids, states and digests: no table, no row, no error of a server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from types import MappingProxyType

from backups.format.canonical import dumps
from backups.ids import uuid7
from backups.keeping import Record
from backups.notify.model import Alarm, Endpoint, Event

SOURCE = "urn:bloomneo:backups"
CONTENT_TYPE = "application/cloudevents+json"

TOLD: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "backup.committed": ("backup.committed", ("database", "expires_at")),
        "run.failed": ("backup.failed", ()),
        "run.interrupted": ("backup.interrupted", ()),
        "copy.committed": ("copy.committed", ()),
        "backup.found": ("backup.found", ()),
        "backup.marked": ("retention.preview", ("database", "until")),
        "backup.deleted": ("retention.deleted", ()),
        "hold.added": ("retention.held", ("hold",)),
        "hold.released": ("retention.released", ("hold",)),
        "restore.started": ("restore.started", ("backup", "ticket")),
        "restore.done": ("restore.done", ()),
        "restore.failed": ("restore.failed", ()),
        "restore.interrupted": ("restore.interrupted", ()),
        "replacement.planned": ("restore.planned", ("database", "backup", "ticket")),
        "replacement.approved": ("restore.approved", ("database",)),
        "replacement.done": ("restore.replaced", ("database", "backup", "ticket")),
        "replacement.undone": ("restore.undone", ("database",)),
        "store.scrubbed": ("scrub.done", ("findings",)),
        "policy.saved": ("policy.saved", ("version",)),
        "state.changed": ("state.changed", ("state",)),
        "recipient.proven": ("recipients.proven", ()),
        "catalog.doubted": ("catalog.doubted", ()),
        "drill.recorded": ("restore_test.done", ("backup", "verdict", "level")),
        "publication.recorded": ("report.published", ("month", "statement")),
    }
)
"""Actions of the audit chain that are told: as which type, and which of their details. Reasons
in people's words, and errors, are not: they may name what is nobody else's."""


def from_record(record: Record) -> Event | None:
    """The event of an audit record, if it is one that is told.

    The id comes from the record, so that telling it twice is telling it once.
    """
    if record.action not in TOLD:
        return None
    type_, details = TOLD[record.action]
    digest = hashlib.sha256(f"event {record.sequence} {record.salt}".encode()).digest()
    return Event(
        id=uuid7(record.at, digest[:10]),
        type=type_,
        customer=record.customer or "",
        subject=record.subject,
        at=record.at,
        data={name: record.details[name] for name in details if name in record.details},
    )


def from_alarm(event_id: str, alarm_id: str, alarm: Alarm, state: str, at: datetime) -> Event:
    """`state` is opened, standing or closed."""
    return Event(
        id=event_id,
        type=alarm.kind,
        customer=alarm.customer,
        subject=alarm.subject,
        at=at,
        data={
            "alarm": alarm_id,
            "state": state,
            "since": _instant(alarm.since),
            "words": alarm.words,
        },
        alarm=alarm_id,
    )


def body(event: Event) -> str:
    """One line of JSON; the same event has one body."""
    return dumps(
        {
            "specversion": "1.0",
            "id": event.id,
            "source": SOURCE,
            "type": event.type,
            "subject": event.subject,
            "time": _instant(event.at),
            "datacontenttype": "application/json",
            "data": {"customer": event.customer or None, **event.data},
        }
    ).decode()


def wanted_by(event: Event, endpoints: Iterable[Endpoint]) -> list[str]:
    """The endpoints that get it: by type, and a customer's gets that customer's only."""
    return [
        endpoint.id
        for endpoint in endpoints
        if endpoint.customer in (None, event.customer)
        and any(fnmatchcase(event.type, pattern) for pattern in endpoint.events)
    ]


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
