"""The SLA's clock: what opens an incident, and when its post-mortem is due. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from backups.notify.model import Incident

OPENING = frozenset({"backup.missed", "restore_test.failed"})
"""Kinds of alarms that open one: what the SLA promises, and was not so."""
BUSINESS_DAYS = 5
_SATURDAY = 5


def due_day(start: datetime) -> date:
    """The fifth business day after the day on which it started.

    Days are UTC's, Monday to Friday; public holidays are not considered.
    """
    day, left = start.astimezone(UTC).date(), BUSINESS_DAYS
    while left:
        day += timedelta(days=1)
        left -= day.weekday() < _SATURDAY
    return day


def due_at(start: datetime) -> datetime:
    """The end of that day."""
    return datetime.combine(due_day(start) + timedelta(days=1), time(), UTC)


def state(incident: Incident, now: datetime) -> str:
    """ongoing, open (its post-mortem is to be written), overdue or closed."""
    if incident.closed_at is not None:
        return "closed"
    if now >= due_at(incident.started_at):
        return "overdue"
    return "ongoing" if incident.ended_at is None else "open"
