"""Local hours, as a fleet file writes them: windows and maintenance. Pure.

01:00-05:00 Europe/Berlin            a window; over midnight too: 22:00-04:00
Sun 02:00-06:00 Europe/Berlin        maintenance, on one day of the week,
Mon-Fri 08:00-18:00 Europe/Berlin    on several in a row,
12:00-12:30 Europe/Berlin            or on every one
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from backups.errors import ConfigError

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = "(" + "|".join(DAYS) + ")"
_TEXT = re.compile(
    rf"(?:{_DAY}(?:-{_DAY})? )?"
    r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]|24(?=:00)):([0-5]\d) ([A-Za-z0-9_+/-]+)"
)
DAY = 24 * 60
"""Minutes."""
ONE_DAY = timedelta(days=1)
_MIDNIGHT = time()


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours of the local day in a zone, on some days of the week."""

    start: int
    """Minutes after midnight."""
    end: int
    """Minutes after the same midnight: above 24 hours where it runs into the next day."""
    zone: ZoneInfo
    weekdays: frozenset[int]
    """On which it begins, Monday is 0."""


@lru_cache(maxsize=4096)
def parse_hours(text: str) -> Hours:
    """A window or a maintenance range. Raises ConfigError without repeating the text."""
    match = _TEXT.fullmatch(text)
    if not match:
        raise ConfigError("these hours must be like '01:00-05:00 Europe/Berlin'")
    first, last, *numbers, name = match.groups()
    from_hour, from_minute, to_hour, to_minute = map(int, numbers)
    start, end = from_hour * 60 + from_minute, to_hour * 60 + to_minute
    if start == end:
        raise ConfigError("these hours must not begin where they end")
    try:
        zone = ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ConfigError("these hours' time zone is not known to this machine") from None
    return Hours(start, end if end > start else end + DAY, zone, _weekdays(first, last))


def _weekdays(first: str | None, last: str | None) -> frozenset[int]:
    if first is None:
        return frozenset(range(7))
    begin = DAYS.index(first)
    count = (DAYS.index(last or first) - begin) % 7 + 1
    return frozenset((begin + nth) % 7 for nth in range(count))


def instant(day: date, minutes: float, zone: ZoneInfo, *, last: bool = False) -> datetime:
    """The instant, in UTC, at which the zone's clocks show `minutes` after `day`'s midnight.

    In a gap, the instant as far after the gap's begin as the clock would have gone; of two,
    the first, or the `last` one.
    """
    # Arithmetic on an aware datetime is that of its zone's clocks.
    clock = datetime.combine(day, _MIDNIGHT, zone) + timedelta(minutes=minutes)
    return (clock.replace(fold=1) if last else clock).astimezone(UTC)


def end_of(hours: Hours, at: datetime) -> datetime | None:
    """When the range that `at` lies in is over; None when it lies in none."""
    local = at.astimezone(hours.zone).date()
    for day in (local, local - ONE_DAY):
        if day.weekday() in hours.weekdays:
            begin = instant(day, hours.start, hours.zone)
            end = instant(day, hours.end, hours.zone, last=True)
            if begin <= at < end:
                return end
    return None
