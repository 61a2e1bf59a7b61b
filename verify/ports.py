"""What restore tests ask of the world, beside `backups.ports`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from backups.declared import Assertion
from backups.model import Fingerprint, Source
from backups.proving import Check, Place


@dataclass(frozen=True, slots=True)
class Need:
    """What a copy needs of the server that it is restored to."""

    id: str
    """The restore test's own; everything that is made carries it."""
    customer: str
    engine: str
    fingerprint: Fingerprint
    """Its server's major version, extensions, settings and roles count here."""
    plain_bytes: int
    deadline: datetime
    """Whatever is left then belongs to nobody, and is swept."""


class Ground(Protocol):
    """A scratch place that is ours alone: empty, isolated, and to be destroyed."""

    place: Place
    """Not destroyed yet."""
    target: Source
    """Names a database that does not exist yet: `ports.Engine.restore` makes it."""

    def destroy(self) -> Place:
        """Remove all of it and look that it is gone; may be called twice. Raises nothing:
        what remains is told by `destroyed_at` being None, and named in `proof`."""


class Scratch(Protocol):
    """One kind of scratch place."""

    def acquire(self, need: Need) -> Ground:
        """Make one. Raises EnvironmentLacks naming what is missing (a server of the major
        version, an extension, space), TargetRefused when the configured server is not marked
        as scratch, or is a source of the fleet, ToolError, RestoreFailed."""

    def sweep(self, now: datetime) -> list[Place]:
        """Destroy what outlived its deadline or its process; returns what was found."""


@dataclass(frozen=True, slots=True)
class Questions:
    """What the examiner is asked beyond what it always asks."""

    assertions: Sequence[Assertion] = ()
    role: str = ""
    """The application's role; empty: the owner of the database."""
    limit: timedelta = timedelta(minutes=5)
    """For each statement; amcheck and the full read have ten times that."""


class Examiner(Protocol):
    """What one engine tells about a copy that was restored and not yet used."""

    def examine(
        self, target: Source, expected: Fingerprint, questions: Questions
    ) -> Iterator[Check]:
        """Levels 9 to 11 of the ladder, each check as soon as it is known. What can't be asked
        is a check with `passed` None. Raises Unreachable when the server is gone."""
