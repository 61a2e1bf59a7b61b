"""What is still promised is never planned for deletion (I2), in whatever fleet; and each guard
is needed: without it some fleet loses what it must not.

The oracle below is written from the promise, not from the code that it judges.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from backups.keeping import Chronicle
from backups.model import Plan
from backups.policy import retention
from backups.policy.retention import (
    FROZEN,
    GUARDS,
    Decision,
    Earlier,
    Entry,
    Facts,
    Rule,
    earlier_plans,
    plan_retention,
)

NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Fleet:
    """All that a plan is made from."""

    entries: tuple[Entry, ...]
    rule: Rule
    facts: Facts

    def plan(self) -> tuple[Decision, ...]:
        return plan_retention(self.entries, self.rule, self.facts)


def rarely(something: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.one_of(st.just(()), st.just(()), something.map(lambda words: (words,)))


def hours(low: int, high: int) -> st.SearchStrategy[timedelta]:
    return st.integers(low, high).map(lambda count: count * HOUR)


def maybe(strategy: st.SearchStrategy[datetime]) -> st.SearchStrategy[datetime | None]:
    return st.one_of(st.none(), strategy)


around_now = hours(-30 * 24, 30 * 24).map(lambda span: NOW + span)


ASPECTS = [
    "downgrade", "hold", "good", "verified", "in-use", "calendar", "lock", "unreadable",
    "clock", "long-rpo", "window", "state", "ended",
]  # fmt: skip
"""What may trouble a fleet. One has few troubles at a time: too many hide each other."""


@st.composite
def an_entry(draw: st.DrawFn, number: int, aspects: set[str]) -> Entry:
    taken_at = NOW - draw(st.one_of(hours(0, 400), hours(0, 60 * 24)))
    if "calendar" in aspects:
        taken_at -= draw(st.sampled_from([0, 0, 100, 400, 800])) * DAY
    longest = 70 if "window" in aspects else 3
    entry = Entry(
        id=f"b{number}",
        taken_at=taken_at,
        promised_until=taken_at + draw(st.integers(1, longest)) * DAY,
        marked_at=draw(maybe(hours(0, 100).map(lambda span: NOW - span))),
    )
    if "good" in aspects:
        entry = replace(entry, good=draw(st.booleans()))
    if "verified" in aspects:
        entry = replace(entry, verified=draw(st.booleans()))
    if "hold" in aspects:
        entry = replace(entry, holds=draw(rarely(st.just("Ann: court case"))))
    if "in-use" in aspects:
        entry = replace(entry, used_by=draw(st.sampled_from(["", "a restore"])))
    if "lock" in aspects:
        entry = replace(entry, locked_until=draw(maybe(around_now)))
    return entry


@st.composite
def fleets(draw: st.DrawFn, only: set[str] | None = None) -> Fleet:
    aspects = only or draw(st.sets(st.sampled_from(ASPECTS), max_size=4))
    keeps = [0, 0, 0]
    if "calendar" in aspects:
        keeps = [draw(st.integers(0, 3)) for _ in keeps]
    plan = Plan(
        "own",
        draw(st.integers(1, 40 if "window" in aspects else 3)),
        rpo_hours=200 if "long-rpo" in aspects else 26,
        keep_weekly=keeps[0],
        keep_monthly=keeps[1],
        keep_yearly=keeps[2],
    )
    rule, facts = Rule(plan), Facts(NOW, Chronicle(NOW, NOW - DAY, NOW - 8 * DAY), NOW)
    if "downgrade" in aspects:
        lowered = maybe(hours(0, 40 * 24).map(lambda span: NOW - span))
        earlier = st.builds(Earlier, st.integers(plan.retention_days + 1, 60), lowered)
        rule = replace(rule, earlier=tuple(draw(st.lists(earlier, max_size=2))))
    if "clock" in aspects:
        recent = hours(0, 10).map(lambda span: NOW - span)
        first = draw(recent)
        before = draw(maybe(hours(1, 30 * 24).map(lambda span: first - span)))
        newest = draw(st.one_of(recent, around_now))
        stored = draw(maybe(st.one_of(recent, around_now)))
        facts = Facts(NOW, Chronicle(newest, first, before), stored)
    if "unreadable" in aspects:
        facts = replace(facts, troubles=draw(rarely(st.just("a manifest can't be read"))))
    if "state" in aspects:
        facts = replace(facts, state=draw(rarely(st.just("acme is paused"))))
    if "ended" in aspects:
        facts = replace(facts, ended=draw(st.booleans()))
    count = draw(st.integers(1, 6))
    return Fleet(tuple(draw(an_entry(number, aspects)) for number in range(count)), rule, facts)


def violations(fleet: Fleet, plan: Sequence[Decision]) -> set[str]:
    """What the plan deletes and must not, by the name of the promise it breaks."""
    by_id = {entry.id: entry for entry in fleet.entries}
    gone = {decision.backup for decision in plan if not decision.keep}
    rule, facts = fleet.rule, fleet.facts
    broken = set()
    good = sorted((e for e in fleet.entries if e.good), key=lambda e: (e.taken_at, e.id))
    verified = [e for e in fleet.entries if e.verified]
    for entry in (by_id[backup] for backup in gone):
        days = timedelta(days=rule.plan.retention_days)
        if facts.now < entry.promised_until or facts.now - entry.taken_at < days:
            broken.add("window")
        for earlier in rule.earlier:
            in_window = facts.now - entry.taken_at < timedelta(days=earlier.days)
            waits = earlier.lowered_at is None or (
                entry.taken_at < earlier.lowered_at
                and facts.now < earlier.lowered_at + timedelta(days=14)
            )
            if in_window and waits:
                broken.add("downgrade")
        if entry.holds:
            broken.add("hold")
        if entry.used_by:
            broken.add("in-use")
        if entry.locked_until is not None and facts.now < entry.locked_until:
            broken.add("lock")
    if good and good[-1].id in gone and not facts.ended:
        broken.add("newest-good")
    if (
        not facts.ended
        and verified
        and max(verified, key=lambda e: (e.taken_at, e.id)).id in gone
    ):
        broken.add("newest-verified")
    return broken | (of_all(fleet, good, gone) if gone else set())


def of_all(fleet: Fleet, good: Sequence[Entry], gone: set[str]) -> set[str]:
    """The same of promises that speak of the whole database, when something is gone."""
    facts, plan, broken = fleet.facts, fleet.rule.plan, set()
    for name, form, count in (
        ("weekly", "%G-%V", plan.keep_weekly),
        ("monthly", "%Y-%m", plan.keep_monthly),
        ("yearly", "%Y", plan.keep_yearly),
    ):
        last = {entry.taken_at.strftime(form): entry.id for entry in good}
        if gone & {last[period] for period in sorted(last, reverse=True)[:count]}:
            broken.add(name)
    if facts.troubles:
        broken.add("unreadable")
    if facts.state:
        broken.add("state")
    if not facts.ended and (
        not good or facts.now - good[-1].taken_at > 2 * plan.rpo_hours * HOUR
    ):
        broken.add("stale")
    said = [at for at in (facts.chronicle.newest, facts.stored_at) if at is not None]
    first, before = facts.chronicle.first_since, facts.chronicle.last_before
    off = [at for at in said if not -900 <= (facts.now - at).total_seconds() <= 7 * 86400]
    if off or (first and before and first - before > 7 * DAY):
        broken.add("clock")
    return broken


TROUBLES = {
    "newest-good": {"long-rpo"},
    "newest-verified": {"verified"},
    **{name: {"calendar"} for name in ("weekly", "monthly", "yearly")},
}
"""What to look for where a guard is missing, if it is not called like it."""

quick = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(fleets())
def test_what_is_promised_is_never_deleted(fleet: Fleet) -> None:
    plan = fleet.plan()
    assert violations(fleet, plan) == set()
    assert sorted(decision.backup for decision in plan) == [e.id for e in fleet.entries]
    assert all(decision.words and decision.reason for decision in plan)
    assert {decision.reason for decision in plan} <= {*GUARDS, "expired"}


@pytest.mark.parametrize("name", list(GUARDS))
def test_without_a_guard_some_fleet_loses_what_it_must_not(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(retention.GUARDS, name)
    try:
        find(
            fleets(TROUBLES.get(name, {name})),
            lambda fleet: name in violations(fleet, fleet.plan()),
            settings=settings(
                max_examples=10_000,
                phases=[Phase.generate],
                derandomize=True,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    except NoSuchExample:
        pytest.fail(f"nothing needs the guard {name!r}")


def test_the_last_of_a_retired_database_goes_when_its_day_is_over() -> None:
    calm = Facts(NOW, Chronicle(NOW, NOW, None), ended=True)
    last = Entry("last", NOW - 60 * DAY, NOW - 30 * DAY, verified=True)
    (decision,) = plan_retention((last,), Rule(Plan("own", 30)), calm)
    assert (decision.keep, decision.reason) == (False, "expired")
    waits = plan_retention((last,), Rule(Plan("own", 30)), replace(calm, ended=False))
    assert waits[0].reason == "newest-good"


@given(st.integers(0, 59))
def test_what_no_guard_keeps_goes_and_says_when(days: int) -> None:
    """Retention that never deletes would pass every test above."""
    calm = Facts(NOW, Chronicle(NOW, NOW, None))
    fresh = Entry("fresh", NOW, NOW + DAY, verified=True)
    old = Entry("old", NOW - days * DAY - DAY, NOW - HOUR)
    rule = Rule(Plan("own", 1))
    of_old = plan_retention((old, fresh), rule, calm)[1]
    assert (of_old.backup, of_old.keep, of_old.reason) == ("old", False, "expired")
    assert of_old.when == NOW + 3 * DAY
    marked = replace(old, marked_at=NOW - 5 * DAY)
    assert plan_retention((marked, fresh), rule, calm)[1].when == NOW


def steady(now: datetime, newest: datetime) -> Facts:
    return Facts(now, Chronicle(newest, newest, newest - DAY))


def daily(days: int, plan: Plan) -> tuple[Entry, ...]:
    return tuple(
        Entry(f"b{n:05}", at, at + timedelta(days=plan.retention_days))
        for n in range(days)
        for at in [NOW - (days - 1 - n) * DAY]
    )


def test_a_clock_that_jumps_ten_years_deletes_nothing() -> None:
    plan = Plan("pro", 30)
    later = NOW + 3650 * DAY
    entries = daily(60, plan)
    jumped = plan_retention(entries, Rule(plan), steady(later, NOW))
    assert {decision.reason for decision in jumped if not decision.keep} == set()
    assert {decision.reason for decision in jumped} == {"newest-good", "clock"}
    # The wrong clock takes a backup too, which must not vouch for it.
    wrong = Entry("wrong", later - HOUR, later + 30 * DAY)
    facts = Facts(later, Chronicle(later - HOUR, later - HOUR, NOW))
    assert all(d.keep for d in plan_retention((*entries, wrong), Rule(plan), facts))
    # Not even for weeks, where the store's clock goes on as it did.
    weeks = Facts(later, Chronicle(later - HOUR, later - 6 * DAY, later - 7 * DAY), NOW)
    assert all(d.keep for d in plan_retention((*entries, wrong), Rule(plan), weeks))


def test_a_clock_that_goes_back_deletes_nothing() -> None:
    plan = Plan("pro", 1)
    entries = daily(60, plan)
    back = plan_retention(entries, Rule(plan), steady(NOW - DAY, NOW))
    assert {decision.reason for decision in back} == {"window", "clock"}
    assert all(decision.keep for decision in back)


def test_days_out_of_service_delay_deletions_and_no_more() -> None:
    plan = Plan("pro", 30)
    entries = daily(60, plan)
    gap = Chronicle(NOW, NOW, NOW - 8 * DAY)
    (frozen,) = {
        decision.when
        for decision in plan_retention(entries, Rule(plan), Facts(NOW, gap))
        if decision.reason in FROZEN
    }
    assert frozen == NOW + 7 * DAY
    calm = Chronicle(NOW, NOW - 6 * DAY, NOW - 7 * DAY)
    freed = plan_retention(entries, Rule(plan), Facts(NOW, calm))
    assert sum(not decision.keep for decision in freed) == 30


def test_a_raised_plan_counts_at_once_and_a_lowered_one_waits() -> None:
    small, large = Plan("pro", 30), Plan("max", 90)
    entries = daily(80, small)
    facts = steady(NOW, NOW)
    gone = {d.backup for d in plan_retention(entries, Rule(small), facts) if not d.keep}
    assert len(gone) == 50
    assert all(d.keep for d in plan_retention(entries, Rule(large), facts))
    # Back again: nothing goes for 14 days, then just what the small plan never promised.
    history = [(small, NOW - 99 * DAY), (large, NOW - 20 * DAY), (small, NOW)]
    lowered = earlier_plans(history)
    assert lowered == (Earlier(90, NOW),)
    assert all(d.keep for d in plan_retention(entries, Rule(small, lowered), facts))
    told = plan_retention(entries, Rule(small, lowered), facts)[-1]
    assert (told.reason, told.when) == ("downgrade", NOW + 10 * DAY + DAY)
    later = NOW + 14 * DAY
    fresh = Entry("fresh", later, later + 30 * DAY)
    plan = plan_retention((*entries, fresh), Rule(small, lowered), steady(later, later))
    assert {d.backup for d in plan if not d.keep} == {
        e.id for e in entries if e.promised_until <= later
    }


def test_no_run_under_the_lower_plan_no_grace_begins() -> None:
    assert earlier_plans([(Plan("max", 90), NOW), (Plan("pro", 30), None)]) == (
        Earlier(90, None),
    )
    assert earlier_plans([(Plan("pro", 30), NOW), (Plan("max", 90), None)]) == ()


def test_promises_of_manifests_outlive_a_lowered_plan() -> None:
    large, small = Plan("max", 90), Plan("pro", 30)
    entries = daily(80, large)
    lowered = Rule(small, (Earlier(90, NOW - 50 * DAY),))
    assert all(d.keep for d in plan_retention(entries, lowered, steady(NOW, NOW)))


def test_weeks_months_and_years_are_kept_beyond_the_window() -> None:
    plan = Plan("own", 7, keep_weekly=4, keep_monthly=6, keep_yearly=3)
    kept = [
        d for d in plan_retention(daily(1200, plan), Rule(plan), steady(NOW, NOW)) if d.keep
    ]
    reasons = [d.reason for d in kept]
    assert reasons.count("window") == 7
    assert len(kept) <= 7 + 4 + 6 + 3
    assert [d.words for d in kept if d.reason == "weekly"] == [
        f"the newest of 2026-W{week}" for week in (45, 44)
    ]
    assert [d.words for d in kept if d.reason == "monthly"] == [
        f"the newest of 2026-{month:02}" for month in (10, 9, 8, 7, 6)
    ]
    assert [d.words for d in kept if d.reason == "yearly"] == [
        "the newest of 2025",
        "the newest of 2024",
    ]


def test_a_database_without_a_policy_keeps_everything() -> None:
    plan = plan_retention(daily(400, Plan("own", 1)), None, steady(NOW, NOW))
    assert {(d.keep, d.reason) for d in plan} == {(True, "no-plan")}


def test_ten_thousand_backups_are_planned_in_well_under_a_second() -> None:
    plan = Plan("own", 30, keep_weekly=52, keep_monthly=120, keep_yearly=10)
    entries = daily(10_000, plan)
    started = time.process_time()
    decisions = plan_retention(entries, Rule(plan), steady(NOW, NOW))
    assert time.process_time() - started < 1
    assert len(decisions) == 10_000
    assert sum(not d.keep for d in decisions) > 9_000
