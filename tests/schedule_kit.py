"""A world in which the scheduler lives through time that nobody waits for.

The scheduler, what is due, what is chosen and the leases are the real ones; workers are events
on a clock of our own, and take the steps of `backups.run.backup` in its order. The catalog is
either the real one or `MemoryCatalog`, which is held to the same contract.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random  # noqa: TID251  # seeded: the same world each time
from typing import Any

from backups.errors import Busy, CatalogError
from backups.ids import lease_name
from backups.model import Backup, Destination, History, Plan, Policy, Run
from backups.schedule.choose import Limits
from backups.schedule.due import MEMORY, due
from backups.schedule.scheduler import Scheduler

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
TICK = 3 * MINUTE
LEASE = 5 * MINUTE
POLICY = Policy(
    customer="acme",
    database="shop",
    version=1,
    plan=Plan("pro", 30),
    engine="postgresql",
    source_url="postgresql://db/shop",
    password_ref=None,
    stores=(Destination("s3://acme"),),
    recipients=(),
)


@dataclass
class FakeClock:
    """Stands still until it is set."""

    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class MemoryCatalog:
    """What the schedule asks of `Catalog`, `Agenda` and `Leases`, without a database."""

    rules: dict[str, Policy] = field(default_factory=dict)
    all_runs: dict[str, Run] = field(default_factory=dict)
    taken: dict[str, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    failed: dict[str, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    lost: dict[str, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    unfinished: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    held: dict[str, tuple[int, str, datetime | None]] = field(default_factory=dict)
    changes: int = 0
    listed: dict[str, list[Backup]] = field(default_factory=lambda: defaultdict(list))
    plans: dict[str, list[tuple[Plan, datetime | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Of every version of a policy, with the start of the first run under it."""
    last_commit: datetime | None = None

    def declare(self, policies: list[Policy]) -> None:
        for policy in policies:
            known = self.rules.get(policy.database)
            version = known.version + 1 if known else 1
            self.rules[policy.database] = replace(policy, version=version)
            self.plans[policy.database].append((policy.plan, None))
            self.changes += 1

    def policies(self) -> list[Policy]:
        return list(self.rules.values())

    def policy(self, database: str) -> Policy:
        return self.rules[database]

    # --- agenda

    def revision(self) -> str:
        return str(self.changes)

    def histories(self, since: datetime, database: str | None = None) -> dict[str, History]:
        names = self.rules if database is None else [database]
        found = {}
        for name in names:
            taken = _since(self.taken.get(name, []), since)
            failed = _since(self.failed.get(name, []), since)
            lost = _since(self.lost.get(name, []), since)
            if taken or failed or lost:
                found[name] = History(taken, failed, lost)
        return found

    # --- runs

    def start_run(self, run: Run) -> None:
        epoch, _, _ = self.held.get(lease_name(run.database), (0, "", None))
        if run.epoch is not None and epoch > run.epoch:
            raise Busy(f"{run.database} was taken over by another process")
        self.all_runs[run.id] = run
        plan, first = self.plans[run.database][run.policy_version - 1]
        if first is None:
            self.plans[run.database][run.policy_version - 1] = plan, run.started_at
        self.unfinished[run.database].add(run.id)

    def prepare_run(self, run_id: str, envelope: bytes) -> None:
        run = self.all_runs[run_id]
        if run.state != "running":
            raise CatalogError(f"run {run_id} is {run.state}, not running")
        self.all_runs[run_id] = replace(run, state="prepared", envelope=envelope)

    def commit_run(self, backup: Backup, ended_at: datetime) -> None:
        run = self.all_runs[backup.id]
        if run.state == "committed":
            return
        if run.state != "prepared":
            raise CatalogError(f"run {run.id} is {run.state}, not prepared")
        self._end(run, "committed", ended_at)
        self.taken[run.database].append(backup.created_at)
        self.listed[run.database].append(backup)
        self.last_commit = ended_at

    def end_run(self, run_id: str, state: str, ended_at: datetime, error: str) -> None:
        run = self.all_runs[run_id]
        if run.state not in ("running", "prepared"):
            raise CatalogError(f"run {run_id} is {run.state}")
        self._end(run, state, ended_at)
        at = ended_at if state == "failed" else run.started_at
        kept = (self.failed if state == "failed" else self.lost)[run.database]
        kept.insert(bisect_left(kept, at), at)

    def _end(self, run: Run, state: str, ended_at: datetime) -> None:
        self.all_runs[run.id] = replace(run, state=state, ended_at=ended_at, envelope=None)
        self.unfinished[run.database].discard(run.id)

    def unfinished_runs(self, database: str) -> list[Run]:
        found = [self.all_runs[run_id] for run_id in self.unfinished[database]]
        return sorted(found, key=lambda run: (run.started_at, run.id))

    # --- leases

    def acquire(
        self, name: str, holder: str, now: datetime, length: timedelta, *, dead: str = ""
    ) -> int:
        epoch, other, ends_at = self.held.get(name, (0, "", None))
        live = ends_at is not None and now < ends_at <= now + HOUR
        if live and not (dead and other.startswith(dead)):
            raise Busy(f"{name} is held")
        self.held[name] = (epoch + 1, holder, now + min(length, HOUR))
        return epoch + 1

    def renew(self, name: str, epoch: int, now: datetime, length: timedelta) -> None:
        mine, holder, ends_at = self.held.get(name, (0, "", None))
        if mine != epoch or ends_at is None:
            raise Busy(f"{name} was taken over")
        self.held[name] = (epoch, holder, now + min(length, HOUR))

    def release(self, name: str, epoch: int) -> None:
        mine, holder, _ = self.held.get(name, (0, "", None))
        if mine == epoch:
            self.held[name] = (epoch, holder, None)


