"""What stands: from plain facts and an instant to the alarms of that instant. Pure.

An alarm rings on absence first: no committed backup younger than the plan's RPO, whatever the
reason, and whether or not anything ran. It is one per kind, customer and subject; what stands
is compared with what is on record, so that each is opened once, told anew daily, and closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from types import MappingProxyType

from backups.notify import proof
from backups.notify.model import Alarm, Recorded
from backups.notify.proof import NO_PROOF, Proof

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "backup.missed": "no committed backup is younger than the plan's RPO",
        "backup.failing": "the last 3 runs came to nothing",
        "backup.suspicious": "the newest backup's size or compressibility is off by more than "
        "half from the median of the 7 before",
        "backup.incomplete": "the newest backup does not carry all that the database held",
        "copy.missing": "for a day, a backup has lacked a store that its policy names",
        "scrub.findings": "the last scrub found damage, or could not look",
        "scrub.overdue": "a store was not scrubbed for 35 days",
        "retention.overdue": "retention did not run for 3 days",
        "recipients.unproven": "for a day, no recipient of a customer has answered a canary",
        "endpoint.disabled": "an endpoint failed for 5 days, or said that it is gone",
        "postmortem.overdue": "five business days after an incident its post-mortem is missing",
        **proof.KINDS,
    }
)
"""Every kind there is, in words. The numbers are ASSUMED."""

FAILED_RUNS = 3
"""In a row; the schedule tries several times a day. ASSUMED."""
BEFORE = 7
"""Backups whose median the newest is held against. ASSUMED."""
ENOUGH = 3
"""Fewer of them say nothing of what is usual. ASSUMED."""
CHANGE = 0.5
"""Of the median. ASSUMED."""
SMALL = 1 << 16
"""Bytes: below, doubling means nothing. ASSUMED."""
COPY_GRACE = timedelta(hours=24)
SCRUB_EVERY = timedelta(days=35)
RETENTION_EVERY = timedelta(days=3)
PROOF_GRACE = timedelta(days=1)
AGAIN = timedelta(days=1)
"""Between two events of an alarm that stands."""
BROKEN = ("missing", "altered", "unreadable", "unreachable")
"""Kinds of scrub findings that are failures; the others cost storage and break nothing."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A committed backup, as far as alarms care."""

    id: str
    created_at: datetime
    plain_bytes: int
    stored_bytes: int
    lacking: int = 0
    """Stores that its policy names and that hold no copy."""
    not_backed_up: tuple[str, ...] = ()
    """What it does not carry, in counts, without names."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A database that is promised something."""

    customer: str
    database: str
    rpo: timedelta
    expected_since: datetime | None
    """Since when backups of it are expected; None: none is, by its state or policy."""
    newest: datetime | None
    """The snapshot of its newest committed backup, however old."""
    recent: Sequence[Seen] = ()
    """Its newest backups, newest first."""
    runs: Sequence[tuple[str, datetime]] = ()
    """State and start of its last runs that are over, newest first."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """A store of a customer, and its last scrub."""

    customer: str
    url: str
    since: datetime
    """When it was first seen to be declared."""
    scrubbed_at: datetime | None = None
    findings: Mapping[str, int] = field(default_factory=dict)
    """How many of each kind, as the last scrub found them."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is looked at."""

    databases: Sequence[Watched] = ()
    shelves: Sequence[Shelf] = ()
    unproven: Sequence[tuple[str, datetime]] = ()
    """Customers who have answered no canary for one of their policies, and since when."""
    retention_ran: datetime | None = None
    """When it last came to its end; None: the operator doesn't have it run."""
    disabled: Sequence[tuple[str, datetime, str]] = ()
    """Endpoints, since when, and why."""
    overdue: Sequence[tuple[str, str, str, datetime]] = ()
    """Incidents without a post-mortem in time: id, customer, subject, and when it was due."""
    proof: Proof = NO_PROOF


def standing(facts: Facts, now: datetime) -> list[Alarm]:
    """Every alarm that stands at `now`."""
    found: list[Alarm] = list(proof.standing(facts.proof, now))
    for each in facts.databases:
        found += _of_database(each, now)
    for shelf in facts.shelves:
        found += _of_shelf(shelf, now)
    found += (
        Alarm(
            "recipients.unproven", customer, customer,
            "no recipient has answered a canary: nobody knows that its backups can be opened",
            since,
        )
        for customer, since in facts.unproven
        if now - since > PROOF_GRACE
    )  # fmt: skip
    ran = facts.retention_ran
    if ran is not None and now - ran > RETENTION_EVERY:
        words = f"retention last ran at {_when(ran)}"
        found.append(Alarm("retention.overdue", "", "retention", words, ran + RETENTION_EVERY))
    found += (
        Alarm("endpoint.disabled", "", endpoint, f"nothing is sent there any more: {why}", at)
        for endpoint, at, why in facts.disabled
    )
    found += (
        Alarm(
            "postmortem.overdue", customer, incident,
            f"the post-mortem of incident {incident} ({subject}) was due by {_when(due)}", due,
        )
        for incident, customer, subject, due in facts.overdue
    )  # fmt: skip
    return found


