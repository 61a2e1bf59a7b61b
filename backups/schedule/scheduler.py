"""The scheduler: what the catalog says, a plan made of it, and what that starts. Ports only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from backups.model import History, Policy
from backups.ports import Agenda
from backups.schedule.choose import Item, Limits
from backups.schedule.due import MEMORY
from backups.schedule.plan import Plan

REREAD = timedelta(minutes=5)
"""How often histories are read anew: others take backups too. Each worker asks the catalog
once more before it begins, so what is older here costs time only."""
STEP_BACK = timedelta(minutes=1)
"""A clock that goes back by more than this makes a plan of before worthless."""


class Scheduler:
    """Decides; whoever calls it acts. Raises CatalogError."""

    def __init__(
        self,
        fleet: Callable[[], Iterable[Policy]],
        agenda: Agenda,
        limits: Limits,
        reread: timedelta = REREAD,
    ) -> None:
        """`fleet()` gives the policies in force, paused where nothing may be taken."""
        self._reread = reread
        self.plan = Plan()
        self._fleet = fleet
        self._agenda = agenda
        self._limits = limits
        self._revision: str | None = None
        self._read_at: datetime | None = None
        self._last: datetime | None = None

    def tick(self, now: datetime) -> list[Item]:
        """What starts now; each counts as running until `plan.ended`."""
        if self._last is not None and now < self._last - STEP_BACK:
            self.plan.ask_all(now)
            self.reread()
        self._last = now
        self._read(now)
        return self.plan.start(self._limits, now)

    def ended_elsewhere(self, database: str, now: datetime) -> None:
        """An attempt is over that another process made; the catalog knows how."""
        found = self._agenda.histories(now - MEMORY, database)
        self.plan.ended_elsewhere(database, now, found.get(database, History()))

    def reread(self) -> None:
        """Trust nothing that was learnt so far."""
        self._read_at = None

    def _read(self, now: datetime) -> None:
        revision = self._agenda.revision()
        if self._read_at is None or not self._read_at <= now < self._read_at + self._reread:
            self.plan.learn(self._agenda.histories(now - MEMORY), now)
            self._read_at = now
        if revision != self._revision:
            self.plan.declare(self._fleet(), now)
            self._revision = revision
