"""Deciding: what is due is put into the queue, by the one of all instances that leads.

Nothing of it is needed to go on after it is gone: the catalog knows what was taken, and all
else is planned anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import count

from backups.errors import Busy
from backups.ports import Clock, Queue
from backups.schedule.attempts import Outcome
from backups.schedule.choose import Item
from backups.schedule.jobs import CHORE, NOW, REQUEST, job_of
from backups.schedule.plan import SOON
from backups.schedule.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class LeaderPorts:
    """What leading needs."""

    clock: Clock
    scheduler: Scheduler
    queue: Queue
    others: Callable[[datetime], Sequence[str]]
    """Names of jobs that are due beside scheduled backups."""
    lead: Callable[[], AbstractContextManager[int]]
    """Be the one leader; gives an epoch. Raises Busy."""
    renew: Callable[[int], None]
    """Raises Busy when another leads now."""
    lost_after: float
    """Seconds without a word from a worker after which its jobs are put back."""
    say: Callable[[str], None]


class Leader:
    """What is known between two ticks."""

    def __init__(self, ports: LeaderPorts) -> None:
        self._ports = ports
        self._stack = ExitStack()
        self._epoch: int | None = None
        self._locks: dict[str, str] = {}
        self._rest: dict[str, datetime] = {}
        """What else was put, and when it may be again if it is still due."""
        self._standing_by = False
        self._last: float | None = None
        self._in_reach = 0.0

    @property
    def leads(self) -> bool:
        """Whether it is this one."""
        return self._epoch is not None

    def close(self) -> None:
        """Lead no more."""
        self._epoch = None
        self._stack.close()

    def lead_now(self) -> None:
        """Raises Busy when another does."""
        self._begin(self._stack.enter_context(self._ports.lead()))

    def _begin(self, epoch: int) -> None:
        self._epoch = epoch
        self._standing_by = False
        self._ports.scheduler.reread()

    def tick(self) -> None:
        """Put into the queue what is due, as long as we lead."""
        now = self._ports.clock.now()
        if self._epoch is None:
            self._try_to_lead()
        else:
            self.stay()
        if self._epoch is None:
            return
        self._reap()
        self._settle(now)
        items = {item.database: item for item in self._ports.scheduler.tick(now)}
        jobs = [job_of(name, self._lock(item)) for name, item in items.items()]
        self._rest = {name: until for name, until in self._rest.items() if until > now}
        jobs += [job_of(name) for name in self._ports.others(now) if name not in self._rest]
        for job in self._ports.queue.put(jobs) if jobs else ():
            if job.name not in items:
                # Begun and done, it may not have been on record when we looked.
                self._rest[job.name] = now + SOON
            else:
                slot = items[job.name].slot
                self._ports.say(f"{job.name}: due since {slot:%Y-%m-%d %H:%M:%S} UTC")

    def ended(self, name: str, outcome: Outcome) -> None:
        """One that a worker of this very process did."""
        if name[:1] in (CHORE, REQUEST):
            return
        database = name.removeprefix(NOW)
        self._locks.pop(database, None)
        self._ports.scheduler.plan.ended(
            database,
            self._ports.clock.now(),
            taken=outcome.taken,
            failed=outcome.failed,
            again=outcome.again,
        )

    def stay(self) -> None:
        """Renew the lease, or lead no more."""
        try:
            self._ports.renew(self._epoch or 0)
        except Busy as error:
            # What runs goes on: each attempt holds a lease of its own.
            self.close()
            self._ports.say(f"another instance leads now: {error}")

    def words(self) -> str:
        """How things stand, on one line."""
        if not self.leads:
            return "another instance leads; standing by"
        plan = self._ports.scheduler.plan
        after = plan.next()
        return f"{plan.waiting} waiting, " + (
            f"next look {after:%Y-%m-%d %H:%M:%S} UTC" if after else "nothing planned"
        )

    def _reap(self) -> None:
        """What workers had who are lost. After a time out of reach nobody was heard of: then
        they are given as long again."""
        at = self._ports.clock.monotonic()
        if self._last is None or not 0 <= at - self._last < self._ports.lost_after:
            self._in_reach = at
        self._last = at
        if at - self._in_reach < self._ports.lost_after:
            return
        for name in self._ports.queue.reap():
            self._ports.say(f"{name}: put back, its worker is not heard of")

    def _settle(self, now: datetime) -> None:
        """What other processes did since: the catalog tells how it ended."""
        running = self._ports.scheduler.plan.running
        if not running:
            return
        open_ = self._ports.queue.open()
        for database in [name for name in running if name not in open_]:
            self._locks.pop(database, None)
            self._ports.scheduler.ended_elsewhere(database, now)

    def _lock(self, item: Item) -> str:
        """A place at its server: as many as run there at once are there of them."""
        if not item.source:
            return ""
        held = {lock for name, lock in self._locks.items() if name != item.database}
        places = (f"{item.source}/{number}" for number in count())
        self._locks[item.database] = next(place for place in places if place not in held)
        return self._locks[item.database]

    def _try_to_lead(self) -> None:
        try:
            epoch = self._stack.enter_context(self._ports.lead())
        except Busy:
            if not self._standing_by:
                self._standing_by = True
                self._ports.say(self.words())
            return
        self._begin(epoch)
        self._ports.say("leading")