def _since(instants: list[datetime], since: datetime) -> tuple[datetime, ...]:
    """The last of a sorted list; nobody takes more than a few a day."""
    at = len(instants)
    while at and instants[at - 1] >= since:
        at -= 1
    return tuple(instants[at:])


@dataclass
class Job:
    """A worker that is under way."""

    host: Host
    database: str
    began: datetime
    epoch: int = 0
    run: Run | None = None
    works: bool = True
    """Its source and its store answer for as long as it needs."""
    slept: bool = False


@dataclass
class Host:
    """A machine with one `serve`."""

    name: str
    scheduler: Scheduler
    up: bool = True
    epoch: int | None = None
    jobs: list[Job] = field(default_factory=list)
    life: int = 0
    wakes: datetime | None = None
    """Until then it stands still, with all that runs on it."""


class World:
    """Time, machines, and what happens to them."""

    def __init__(
        self,
        catalog: Any,
        agenda: Any,
        leases: Any,
        clock: FakeClock,
        *,
        hosts: int = 2,
        limits: Limits = Limits(40, 2, 1000),  # noqa: B008  # frozen
        reread: timedelta = 5 * MINUTE,
        seed: int = 1,
        reachable: Callable[[str, datetime, datetime], bool] = lambda *_: True,
    ) -> None:
        self.catalog, self.agenda, self.leases, self.clock = catalog, agenda, leases, clock
        self.dice = Random(seed)
        self.reachable = reachable
        self.late: list[str] = []
        """Runs whose worker woke up to find itself fenced off."""
        self._events: list[tuple[datetime, int, Callable[[], None]]] = []
        self._number = count()
        self._ids = count()
        self.hosts = [
            Host(f"host-{n}", Scheduler(catalog.policies, agenda, limits, reread))
            for n in range(hosts)
        ]

    def at(self, when: datetime, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._number), event))

    def run(self, until: datetime) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= until:
            when, _, event = heapq.heappop(self._events)
            self.clock.at = max(self.clock.at, when)
            event()
        self.clock.at = until

    # --- machines

    def boot(self, host: Host) -> None:
        host.up = True
        host.life += 1
        old = host.scheduler
        host.scheduler = Scheduler(old._fleet, old._agenda, old._limits, old._reread)
        self._tick(host, host.life)

    def crash(self, host: Host) -> None:
        """The machine is gone: its leases run out, its runs stay as they are."""
        host.up = False
        host.epoch = None
        for job in host.jobs:
            self._last_renewal(job)
        host.jobs.clear()

    def suspend(self, host: Host, until: datetime) -> None:
        """It stands still and knows nothing of it; its leases run out."""
        if host.up:
            host.wakes = until
            for job in host.jobs:
                job.slept = True
                self._last_renewal(job)

    def _sleeps(self, host: Host, event: Callable[[], None]) -> bool:
        """Whether it stands still; then it does this when it wakes."""
        if host.wakes is None or host.wakes <= self.clock.now():
            host.wakes = None
            return False
        self.at(host.wakes, event)
        return True

    def _tick(self, host: Host, life: int) -> None:
        if not host.up or host.life != life:
            return
        if self._sleeps(host, lambda: self._tick(host, life)):
            return
        now = self.clock.now()
        self.at(now + TICK, lambda: self._tick(host, life))
        self._look(host)

    def _look(self, host: Host) -> None:
        now = self.clock.now()
        try:
            if host.epoch is None:
                host.epoch = self.leases.acquire(".schedule", host.name, now, LEASE)
                host.scheduler.reread()
            else:
                self.leases.renew(".schedule", host.epoch, now, LEASE)
        except Busy:
            host.epoch = None
            return
        for item in host.scheduler.tick(now):
            self._start(host, item.database)

    # --- workers, in the order of backups.run.backup

    def _start(self, host: Host, database: str) -> None:
        now = self.clock.now()
        job = Job(host, database, now)
        try:
            # Its keeper renews as long as it lives; `_last_renewal` is when it doesn't.
            job.epoch = self.leases.acquire(lease_name(database), host.name, now, HOUR)
        except Busy:
            host.scheduler.plan.ended(database, now)
            return
        self._settle(job)
        policy = self.catalog.policy(database)
        history = self.agenda.histories(now - MEMORY, database).get(database, History())
        answer = due(policy, history, now)
        if not answer.start:
            self.leases.release(lease_name(database), job.epoch)
            host.scheduler.plan.ended(database, now, again=answer.next)
            return
        job.run = Run(
            f"run-{next(self._ids):07}", policy.customer, database, policy.version, "running",
            now, slot=answer.day, epoch=job.epoch,
        )  # fmt: skip
        self.catalog.start_run(job.run)
        took = timedelta(minutes=self.dice.choice((1, 1, 2, 2, 3, 8)))
        job.works = self.reachable(database, now, now + took) and self.dice.random() > 0.02
        host.jobs.append(job)
        self.at(now + took, lambda: self._end(job))

    def _settle(self, job: Job) -> None:
        now = self.clock.now()
        for run in self.catalog.unfinished_runs(job.database):
            if run.epoch > job.epoch:
                continue
            if run.envelope is None:
                self.catalog.end_run(run.id, "interrupted", now, "")
            else:
                self.catalog.commit_run(self._backup(run), now)

    def _end(self, job: Job) -> None:
        if job not in job.host.jobs:  # it died with its machine
            return
        if self._sleeps(job.host, lambda: self._end(job)):
            return
        assert job.run is not None
        now = self.clock.now()
        job.host.jobs.remove(job)
        taken = failed = None
        try:
            if job.works:
                self.catalog.prepare_run(job.run.id, b"manifest")
                if self.dice.random() < 0.01:  # killed before it could put the manifest
                    self._last_renewal(job)
                    job.host.scheduler.plan.ended(job.database, now, failed=now)
                    return
                self.catalog.commit_run(self._backup(job.run), now)
                taken = job.run.started_at
            else:
                self.catalog.end_run(job.run.id, "failed", now, "")
                failed = now
        except CatalogError:
            assert job.slept, "only who slept may find its run ended by another"
            self.late.append(job.run.id)
            failed = now
        self.leases.release(lease_name(job.database), job.epoch)
        job.host.scheduler.plan.ended(job.database, now, taken=taken, failed=failed)
        if job.host.scheduler.plan.waiting:
            self._look(job.host)

    def _last_renewal(self, job: Job) -> None:
        try:
            self.leases.renew(lease_name(job.database), job.epoch, self.clock.now(), LEASE)
        except Busy:
            return

    def _backup(self, run: Run) -> Backup:
        days = self.catalog.policy(run.database).plan.retention_days
        return Backup(
            run.id, run.customer, run.database, "postgresql", run.started_at,
            run.started_at + timedelta(days=days), 1, 1, "s3://acme", "0" * 64,
        )  # fmt: skip
