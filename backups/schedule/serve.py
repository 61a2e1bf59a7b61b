"""`serve`: one process that schedules and watches; its workers do the work.

Of several instances one leads, the others wait. Nothing of this process is needed to go on
after it is gone: the catalog knows what was taken, and all else is planned anew.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import FrameType

from backups.errors import BackupsError, Busy
from backups.ports import Clock
from backups.schedule.chores import CHORE
from backups.schedule.scheduler import Scheduler
from backups.schedule.ticker import Ticker
from backups.schedule.workers import Outcome, Workers

TICK = 5
"""Seconds."""
HEARTBEAT = timedelta(minutes=5)
"""Between two lines that say that all is well, when nothing else is said."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What serving needs."""

    clock: Clock
    scheduler: Scheduler
    chores: Callable[[datetime], Sequence[str]]
    """Names of what is due beside backups; no database has such a name."""
    workers: Workers
    lead: Callable[[], AbstractContextManager[int]]
    """Be the one scheduler; gives an epoch. Raises Busy."""
    renew: Callable[[int], None]
    """Raises Busy when another leads now."""
    drain: timedelta
    """How long those that run may go on after a stop was asked for."""
    say: Callable[[str], None]


class Stop:
    """Counts how often a stop was asked for; readable through a pipe, so that it wakes."""

    def __init__(self) -> None:
        self.asked = 0
        self.wakes, self._write = os.pipe()

    def ask(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Once: start nothing more. Twice: end what runs."""
        self.asked += 1
        os.write(self._write, b".")

    def heard(self) -> None:
        """Sleep soundly until it is asked for again. Called when `wakes` may be readable."""
        os.set_blocking(self.wakes, False)
        try:
            os.read(self.wakes, 64)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self.wakes)
        os.close(self._write)


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """SIGTERM and the keyboard ask for a stop."""
    stop = Stop()
    before = {number: signal.signal(number, stop.ask) for number in _ASK}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.close()


_ASK = (signal.SIGTERM, signal.SIGINT)


def serve(ports: Ports, stop: Stop) -> None:
    """Until a stop is asked for: take every backup when it is due."""
    server = _Server(ports, stop)
    ticker = Ticker(TICK, server.tick, ports.say)
    with server:
        while not stop.asked:
            server.wait(ticker.run())
        server.drain()


def serve_once(ports: Ports, stop: Stop) -> tuple[int, int]:
    """Take the backups that are due now; returns how many were taken and how many failed.

    Raises Busy when another instance leads."""
    with ports.lead() as epoch:
        server = _Server(ports, stop)
        server.lead(epoch)
        while not stop.asked:
            server.tick()
            if not ports.workers:
                break
            server.wait(TICK)
        server.drain()
    return server.taken, server.failed


class _Server:
    """What is known between two ticks."""

    def __init__(self, ports: Ports, stop: Stop) -> None:
        self._ports = ports
        self._stop = stop
        self._stack = ExitStack()
        self._epoch: int | None = None
        self._said: datetime | None = None
        self.taken = 0
        self.failed = 0

    def __enter__(self) -> None:
        self._ports.say("serving")

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._ports.say("stopped")

    def lead(self, epoch: int) -> None:
        """From now on, under a lease that is held already."""
        self._epoch = epoch
        self._ports.scheduler.reread()

    def tick(self) -> None:
        """Start what is due, as long as we lead."""
        now = self._ports.clock.now()
        if self._epoch is None:
            self._try_to_lead(now)
        else:
            self._try_to_stay()
        if self._epoch is None:
            return
        scheduler = self._ports.scheduler
        for item in scheduler.tick(now):
            try:
                self._ports.workers.start(item.database)
            except OSError as error:
                self._over(item.database, Outcome(f"could not be started: {error}"))
                continue
            self._say(f"{item.database}: started, due since {item.slot:%Y-%m-%d %H:%M:%S} UTC")
        for chore in self._ports.chores(now):
            if not self._stop.asked and chore not in self._ports.workers:
                self._start_chore(chore)
        if self._said is None or abs(now - self._said) >= HEARTBEAT:
            plan = scheduler.plan
            after = plan.next()
            self._say(
                f"alive: {len(self._ports.workers)} running, {plan.waiting} waiting, "
                + (f"next look {after:%Y-%m-%d %H:%M:%S} UTC" if after else "nothing planned")
            )

    def wait(self, seconds: float) -> None:
        """Hear of workers; what ended makes room for what waits."""
        ended = self._ports.workers.wait(seconds, self._stop.wakes)
        self._stop.heard()
        for database, outcome in ended:
            self._over(database, outcome)
        if ended and not self._stop.asked and self._epoch is not None:
            try:
                self.tick()
            except (BackupsError, OSError) as error:
                self._say(f"warning: {error}")  # the next tick tries again

    def drain(self) -> None:
        """Let those that run come to their end, for a while."""
        if not self._ports.workers:
            return
        self._say(f"draining: {len(self._ports.workers)} running; a second signal ends them")
        limit = self._ports.clock.monotonic() + self._ports.drain.total_seconds()
        renewed = self._ports.clock.monotonic()
        while self._ports.workers:
            now = self._ports.clock.monotonic()
            if self._stop.asked > 1 or now >= limit:
                self._ports.workers.stop()
            if now - renewed >= TICK and self._epoch is not None:
                renewed = now
                try:
                    self._try_to_stay()
                except BackupsError as error:  # they hold leases of their own
                    self._say(f"warning: {error}")
            self.wait(1.0)

    def _start_chore(self, chore: str) -> None:
        try:
            self._ports.workers.start(chore)
        except OSError as error:
            self._say(f"{chore}: could not be started: {error}")

    def _over(self, database: str, outcome: Outcome) -> None:
        if outcome.words:
            self._say(f"{database}: {outcome.words}")
        self.taken += outcome.taken is not None
        self.failed += outcome.failed is not None
        if database.startswith(CHORE):
            return
        self._ports.scheduler.plan.ended(
            database,
            self._ports.clock.now(),
            taken=outcome.taken,
            failed=outcome.failed,
            again=outcome.again,
        )

    def _try_to_lead(self, now: datetime) -> None:
        try:
            epoch = self._stack.enter_context(self._ports.lead())
        except Busy:
            if self._said is None or abs(now - self._said) >= HEARTBEAT:
                self._say("another instance leads; standing by")
            return
        self.lead(epoch)
        self._say("leading")

    def _try_to_stay(self) -> None:
        try:
            self._ports.renew(self._epoch or 0)
        except Busy as error:
            # Those that run go on: each holds a lease of its own.
            self._epoch = None
            self._stack.close()
            self._say(f"another instance leads now: {error}")

    def _say(self, words: str) -> None:
        now = self._ports.clock.now()
        self._said = now
        self._ports.say(words)
