"""The fleet's plan in memory: what one database can't have, the others do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from schedule_kit import HOUR, POLICY

from backups.model import History
from backups.schedule.choose import Limits
from backups.schedule.plan import Plan

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LIMITS = Limits(9, 9, 9)
WRONG = replace(POLICY, database="wrong", window="01:00-02:00 Mars/Olympus")


def started(plan: Plan, now: datetime) -> set[str]:
    return {item.database for item in plan.start(LIMITS, now)}


def test_hours_that_cannot_be_read_are_one_databases_failure() -> None:
    plan = Plan()
    plan.declare([WRONG, POLICY], NOON)
    assert started(plan, NOON) == {"wrong", "shop"}
    plan.ended("shop", NOON, taken=NOON)
    plan.ended("wrong", NOON, failed=NOON)
    assert started(plan, NOON + HOUR / 2) == set(), "not again and again"
    assert started(plan, NOON + HOUR) == {"wrong"}, "it is tried, and fails on record"


def test_a_database_that_is_declared_no_more_is_forgotten() -> None:
    plan = Plan()
    plan.declare([POLICY], NOON)
    assert plan.waiting == 1
    plan.declare([], NOON)
    assert (plan.waiting, plan.next(), started(plan, NOON)) == (0, None, set())


def test_what_others_did_counts() -> None:
    plan = Plan()
    plan.declare([POLICY], NOON)
    plan.learn({"shop": History((NOON - HOUR,), ())}, NOON)
    assert started(plan, NOON) == set()
    plan.learn({}, NOON + timedelta(days=1))
    assert started(plan, NOON + timedelta(days=1)) == {"shop"}
