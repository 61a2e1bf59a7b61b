"""Chores: done every so often, tried again sooner after a failure, never held up by a clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from backups.keeping import Attempt
from backups.schedule.chores import CHORES, RETRY, Chore, due

T0 = datetime(2026, 11, 23, 8, tzinfo=UTC)
spans = st.timedeltas(timedelta(0), timedelta(days=40))
chores = st.builds(
    Chore, st.just("one"), st.timedeltas(timedelta(seconds=1), timedelta(days=30))
)


@given(chores, spans, st.booleans())
def test_done_well_it_is_due_after_its_period(chore: Chore, later: timedelta, ok: bool) -> None:
    last = Attempt(T0, T0, None if ok else "refused")
    period = chore.every if ok else min(chore.every, RETRY)
    assert (chore in due([chore], {"one": last}, T0 + later)) == (later >= period)


@given(chores, spans)
def test_one_whose_process_died_is_begun_again(chore: Chore, later: timedelta) -> None:
    again = due([chore], {"one": Attempt(T0)}, T0 + later) == (chore,)
    assert again == (later >= min(chore.every, RETRY))


@given(chores, st.timedeltas(timedelta(seconds=1), timedelta(days=4000)))
def test_an_attempt_in_the_future_binds_nobody(chore: Chore, ahead: timedelta) -> None:
    last = Attempt(T0 + ahead, T0 + ahead)
    assert due([chore], {"one": last}, T0) == (chore,)


def test_what_was_never_done_is_due_and_the_frequent_come_first() -> None:
    first = due(CHORES, {}, T0)
    assert set(first) == set(CHORES)
    assert [chore.every for chore in first] == sorted(chore.every for chore in CHORES)
