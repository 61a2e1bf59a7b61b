"""The queue between who decides and who works: it hands out, and knows nothing else.

The catalog is the authority on what was done and is still due. Whatever a queue loses is put
into it again, and whatever it hands out twice is done once: jobs are idempotent.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

Role = Literal["backup", "restore", "prune", "api"]
"""What a process may do, and whose keys it has."""
Lane = Literal["backup", "house", "restore", "drill", "prune", "posture"]
"""Jobs that wait for one another; each has places of its own, so that a customer's restore
never waits for backups."""


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work, known by its name: no two of a name are open at once."""

    name: str
    lane: Lane
    priority: int = 0
    """Higher ones are taken first."""
    lock: str = ""
    """Of jobs with the same one only one runs at a time."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker hears when it says that it lives."""

    lost: frozenset[str] = frozenset()
    """Taken from it meanwhile, as from one who died: somebody else does these now."""
    cancelled: frozenset[str] = frozenset()
    """To be ended, because somebody asked for that."""


class Queue(Protocol):
    """Raises CatalogError when it is out of reach."""

    def put(self, jobs: Sequence[Job]) -> list[Job]:
        """Those that are entered now; one whose name is open already is not."""

    def open(self) -> dict[str, Literal["waiting", "running"]]:
        """All that were put and are not over."""

    def cancel(self, name: str) -> bool:
        """Take it out if it waits, have it ended if it runs; False when it is not open."""

    def reap(self) -> list[str]:
        """Put back what workers had who are not heard of any more; their names."""

    def seat(self) -> AbstractContextManager[Seat]:
        """A worker's place; leaving it puts back what it has still."""

    def close(self) -> None:
        """Let go of connections; may be called twice."""


class Seat(Protocol):
    """One worker's place at the queue. Raises CatalogError when that is out of reach."""

    @property
    def wakes(self) -> int:
        """A descriptor that is readable when something may have been put; -1: there is none."""

    def heard(self) -> bool:
        """Empty the descriptor; whether there was anything in it."""

    def take(self, lanes: Collection[Lane]) -> Job | None:
        """The first of those lanes by priority, then age, now ours; None: nothing waits."""

    def beat(self) -> Told:
        """Say that we live; to be called far more often than workers are reaped."""

    def done(self, name: str) -> bool:
        """It is over, however it ended; False when it was not ours any more."""
