"""The whole report, from facts. Pure: same facts, same bytes."""

from __future__ import annotations

from verify.report import exceptions
from verify.report.access import access, posture
from verify.report.controls import CONTROLS
from verify.report.coverage import coverage
from verify.report.document import Report
from verify.report.drills import cost, plaintext, self_test, tests, timings
from verify.report.facts import Facts, Previous
from verify.report.ledgers import ages, backups, policy, retention, sizes
from verify.report.proofs import (
    Exceptional,
    SelfTested,
    Timings,
)
from verify.report.rows import (
    Coverage,
    Identity,
    State,
    text_of,
)
from verify.report.scope import of

_FIRST = Previous()


def build(facts: Facts, customer: str | None, previous: Previous = _FIRST) -> Report:
    """The report of one customer, or of the fleet when `customer` is None."""
    facts = of(facts, customer)
    covered, ledger, tested = coverage(facts), backups(facts), self_test(facts)
    drills, cold = tests(facts, "drill"), tests(facts, "cold start")
    times = Timings(timings(facts), ages(facts, ledger))
    stores, places = posture(facts), plaintext(facts)
    found: list[Exceptional] = [
        *exceptions.of_self_test(tested),
        *exceptions.of_coverage(covered),
        *exceptions.of_tests(drills + cold),
        *exceptions.of_backups(ledger, times),
        *exceptions.of_what_lacks(facts),
        *exceptions.of_plaintext(places),
        *exceptions.of_posture(stores),
        *exceptions.of_broken_glass(facts),
        *exceptions.of_alarms(facts),
    ]
    if customer is None and not cold:
        words = "no cold start was tried in the month"
        found.append(Exceptional("", "fleet", "cold start missing", words, None))
    state: State = "BLOCKED" if tested.caught < tested.tried else "ISSUED"
    head = facts.head
    return Report(
        format="bloomneo.backups.report.v1",
        state=state,
        headline=_headline(state, covered, tested, len(found)),
        identity=Identity(
            month=str(facts.month),
            customer=customer,
            program=facts.program,
            evidence_until=text_of(facts.until),
            previous=previous.statement,
            corrects=previous.corrects or None,
            reason=previous.reason,
            audit_sequence=head.sequence if head else None,
            audit_digest=head.digest if head else None,
        ),
        coverage=covered,
        policy=policy(facts),
        backups=ledger,
        retention=retention(facts),
        tests=drills,
        cold_starts=cold,
        timings=times,
        sizes=sizes(facts),
        access=access(facts),
        posture=stores,
        exceptions=tuple(found),
        controls=CONTROLS,
        self_test=tested,
        plaintext=places,
        cost=cost(facts),
    )


def _headline(state: State, covered: Coverage, tested: SelfTested, exceptional: int) -> str:
    if state == "BLOCKED":
        missed = tested.tried - tested.caught
        return (
            f"BLOCKED: the verifier let {missed} of {tested.tried} damaged copies pass; "
            "nothing below is proof of anything until that is mended"
        )
    if not covered.databases:
        return "No database was owed a restore test in this month."
    words = (
        f"{covered.passed} of {covered.databases} databases were restored and proven equal to "
        f"their source; {exceptional} exceptions"
    )
    return words + ("." if tested.tried else "; the verifier itself was not tested.")
