"""A year of a thousand databases in twelve zones, on two machines that fail, with sources that
are away for hours or days: each local day has one backup, wherever one could be had; what is
promised is kept, and no day is missed in silence.

The gate lives it with a hundred of them, `--full` with all."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from random import Random  # noqa: TID251  # seeded: the same year each time
from zoneinfo import ZoneInfo

import pytest
from keeping_kit import Keeper
from schedule_kit import HOUR, LEASE, POLICY, TICK, FakeClock, MemoryCatalog, World

from backups.model import Plan, Policy
from backups.schedule.choose import Limits
from backups.schedule.due import LONGEST_RETRY, slot
from backups.schedule.window import instant, parse_hours

BEGIN = datetime(2027, 6, 1, tzinfo=UTC)  # with 29 February 2028 in it
END = BEGIN + timedelta(days=366)
ZONES = (
    "UTC", "Europe/Berlin", "Europe/London", "America/New_York", "America/Los_Angeles",
    "America/Havana", "America/St_Johns", "Asia/Beirut", "Asia/Kolkata", "Asia/Tokyo",
    "Australia/Lord_Howe", "Pacific/Auckland",
)  # fmt: skip
WINDOWS = ("01:00-05:00", "22:00-04:00", "02:00-03:00", "12:00-20:00", "00:00-06:00")
ENOUGH = LONGEST_RETRY + timedelta(hours=3)
"""Reachable for so long, a database has its backup: a longest wait between two attempts, its
turn among all others after an outage of everything, and failures by chance."""

PRO, MAX = Plan("pro", 30), Plan("max", 90)

Spans = list[tuple[datetime, datetime]]


def fleet(size: int) -> list[Policy]:
    return [
        replace(
            POLICY,
            customer=f"customer-{n % 150}",
            database=f"db-{n:04}",
            source_url=f"postgresql://server-{n % 400}/db",
            window=f"{WINDOWS[n % len(WINDOWS)]} {ZONES[n % len(ZONES)]}",
            plan=MAX if n % 4 == 3 else PRO,
        )
        for n in range(size)
    ]


def spans(dice: Random, number: int, hours: tuple[float, ...]) -> Spans:
    """Outages, merged and in order."""
    found = sorted(
        (at := BEGIN + (END - BEGIN) * dice.random(), at + HOUR * dice.choice(hours))
        for _ in range(number)
    )
    merged: Spans = []
    for start, end in found:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def touches(down: Spans, start: datetime, end: datetime) -> bool:
    at = bisect_right(down, (end, END + HOUR * 999)) - 1
    return at >= 0 and down[at][1] > start and down[at][0] < end


def longest_chance(downs: list[Spans], start: datetime, end: datetime) -> timedelta:
    """The longest time in between in which nothing was down."""
    inside = sorted(
        (max(a, start), min(b, end)) for down in downs for a, b in down if a < end and b > start
    )
    best, edge = timedelta(0), start
    for a, b in inside:
        best, edge = max(best, a - edge), max(edge, b)
    return max(best, end - edge)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("size", [100, pytest.param(1000, marks=pytest.mark.full)])
def test_one_backup_per_database_and_local_day(size: int) -> None:
    dice = Random(2027)
    catalog, clock = MemoryCatalog(), FakeClock(BEGIN)
    policies = fleet(size)
    catalog.declare(policies)
    outages = {f"server-{n}": spans(dice, 8, (0.2, 1, 4, 12, 40)) for n in range(400)}
    server = {p.database: p.source_url.split("/")[2] for p in policies}
    world = World(
        catalog, catalog, catalog, clock,
        limits=Limits(60, 2, 1000), reread=6 * HOUR, seed=7,
        reachable=lambda name, start, end: not touches(outages[server[name]], start, end),
    )  # fmt: skip
    still = [spans(dice, 40, (0.1, 1, 5)) for _ in world.hosts]
    gone = [spans(dice, 25, (0.05, 0.5, 3, 20)) for _ in world.hosts]
    for host, down in zip(world.hosts, gone, strict=True):
        world.at(BEGIN, lambda it=host: world.boot(it))
        for start, end in down:
            world.at(start, lambda it=host: world.crash(it))
            world.at(end, lambda it=host: world.boot(it))
    for host, down in zip(world.hosts, still, strict=True):
        for start, end in down:
            world.at(start, lambda it=host, end=end: world.suspend(it, end))
    moved = {p.database: ZONES[(n * 7 + 5) % len(ZONES)] for n, p in enumerate(policies[::10])}
    change = BEGIN + timedelta(days=180, hours=7)

    def move() -> None:
        catalog.declare(
            [
                replace(p, window=f"03:00-04:00 {moved[p.database]}")
                for p in policies
                if p.database in moved
            ]
        )

    world.at(change, move)
    # A tenth changes between pro and max, and back; retention is at work throughout.
    changed = [replace(p, plan=PRO if p.plan is MAX else MAX) for p in policies[3::10]]
    world.at(BEGIN + timedelta(days=150), lambda: catalog.declare(changed))
    world.at(BEGIN + timedelta(days=170), lambda: catalog.declare(policies[3::10]))
    keeper = Keeper(catalog, dice)
    for n, policy in enumerate(policies):
        for day in range(n % 12 + 20, 366, 12):
            at, name = BEGIN + timedelta(days=day, minutes=n), policy.database
            world.at(at, lambda name=name, at=at: keeper.prune(name, at))
    world.run(END)

    both = both_down(*(sorted([*a, *b]) for a, b in zip(gone, still, strict=True)))
    missed = possible = 0
    for policy in policies:
        stages = [(policy, BEGIN, END)]
        if policy.database in moved:
            stages = [(policy, BEGIN, change), (catalog.rules[policy.database], change, END)]
        for rule, since, until in stages:
            assert rule.window
            zone = parse_hours(rule.window).zone
            inside = [at for at in catalog.taken[policy.database] if since <= at < until]
            per_day = Counter(at.astimezone(zone).date() for at in inside)
            assert set(per_day.values()) <= {1}, policy.database
            for day in whole_days(since, until, zone):
                end = instant(day + timedelta(days=1), 0, zone)
                downs = [outages[server[policy.database]], both]
                chance = longest_chance(downs, slot(rule, day), end)
                if day in per_day:
                    continue
                missed += 1
                assert chance < ENOUGH, (policy.database, day, chance)
                # I7: it failed on record, or nobody was there.
                begin = instant(day, 0, zone)
                assert any(begin <= at < end for at in catalog.failed[policy.database]) or (
                    longest_chance([both], slot(rule, day), end) < ENOUGH
                )
            possible += len(whole_days(since, until, zone))
    assert possible > 360 * size
    assert 0 < missed < possible / 20  # outages of a day and more there were
    assert world.late, "some workers woke up late"
    assert all(catalog.all_runs[run_id].state == "interrupted" for run_id in world.late)
    states = Counter(run.state for run in catalog.all_runs.values())
    assert states["failed"] > 5 * size
    assert states["interrupted"] > size / 10
    assert all(keeper.deleted[policy.database] > 150 for policy in policies)
    assert keeper.kept.keys() >= {
        "window", "downgrade", "hold", "newest-verified", "lock", "unreadable", "stale",
    }  # fmt: skip


def both_down(first: Spans, second: Spans) -> Spans:
    """When no machine was there, and until the lease of the last one has run out."""
    return sorted(
        (max(a, c), min(b, d) + LEASE + TICK)
        for a, b in first
        for c, d in second
        if max(a, c) < min(b, d)
    )


def whole_days(since: datetime, until: datetime, zone: ZoneInfo) -> list[date]:
    first = since.astimezone(zone).date() + timedelta(days=1)
    last = until.astimezone(zone).date()
    return [first + timedelta(days=n) for n in range((last - first).days)]
