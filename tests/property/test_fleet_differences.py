"""What `apply` says will change is what changes; what a plan's change means, in dates."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
from hypothesis import given

from backups.declared import Destination, Plan, Policy
from backups.fleet.difference import Change, differences, plan_change
from backups.keeping import Chronicle
from backups.model import Backup
from backups.policy.retention import Earlier, Entry, Facts, Rule, plan_retention

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
GRACE = timedelta(days=14)
BASE = Policy(
    "acme", "acme-main", 1, Plan("pro", 30), "postgresql", "postgresql://db/main", "env:A",
    (Destination("s3://acme"),), ("age1one",),
)  # fmt: skip

words = st.sampled_from(["one", "two", "three"])
plans = st.builds(
    Plan,
    words,
    st.integers(1, 400),
    rpo_hours=st.integers(1, 48),
    keep_weekly=st.integers(0, 2),
    restore_test=st.none() | words,
    second_approver=st.booleans(),
)
rules = st.builds(
    Policy,
    customer=st.just("acme"),
    database=st.just("acme-main"),
    version=st.integers(1, 9),
    plan=plans,
    engine=words,
    source_url=words,
    password_ref=st.none() | words,
    stores=st.lists(st.builds(Destination, words, st.none() | words), max_size=3).map(tuple),
    recipients=st.lists(words, max_size=3).map(tuple),
    window=st.none() | words,
    maintenance=st.lists(words, max_size=2).map(tuple),
    paused=st.booleans(),
)


@given(rules, rules)
def test_something_is_said_exactly_when_something_differs(old: Policy, new: Policy) -> None:
    found = differences(old, new)
    assert bool(found) == (replace(old, version=0) != replace(new, version=0))
    assert all(one.old != one.new for one in found)
    back = {one.field: (one.new, one.old) for one in differences(new, old)}
    assert back == {one.field: (one.old, one.new) for one in found}


def test_the_fields_by_name() -> None:
    new = replace(
        BASE,
        plan=Plan("max", 90, second_approver=True),
        password_ref="file:/run/secrets/a",
        stores=(Destination("s3://moved"), Destination("gs://copies", writer="w")),
        paused=True,
    )
    assert differences(BASE, new) == [
        Change("plan.name", "pro", "max"),
        Change("plan.retention_days", "30", "90"),
        Change("plan.second_approver", None, "yes"),
        Change("password", "env:A", "file:/run/secrets/a"),
        Change("stores[0].url", "s3://acme", "s3://moved"),
        Change("stores[1].url", None, "gs://copies"),
        Change("stores[1].writer", None, "w"),
        Change("paused", None, "yes"),
    ]
    assert differences(BASE, BASE) == []
    assert Change("source_url", None, "postgresql://db/main") in differences(None, BASE)


# --- plans


def backup(age: float, days: int) -> Backup:
    at = NOW - timedelta(days=age)
    return Backup(
        f"b{age}", "acme", "acme-main", "postgresql", at, at + timedelta(days=days), 1, 1,
        "s3://acme", "ab" * 32,
    )  # fmt: skip


def test_a_raised_plan_counts_at_once() -> None:
    said = plan_change(Plan("pro", 30), Plan("max", 90), [backup(1, 30)], NOW, GRACE)
    assert said == (
        "kept longer, from 30 to 90 days, at once: 1 backup already there until 2027-02-20 "
        "at the latest"
    )


def test_a_lowered_plan_keeps_what_was_promised() -> None:
    said = plan_change(
        Plan("max", 90), Plan("pro", 30), [backup(1, 90), backup(50, 90)], NOW, GRACE
    )
    assert said == (
        "kept shorter, from 90 to 30 days, from the next backup on; "
        "2 backups as promised until 2027-02-20 at the latest"
    )
    assert plan_change(Plan("a", 30), Plan("b", 30), [backup(1, 30)], NOW, GRACE) == ""


@given(
    st.lists(st.floats(0.1, 120), max_size=6, unique=True),
    st.integers(1, 60),
    st.integers(61, 150),
)
def test_what_is_said_of_a_lowered_plan_is_what_retention_does(
    ages: list[float], low: int, high: int
) -> None:
    """Backups that were promised `low` days, raised to `high`, lowered to `low` again."""
    backups = [backup(age, low) for age in ages]
    said = plan_change(Plan("max", high), Plan("pro", low), backups, NOW, GRACE)
    rule = Rule(Plan("pro", low), (Earlier(high, NOW),), GRACE)
    ends = [end for b in backups if (end := kept_until(b, rule)) > NOW]
    dates = [f"{end:%Y-%m-%d}" for end in ends]
    for mentioned in re.findall(r"\d{4}-\d\d-\d\d", said):
        assert mentioned in dates
    assert sum(int(count) for count in re.findall(r"(\d+) backup", said)) == len(ends)


def kept_until(backup: Backup, rule: Rule) -> datetime:
    """From when on neither its window nor the grace of a lowered plan keeps it."""
    at, entry = NOW, Entry(backup.id, backup.created_at, backup.expires_at)
    while True:
        (decision,) = plan_retention([entry], rule, Facts(at, Chronicle(at, at, at)))
        if decision.reason not in ("window", "downgrade"):
            return at
        assert decision.when is not None
        at = decision.when
