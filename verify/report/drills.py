"""Restore tests, what they took, where plaintext was; and the verifier's own test. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from backups.proving import Drill
from verify.ladder import CHECKS
from verify.report.coverage import Attempt, answer, attempts
from verify.report.facts import Facts
from verify.report.proofs import (
    CheckRow,
    Cost,
    Damage,
    PhaseRow,
    Plaintext,
    SelfTested,
    Test,
    Timing,
    Voice,
)
from verify.report.rows import (
    text_of,
)

RESTORING = ("prepare", "fetch and load", "compare")
"""Phases that a real restore has too; they are held against the RTO."""


def tests(facts: Facts, kind: str) -> tuple[Test, ...]:
    """By database and time; each failure with the test that answers it."""
    found = sorted(attempts(facts, kind), key=lambda each: (each.database, each.at, each.id))
    return tuple(_test(each, found, facts) for each in found)


def _test(attempt: Attempt, all_: Sequence[Attempt], facts: Facts) -> Test:
    drill = attempt.drill
    retest = answer(attempt, sorted(all_, key=lambda each: (each.at, each.id)))
    return Test(
        id=attempt.id,
        customer=attempt.customer,
        database=attempt.database,
        backup=attempt.backup,
        kind=drill.kind if drill else "drill",
        began_at=text_of(attempt.at),
        ended_at=text_of(drill.ended_at) if drill else None,
        outcome=attempt.outcome,
        level=drill.level if drill else None,
        reason=attempt.reason,
        rule=attempt.pick.rule,
        seed=attempt.pick.seed,
        among=attempt.pick.among,
        checks=_checks(drill) if drill else (),
        retest=retest.id if retest else None,
        tables=drill.tables if drill else 0,
        rows=drill.rows if drill else 0,
        plain_bytes=drill.plain_bytes if drill else 0,
        policy_version=drill.policy_version if drill else None,
        procedure=drill.procedure if drill else "",
        opinions=tuple(
            Voice(each.name, each.passed, each.words, text_of(each.at))
            for each in sorted(facts.opinions, key=lambda each: (each.at, each.id))
            if each.drill == attempt.id
        ),
    )


def _checks(drill: Drill) -> tuple[CheckRow, ...]:
    return tuple(
        CheckRow(
            CHECKS[each.name].level if each.name in CHECKS else 0,
            each.name, each.subject, each.passed, each.expected, each.actual,
        )
        for each in drill.checks
    )  # fmt: skip


def timings(facts: Facts) -> tuple[Timing, ...]:
    """Of every test that got as far as loading."""
    return tuple(
        Timing(
            test=drill.id,
            customer=drill.customer,
            database=drill.database,
            restore_milliseconds=(took := _milliseconds(drill)),
            rto_seconds=drill.rto_seconds,
            rto_met=None if drill.rto_seconds is None else took <= drill.rto_seconds * 1000,
            phases=tuple(PhaseRow(p.name, round(p.seconds * 1000)) for p in drill.phases),
        )
        for drill in _drills(facts)
        if any(phase.name == "compare" for phase in drill.phases)
    )


def _milliseconds(drill: Drill) -> int:
    return round(sum(p.seconds for p in drill.phases if p.name in RESTORING) * 1000)


def plaintext(facts: Facts) -> tuple[Plaintext, ...]:
    """Every scratch place there was."""
    return tuple(
        Plaintext(
            drill.id, drill.customer, drill.database, place.kind, place.region,
            place.server_version, place.boundary,
            None if place.destroyed_at is None else text_of(place.destroyed_at), place.proof,
        )
        for drill in _drills(facts)
        if (place := drill.place) is not None
    )  # fmt: skip


def cost(facts: Facts) -> tuple[Cost, ...]:
    """Of every test."""
    return tuple(
        Cost(each.id, each.customer, each.database, each.read_bytes, each.requests)
        for each in _drills(facts)
    )


def _drills(facts: Facts) -> list[Drill]:
    found = attempts(facts) + attempts(facts, "cold start")
    found.sort(key=lambda each: (each.database, each.at, each.id))
    return [each.drill for each in found if each.drill is not None]


def self_test(facts: Facts) -> SelfTested:
    """Sums alone: whose backup the copies were made of is nobody else's business."""
    runs = [
        each
        for each in facts.self_tests
        if facts.month.start <= each.began_at < facts.until
    ]  # fmt: skip
    damages: dict[str, Damage] = {}
    for trial in (trial for run in runs for trial in run.trials):
        so_far = damages.get(
            trial.name, Damage(trial.name, trial.damage, trial.check, 0, 0)
        )  # fmt: skip
        damages[trial.name] = Damage(
            so_far.name, min(so_far.damage, trial.damage), min(so_far.check, trial.check),
            so_far.tried + 1, so_far.caught + trial.caught,
        )  # fmt: skip
    last = max((each.ended_at for each in runs), default=None)
    return SelfTested(
        runs=len(runs),
        unfinished=sum(bool(each.error) for each in runs),
        tried=sum(each.tried for each in damages.values()),
        caught=sum(each.caught for each in damages.values()),
        last_at=None if last is None else text_of(last),
        damages=tuple(damages[name] for name in sorted(damages)),
    )
