"""Every database, every month; whatever happens, nothing is tested without end."""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.errors import NotFound
from backups.proving import Verdict
from verify.due import Done, period, slot, wanted
from verify.sampling import drawn, extra_rule, pick

START = datetime(2024, 1, 1, tzinfo=UTC)
instants = st.integers(0, 6 * 365 * 86400).map(lambda s: START + timedelta(seconds=s))
names = st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True)
evers = st.sampled_from(["daily", "weekly", "monthly"])


@given(evers, instants)
def test_periods_follow_one_another(every: str, now: datetime) -> None:
    start, end = period(every, now)
    assert start <= now < end
    assert period(every, end)[0] == end
    if every == "monthly":
        assert (end - start).days == calendar.monthrange(now.year, now.month)[1]


@given(names, evers, instants, st.integers(30, 240), st.data())
def test_a_month_ends_with_both_passed(
    database: str, every: str, now: datetime, minutes: int, data: st.DataObject
) -> None:
    """Tried whenever due, with failures at first: by the end of the month the newest and the
    extra one have passed, each tried a bounded number of times."""
    start, end = period("monthly", now)
    extra = extra_rule(start.date())
    bad = data.draw(st.lists(st.sampled_from(["FAILED", "INCONCLUSIVE"]), max_size=6))
    done: list[Done] = []
    clock = start
    while clock < end:
        for each in wanted(database, every, done, clock):
            if each.at <= clock:
                verdict: Verdict = bad.pop() if bad else "PASSED"  # type: ignore[assignment]
                done.append(Done(each.rule, verdict, clock))
        clock += timedelta(minutes=minutes)
    passed = [one.rule for one in done if one.verdict == "PASSED"]
    days = (end - start).days
    most = {"daily": days, "weekly": 6, "monthly": 1}[every]
    assert 1 <= passed.count("newest") <= most + (extra == "newest")
    assert passed.count(extra) == 1
    assert len(done) <= most + 1 + 6


@given(names, instants)
def test_tests_begin_early_enough_to_be_repeated(database: str, now: datetime) -> None:
    start, end = period("monthly", now)
    at = slot(database, "newest", start, end)
    assert start <= at <= start + (end - start) * 0.75


def test_the_month_is_used_evenly() -> None:
    start, end = period("monthly", datetime(2026, 11, 1, tzinfo=UTC))
    days = [slot(f"db-{n}", "newest", start, end).day for n in range(3000)]
    counts = [days.count(day) for day in range(1, 23)]
    assert min(counts) > 70
    assert max(counts) < 220


@given(instants)
def test_what_died_is_tried_again_and_a_passed_one_is_not(now: datetime) -> None:
    unknown = Done("newest", "INCONCLUSIVE", now)
    (again,) = [w for w in wanted("shop", "monthly", [unknown], now) if w.rule == "newest"]
    assert again.at == now + timedelta(hours=1)
    rules = [w.rule for w in wanted("shop", "daily", [Done("newest", "PASSED", now)], now)]
    assert "newest" not in rules


# --- which backup ---------------------------------------------------------------------


@given(st.lists(names, min_size=1, unique=True), names, instants)
def test_the_lot_can_be_drawn_again(backups: list[str], database: str, now: datetime) -> None:
    day = now.date()
    choice, chosen = pick("random", database, day, backups)
    assert chosen == backups[drawn(choice.seed, choice.among)]
    assert choice.among == len(backups)
    assert pick("newest", database, day, backups)[1] == backups[0]
    assert pick("oldest", database, day, backups)[1] == backups[-1]


def test_every_backup_can_be_drawn() -> None:
    backups = [f"b{n}" for n in range(7)]
    drawn_ones = {pick("random", f"db{n}", date(2026, 11, 1), backups)[1] for n in range(200)}
    assert drawn_ones == set(backups)


def test_random_and_oldest_take_turns() -> None:
    rules = [
        extra_rule(date(year, month, 1)) for year in (2025, 2026) for month in range(1, 13)
    ]
    assert set(rules[::2]) | set(rules[1::2]) == {"random", "oldest"}
    assert all(one != other for one, other in pairwise(rules))


def test_nothing_to_test_is_told() -> None:
    with pytest.raises(NotFound):
        pick("newest", "shop", date(2026, 11, 1), [])
