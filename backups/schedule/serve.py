"""`serve` and `worker`: the loops around who decides and who works.

`serve` does both, so that one process is enough for one machine; of several only one decides,
and all work. A worker only works.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import FrameType

from backups.errors import BackupsError
from backups.ports import Clock
from backups.schedule.attempts import Outcome
from backups.schedule.leader import Leader
from backups.schedule.ticker import Ticker
from backups.schedule.worker import Worker

TICK = 5
"""Seconds."""
HEARTBEAT = timedelta(minutes=5)
"""Between two lines that say that all is well, when nothing else is said."""


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


@dataclass(slots=True)
class Ports:
    """Who decides, if anybody here does, and who works."""

    clock: Clock
    leader: Leader | None
    worker: Worker
    say: Callable[[str], None]


def serve(ports: Ports, stop: Stop) -> None:
    """Until a stop is asked for."""
    loop = _Loop(ports, stop)
    ticker = Ticker(TICK, loop.tick, loop.say)
    loop.say("serving" if ports.leader else "working")
    try:
        while not stop.asked:
            loop.wait(ticker.run())
        loop.drain()
    finally:
        if ports.leader:
            ports.leader.close()
        loop.say("stopped")


def serve_once(ports: Ports, stop: Stop) -> tuple[int, int]:
    """Do what is due now; returns how many backups were taken and how much failed.

    Raises Busy when another instance leads."""
    if ports.leader is None:
        raise ValueError("there is nobody to decide")
    loop = _Loop(ports, stop)
    with closing(ports.leader) as leader:
        leader.lead_now()
        while not stop.asked:
            loop.tick()
            if not ports.worker:
                break
            loop.wait(TICK)
        loop.drain()
    return loop.taken, loop.failed


class _Loop:
    """What is known between two ticks."""

    def __init__(self, ports: Ports, stop: Stop) -> None:
        self._ports = ports
        self._stop = stop
        self._said: datetime | None = None
        self.taken = 0
        self.failed = 0

    def tick(self) -> None:
        """Decide, then take."""
        # That we live comes first: a process that was frozen would else give up its own jobs.
        self._ports.worker.beat()
        if self._ports.leader:
            self._ports.leader.tick()
        if not self._stop.asked:
            self._ports.worker.step()
        now = self._ports.clock.now()
        if self._said is None or abs(now - self._said) >= HEARTBEAT:
            words = f", {self._ports.leader.words()}" if self._ports.leader else ""
            self.say(f"alive: {len(self._ports.worker)} running{words}")

    def wait(self, seconds: float) -> None:
        """Hear of what ended, and of what was put; either makes for another tick."""
        worker = self._ports.worker
        ended = worker.wait(seconds, self._stop.wakes)
        self._stop.heard()
        for name, outcome in ended:
            self._count(name, outcome)
        if (ended or worker.woken) and not self._stop.asked:
            try:
                self.tick()
            except (BackupsError, OSError) as error:
                self.say(f"warning: {error}")  # the next tick tries again

    def drain(self) -> None:
        """Let those that run come to their end, for a while."""
        worker = self._ports.worker
        if not worker:
            return
        self.say(f"draining: {len(worker)} running; a second signal ends them")
        limit = self._ports.clock.monotonic() + worker.drain_for.total_seconds()
        renewed = self._ports.clock.monotonic()
        while worker:
            now = self._ports.clock.monotonic()
            if self._stop.asked > 1 or now >= limit:
                worker.attempts.stop()
            if now - renewed >= TICK:
                renewed = now
                try:
                    worker.beat()
                    if self._ports.leader and self._ports.leader.leads:
                        self._ports.leader.stay()
                except BackupsError as error:  # they hold leases of their own
                    self.say(f"warning: {error}")
            for name, outcome in worker.wait(1.0, self._stop.wakes):
                self._count(name, outcome)
            self._stop.heard()

    def say(self, words: str) -> None:
        """And remember when."""
        self._said = self._ports.clock.now()
        self._ports.say(words)

    def _count(self, name: str, outcome: Outcome) -> None:
        self.taken += outcome.taken is not None
        self.failed += outcome.failed is not None or outcome.unfinished
        if self._ports.leader:
            self._ports.leader.ended(name, outcome)
