"""What was expected against what was done: backups, retention, sizes, ages of data. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from backups.model import Backup, Run
from backups.schedule.due import AFTER_MAINTENANCE, DEFAULT_WINDOW, slot
from backups.schedule.window import end_of, instant, parse_hours
from verify.report.facts import Facts
from verify.report.proofs import (
    Age,
    Size,
)
from verify.report.rows import (
    Backups,
    Day,
    DayRow,
    Deleted,
    Held,
    Kept,
    LedgerRow,
    Retention,
    Rule,
    text_of,
)
from verify.report.scope import Database, databases

ONE_DAY = timedelta(days=1)


def policy(facts: Facts) -> tuple[Rule, ...]:
    """Every version that was in force at some time of the month."""
    found = []
    for database in databases(facts):
        versions = database.versions
        for version, later in zip(versions, (*versions[1:], None), strict=True):
            begins = version.since is None or version.since < facts.until
            over = later is not None and (
                later.since is None or later.since <= facts.month.start
            )
            if not begins or over:
                continue
            rule, plan = version.policy, version.policy.plan
            found.append(
                Rule(
                    customer=rule.customer,
                    database=rule.database,
                    version=rule.version,
                    since=_text(version.since),
                    plan=plan.name,
                    engine=rule.engine,
                    window=rule.window or DEFAULT_WINDOW,
                    paused=rule.paused,
                    retention_days=plan.retention_days,
                    keep_weekly=plan.keep_weekly,
                    keep_monthly=plan.keep_monthly,
                    keep_yearly=plan.keep_yearly,
                    rpo_seconds=plan.rpo_hours * 3600,
                    rto_seconds=None if plan.rto_minutes is None else plan.rto_minutes * 60,
                    restore_test=plan.restore_test or "monthly",
                    restore_test_gb=plan.restore_test_gb,
                    stores=tuple(store.url for store in rule.stores),
                    recipients=len(rule.recipients),
                )
            )
    return tuple(found)


# --- backups, day by day --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Hours:
    day: date
    slot: datetime
    late_after: datetime
    ends: datetime
    zone: str


def backups(facts: Facts) -> Backups:
    """Each local day of each database; a backup counts for the day of its snapshot."""
    taken: dict[str, list[Backup]] = {}
    for backup in sorted(facts.backups, key=lambda each: (each.created_at, each.id)):
        taken.setdefault(backup.database, []).append(backup)
    failed: dict[str, list[Run]] = {}
    for run in sorted(facts.runs, key=lambda each: (each.started_at, each.id)):
        if run.state in ("failed", "interrupted"):
            failed.setdefault(run.database, []).append(run)
    totals, days = [], []
    for database in databases(facts):
        rows = [
            _day(database, day, taken.get(database.id, ()), failed.get(database.id, ()))
            for day in facts.month.days
        ]
        days += rows
        totals.append(_total(database, rows))
    return Backups(tuple(totals), tuple(days))


def _hours(database: Database, day: date) -> _Hours:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    rule = database.policy_at(noon) or database.versions[0].policy
    hours = parse_hours(rule.window or DEFAULT_WINDOW)
    at = slot(rule, day)
    late = end_of(hours, at) or at + AFTER_MAINTENANCE
    ends = instant(day + ONE_DAY, 0, hours.zone)
    return _Hours(day, at, late, ends, hours.zone.key)


def _day(
    database: Database, day: date, taken: Sequence[Backup], failed: Sequence[Run]
) -> DayRow:
    hours, until = _hours(database, day), database.facts.until
    begins = instant(day, 0, parse_hours(_window(database, day)).zone)
    mine = [each for each in taken if begins <= each.created_at < min(hours.ends, until)]
    bad = [
        run
        for run in failed
        if (run.slot == day if run.slot else begins <= run.started_at < hours.ends)
        and run.started_at < until
    ]
    expected = database.backed_up_at(hours.slot)
    state: Day
    if mine:
        late = expected and mine[0].created_at > hours.late_after
        state = "late" if late else "taken" if expected else "extra"
    elif hours.ends > until:
        state = "open" if expected else "not expected"
    elif expected:
        state = "failed" if bad else "missed"
    else:
        state = "not expected"
    return DayRow(
        customer=database.customer,
        database=database.id,
        day=day.isoformat(),
        state=state,
        backups=tuple(each.id for each in mine),
        failures=len(bad),
        error=(bad[-1].error or bad[-1].state) if bad else "",
    )


def _window(database: Database, day: date) -> str:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    rule = database.policy_at(noon) or database.versions[0].policy
    return rule.window or DEFAULT_WINDOW


def _total(database: Database, rows: Sequence[DayRow]) -> LedgerRow:
    count = {state: sum(row.state == state for row in rows) for state in
             ("taken", "late", "missed", "failed")}  # fmt: skip
    return LedgerRow(
        customer=database.customer,
        database=database.id,
        zone=parse_hours(database.policy.window or DEFAULT_WINDOW).zone.key,
        expected=sum(count.values()),
        ran=count["taken"] + count["late"],
        late=count["late"],
        missed=count["missed"] + count["failed"],
        failures=sum(row.failures for row in rows),
    )


def ages(facts: Facts, ledger: Backups) -> tuple[Age, ...]:
    """The longest time that each database went without a newer backup, while any was owed."""
    expected = {row.database for row in ledger.totals if row.expected}
    found = []
    for database in databases(facts):
        if database.id not in expected:
            continue
        taken = sorted(b.created_at for b in facts.backups if b.database == database.id)
        before = [at for at in taken if at <= facts.month.start]
        since = database.versions[0].since or facts.month.start
        anchor = before[-1] if before else max(since, facts.month.start)
        end = facts.until
        if not database.backed_up_at(end - timedelta(microseconds=1)):
            owed = [at for at in database.turns() if database.backed_up_at(at)]
            later = [at for at in database.turns() if owed and at > owed[-1]]
            end = min(later, default=end)
        points = [anchor, *(at for at in taken if anchor < at < end), end]
        longest = max(b - a for a, b in pairwise(points))
        seconds = max(0, int(longest.total_seconds()))
        rpo = database.policy.plan.rpo_hours * 3600
        found.append(Age(database.customer, database.id, seconds, rpo, seconds <= rpo))
    return tuple(found)


def sizes(facts: Facts) -> tuple[Size, ...]:
    """Each backup of the month."""
    return tuple(
        Size(
            each.customer, each.database, each.id, text_of(each.created_at),
            each.plain_bytes, each.stored_bytes,
            None if each.seconds is None else round(each.seconds),
        )
        for each in sorted(facts.backups, key=lambda b: (b.database, b.created_at, b.id))
        if facts.month.start <= each.created_at < facts.until
    )  # fmt: skip


# --- retention ------------------------------------------------------------------------


def retention(facts: Facts) -> Retention:
    """What there was in the end, what went and why, and what was held."""
    start, until = facts.month.start, facts.until
    gone = sorted(
        (each for each in facts.deletions if start <= each.deleted_at < until),
        key=lambda each: (each.database, each.deleted_at, each.backup),
    )
    return Retention(
        databases=tuple(
            Kept(customer, database, listed, sum(d.database == database for d in gone))
            for customer, database, listed in sorted(facts.kept)
        ),
        deletions=tuple(
            Deleted(
                each.customer, each.database, each.backup, each.rule, each.reason,
                text_of(each.deleted_at), _text(_by(each.removed_at, until)),
            )
            for each in gone
        ),
        holds=tuple(
            Held(
                hold.customer, hold.database, hold.backup, hold.reason, hold.name,
                text_of(hold.placed_at), _text(hold.until),
                release.name if release and release.released_at < until else None,
                text_of(release.released_at)
                if release and release.released_at < until
                else None,
            )
            for hold, release in sorted(facts.holds, key=lambda pair: pair[0].id)
            if hold.placed_at < until
            and (hold.until is None or hold.until > start)
            and (release is None or release.released_at >= start)
        ),
    )  # fmt: skip


def _by(at: datetime | None, until: datetime) -> datetime | None:
    return at if at is not None and at < until else None


def _text(at: datetime | None) -> str | None:
    return None if at is None else text_of(at)
