"""Retention in a simulated world: the real plan, carried out on what `MemoryCatalog` lists, and
beside it a judge who knows the promise but not the rule."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random  # noqa: TID251  # seeded: the same world each time

from schedule_kit import MemoryCatalog

from backups.keeping import Chronicle
from backups.model import Backup, Plan
from backups.policy.retention import (
    DOWNGRADE_GRACE,
    Entry,
    Facts,
    Rule,
    earlier_plans,
    plan_retention,
)

DAY = timedelta(days=1)


class Keeper:
    """Marks and deletes; things happen to backups by chance meanwhile."""

    def __init__(self, catalog: MemoryCatalog, dice: Random) -> None:
        self.catalog, self.dice = catalog, dice
        self.facts: dict[str, Entry] = {}
        self.held: dict[str, datetime] = {}
        """Backup to when its hold is released."""
        self.deleted: Counter[str] = Counter()
        self.kept: Counter[str] = Counter()

    def prune(self, database: str, now: datetime) -> None:
        listed = self.catalog.listed[database]
        if not listed:
            return
        entries = [self._entry(backup, now) for backup in listed]
        plans = self.catalog.plans[database]
        troubles = ("a manifest can't be read",) if self.dice.random() < 0.05 else ()
        last = self.catalog.last_commit
        rule = Rule(plans[-1][0], earlier_plans(plans))
        facts = Facts(now, Chronicle(last, last, last), troubles=troubles)
        gone = set()
        for decision in plan_retention(entries, rule, facts):
            entry = self.facts[decision.backup]
            if decision.keep:
                self.kept[decision.reason] += 1
                self.facts[entry.id] = replace(entry, marked_at=None)
            elif entry.marked_at is None:
                self.facts[entry.id] = replace(entry, marked_at=now)
            elif decision.when is not None and decision.when <= now:
                self._judge(entry, entries, plans, troubles, now)
                gone.add(entry.id)
        for backup in gone:
            del self.facts[backup]
        self.deleted[database] += len(gone)
        self.catalog.listed[database] = [each for each in listed if each.id not in gone]

    def _entry(self, backup: Backup, now: datetime) -> Entry:
        entry = self.facts.get(backup.id)
        if entry is None:
            number = int(backup.id.rpartition("-")[2])
            entry = Entry(
                backup.id, backup.created_at, backup.expires_at,
                good=self.dice.random() > 0.01,
                verified=self.dice.random() < 0.03,
                locked_until=backup.expires_at + 5 * DAY if number % 7 == 0 else None,
            )  # fmt: skip
            if self.dice.random() < 0.01:
                self.held[backup.id] = now + 200 * DAY * self.dice.random()
        held = now < self.held.get(backup.id, now)
        entry = replace(entry, holds=("case 47",) if held else ())
        self.facts[backup.id] = entry
        return entry

    def _judge(
        self,
        entry: Entry,
        entries: list[Entry],
        plans: list[tuple[Plan, datetime | None]],
        troubles: tuple[str, ...],
        now: datetime,
    ) -> None:
        """What is promised (I2), in the words of DESIGN rather than of the rule."""
        assert now >= entry.promised_until, "inside its window"
        assert now >= entry.taken_at + plans[-1][0].retention_days * DAY, "inside today's plan"
        assert not entry.holds, "under hold"
        assert entry.locked_until is None or now >= entry.locked_until, "under lock"
        good = [each.taken_at for each in entries if each.good]
        assert not entry.good or entry.taken_at < max(good), "the newest good one"
        verified = [each.taken_at for each in entries if each.verified]
        assert not entry.verified or entry.taken_at < max(verified), "the newest verified one"
        assert now - max(good) <= 2 * timedelta(hours=plans[-1][0].rpo_hours), "none is fresh"
        assert not troubles, "something can't be read"
        assert entry.marked_at is not None
        assert now - entry.marked_at >= 3 * DAY, "no time to object"
        *before, (_, lowered) = plans
        for plan, _ in before:
            if plan.retention_days > plans[-1][0].retention_days:
                over = now >= entry.taken_at + plan.retention_days * DAY
                assert over or (lowered and now >= lowered + DOWNGRADE_GRACE) or (
                    lowered and entry.taken_at >= lowered
                ), "lowered too lately"  # fmt: skip
