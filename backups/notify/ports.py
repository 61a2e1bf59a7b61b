"""The port of this slice: where what was noticed and told is kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from backups.keeping import Record
from backups.notify.alarms import Seen
from backups.notify.model import (
    Answer,
    Delivery,
    Event,
    Health,
    Incident,
    Recorded,
)
from backups.notify.proof import Failing, Outcome
from backups.proving import Examination


class Desk(Protocol):
    """One transaction: what it changes is changed together, or not at all."""

    def unread(self, limit: int) -> list[Record]:
        """The next records of the audit chain that were not passed yet, in order."""

    def passed(self, sequence: int) -> None:
        """All up to it were seen to."""

    def moment(self, name: str) -> datetime | None:
        """When something was done that has that name."""

    def set_moment(self, name: str, at: datetime) -> None:
        """It was done then."""

    def standing(self) -> list[Recorded]:
        """Alarms on record that are not closed."""

    def open_alarm(self, recorded: Recorded) -> None:
        """It stands from now on."""

    def tell_alarm(self, alarm_id: str, words: str, at: datetime) -> None:
        """It stands still, and became an event again."""

    def close_alarm(self, alarm_id: str, at: datetime) -> None:
        """It stands no more; its incident, if it has one, ended."""

    def open_incident(self, incident: Incident) -> None:
        """The SLA's clock starts."""

    def add_event(self, event: Event, endpoints: Iterable[str], at: datetime) -> None:
        """Into the outbox, one delivery for each endpoint; an event is added once."""

    def abandon(self, declared: Collection[str], at: datetime) -> None:
        """What waits for an endpoint that is declared no more, or disabled, is dead."""

    def forget(self, before: datetime) -> None:
        """Events of before that wait for nobody."""

    def watch(
        self, kind: str, found: Mapping[tuple[str, str], datetime | None]
    ) -> dict[tuple[str, str], datetime | None]:
        """Since when each (customer, subject) is watched: the first time it is found with the
        instant given for it; with None it is not expected to do anything, and when it is
        again, that begins anew at the instant given then. What is not found is forgotten."""


class Proofs(Protocol):
    """What evidence says to alarms. Raises CatalogError."""

    def outcomes(self) -> list[Outcome]:
        """When each kind of evidence last came to each outcome, by customer and database."""

    def failing(self) -> list[Failing]:
        """Listed backups that failed a restore test and passed none since."""

    def unfit(self) -> list[Examination]:
        """The newest examination of each store, where it found something wrong."""


class Notices(Protocol):
    """Raises CatalogError; NotFound where one thing is asked for and is not there."""

    def changing(self) -> AbstractContextManager[Desk]:
        """One transaction: all that is done at the desk, or nothing."""

    # --- facts

    def newest(self) -> dict[str, datetime]:
        """The snapshot of every database's newest listed backup."""

    def recent(self, since: datetime) -> dict[str, list[tuple[Seen, tuple[str, ...]]]]:
        """Of every database its listed backups from then on, newest first, each with the URLs
        of the stores that hold it."""

    def runs(self, since: datetime) -> dict[str, list[tuple[str, datetime]]]:
        """Of every database state and start of its runs from then on that are over, newest
        first."""

    def scrubs(self) -> list[tuple[str, str, datetime, Mapping[str, int]]]:
        """The last scrub of each store: customer, URL, when it ended, findings by kind."""

    def proven(self) -> dict[str, set[str]]:
        """Recipients whose holders answered a canary, by customer."""

    def declared_at(self, databases: Collection[str]) -> dict[str, datetime]:
        """When the first policy of each was saved."""

    def moment(self, name: str) -> datetime | None:
        """When something was last done that has that name."""

    # --- what was noticed

    def alarms(self, *, closed: bool = False, limit: int | None = None) -> list[Recorded]:
        """Those that stand, or those that are closed; newest first."""

    def incidents(self, *, closed: bool = True) -> list[Incident]:
        """Newest first; without those closed if so asked."""

    def close_incident(
        self, incident_id: str, cause: str, post_mortem: str, at: datetime
    ) -> Incident:
        """Raises UsageError while it goes on, or when it is closed already."""

    # --- what is told

    def health(self) -> dict[str, Health]:
        """Of the endpoints that were ever tried."""

    def take(self, endpoints: Sequence[str], now: datetime, until: datetime) -> list[Delivery]:
        """The delivery that has waited longest for each endpoint that may be tried now; until
        then nobody else takes it."""

    def answered(
        self,
        delivery: Delivery,
        answer: Answer,
        at: datetime,
        again: datetime | None,
        after: Callable[[Health], Health],
    ) -> None:
        """What became of an attempt, when it is made again (None: never), and how the
        endpoint is after it, given how it was."""

    def replay(
        self, endpoint: str, now: datetime, *, event: str | None, since: datetime | None
    ) -> int:
        """Deliver again, one event or all that are dead since then, and enable the endpoint;
        returns how many. Raises NotFound when that is none."""

    def deliveries(self, *, endpoint: str | None = None, limit: int = 50) -> list[Delivery]:
        """Newest first."""

    def depth(self) -> dict[tuple[str, str], int]:
        """How many deliveries there are, by endpoint and state."""
