"""What stands of proof: restore tests, the verifier's own, reports, stores. Pure.

Absence rings here too: a database that nobody restored for longer than its plan says, a month
without a report. The numbers are ASSUMED.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from backups.notify.model import Alarm

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "restore_test.failed": "a listed backup failed a restore test and passed none since",
        "restore_test.overdue": "no backup passed a restore test for 40 days, or 10 or 2 where "
        "the plan says weekly or daily",
        "self_test.failed": "the verifier let pass a copy that was damaged on purpose",
        "self_test.overdue": "for 40 days the verifier was not tested itself",
        "report.missing": "three days after a month's end its report is not published",
        "posture.failed": "the last look at a store found something that must not be",
    }
)

EVERY: Mapping[str, timedelta] = MappingProxyType(
    {"daily": timedelta(days=2), "weekly": timedelta(days=10)}
)
MONTHLY = timedelta(days=40)
"""Two tests of a database are a month apart; the rest is for those that are repeated."""
REPORT_GRACE = timedelta(days=3)


@dataclass(frozen=True, slots=True)
class Outcome:
    """When a kind of evidence last came to an outcome."""

    kind: str
    customer: str
    database: str
    """Empty where it is about none."""
    outcome: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Failing:
    """A listed backup that failed a restore test, and since when."""

    customer: str
    database: str
    backup: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Tested:
    """A database that restore tests are owed, since when, and how often."""

    customer: str
    database: str
    since: datetime
    every: str


@dataclass(frozen=True, slots=True)
class Proof:
    """All that is looked at."""

    tested: Sequence[Tested] = ()
    outcomes: Sequence[Outcome] = ()
    failing: Sequence[Failing] = ()
    postures: Sequence[tuple[str, str, datetime, tuple[str, ...]]] = ()
    """Customer, store's URL, when it was looked at, and what was wrong then."""


NO_PROOF = Proof()


def standing(proof: Proof, now: datetime) -> Iterator[Alarm]:
    """Every alarm of these kinds that stands at `now`."""
    yield from _failing(proof.failing)
    yield from _overdue(proof, now)
    yield from _self_test(proof, now)
    yield from _reports(proof, now)
    for customer, url, at, failed in proof.postures:
        if failed:
            words = f"`backups store check` found wrong: {', '.join(failed)}"
            yield Alarm("posture.failed", customer, url, words, at)


def _failing(failing: Iterable[Failing]) -> Iterator[Alarm]:
    found: dict[tuple[str, str], list[Failing]] = {}
    for each in failing:
        found.setdefault((each.customer, each.database), []).append(each)
    for (customer, database), bad in found.items():
        words = f"a restore test of backup {', '.join(each.backup for each in bad)} failed"
        since = min(each.at for each in bad)
        yield Alarm("restore_test.failed", customer, database, words, since)


def _overdue(proof: Proof, now: datetime) -> Iterator[Alarm]:
    passed = {e.database: e.at for e in proof.outcomes if (e.kind, e.outcome) == _PASSED}
    for each in proof.tested:
        last = passed.get(each.database)
        anchor = max(each.since, last) if last and last <= now else each.since
        within = EVERY.get(each.every, MONTHLY)
        if now - anchor > within:
            words = f"no restore test passed within {within.days} days" + (
                f"; the last one did on {last:%Y-%m-%d}" if last else "; none ever did"
            )
            alarm = "restore_test.overdue"
            yield Alarm(alarm, each.customer, each.database, words, anchor + within)


_PASSED = ("drill", "PASSED")


def _self_test(proof: Proof, now: datetime) -> Iterator[Alarm]:
    def last(outcome: str) -> datetime | None:
        tests = (e for e in proof.outcomes if (e.kind, e.outcome) == ("self-test", outcome))
        return max((each.at for each in tests), default=None)

    missed, passed = last("MISSED"), last("PASSED")
    if missed and (passed is None or passed < missed):
        words = "the verifier let a damaged copy pass: its word counts for nothing"
        yield Alarm("self_test.failed", "", "self-test", words, missed)
    since = min((each.since for each in proof.tested), default=now)
    anchor = max(since, passed) if passed and passed <= now else since
    if now - anchor > MONTHLY:
        words = f"no self-test of the verifier passed within {MONTHLY.days} days"
        yield Alarm("self_test.overdue", "", "self-test", words, anchor + MONTHLY)


def _reports(proof: Proof, now: datetime) -> Iterator[Alarm]:
    start = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if now - start <= REPORT_GRACE:
        return
    month = f"{start - timedelta(days=1):%Y-%m}"
    told = {e.customer for e in proof.outcomes if (e.kind, e.outcome) == ("publication", month)}
    owed = {each.customer for each in proof.tested if each.since < start}
    for customer in sorted(owed | {""} if owed else owed):
        if customer not in told:
            words = f"the report of {month} is not published"
            subject = customer or "fleet"
            yield Alarm("report.missing", customer, subject, words, start + REPORT_GRACE)
