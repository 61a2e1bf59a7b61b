"""Exactly one backup per local calendar day: over years, across zones, clocks set forward and
back, outages, and policies that move to another zone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import example, given, settings
from hypothesis import strategies as st

from backups.model import Destination, History, Plan, Policy
from backups.schedule.due import LONGEST_RETRY, due, slot
from backups.schedule.window import DAY, end_of, instant, parse_hours

ZONES = (
    "UTC", "Europe/Berlin", "Europe/London", "America/New_York", "America/St_Johns",
    "America/Sao_Paulo", "America/Havana", "Asia/Beirut", "Asia/Kathmandu",
    "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
)  # fmt: skip
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

POLICY = Policy(
    customer="acme",
    database="shop",
    version=1,
    plan=Plan("pro", 30),
    engine="postgresql",
    source_url="postgresql://db/shop",
    password_ref=None,
    stores=(Destination("s3://acme"),),
    recipients=(),
)


def clock_text(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    start, end = draw(st.tuples(*[st.integers(0, DAY - 1)] * 2).filter(lambda p: p[0] != p[1]))
    return replace(
        POLICY,
        database=f"db-{draw(st.integers(0, 1 << 30))}",
        window=f"{clock_text(start)}-{clock_text(end)} {draw(st.sampled_from(ZONES))}",
    )


# Lord Howe moves by half an hour, Apia had no 30 December 2011, St John's fell back from 00:01
# into the day before, Havana and Sao Paulo sprang forward at midnight.
starts = st.integers(0, 8400 * DAY).map(
    lambda minutes: datetime(2008, 1, 1, tzinfo=UTC) + minutes * MINUTE
)


def zone_of(policy: Policy) -> ZoneInfo:
    assert policy.window
    return parse_hours(policy.window).zone


def history(taken: list[datetime], failed: list[datetime], now: datetime) -> History:
    """As the catalog tells it: nothing older than two days and two hours."""
    since = now - timedelta(hours=50)
    return History(
        tuple(at for at in taken if at >= since), tuple(at for at in failed if at >= since)
    )


def live(
    policy: Policy,
    begin: datetime,
    days: int,
    down: list[tuple[datetime, datetime]],
    took: timedelta = 20 * MINUTE,
) -> list[datetime]:
    """Snapshots of a scheduler that asks when it was told to; attempts in `down` fail."""
    taken: list[datetime] = []
    failed: list[datetime] = []
    now = begin
    while now < begin + timedelta(days=days):
        answer = due(policy, history(taken, failed, now), now)
        if not answer.start:
            assert answer.next
            assert answer.next > now
            now = answer.next
        elif any(start < now + took and now < end for start, end in down):
            failed.append(now + took)
            now += took
        else:
            taken.append(now)
            now += took
    return taken


def days_between(begin: datetime, end: datetime, zone: ZoneInfo) -> list[date]:
    """Whole local days that exist."""
    found = {
        (begin + HOUR * hour).astimezone(zone).date()
        for hour in range(24, int((end - begin) / HOUR) - 24)
    }
    return sorted(found)


@settings(max_examples=60, deadline=None)
@given(policies(), starts)
@example(replace(POLICY, window="02:00-03:00 Europe/Berlin"), datetime(2026, 3, 20, tzinfo=UTC))
@example(
    replace(POLICY, window="02:00-03:00 Europe/Berlin"), datetime(2026, 10, 20, tzinfo=UTC)
)
@example(replace(POLICY, window="23:00-00:30 Pacific/Apia"), datetime(2011, 12, 20, tzinfo=UTC))
@example(
    replace(POLICY, window="00:00-00:30 America/St_Johns"), datetime(2008, 10, 25, tzinfo=UTC)
)
@example(replace(POLICY, window="00:00-01:00 America/Havana"), datetime(2026, 3, 1, tzinfo=UTC))
@example(replace(POLICY, window="01:00-02:00 UTC"), datetime(2028, 2, 20, tzinfo=UTC))
def test_one_per_local_day(policy: Policy, begin: datetime) -> None:
    zone = zone_of(policy)
    taken = live(policy, begin, 40, [])
    per_day = Counter(at.astimezone(zone).date() for at in taken)
    assert set(per_day.values()) == {1}
    assert set(days_between(begin, begin + timedelta(days=40), zone)) <= set(per_day)


@settings(max_examples=10, deadline=None)
@given(policies(), starts)
def test_one_per_local_day_over_two_years(policy: Policy, begin: datetime) -> None:
    zone = zone_of(policy)
    per_day = Counter(at.astimezone(zone).date() for at in live(policy, begin, 731, []))
    assert set(per_day.values()) == {1}
    assert set(days_between(begin, begin + timedelta(days=731), zone)) <= set(per_day)


@settings(max_examples=60, deadline=None)
@given(
    policies(),
    starts,
    st.lists(st.tuples(st.floats(0, 20), st.floats(0.01, 3)), max_size=6),
)
def test_no_day_is_missed_that_had_time_enough(
    policy: Policy, begin: datetime, outages: list[tuple[float, float]]
) -> None:
    """Time enough: from the slot on, and before the day ended, the source was up for as long
    as the longest wait between two attempts and a backup take."""
    zone = zone_of(policy)
    took = 20 * MINUTE
    days = timedelta(days=1)
    down = [(begin + days * at, begin + days * (at + length)) for at, length in outages]
    per_day = Counter(at.astimezone(zone).date() for at in live(policy, begin, 25, down, took))
    assert set(per_day.values()) <= {1}
    for day in days_between(begin, begin + timedelta(days=25), zone):
        edge = slot(policy, day)
        end = instant(day + timedelta(days=1), 0, zone)
        for start, over in sorted(down):
            if start < end and over > edge:
                if start - edge >= LONGEST_RETRY + 2 * took:
                    break
                edge = max(edge, over)
        if end - edge >= LONGEST_RETRY + 2 * took and edge.astimezone(zone).date() == day:
            assert day in per_day


@settings(max_examples=60, deadline=None)
@given(policies(), policies(), starts)
def test_a_policy_that_changes_its_zone(old: Policy, new: Policy, begin: datetime) -> None:
    new = replace(new, database=old.database)
    change = begin + timedelta(days=7)
    taken = [at for at in live(old, begin, 7, []) if at < change]
    zone = zone_of(new)
    now = change
    while now < change + timedelta(days=9):
        answer = due(new, history(taken, [], now), now)
        if answer.start:
            days = [at.astimezone(zone).date() for at in taken]
            assert now.astimezone(zone).date() not in days
            taken.append(now)
        now = answer.next if answer.next and not answer.start else now + 20 * MINUTE
    after = [at for at in taken if at >= change]
    per_day = Counter(at.astimezone(zone).date() for at in after)
    assert set(per_day.values()) == {1}
    covered = {at.astimezone(zone).date() for at in taken}
    assert set(days_between(begin, change + timedelta(days=9), zone)[7:]) <= covered


@given(policies(), st.dates(date(2008, 1, 2), date(2031, 1, 1)))
def test_a_slot_lies_in_its_window_and_stays(policy: Policy, day: date) -> None:
    assert policy.window
    window = parse_hours(policy.window)
    at = slot(policy, day)
    assert at == slot(policy, day)
    local = at.astimezone(window.zone).replace(tzinfo=None)
    minute = local.hour * 60 + local.minute + local.second / 60
    in_window = window.start <= minute < window.end or minute < window.end - DAY
    # A clock that springs forward may carry a slot past the window, on that day only.
    gap = (
        at.astimezone(window.zone).utcoffset()
        != (at - 3 * HOUR).astimezone(window.zone).utcoffset()
    )
    assert in_window or gap or local.date() != day


@settings(max_examples=60, deadline=None)
@given(
    policies(),
    starts,
    st.lists(
        st.tuples(
            st.sampled_from(["", "Mon ", "Sat-Mon ", "Wed-Fri "]),
            st.integers(0, DAY - 1),
            st.integers(30, 9 * 60),
            st.sampled_from(ZONES),
        ),
        max_size=2,
    ),
)
def test_nothing_starts_in_maintenance_and_no_day_is_lost_to_it(
    policy: Policy, begin: datetime, ranges: list[tuple[str, int, int, str]]
) -> None:
    texts = tuple(
        f"{days}{clock_text(start)}-{clock_text((start + length) % DAY)} {zone}"
        for days, start, length, zone in ranges
    )
    policy = replace(policy, maintenance=texts)
    zone = zone_of(policy)
    taken = live(policy, begin, 20, [])
    for at in taken:
        assert not any(end_of(parse_hours(text), at) for text in texts)
    per_day = Counter(at.astimezone(zone).date() for at in taken)
    assert set(per_day.values()) <= {1}
    for day in days_between(begin, begin + timedelta(days=20), zone):
        free = slot(replace(policy, maintenance=()), day)
        end = instant(day + timedelta(days=1), 0, zone)
        quarter = 15 * MINUTE
        while free < end and any(end_of(parse_hours(text), free) for text in texts):
            free += quarter
        if free < end - 2 * quarter and not any(
            end_of(parse_hours(text), free + part * quarter)
            for text in texts
            for part in (1, 2)
        ):
            assert day in per_day


def test_ten_thousand_do_not_start_together() -> None:
    window = "01:00-05:00 Europe/Berlin"
    day = date(2026, 11, 23)
    minutes = Counter(
        slot(replace(POLICY, database=f"db-{n}", window=window), day).replace(
            second=0, microsecond=0
        )
        for n in range(10_000)
    )
    assert len(minutes) == 240
    assert max(minutes.values()) < 90  # 42 on the average


def test_a_failure_that_a_wrong_clock_dated_ahead_delays_nothing() -> None:
    policy = replace(POLICY, window="01:00-02:00 UTC")
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    ahead = History((), (now + 11 * HOUR + 50 * MINUTE,))
    assert due(policy, ahead, now).start
    assert not due(policy, History((), (now - MINUTE,)), now).start


@given(policies(), starts)
def test_who_was_lost_once_is_tried_again_at_once_and_who_is_lost_again_waits(
    policy: Policy, now: datetime
) -> None:
    fresh = due(policy, History(), now)
    once = due(policy, History(interrupted=(now - MINUTE,)), now)
    assert (once.start, once.next) == (fresh.start, fresh.next)
    twice = History(interrupted=(now - 2 * MINUTE, now - MINUTE))
    same_day = len({at.astimezone(zone_of(policy)).date() for at in (*twice.interrupted, now)})
    if same_day == 1:
        assert not due(policy, twice, now).start
