"""From a fleet file to what is in force: first what would change, then all of it or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from backups.declared import Policy, Standing
from backups.fleet.difference import Change, differences, plan_change
from backups.fleet.states import STATES, declared_standings, in_words, obeying, standing_of
from backups.settings import load_settings
from backups.wiring.app import App
from backups.wiring.enrolling import refuse_trespass


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One database whose policy gets a new version."""

    customer: str
    database: str
    from_version: int | None
    to_version: int
    fields: tuple[Change, ...]
    words: str
    """What it means for backups that are there; empty when nothing."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """A customer or a database that will stand otherwise."""

    customer: str
    database: str
    old: str
    new: str
    words: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A fleet, and how it differs from what is in force."""

    policies: tuple[Policy, ...]
    standings: tuple[Standing, ...]
    """Those that are new or other than before."""
    changes: tuple[PolicyChange, ...]
    states: tuple[StateChange, ...]
    undeclared: tuple[tuple[Policy, str], ...]
    """In force, named by no file, each with what that means."""


def propose(app: App, path: Path) -> Proposal:
    """What the fleet at `path` would change; changes nothing.

    Raises ConfigError that names every problem, CatalogError.
    """
    from backups.fleet import load_fleet, policies

    fleet, now = load_fleet(path), app.clock.now()
    declared = policies(fleet)
    refuse_trespass(app, declared)
    known = app.standings.standings()
    standings = declared_standings(fleet, declared, known, now)
    declared = obeying(declared, standings)
    in_force = {policy.database: policy for policy in app.catalog.policies()}
    changed = [one for one in standings if one not in known and _says_something(one, known)]
    return Proposal(
        policies=tuple(declared),
        standings=tuple(changed),
        changes=tuple(
            _policy_change(app, in_force.get(policy.database), policy)
            for policy in declared
            if not app.catalog.same_rule(in_force.get(policy.database), policy)
        ),
        states=tuple(_state_change(app, one, known) for one in changed),
        undeclared=_undeclared(app, declared, list(in_force.values()), known),
    )


def apply(app: App, proposal: Proposal) -> None:
    """Put it in force, all in one transaction. Raises CatalogError."""
    app.catalog.save_policies(proposal.policies, proposal.standings)


def standing(app: App, customer: str, database: str = "") -> Standing | None:
    """How things stand with a database, or with a customer as a whole; None: active."""
    return standing_of(app.standings.standings(customer), customer, database)


def standing_in_words(app: App, customer: str, database: str = "") -> str:
    """The same for people: `active`, or the state with its dates and reason."""
    found = standing(app, customer, database)
    return (
        "active"
        if found is None or found.state == "active"
        else in_words(found, app.clock.now())
    )


def refuse_backup(app: App, policy: Policy, *, anyway: bool = False) -> None:
    """Raises ConfigError, with the way back, when the state of the customer or of the
    database allows no backup."""
    from backups.fleet import states

    found = standing(app, policy.customer, policy.database)
    states.refuse_backup(found, app.clock.now(), policy.database, anyway=anyway)


def _says_something(standing: Standing, known: Sequence[Standing]) -> bool:
    """Whether it needs a record: who is active and never was otherwise has none."""
    return standing.state != "active" or any(
        (one.customer, one.database) == (standing.customer, standing.database) for one in known
    )


def _policy_change(app: App, old: Policy | None, new: Policy) -> PolicyChange:
    words = ""
    if old is not None:
        backups = app.catalog.backups(new.database)
        grace = timedelta(days=load_settings(app.home).downgrade_grace_days)
        words = plan_change(old.plan, new.plan, backups, app.clock.now(), grace)
    return PolicyChange(
        new.customer,
        new.database,
        old.version if old else None,
        old.version + 1 if old else 1,
        tuple(differences(old, new)),
        words,
    )


def _state_change(app: App, new: Standing, known: Sequence[Standing]) -> StateChange:
    whose = (new.customer, new.database)
    old = next((one.state for one in known if (one.customer, one.database) == whose), "active")
    words = f"{in_words(new, app.clock.now())}: {STATES[new.state].means}"
    return StateChange(*whose, old, new.state, words)


def _undeclared(
    app: App, declared: Sequence[Policy], in_force: Sequence[Policy], known: Sequence[Standing]
) -> tuple[tuple[Policy, str], ...]:
    """Nothing stops because a line was lost; it is named each time."""
    named = {policy.database for policy in declared}
    found = []
    for policy in in_force:
        if policy.database in named:
            continue
        standing = standing_of(known, policy.customer, policy.database)
        if standing is not None and not STATES[standing.state].back_up:
            words = f"declared no more: {in_words(standing, app.clock.now())}"
        elif policy.paused:
            words = "declared no more: its schedule stays paused; `retired: true` ends it"
        else:
            words = "declared no more: still backed up; `retired: true` stops it"
        found.append((policy, words))
    return tuple(found)
