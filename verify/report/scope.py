"""What of the evidence a report is about: from here on nothing else exists. Pure.

A customer's report is made from that customer's facts alone, so it can't tell of another's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from backups.declared import Policy
from backups.fleet.states import State, state_of
from verify.report.facts import Facts, Version


def of(facts: Facts, customer: str | None) -> Facts:
    """Only what concerns `customer`; None: everything. Self-tests speak of the program, and
    only their sums enter a report."""
    if customer is None:
        return facts
    drills = [each for each in facts.drills if each.customer == customer]
    ours = {each.id for each in drills}
    return replace(
        facts,
        versions=[each for each in facts.versions if each.policy.customer == customer],
        standings=[each for each in facts.standings if each.customer == customer],
        runs=[each for each in facts.runs if each.customer == customer],
        backups=[each for each in facts.backups if each.customer == customer],
        kept=[each for each in facts.kept if each[0] == customer],
        deletions=[each for each in facts.deletions if each.customer == customer],
        holds=[each for each in facts.holds if each[0].customer == customer],
        begun=[each for each in facts.begun if each.customer == customer],
        drills=drills,
        opinions=[each for each in facts.opinions if each.drill in ours],
        alarms=[each for each in facts.alarms if each.customer == customer],
        records=[each for each in facts.records if each.customer == customer],
        scrubs=[each for each in facts.scrubs if each.customer == customer],
        examined=[each for each in facts.examined if each.customer == customer],
        operations=[each for each in facts.operations if each.customer == customer],
    )


@dataclass(frozen=True, slots=True)
class Database:
    """One database, its policies and its states."""

    customer: str
    id: str
    versions: tuple[Version, ...]
    """Oldest first, never empty."""
    facts: Facts

    def policy_at(self, at: datetime) -> Policy | None:
        """The one in force; None: before the first."""
        known = [each for each in self.versions if each.since is None or each.since <= at]
        return known[-1].policy if known else None

    @property
    def policy(self) -> Policy:
        """The one in force when the evidence ends."""
        return self.policy_at(self.facts.until) or self.versions[0].policy

    def backed_up_at(self, at: datetime) -> bool:
        """Whether a backup that is meant to start then is owed."""
        policy = self.policy_at(at)
        if policy is None or policy.paused:
            return False
        return self._state(at).back_up

    def tested_at(self, at: datetime) -> bool:
        """Whether restore tests are owed then."""
        return self.policy_at(at) is not None and self._state(at).test

    def why_not(self) -> str:
        """Why nothing was owed in the whole month."""
        if self.policy_at(self.facts.until) is None:
            return "declared after the month"
        state = self._state(self.facts.until)
        return f"{state.name}: {state.means}"

    def turns(self) -> list[datetime]:
        """The instants from which something else may hold: the month's first among them."""
        month, until = self.facts.month, self.facts.until
        since = [each.since for each in self.versions if each.since is not None]
        since += [each.since for each in self.facts.standings]
        return [month.start, *(each for each in since if month.start < each < until)]

    def _state(self, at: datetime) -> State:
        then = [each for each in self.facts.standings if each.since <= at]
        return state_of(then, self.customer, self.id)


def databases(facts: Facts) -> list[Database]:
    """Every one that has a policy, by customer and id."""
    found: dict[tuple[str, str], list[Version]] = {}
    for version in sorted(facts.versions, key=_age):
        policy = version.policy
        found.setdefault((policy.customer, policy.database), []).append(version)
    mine = _by_customer(facts)
    return [
        Database(customer, name, tuple(versions), mine[customer])
        for (customer, name), versions in sorted(found.items())
    ]


def _by_customer(facts: Facts) -> dict[str, Facts]:
    """Standings by customer: each database looks at its own only."""
    customers = {each.policy.customer for each in facts.versions}
    return {
        customer: replace(
            facts, standings=[each for each in facts.standings if each.customer == customer]
        )
        for customer in customers
    }


def _age(version: Version) -> int:
    return version.policy.version
