"""Working: jobs are taken from the queue, each is done in a process of its own.

Any number of workers, on any number of machines. One that dies, or is not heard of, loses its
jobs to others; one that wakes up after that ends what it was at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from backups.errors import BackupsError
from backups.ports import Clock, Lane, Seat
from backups.schedule.attempts import Attempts, Outcome


@dataclass(slots=True)
class Worker:
    """Takes as much as it has room for."""

    clock: Clock
    seat: Seat
    attempts: Attempts
    room: Mapping[Lane, int]
    """How many jobs of each lane at once; a lane that isn't there is not worked at."""
    drain_for: timedelta
    """How long those that run may go on after a stop was asked for."""
    beat_every: float
    """Seconds between two words to the queue that we live."""
    say: Callable[[str], None]
    _lanes: dict[str, Lane] = field(default_factory=dict)
    """Of what runs."""
    _over: list[str] = field(default_factory=list)
    """Ended here, and not yet known to the queue."""
    _beaten: float | None = None
    woken: bool = False
    """Whether something may have been put during the last wait."""

    def step(self) -> None:
        """Say that we live, and take what there is room for. Raises CatalogError."""
        self.beat()
        busy = Counter(self._lanes.values())
        while lanes := [lane for lane, room in self.room.items() if busy[lane] < room]:
            job = self.seat.take(lanes)
            if job is None:
                return
            busy[job.lane] += 1
            self._lanes[job.name] = job.lane
            try:
                self.attempts.start(job.name)
            except OSError as error:
                del self._lanes[job.name]
                self._done(job.name)
                self.say(f"{job.name}: could not be started: {error}")
                return
            self.say(f"{job.name}: started")
            self.beat()  # starting many takes its time

    def beat(self) -> None:
        """At the queue's own pace. Raises CatalogError."""
        self._tell()
        now = self.clock.monotonic()
        if self._beaten is not None and 0 <= now - self._beaten < self.beat_every:
            return
        told = self.seat.beat()
        self._beaten = now
        for name in told.lost:
            self.attempts.end(name, "somebody else does it: we were not heard of for too long")
        for name in told.cancelled:
            self.attempts.end(name, "cancelled by somebody")

    def wait(self, seconds: float, *also: int) -> list[tuple[str, Outcome]]:
        """Wait until something ends, may have been put, or one of `also` is readable; returns
        what is over."""
        wakes = [self.seat.wakes] if self.seat.wakes >= 0 else []
        ended = self.attempts.wait(seconds, *also, *wakes)
        self.woken = bool(wakes) and self.seat.heard()
        for name, outcome in ended:
            self._lanes.pop(name, None)
            self._done(name)
            if outcome.words:
                self.say(f"{name}: {outcome.words}")
        return ended

    def __len__(self) -> int:
        return len(self.attempts)

    def _done(self, name: str) -> None:
        self._over.append(name)
        try:
            self._tell()
        except BackupsError as error:  # told again with the next beat
            self.say(f"warning: {error}")

    def _tell(self) -> None:
        while self._over:
            self.seat.done(self._over[0])
            del self._over[0]
