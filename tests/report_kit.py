"""A month of two customers with a bit of everything in it, as plain facts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from backups.declared import Destination, Plan, Policy, Standing
from backups.keeping import Deletion, Hold, Record
from backups.model import Backup, Finding, Look, Operation, Run, Scrub
from backups.proving import (
    Begun,
    Check,
    Drill,
    Examination,
    Opinion,
    Phase,
    Pick,
    Place,
    SelfTest,
    Trial,
    Verdict,
)
from verify.report.facts import Alarmed, Facts, Head, Version
from verify.report.month import Month

MONTH = Month(2026, 10)
PLAN = Plan("max", 90, rto_minutes=60)
WHOSE = {"shop": "acme", "blog": "acme", "dead": "acme", "lone": "acme", "birds": "birch"}
"""`shop` is well, a test of `blog` failed, one of `dead` died, `lone` was never tested."""


def at(day: int, hour: int = 2, minute: int = 0) -> datetime:
    return datetime(2026, 10, day, hour, minute, tzinfo=UTC)


def url(customer: str) -> str:
    return f"s3://{customer}-bucket/backups"


def policy(database: str) -> Policy:
    customer = WHOSE[database]
    return Policy(
        customer, database, 1, PLAN, "postgresql", f"postgresql://db/{database}", None,
        (Destination(url(customer)),), ("age1theirs",), window="01:00-05:00 UTC",
    )  # fmt: skip


def backup(database: str, day: int) -> Backup:
    taken = at(day)
    return Backup(
        f"{database}-{day:02d}", WHOSE[database], database, "postgresql", taken,
        taken + timedelta(days=90), 1_000_000 + day, 250_000 + day, url(WHOSE[database]),
        "ab" * 32, 4.5,
    )  # fmt: skip


def drill(database: str, day: int, verdict: Verdict = "PASSED", reason: str = "") -> Drill:
    began = at(day, 8)
    passed = verdict == "PASSED"
    return Drill(
        id=f"test-{database}-{day:02d}", customer=WHOSE[database], database=database,
        backup=f"{database}-{day:02d}", store_url=url(WHOSE[database]), engine="postgresql",
        policy_version=1, pick=Pick("newest", "", day), kind="drill", began_at=began,
        ended_at=began + timedelta(minutes=3), verdict=verdict, level=12 if passed else None,
        reason=reason,
        checks=(
            Check("downloaded", passed, "all", "all" if passed else "1 is gone"),
            Check("rows", None, "as dumped", "not reached", subject=f"{database}_rows"),
        ),
        phases=(Phase("prepare", 900), Phase("fetch and load", 61_000), Phase("compare", 4000)),
        place=Place(
            f"place-{database}", "private server", "eu-test-1", "15.8", ("no network",),
            began + timedelta(minutes=3), ("gone: directory",),
        ),
        snapshot_at=at(day), rto_seconds=3600, rpo_seconds=93600, tables=7, rows=4200,
        plain_bytes=1_000_000, read_bytes=250_000, requests=9, key_ids=("cd" * 32,),
        procedure="0.1.0",
    )  # fmt: skip


def self_test(caught: bool = True) -> SelfTest:
    trials = (
        Trial("bit flip", "one bit of a segment", "downloaded", True, "downloaded"),
        Trial("cut tail", "a segment without its end", "downloaded", caught, "downloaded"),
    )
    return SelfTest("self-1", "acme", "shop", "shop-03", at(3, 9), at(3, 10), trials)


def facts() -> Facts:
    days = {"shop": range(1, 32), "blog": range(1, 30), "dead": range(1, 32),
            "lone": range(1, 32), "birds": range(1, 32)}  # fmt: skip
    backups = [backup(name, day) for name, all_ in days.items() for day in all_]
    return Facts(
        month=MONTH,
        until=MONTH.end,
        program="0.1.0",
        versions=[Version(policy(name), None) for name in WHOSE],
        standings=[Standing("acme", "", "active", at(1, 0)),
                   Standing("birch", "", "active", at(1, 0))],
        runs=[Run("blog-30x", "acme", "blog", 1, "failed", at(30), at(30, 3), "it was full")],
        backups=backups,
        kept=[(WHOSE[name], name, len(all_)) for name, all_ in days.items()],
        deletions=[Deletion("birds-old", "birch", "birds", "expired", "its window ended",
                            at(5), at(6))],
        holds=[(Hold("hold-1", "acme", "shop", "shop-02", "lawsuit", "Ann", at(2)), None)],
        begun=[
            Begun("test-dead-09", "acme", "dead", "dead-09", Pick("newest"), at(9, 8)),
        ],
        drills=[
            drill("shop", 4), drill("birds", 6),
            drill("blog", 7, "FAILED", "downloaded: object blog-07/00001.age is gone"),
        ],
        self_tests=[self_test()],
        opinions=[Opinion("op-1", "acme", "shop", "test-shop-04", "Bea", True, "so do I",
                          at(5))],
        alarms=[Alarmed("backup.missed", "acme", "blog", "none within 26 hours", at(30, 4),
                        None, "the disk was full", "https://example.com/pm/1")],
        records=[Record(1, at(4, 8), "root@host", "identity.used", "acme", "shop-04",
                        {"database": "shop"})],
        scrubs=[
            Scrub("scrub-1", "acme", url("acme"), at(11), at(11, 3), 900, 120, 5000,
                  (Finding("missing", "blog-07/00001.age", "it is gone"),)),
            Scrub("scrub-2", "birch", url("birch"), at(11), at(11, 3), 300, 31, 5000, ()),
        ],
        examined=[
            Examination("look-1", "birch", url("birch"), at(12), (
                Look("versions", "warning", "not kept"),
            )),
        ],
        operations=[Operation("op-9", "birch", "birds", "birds-06", "postgresql://db/birds2",
                              "done", at(13), at(13, 3))],
        head=Head(812, "ef" * 32),
    )  # fmt: skip


def blind() -> Facts:
    """The verifier let one pass."""
    return replace(facts(), self_tests=[self_test(caught=False)])
