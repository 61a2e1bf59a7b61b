"""Which restore tests are due. Pure.

In each calendar month, in UTC, the newest backup of every database is restored, and one more
(`sampling.extra_rule`); plans may ask for the newest each week or each day. Tests begin at an
instant of the database's own, in the first part of the period: the rest is for repeating
those that could not be brought to a verdict, and those that failed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from backups.proving import Verdict
from verify.sampling import Rule, extra_rule

SPREAD = 0.75
"""Of the period in which tests begin. ASSUMED."""
RETRIES = (timedelta(hours=1), timedelta(hours=4), timedelta(hours=12))
"""After a test without a verdict; then daily. ASSUMED."""
AGAIN = timedelta(days=1)
"""After one that failed: nothing changes by trying at once."""


@dataclass(frozen=True, slots=True)
class Done:
    """A restore test that was made."""

    rule: str
    verdict: Verdict
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Wanted:
    """A restore test that is to be made."""

    rule: Rule
    at: datetime
    """When it is due, or was."""
    until: datetime
    """The end of its period."""
    why: str


def period(every: str, now: datetime) -> tuple[datetime, datetime]:
    """Start and end of the day (`daily`), ISO week (`weekly`) or else month, in UTC, in which
    `now` lies."""
    day = now.astimezone(UTC).date()
    if every == "daily":
        first, after = day, day + timedelta(days=1)
    elif every == "weekly":
        first = day - timedelta(days=day.weekday())
        after = first + timedelta(days=7)
    else:
        first = day.replace(day=1)
        after = (first + timedelta(days=31)).replace(day=1)
    return _midnight(first), _midnight(after)


def wanted(database: str, every: str, done: Sequence[Done], now: datetime) -> list[Wanted]:
    """What is to be tested in the periods of `now`, due or not yet; `done` are the database's
    tests of the last month at least, in any order."""
    found = [_of_rule("newest", database, every, done, now)]
    found.append(
        _of_rule(extra_rule(now.astimezone(UTC).date()), database, "monthly", done, now)
    )
    return sorted((each for each in found if each), key=lambda each: each.at)


def _of_rule(
    rule: Rule, database: str, every: str, done: Sequence[Done], now: datetime
) -> Wanted | None:
    start, end = period(every, now)
    made = sorted(
        (one for one in done if one.rule == rule and start <= one.ended_at <= now),
        key=lambda one: one.ended_at,
    )
    if any(one.verdict == "PASSED" for one in made):
        return None
    if not made:
        return Wanted(rule, slot(database, rule, start, end), end, f"{every}, as the plan says")
    last = made[-1]
    if last.verdict == "FAILED":
        return Wanted(rule, last.ended_at + AGAIN, end, "the last one failed")
    pause = RETRIES[len(made) - 1] if len(made) <= len(RETRIES) else AGAIN
    return Wanted(rule, last.ended_at + pause, end, f"the last one was {last.verdict}")


def slot(database: str, rule: str, start: datetime, end: datetime) -> datetime:
    """An instant of the database's own in the first part of the period."""
    seed = f"{database} {rule} {start:%Y-%m-%d}".encode()
    share = int.from_bytes(hashlib.sha256(seed).digest()[:8]) / 2**64
    return start + (end - start) * SPREAD * share


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
