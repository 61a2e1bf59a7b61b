"""A calendar month, in UTC. Pure."""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Self

from backups.errors import UsageError

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """YYYY-MM."""

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises UsageError."""
        match = _MONTH.fullmatch(text)
        if not match or int(match[1]) == 0:
            raise UsageError(f"{text[:40]!r} is not a month", hint="Write it as 2026-10.")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def before(cls, at: datetime) -> Self:
        """The last one that was over at `at`."""
        day = at.astimezone(UTC).date().replace(day=1) - timedelta(days=1)
        return cls(day.year, day.month)

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.number:02d}"

    @property
    def days(self) -> tuple[date, ...]:
        """Each of its days."""
        count = monthrange(self.year, self.number)[1]
        return tuple(date(self.year, self.number, day + 1) for day in range(count))

    @property
    def start(self) -> datetime:
        """Its first instant."""
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first instant that isn't its own any more."""
        return datetime.combine(self.days[-1], datetime.min.time(), UTC) + timedelta(days=1)
