"""Coverage: which databases' backups were shown to restore, and why the others were not. Pure.

A test that did not pass is answered by a later one that did: of the same backup, or chosen by
the same rule. A database is PASSED when a test of it passed and no other is left unanswered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from backups.proving import Begun, Drill, Pick
from verify.report.facts import Facts
from verify.report.rows import (
    Coverage,
    Covered,
    Outcome,
    Outside,
    text_of,
)
from verify.report.scope import Database, databases

WORST: Sequence[Outcome] = ("FAILED", "DIED", "ENVIRONMENT", "INCONCLUSIVE", "NOT TESTED")
DIED = "begun, and nothing came of it: its process died, or it is under way still"
OWED: Mapping[str, int] = MappingProxyType({"daily": 1, "weekly": 7})
"""Days per test; whatever else a plan says, a database is owed one a month."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A restore test of the month, or what is known of one that died."""

    id: str
    customer: str
    database: str
    backup: str
    pick: Pick
    at: datetime
    outcome: Outcome
    reason: str
    drill: Drill | None


def attempts(facts: Facts, kind: str = "drill") -> list[Attempt]:
    """Those begun in the month, oldest first; a test that died is of kind `drill`."""
    ended = {drill.id for drill in facts.drills}
    found = [_of_drill(each) for each in facts.drills if each.kind == kind]
    if kind == "drill":
        found += [_of_begun(each) for each in facts.begun if each.id not in ended]
    within = [each for each in found if facts.month.start <= each.at < facts.until]
    return sorted(within, key=lambda each: (each.at, each.id))


def answer(attempt: Attempt, later: Sequence[Attempt]) -> Attempt | None:
    """The test that passed afterwards and settles one that did not."""
    if attempt.outcome == "PASSED":
        return None
    for each in later:
        if each.outcome != "PASSED" or each.database != attempt.database:
            continue
        same = each.backup == attempt.backup or each.pick.rule == attempt.pick.rule
        if same and (each.at, each.id) > (attempt.at, attempt.id):
            return each
    return None


def coverage(facts: Facts) -> Coverage:
    """Every database that a test was owed at any instant of the month is counted."""
    by_database: dict[str, list[Attempt]] = {}
    for attempt in attempts(facts):
        by_database.setdefault(attempt.database, []).append(attempt)
    rows, outside = [], []
    for database in databases(facts):
        if any(database.tested_at(at) for at in database.turns()):
            rows.append(_covered(database, by_database.get(database.id, ())))
        else:
            outside.append(Outside(database.customer, database.id, database.why_not()))
    passed = sum(row.outcome == "PASSED" for row in rows)
    return Coverage(len(rows), passed, tuple(rows), tuple(outside))


def _covered(database: Database, tests: Sequence[Attempt]) -> Covered:
    passed = [each for each in tests if each.outcome == "PASSED"]
    open_ = [each for each in tests if each.outcome != "PASSED" and answer(each, tests) is None]
    best = passed[-1] if passed else None
    outcome: Outcome = "PASSED"
    reason = ""
    if open_:
        worst = min(open_, key=lambda each: WORST.index(each.outcome))
        outcome, reason = worst.outcome, worst.reason
    elif best is None:
        outcome, reason = "NOT TESTED", _untested(database)
    last = best or (tests[-1] if tests else None)
    plan = database.policy.plan
    days = OWED.get(plan.restore_test or "")
    return Covered(
        customer=database.customer,
        database=database.id,
        outcome=outcome,
        reason=reason,
        level=best.drill.level if best and best.drill and outcome == "PASSED" else None,
        backup=last.backup if last else None,
        tested_at=text_of(last.at) if last else None,
        tests=len(tests),
        owed=len(database.facts.month.days) // days if days else 1,
    )


def _untested(database: Database) -> str:
    facts = database.facts
    kept = sum(count for _, name, count in facts.kept if name == database.id)
    ever = any(backup.database == database.id for backup in facts.backups)
    if not kept and not ever:
        return "no restore test was begun: there is no backup of it"
    return "no restore test of it was begun in the month"


def _of_drill(drill: Drill) -> Attempt:
    return Attempt(
        drill.id, drill.customer, drill.database, drill.backup, drill.pick, drill.began_at,
        drill.verdict, drill.reason or _silent(drill), drill,
    )  # fmt: skip


def _silent(drill: Drill) -> str:
    return "" if drill.verdict == "PASSED" else "the test says no reason"


def _of_begun(begun: Begun) -> Attempt:
    return Attempt(
        begun.id, begun.customer, begun.database, begun.backup, begun.pick, begun.at,
        "DIED", DIED, None,
    )  # fmt: skip
