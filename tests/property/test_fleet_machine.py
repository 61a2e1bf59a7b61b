"""A small fleet, whatever happens to it in whatever order: the scheduler, the run of a backup,
holds, retention, leases and the catalog are the real ones; sources and stores are in memory,
and a process may be killed at any call that it makes of the catalog or of a store."""

from __future__ import annotations

import hashlib
import random  # noqa: TID251  (repeatable, unlike the real one)
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from schedule_kit import HOUR, LEASE, MINUTE, POLICY, FakeClock

from backups.catalog.agenda import SqlAgenda
from backups.catalog.audit import SqlAudit
from backups.catalog.evidence import SqlArchive
from backups.catalog.journal import Journal
from backups.catalog.leases import SqlLeases
from backups.catalog.ledger import SqlLedger
from backups.catalog.open import open_catalog
from backups.errors import BackupsError, Busy, Unreachable
from backups.format.age import Identity
from backups.ids import lease_name
from backups.model import (
    Backup,
    Destination,
    Fingerprint,
    Policy,
    Preflight,
    Run,
    Snapshot,
    Source,
)
from backups.policy.retention import Rule, earlier_plans
from backups.run import holds
from backups.run.audit import read_chain
from backups.run.backup import BackupPorts, back_up, back_up_if_due, record_failure
from backups.run.prune import prune
from backups.run.pruning import PrunePorts
from backups.run.reader import Found, fetch, list_manifests
from backups.run.shelves import Shelf
from backups.schedule.choose import Limits
from backups.schedule.plan import Plan as FleetPlan
from backups.schedule.scheduler import Scheduler
from backups.schedule.window import parse_hours
from providers.memory import MemoryStore

BEGIN = datetime(2027, 3, 20, 6, tzinfo=UTC)  # the weeks in which many zones change the hour
DAY = timedelta(days=1)


class SameEntropy:
    """The same bytes in every example: ids decide orders, and so what may be drawn next."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._random = random.Random(47)

    def bytes(self, count: int) -> bytes:
        """See the port."""
        return self._random.randbytes(count)


ENTROPY = SameEntropy()
KEY = Ed25519PrivateKey.generate()
RECIPIENT = Identity.generate(ENTROPY).recipient
OWNERS = {"shop": "acme", "blog": "acme", "wiki": "birch"}
WINDOWS = (
    "01:00-05:00 UTC", "02:00-03:00 Europe/Berlin", "22:00-23:30 America/New_York",
    "00:00-24:00 Pacific/Auckland",
)  # fmt: skip
PLANS = tuple(replace(POLICY.plan, retention_days=days) for days in (2, 4))


class Killed(BaseException):
    """The process is gone: whatever it still calls does nothing."""


class Life:
    """A process's, of so many calls."""

    def __init__(self, calls: int | None) -> None:
        self.calls = calls

    def of(self, port: Any) -> Any:
        return _Mortal(port, self)

    def spend(self) -> None:
        if self.calls is not None:
            self.calls -= 1
            if self.calls < 0:
                raise Killed


class _Mortal:
    def __init__(self, port: Any, life: Life) -> None:
        self._port, self._life = port, life

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)

        def call(*args: Any, **more: Any) -> Any:
            self._life.spend()
            return method(*args, **more)

        return call


