"""Alarms ring on absence first; each is opened once, told anew daily, and closed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.keeping import Record
from backups.notify.alarms import Facts, Seen, Shelf, Watched, compare, standing, suspicious
from backups.notify.events import TOLD, body, from_alarm, from_record, wanted_by
from backups.notify.incidents import due_day
from backups.notify.model import Alarm, Answer, Endpoint, Health, Recorded
from backups.notify.retries import DISABLE, GIVE_UP, after, next_attempt

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SHOP = Watched("acme", "shop", 26 * HOUR, NOW - 30 * DAY, NOW - HOUR)
spans = st.integers(0, 10**6).map(lambda s: timedelta(seconds=s))


def kinds(facts: Facts, now: datetime = NOW) -> list[str]:
    return [alarm.kind for alarm in standing(facts, now)]


# --- absence --------------------------------------------------------------------------


@given(spans, spans)
def test_missed_is_about_age_and_nothing_else(age: timedelta, expected: timedelta) -> None:
    """Whatever ran or failed: no backup younger than the RPO, since one was expected."""
    shop = replace(SHOP, newest=NOW - age, expected_since=NOW - expected)
    late = min(age, expected) > SHOP.rpo
    assert ("backup.missed" in kinds(Facts([shop]))) == late


def test_never_backed_up_is_missed_after_the_rpo() -> None:
    none = replace(SHOP, newest=None, expected_since=NOW - 27 * HOUR)
    (alarm,) = standing(Facts([none]), NOW)
    assert "none at all" in alarm.words
    assert kinds(Facts([replace(none, expected_since=NOW - HOUR)])) == []
    assert kinds(Facts([replace(none, expected_since=None)])) == []


def test_a_snapshot_of_the_future_is_none() -> None:
    ahead = replace(SHOP, newest=NOW + 400 * DAY, expected_since=NOW - 30 * DAY)
    assert kinds(Facts([ahead])) == ["backup.missed"]


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        (Facts([replace(SHOP, runs=[("failed", NOW)] * 3)]), "backup.failing"),
        (Facts([replace(SHOP, recent=[Seen("b", NOW - 25 * HOUR, 1, 1, 1)])]), "copy.missing"),
        (Facts(shelves=[Shelf("acme", "s3://x", NOW, NOW, {"missing": 2})]), "scrub.findings"),
        (Facts(shelves=[Shelf("acme", "s3://x", NOW - 36 * DAY)]), "scrub.overdue"),
        (Facts(unproven=[("acme", NOW - 25 * HOUR)]), "recipients.unproven"),
        (Facts(retention_ran=NOW - 4 * DAY), "retention.overdue"),
        (Facts(disabled=[("ops", NOW, "410")]), "endpoint.disabled"),
        (Facts(overdue=[("i1", "acme", "shop", NOW)]), "postmortem.overdue"),
    ],
)
def test_each_kind_stands_and_nothing_else(facts: Facts, kind: str) -> None:
    assert kinds(facts) == [kind]


def test_all_is_well() -> None:
    fine = Facts(
        [replace(SHOP, runs=[("failed", NOW), ("committed", NOW), ("failed", NOW)])],
        [Shelf("acme", "s3://x", NOW - 99 * DAY, NOW - DAY, {"orphan": 3})],
        [("acme", NOW - HOUR)],
        NOW - DAY,
    )
    assert kinds(fine) == []


@given(st.lists(st.integers(1 << 20, 1 << 22), min_size=4, max_size=8))
def test_sizes_near_the_usual_are_not_suspicious(sizes: list[int]) -> None:
    seen = [Seen(f"b{n}", NOW, 1 << 21, 1 << 20) for n, _ in enumerate(sizes)]
    assert suspicious(seen) == ""
    assert "bytes" in suspicious([replace(seen[0], plain_bytes=100), *seen[1:]])
    assert "stored" in suspicious([replace(seen[0], stored_bytes=1 << 21), *seen[1:]])


# --- against the record ---------------------------------------------------------------

alarms = st.builds(
    Alarm,
    st.sampled_from(["backup.missed", "copy.missing"]),
    st.sampled_from(["acme", "globex"]),
    st.sampled_from(["a", "b"]),
    st.just("words"),
    st.just(NOW),
)


@given(st.lists(alarms, max_size=6), st.lists(alarms, max_size=6))
def test_opened_once_and_closed_once(first: list[Alarm], second: list[Alarm]) -> None:
    opened = compare(first, [], NOW).opened
    record = [Recorded(str(n), alarm, NOW, NOW) for n, alarm in enumerate(opened)]
    assert compare(first, record, NOW + HOUR) == compare([], [], NOW)
    changes = compare(second, record, NOW + HOUR)
    still = [r for r in record if r not in changes.closed]
    assert {r.alarm for r in still} | set(changes.opened) == set(second)
    assert len(compare(first, record, NOW + DAY).again) == len(record)
    assert len(compare(first, record, NOW - DAY).again) == len(record)  # a clock set back


# --- events ---------------------------------------------------------------------------


def test_an_audit_record_is_one_event_whoever_reads_it() -> None:
    record = Record(7, NOW, "me", "backup.committed", "acme", "b1", {"database": "shop"}, "ab")
    event = from_record(record)
    assert event == from_record(record)
    assert event is not None
    assert '"time":"2026-11-23T12:00:00Z"' in body(event)
    assert from_record(replace(record, action="identity.used")) is None
    assert from_record(replace(record, sequence=8)) != event


def test_no_reason_and_no_error_is_told() -> None:
    told = {name for _, names in TOLD.values() for name in names}
    assert not told & {"error", "reason", "name", "words"}


def test_a_customer_gets_nothing_of_another() -> None:
    alarm = Alarm("backup.missed", "acme", "shop", "w", NOW)
    event = from_alarm("e", "a", alarm, "opened", NOW)
    ends = [
        Endpoint("all", "webhook", ("*",)),
        Endpoint("theirs", "webhook", ("backup.*",), customer="acme"),
        Endpoint("others", "webhook", ("*",), customer="globex"),
        Endpoint("copies", "webhook", ("copy.*",)),
    ]
    assert wanted_by(event, ends) == ["all", "theirs"]


# --- retries --------------------------------------------------------------------------


@given(st.floats(0, 0.999), st.integers(0, 10**6))
def test_tries_for_three_days_and_not_without_end(chance: float, wait: int) -> None:
    at, attempts = NOW, 0
    while True:
        attempts += 1
        again = next_attempt(NOW, attempts, at, chance, timedelta(seconds=wait))
        if again is None:
            break
        assert at < again <= NOW + GIVE_UP
        at = again
    assert at == NOW + GIVE_UP
    assert attempts < 100


def test_an_endpoint_is_disabled_by_days_of_failure_or_by_being_gone() -> None:
    no = Answer(delivered=False, words="it answered 500")
    health = after(Health(), no, NOW, 0.5)
    assert health.disabled_at is None
    assert after(health, no, NOW + DISABLE, 0.5).disabled_at is not None
    assert after(Health(), replace(no, gone=True), NOW, 0.5).disabled_at == NOW
    assert after(health, Answer(delivered=True, words=""), NOW, 0.5) == Health()


@pytest.mark.parametrize(
    ("start", "due"),
    [("2026-11-23", "2026-11-30"), ("2026-11-27", "2026-12-04"), ("2026-11-28", "2026-12-04")],
)
def test_five_business_days(start: str, due: str) -> None:
    at = datetime.fromisoformat(start).replace(tzinfo=UTC)
    assert due_day(at).isoformat() == due
