"""What is due: one backup of each database per calendar day of its policy's zone. Pure.

A backup counts for the local day in which its snapshot was taken, whoever asked for it. So a
day that has one is done, however it came; a day that has none is worked at from the
database's own instant until the day is over, in the window or, late, after it. A day that
ended without one is missed: no later snapshot can show it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Protocol

from backups.model import History
from backups.schedule.window import DAY, ONE_DAY, end_of, instant, parse_hours

DEFAULT_WINDOW = "01:00-05:00 UTC"
"""ASSUMED: when a database is backed up that declares no window."""
LAST_HOUR = 60
"""Minutes before midnight in which no slot lies, where its window has other hours: a start
that waits its turn there would show the next day."""
FIRST_RETRY = timedelta(minutes=5)
"""ASSUMED: after a day's first failure; it doubles with each."""
LONGEST_RETRY = timedelta(hours=1)
"""ASSUMED. Whatever failed is tried again: people mend things and tell nobody."""
MEMORY = timedelta(hours=50)
"""How far back a history must reach: a whole local day, wherever its policy has moved."""
AFTER_MAINTENANCE = timedelta(hours=1)
"""What waited for maintenance to end is spread over this long."""


class Rule(Protocol):
    """What of a policy says when."""

    @property
    def database(self) -> str:
        """Its id."""

    @property
    def window(self) -> str | None:
        """Local hours; None: the default ones."""

    @property
    def maintenance(self) -> tuple[str, ...]:
        """Hours in which nothing starts."""

    @property
    def paused(self) -> bool:
        """Nothing starts at all."""


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done about one database."""

    start: bool
    """Now."""
    day: date
    """The local day that it is about."""
    slot: datetime
    """When that day's backup is meant to start."""
    ends: datetime
    """When that day is over."""
    why: str
    next: datetime | None
    """When to ask again, later than now; None: not before the policy changes."""


def due(policy: Rule, history: History, now: datetime) -> Due:
    """Whether a backup of the policy's database is to start now, and when the next one is.

    `history` holds at least all of the local day. Raises ConfigError when the policy's hours
    can't be read.
    """
    window = parse_hours(policy.window or DEFAULT_WINDOW)
    today = now.astimezone(window.zone).date()
    at = slot(policy, today)
    ends = instant(today + ONE_DAY, 0, window.zone)

    def answer(start: bool, why: str, ask: datetime | None) -> Due:
        return Due(start, today, at, ends, why, ask)

    if policy.paused:
        return answer(False, "paused", None)
    if any(taken.astimezone(window.zone).date() == today for taken in history.taken):
        return answer(False, "done", _later(policy, today, now))
    # A failure that is still to come was dated by a clock that was wrong: it delays nothing.
    failed = [
        when
        for when in history.failed
        if when <= now and when.astimezone(window.zone).date() == today
    ]
    # Who is stopped or lost once says nothing of the database; who is lost again may.
    lost = [
        when
        for when in history.interrupted
        if when <= now and when.astimezone(window.zone).date() == today
    ]
    failed += sorted(lost)[1:]
    ready = at
    if failed:
        ready = max(ready, max(failed) + _patience(len(failed)))
    ready = _outside_maintenance(policy, max(ready, now)) or ends
    if ready <= now:
        return answer(True, "failed before" if failed else "due", now + FIRST_RETRY)
    if ready >= ends and now < ends:
        return answer(False, "no time left today", _later(policy, today, now))
    if now >= at and _in_maintenance(policy, now):
        return answer(False, "maintenance", ready)
    return answer(False, "waits to try again" if failed else "later today", ready)


def slot(policy: Rule, day: date) -> datetime:
    """The instant at which the database's backup of that local day is meant to start.

    The same time of day always, by the zone's clocks; spread over the window by the
    database's id.
    """
    window = parse_hours(policy.window or DEFAULT_WINDOW)
    share, minute = _place(policy.window or DEFAULT_WINDOW, policy.database)
    at = instant(day, minute, window.zone)
    if not policy.maintenance:
        return at
    free = _outside_maintenance(policy, at)
    if free is None or free == at:
        return free or at
    # What maintenance held up does not start all at once when it ends.
    room = (instant(day + ONE_DAY, 0, window.zone) - free) / 2
    spread = free + min(max(room, timedelta(0)), AFTER_MAINTENANCE) * share
    return _outside_maintenance(policy, spread) or spread


@lru_cache(maxsize=1 << 17)
def _place(hours: str, database: str) -> tuple[float, float]:
    """A number from 0 to 1 that is the database's own for ever, and by it the minutes after
    midnight at which its backup starts."""
    window = parse_hours(hours)
    digest = hashlib.sha256(database.encode()).digest()
    share = int.from_bytes(digest[:6], "big") / (1 << 48)
    pieces = [(window.start, min(window.end, DAY)), (0, window.end - DAY)]
    early = [(begin, min(end, DAY - LAST_HOUR)) for begin, end in pieces]
    for choice in (early, pieces):
        lengths = [max(0, end - begin) for begin, end in choice]
        if sum(lengths):
            offset = share * sum(lengths)
            if offset < lengths[0]:
                return share, choice[0][0] + offset
            return share, choice[1][0] + offset - lengths[0]
    raise AssertionError("hours have a length")


def _patience(failures: int) -> timedelta:
    return min(FIRST_RETRY * (1 << min(failures - 1, 10)), LONGEST_RETRY)


def _later(policy: Rule, day: date, now: datetime) -> datetime:
    """The first slot of a later day; a day that a zone left out has none."""
    zone = parse_hours(policy.window or DEFAULT_WINDOW).zone
    for nth in range(1, 4):
        after = day + ONE_DAY * nth
        at = slot(policy, after)
        if at > now and instant(after, DAY // 2, zone).astimezone(zone).date() == after:
            return at
    return now + ONE_DAY


def _in_maintenance(policy: Rule, at: datetime) -> bool:
    return any(end_of(parse_hours(text), at) for text in policy.maintenance)


def _outside_maintenance(policy: Rule, at: datetime) -> datetime | None:
    """The first instant from `at` on that is in no maintenance; None within a week."""
    limit = at.astimezone(UTC) + ONE_DAY * 8
    moved = True
    while moved and at < limit:
        moved = False
        for text in policy.maintenance:
            end = end_of(parse_hours(text), at)
            if end is not None:
                at, moved = end, True
    return None if moved else at