class Bytes:
    """An engine whose databases are a few bytes, if it can reach them."""

    def __init__(self, clock: FakeClock, up: bool, meanwhile: Callable[[], None]) -> None:
        self._clock, self._up, self._meanwhile = clock, up, meanwhile
        self.preflight = Preflight("15", "15", 9)

    @contextmanager
    def dump(self, _: Source) -> Iterator[Bytes]:
        if not self._up:
            raise Unreachable("the source is away")
        self.snapshot = Snapshot(self._clock.now(), "0/0")
        yield self

    def artifacts(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        self._meanwhile()
        yield "archive", iter([ENTROPY.bytes(50)])

    def finish(self) -> Fingerprint:
        return Fingerprint("postgresql", "15", {}, {}, (), (), (), ())


@cache
def empty_catalog() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalog.sqlite3"
        open_catalog(path).close()
        return path.read_bytes()


def silent(*_: object) -> None:
    """No progress is shown."""


class Fleet(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        ENTROPY.restart()
        self.folder = tempfile.mkdtemp()
        path = Path(self.folder) / "catalog.sqlite3"
        path.write_bytes(empty_catalog())
        self.clock = FakeClock(BEGIN)
        self.catalog = open_catalog(path, Journal("machine", self.clock, ENTROPY))
        self.agenda, self.leases = SqlAgenda(self.catalog), SqlLeases(self.catalog)
        self.ledger = SqlLedger(self.catalog)
        self.stores = {owner: MemoryStore(self.clock) for owner in OWNERS.values()}
        self.hosts = [self.scheduler(), self.scheduler()]
        self.epochs: list[int | None] = [None, None]
        self.attempts: Counter[str] = Counter()
        self.zones: dict[str, str] = {}
        """Of each run of the schedule."""
        for name in OWNERS:
            self.declare(name, WINDOWS[0], 0)

    def teardown(self) -> None:
        if hasattr(self, "catalog"):
            read_chain(SqlAudit(self.catalog))  # I4: raises where a record is missing
            self.catalog.close()
            shutil.rmtree(self.folder)

    def scheduler(self) -> Scheduler:
        return Scheduler(self.catalog.policies, self.agenda, Limits(9, 9, 9))

    # --- what happens

    @rule(
        name=st.sampled_from(sorted(OWNERS)),
        window=st.sampled_from(WINDOWS),
        plan=st.integers(0, 1),
    )
    def declare(self, name: str, window: str, plan: int) -> None:
        self.catalog.save_policy(
            replace(
                POLICY, customer=OWNERS[name], database=name, window=window, plan=PLANS[plan],
                stores=(Destination(f"memory:{OWNERS[name]}"),),
            )
        )  # fmt: skip

    @rule(minutes=st.integers(1, 2000))
    def time_goes_by(self, minutes: int) -> None:
        self.clock.at += minutes * MINUTE

    @rule(days=st.integers(1, 6), host=st.integers(0, 1))
    def days_go_by(self, days: int, host: int) -> None:
        for _ in range(days):
            self.clock.at += DAY
            self.tick(host, True, None, False)
            for name in OWNERS:
                self.prune(name, None)

    @rule(minutes=st.integers(1, 300))
    def the_clock_is_set_back(self, minutes: int) -> None:
        self.clock.at -= minutes * MINUTE

    @rule(
        host=st.integers(0, 1),
        up=st.sampled_from([True, True, True, False]),
        killed=st.none() | st.integers(0, 25),
        slept=st.booleans(),
    )
    def tick(self, host: int, up: bool, killed: int | None, slept: bool) -> None:
        """One look of one of two instances; the first of what it starts may go wrong."""
        now = self.clock.now()
        epoch = self.epochs[host]
        try:
            if epoch is None:
                epoch = self.epochs[host] = self.leases.acquire(
                    ".schedule", f"host-{host}", now, LEASE
                )
                self.hosts[host].reread()
            self.leases.renew(".schedule", epoch, now, LEASE)
        except Busy:
            self.epochs[host] = None
            return
        for item in self.hosts[host].tick(now):
            self.attempt(self.hosts[host].plan, item.database, up, killed, slept)
            killed, slept = None, False

    @rule(name=st.sampled_from(sorted(OWNERS)))
    def a_scheduler_knows_too_little(self, name: str) -> None:
        """And starts a worker for what is done, or not due."""
        self.attempt(FleetPlan(), name, True, None, False)

    @rule(host=st.integers(0, 1))
    def an_instance_dies(self, host: int) -> None:
        self.hosts[host], self.epochs[host] = self.scheduler(), None

    @rule(name=st.sampled_from(sorted(OWNERS)))
    def somebody_backs_up(self, name: str) -> None:
        policy = self.catalog.policy(name)
        try:
            back_up(self.ports(policy, Life(None)), policy, Source("x", None), silent)
        except Busy:
            return

    @rule(pick=st.randoms(use_true_random=False), days=st.none() | st.integers(1, 9))
    def somebody_holds(self, pick: Any, days: int | None) -> None:
        if listed := self.catalog.backups():
            entry = pick.choice(listed)
            until = self.clock.now() + days * DAY if days else None
            holds.place(self.hold_ports(entry), entry, "case 47", "Ann Lee", until)

    @rule()
    def somebody_releases(self) -> None:
        for hold, over in self.ledger.holds():
            if over is None and self.listed(hold.backup):
                entry = self.catalog.backup(hold.backup)
                holds.release(self.hold_ports(entry), hold, "Bob Ray")

    @rule(name=st.sampled_from(sorted(OWNERS)), killed=st.none() | st.integers(0, 30))
    def prune(self, name: str, killed: int | None) -> None:
        before = self.catalog.backups(name)
        held = {
            hold.backup
            for hold, over in self.ledger.holds(name)
            if over is None and (hold.until is None or self.clock.now() < hold.until)
        }
        with suppress(Killed):
            prune(self.prune_ports(name, Life(killed)))
        left = {backup.id for backup in self.catalog.backups(name)}
        for backup in before:  # I2
            if backup.id not in left:
                assert self.clock.now() >= backup.expires_at
                assert backup.id not in held
                assert backup.id != before[0].id, "the newest"

    @rule(name=st.sampled_from(sorted(OWNERS)))
    def the_clock_jumps_ten_years(self, name: str) -> None:
        before = {owner: keys_of(store) for owner, store in self.stores.items()}
        now, self.clock.at = self.clock.at, self.clock.at + 3652 * DAY
        for _ in range(2):
            prune(self.prune_ports(name, Life(None)))
            self.clock.at += 4 * DAY
        self.clock.at = now
        after = {owner: keys_of(store) for owner, store in self.stores.items()}
        assert all(manifests(before[owner]) <= after[owner] for owner in before)

    # --- what must hold

    @invariant()
    def what_is_listed_is_whole(self) -> None:
        if not hasattr(self, "catalog"):
            return
        for owner, store in self.stores.items():
            found = list(list_manifests(store, [KEY.public_key()]))
            assert all(isinstance(each, Found) for each in found)
            there = {each.manifest.backup: each.manifest for each in found}
            listed = {b.id for b in self.catalog.backups() if b.customer == owner}
            assert listed <= there.keys()  # I1
            for backup in listed:
                for artifact in there[backup].artifacts:
                    for segment in artifact.segments:
                        body = fetch(store, segment.key)
                        assert hashlib.sha256(body).hexdigest() == segment.sha256
            for key in keys_of(store) - {"README.txt"}:  # I3
                assert OWNERS[key.split("/")[1]] == owner

    @invariant()
    def one_of_each_day(self) -> None:
        if not hasattr(self, "catalog"):
            return
        for name in OWNERS:
            runs = self.catalog.runs(name, limit=1000)
            days = Counter(
                (self.zones[run.id], run.slot)
                for run in runs
                if run.state == "committed" and run.slot
            )
            assert set(days.values()) <= {1}
            ended = sum(run.state in ("failed", "interrupted") for run in runs)
            open_ = len(self.catalog.unfinished_runs(name))
            assert ended + open_ + days.total() >= self.attempts[name]  # I7

    # --- how

    def attempt(
        self, plan: FleetPlan, name: str, up: bool, killed: int | None, slept: bool
    ) -> None:
        """As a worker does it, and as its scheduler hears of it."""
        policy, began = self.catalog.policy(name), self.clock.now()
        life = Life(killed)
        known = {run.id for run in self.runs(name)}

        def meanwhile() -> None:
            if slept:  # its lease runs out, and another takes over
                self.clock.at += HOUR + MINUTE
                self.attempt(FleetPlan(), name, True, None, False)

        ports = self.ports(policy, life, up, meanwhile)
        taken = failed = again = None
        try:
            done = back_up_if_due(ports, self.agenda, policy, Source("x", None), silent)
            if isinstance(done, Backup):
                taken = done.created_at
            else:
                again = done.next
        except Busy:
            pass
        except (Killed, BackupsError) as error:
            failed = self.clock.now()
            self.attempts[name] += 1
            words = error if isinstance(error, BackupsError) else BackupsError("killed")
            record_failure(self.catalog, self.clock, ENTROPY, policy, began, words)
        zone = parse_hours(policy.window or "").zone.key
        for run in self.runs(name):
            if run.id not in known:
                self.zones.setdefault(run.id, zone)
        plan.ended(name, self.clock.now(), taken=taken, failed=failed, again=again)

    def runs(self, name: str) -> list[Run]:
        return self.catalog.runs(name, limit=1000)

    def ports(
        self,
        policy: Policy,
        life: Life,
        up: bool = True,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> BackupPorts:
        leases = life.of(self.leases)

        @contextmanager
        def exclusive(database: str) -> Iterator[int]:
            name = lease_name(database)
            epoch = leases.acquire(name, "worker", self.clock.now(), LEASE)
            try:
                yield epoch
            finally:
                leases.release(name, epoch)

        return BackupPorts(
            catalog=life.of(self.catalog),
            clock=self.clock,
            entropy=ENTROPY,
            engine=Bytes(self.clock, up, meanwhile),  # type: ignore[arg-type]
            store=life.of(self.stores[policy.customer]),
            signing_key=KEY,
            recipients=(RECIPIENT,),
            level=1,
            exclusive=exclusive,
        )

    def prune_ports(self, name: str, life: Life) -> PrunePorts:
        owner = OWNERS[name]
        listed = {b.id: b.manifest_sha256 for b in self.catalog.backups(name)}
        plans = self.ledger.plans(name)
        store = life.of(self.stores[owner])
        return PrunePorts(
            catalog=life.of(self.catalog),
            ledger=life.of(self.ledger),
            archive=SqlArchive(self.catalog),
            clock=self.clock,
            signing_key=KEY,
            customer=owner,
            database=name,
            rule=Rule(plans[-1][0], earlier_plans(plans), deletion_grace=DAY),
            shelves=(Shelf(f"memory:{owner}", store, store, listed),),
            unread=(),
            state="",
            ended=False,
            limit=9,
        )

    def hold_ports(self, entry: Backup) -> holds.HoldPorts:
        return holds.HoldPorts(
            ledger=self.ledger,
            clock=self.clock,
            entropy=ENTROPY,
            signing_key=KEY,
            stores=[(entry.store_url, nullcontext(self.stores[entry.customer]))],
        )

    def listed(self, backup: str) -> bool:
        return any(each.id == backup for each in self.catalog.backups())


def keys_of(store: MemoryStore) -> set[str]:
    return {info.key for info in store.list("")}


def manifests(keys: set[str]) -> set[str]:
    return {key for key in keys if key.endswith("/manifest.dsse.json")}


class TestFleet(Fleet.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=10, stateful_step_count=25, deadline=None)


@pytest.mark.full
@pytest.mark.timeout(900)
class TestFleetAtLength(Fleet.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
