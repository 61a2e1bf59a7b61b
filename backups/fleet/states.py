"""The states of a customer and of a database: what each allows, in words, and what ends it.
Pure.

A state never ends by the clock: its date is a reminder, which `backups status` shows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from backups.declared import Policy, Standing
from backups.errors import ConfigError
from backups.fleet.rules import Customer, Fleet


@dataclass(frozen=True, slots=True)
class State:
    """What may be done in a state, and how one gets out of it."""

    name: str
    means: str
    back_up: bool
    prune: bool
    restore: bool
    test: bool
    way_back: str


STATES: Mapping[str, State] = MappingProxyType(
    {
        state.name: state
        for state in (
            State(
                "active",
                "backed up, kept, tested and given back as the plan says",
                back_up=True,
                prune=True,
                restore=True,
                test=True,
                way_back="",
            ),
            State(
                "paused",
                "no new backups; nothing is deleted, everything can be restored",
                back_up=False,
                prune=False,
                restore=True,
                test=False,
                way_back="Take `state: paused` out of the fleet file and apply it.",
            ),
            State(
                "leaving",
                "no more backups by the schedule; nothing is deleted, everything can be "
                "restored, and `backups offboard` takes the last backups and hands over",
                back_up=False,
                prune=False,
                restore=True,
                test=False,
                way_back="Take `state: leaving` out of the fleet file and apply it; for one "
                "more backup use `backups run DATABASE --anyway`.",
            ),
            State(
                "left",
                "handed over: we take nothing and delete nothing, the data is theirs",
                back_up=False,
                prune=False,
                restore=True,
                test=False,
                way_back="Write `state: active` into the fleet file, let their administrator "
                "grant our roles again, and apply it.",
            ),
            State(
                "erased",
                "their backups are being deleted, or are; nothing is taken or given back",
                back_up=False,
                prune=False,
                restore=False,
                test=False,
                way_back="What was deleted is gone. To begin anew write `state: active` into "
                "the fleet file and apply it.",
            ),
            State(
                "retired",
                "no new backups; what there is goes when its window ends, the last one too",
                back_up=False,
                prune=True,
                restore=True,
                test=True,
                way_back="Take `retired: true` out of the fleet file and apply it.",
            ),
        )
    }
)

_BY_COMMAND = frozenset({"left", "erased"})
"""Not undone by a file that merely says nothing."""
ACTIVE = STATES["active"]


def state_of(standings: Iterable[Standing], customer: str, database: str) -> State:
    """What may be done with a database: the customer's state goes before its own."""
    standing = standing_of(standings, customer, database)
    return ACTIVE if standing is None else STATES[standing.state]


def standing_of(standings: Iterable[Standing], customer: str, database: str) -> Standing | None:
    """The record of that state; None: active, and never was anything else."""
    found = {one.database: one for one in standings if one.customer == customer}
    whole = found.get("")
    if whole is not None and whole.state != ACTIVE.name:
        return whole
    return found.get(database, whole) if database else whole


def in_words(standing: Standing, now: datetime) -> str:
    """The state since when, until when and why; that its date is over, where it is."""
    words = f"{standing.state} since {standing.since:%Y-%m-%d}"
    if standing.until is not None:
        words += f" until {standing.until}"
        words += ", which is over: decide" if now.date() > standing.until else ""
    return f"{words} ({standing.reason})" if standing.reason else words


def refuse_backup(
    standing: Standing | None, now: datetime, database: str, *, anyway: bool = False
) -> None:
    """Raises ConfigError, with the way back, when no backup is to be taken; `anyway` is a
    person's word for the last one of a customer who is leaving."""
    state = STATES[standing.state] if standing else ACTIVE
    if standing is None or state.back_up or (anyway and state.name == "leaving"):
        return
    who = database if standing.database else f"{standing.customer}, whose database this is,"
    raise ConfigError(
        f"no backup of {database} is taken: {who} is {in_words(standing, now)}",
        hint=state.way_back,
    )


def refuse_restore(standing: Standing | None, now: datetime, database: str) -> None:
    """Raises ConfigError, with the way back, when nothing is to be given back."""
    if standing is not None and not STATES[standing.state].restore:
        raise ConfigError(
            f"nothing of {database} is given back: {standing.customer} is "
            f"{in_words(standing, now)}",
            hint=STATES[standing.state].way_back,
        )


# --- from the fleet file --------------------------------------------------------------


def declared_standings(
    fleet: Fleet, policies: Iterable[Policy], known: Iterable[Standing], now: datetime
) -> list[Standing]:
    """How things stand once `fleet` is applied, for all that it names; what doesn't change
    keeps its date."""
    days = {policy.database: policy.plan.retention_days for policy in policies}
    records = {(one.customer, one.database): one for one in known}
    found = []
    for customer in fleet.customers:
        old = records.get((customer.id, ""))
        found.append(_kept(old, _of_customer(customer, old, now)))
        for database in customer.databases:
            old = records.get((customer.id, database.id))
            new = Standing(customer.id, database.id, ACTIVE.name, now)
            if database.retired:
                # The day on which the last backup that could be is out of its window.
                until = (now + timedelta(days=days[database.id])).date()
                new = replace(new, state="retired", until=until)
            found.append(_kept(old, new))
    return found


def _of_customer(customer: Customer, old: Standing | None, now: datetime) -> Standing:
    recorded = old.state if old is not None else ACTIVE.name
    state = customer.state or ACTIVE.name
    if recorded in _BY_COMMAND and (customer.state is None or state == "leaving"):
        state = recorded
    return Standing(
        customer.id,
        "",
        state,
        now,
        customer.until_date,
        customer.reason or (old.reason if old is not None and state == recorded else ""),
    )


def _kept(old: Standing | None, new: Standing) -> Standing:
    if old is None or old.state != new.state:
        return new
    if new.database:  # a retired database's end was stated when it was retired
        return old
    return replace(new, since=old.since)


def obeying(policies: Iterable[Policy], standings: Iterable[Standing]) -> list[Policy]:
    """The same, those paused of which no backup may be taken: the schedule leaves them be."""
    whose: dict[str, list[Standing]] = defaultdict(list)
    for standing in standings:
        whose[standing.customer].append(standing)
    return [
        policy
        if state_of(whose[policy.customer], policy.customer, policy.database).back_up
        else replace(policy, paused=True)
        for policy in policies
    ]
