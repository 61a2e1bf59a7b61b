"""The queue of one process: adapter of `ports.Queue` in memory.

Nothing of it outlives the process, and nothing has to: what is due is in the catalog.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from backups.ports import Clock, Job, Lane, Told


@dataclass(slots=True)
class _Entry:
    job: Job
    number: int
    seat: EmbeddedSeat | None = None
    cancelled: bool = False


class EmbeddedQueue:
    """Adapter of `ports.Queue`; used by one thread."""

    def __init__(self, clock: Clock, lost_after: float) -> None:
        """A worker that said nothing for `lost_after` seconds is lost."""
        self.clock = clock
        self._lost_after = lost_after
        self.entries: dict[str, _Entry] = {}
        self._numbers = count()

    def put(self, jobs: Sequence[Job]) -> list[Job]:
        """See the port."""
        entered = []
        for job in jobs:
            if job.name not in self.entries:
                self.entries[job.name] = _Entry(job, next(self._numbers))
                entered.append(job)
        return entered

    def open(self) -> dict[str, Literal["waiting", "running"]]:
        """See the port."""
        return {
            name: "running" if entry.seat else "waiting" for name, entry in self.entries.items()
        }

    def cancel(self, name: str) -> bool:
        """See the port."""
        entry = self.entries.get(name)
        if entry is None:
            return False
        if entry.seat is None:
            del self.entries[name]
        entry.cancelled = True
        return True

    def reap(self) -> list[str]:
        """See the port."""
        now = self.clock.monotonic()
        back = []
        for name, entry in list(self.entries.items()):
            if entry.seat and now - entry.seat.heard_at >= self._lost_after:
                self._put_back(entry)
                back.append(name)
        return back

    @contextmanager
    def seat(self) -> Iterator[EmbeddedSeat]:
        """See the port."""
        seat = EmbeddedSeat(self)
        try:
            yield seat
        finally:
            for entry in list(self.entries.values()):
                if entry.seat is seat:
                    self._put_back(entry)

    def close(self) -> None:
        """See the port."""

    def _put_back(self, entry: _Entry) -> None:
        if entry.cancelled:
            del self.entries[entry.job.name]
        entry.seat = None


@dataclass(eq=False)
class EmbeddedSeat:
    """Adapter of `ports.Seat`."""

    queue: EmbeddedQueue
    wakes: int = -1
    heard_at: float = field(init=False)
    _taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.heard_at = self.queue.clock.monotonic()

    def heard(self) -> bool:
        """See the port."""
        return False

    def take(self, lanes: Collection[Lane]) -> Job | None:
        """See the port."""
        entries = self.queue.entries.values()
        held = {entry.job.lock for entry in entries if entry.seat and entry.job.lock}
        waiting = [
            entry
            for entry in entries
            if entry.seat is None and entry.job.lane in lanes and entry.job.lock not in held
        ]
        if not waiting:
            return None
        first = min(waiting, key=lambda entry: (-entry.job.priority, entry.number))
        first.seat = self
        self._taken.add(first.job.name)
        return first.job

    def beat(self) -> Told:
        """See the port."""
        self.heard_at = self.queue.clock.monotonic()
        mine = {n: e for n, e in self.queue.entries.items() if e.seat is self}
        lost = frozenset(self._taken - mine.keys())
        self._taken -= lost
        return Told(lost, frozenset(name for name, entry in mine.items() if entry.cancelled))

    def done(self, name: str) -> bool:
        """See the port."""
        self._taken.discard(name)
        entry = self.queue.entries.get(name)
        if entry is None or entry.seat is not self:
            return False
        del self.queue.entries[name]
        return True