def _of_database(each: Watched, now: datetime) -> Iterable[Alarm]:
    def alarm(kind: str, words: str, since: datetime) -> Alarm:
        return Alarm(kind, each.customer, each.database, words, since)

    lacking = [backup for backup in each.recent[:BEFORE] if backup.lacking]
    late = [backup for backup in lacking if now - backup.created_at > COPY_GRACE]
    if late:
        words = f"not yet in every store that the policy names: {len(late)} of its backups"
        yield alarm("copy.missing", words, late[-1].created_at + COPY_GRACE)
    if each.recent and each.recent[0].not_backed_up:
        words = f"not backed up: {'; '.join(each.recent[0].not_backed_up)}"
        yield alarm("backup.incomplete", words, each.recent[0].created_at)
    if each.expected_since is None:
        return
    # Whatever came first counts as a backup for as long as the RPO: that it is expected at
    # all, or a real one. A snapshot of the future is none.
    newest = each.newest if each.newest is not None and each.newest <= now else None
    anchor = max(each.expected_since, newest) if newest else each.expected_since
    if now - anchor > each.rpo:
        hours = each.rpo.total_seconds() / 3600
        words = f"no backup within {hours:g} hours; " + (
            f"the newest is of {_when(newest)}" if newest else "there is none at all"
        )
        yield alarm("backup.missed", words, anchor + each.rpo)
    last = each.runs[:FAILED_RUNS]
    if len(last) == FAILED_RUNS and all(state != "committed" for state, _ in last):
        words = f"its last {FAILED_RUNS} runs came to nothing"
        yield alarm("backup.failing", words, last[0][1])
    change = suspicious(each.recent)
    if change:
        yield alarm("backup.suspicious", change, each.recent[0].created_at)


def suspicious(recent: Sequence[Seen]) -> str:
    """How the newest differs from what is usual, in words; empty when it doesn't."""
    if len(recent) <= ENOUGH:
        return ""
    newest, before = recent[0], recent[1 : 1 + BEFORE]
    usual = median(backup.plain_bytes for backup in before)
    found = []
    if abs(newest.plain_bytes - usual) > max(CHANGE * usual, SMALL):
        found.append(f"{newest.plain_bytes} bytes, usually {usual:.0f}")
    if min(newest.plain_bytes, usual) > SMALL:
        ratio = _ratio(newest)
        ratios = median(_ratio(backup) for backup in before)
        if abs(ratio - ratios) > CHANGE * ratios:
            found.append(f"stored at {ratio:.2f} of its size, usually {ratios:.2f}")
    return f"backup {newest.id} is unlike those before: {'; '.join(found)}" if found else ""


def _ratio(backup: Seen) -> float:
    return backup.stored_bytes / max(1, backup.plain_bytes)


def _of_shelf(shelf: Shelf, now: datetime) -> Iterable[Alarm]:
    broken = {kind: shelf.findings[kind] for kind in BROKEN if shelf.findings.get(kind)}
    if broken and shelf.scrubbed_at is not None:
        words = ", ".join(f"{count} {kind}" for kind, count in broken.items())
        yield Alarm(
            "scrub.findings", shelf.customer, shelf.url, f"the last scrub found {words}",
            shelf.scrubbed_at,
        )  # fmt: skip
    anchor = shelf.scrubbed_at or shelf.since
    if now - anchor > SCRUB_EVERY:
        words = (
            f"last scrubbed at {_when(shelf.scrubbed_at)}"
            if shelf.scrubbed_at
            else "never scrubbed"
        )
        yield Alarm("scrub.overdue", shelf.customer, shelf.url, words, anchor + SCRUB_EVERY)


def _when(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M UTC}"


# --- against the record ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Changes:
    """What a look changes on record."""

    opened: tuple[Alarm, ...]
    again: tuple[tuple[Recorded, Alarm], ...]
    """They stand, and it is time to say so again, in today's words."""
    closed: tuple[Recorded, ...]


def compare(found: Iterable[Alarm], recorded: Iterable[Recorded], now: datetime) -> Changes:
    """What stands against what is on record as standing."""
    on_record = {_name(one.alarm): one for one in recorded}
    stand = {_name(alarm): alarm for alarm in found}
    return Changes(
        opened=tuple(alarm for name, alarm in stand.items() if name not in on_record),
        again=tuple(
            (one, stand[name])
            for name, one in on_record.items()
            # A clock that was set back must not silence it.
            if name in stand and not one.told_at <= now < one.told_at + AGAIN
        ),
        closed=tuple(one for name, one in on_record.items() if name not in stand),
    )


def _name(alarm: Alarm) -> tuple[str, str, str]:
    return alarm.kind, alarm.customer, alarm.subject
