"""Which backups of a database stay, which may go, and why: one reason each. Pure.

A backup goes when no guard of `GUARDS` keeps it, and no other way. The guards stand in the
order in which their reason is given; each alone is enough. Time is a half-open window: a
backup taken at `t` and promised until `e` is kept at every instant in `[t, e)`.

- A plan that is raised counts at once, for every backup that is still there.
- A plan that is lowered never takes away what a manifest promised, and what a higher plan had
  added stays for a grace time, which runs from the first run under the lower plan.
- A clock is believed only as far as records bear it out: see `_clock`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from backups.keeping import Chronicle
from backups.model import Plan

SKEW = timedelta(minutes=15)
"""Clocks may differ by this; object stores refuse calls dated further off."""
CLOCK_BOUND = timedelta(days=7)
"""ASSUMED: without a record for longer, the clock is doubted."""
DOWNGRADE_GRACE = timedelta(days=14)
"""ASSUMED."""
DELETION_GRACE = timedelta(days=3)
"""ASSUMED: between a backup's mark and its deletion."""

FROZEN = frozenset({"state", "unreadable", "clock", "stale"})
"""Reasons that speak of the whole database: nothing of it is deleted, until that is settled."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed backup."""

    id: str
    taken_at: datetime
    promised_until: datetime
    """As its manifest says."""
    good: bool = True
    """Nothing is known to be wrong with it."""
    verified: bool = False
    """A restore test of it passed."""
    holds: tuple[str, ...] = ()
    """Those in force, each in words."""
    used_by: str = ""
    """Who needs it now, in words."""
    locked_until: datetime | None = None
    """The latest lock of its manifests."""
    marked_at: datetime | None = None
    """Since when every store that holds it says that it will go."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """A plan that gave more days than today's."""

    days: int
    lowered_at: datetime | None
    """When a run first followed a lower one; None: none did yet."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a database's policy says of keeping, and for how long changes wait."""

    plan: Plan
    earlier: tuple[Earlier, ...] = ()
    downgrade_grace: timedelta = DOWNGRADE_GRACE
    deletion_grace: timedelta = DELETION_GRACE
    clock_bound: timedelta = CLOCK_BOUND


@dataclass(frozen=True, slots=True)
class Facts:
    """What bears on every backup of the database."""

    now: datetime
    chronicle: Chronicle
    """The catalog's records around `now` less the rule's `clock_bound`."""
    stored_at: datetime | None = None
    """The newest object of this database, by its store's own clock; None: not looked."""
    troubles: tuple[str, ...] = ()
    """What in its stores can't be read or believed, in words."""
    state: str = ""
    """How things stand with the customer, where that lets nothing be deleted."""
    ended: bool = False
    """The database is retired, and the day that was named for the end of its last good backup
    is over: nothing newer will come, and every window ends."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one backup, with one reason."""

    backup: str
    keep: bool
    reason: str
    """Stable name: a guard's, or `expired`."""
    words: str
    when: datetime | None
    """Kept: the end of this reason, where it has a date. Else: when it is deleted at the
    earliest."""


def earlier_plans(plans: Sequence[tuple[Plan, datetime | None]]) -> tuple[Earlier, ...]:
    """Those of a policy's versions, oldest first, that gave more days than the last one; each
    with the start of the first run under any version after it that gave fewer."""
    found = []
    for position, (plan, _) in enumerate(plans):
        if plan.retention_days > plans[-1][0].retention_days:
            lower = [
                started
                for later, started in plans[position + 1 :]
                if started is not None and later.retention_days < plan.retention_days
            ]
            found.append(Earlier(plan.retention_days, min(lower, default=None)))
    return tuple(found)


def promised_end(entry: Entry, plan: Plan) -> datetime:
    """The end of its window: the manifest's promise, or today's plan where it gives more."""
    return max(entry.promised_until, entry.taken_at + timedelta(days=plan.retention_days))


def plan_retention(
    entries: Sequence[Entry], rule: Rule | None, facts: Facts
) -> tuple[Decision, ...]:
    """One decision per backup of one database, newest first.

    Without a rule everything is kept: nobody knows what was promised.
    """
    newest_first = sorted(entries, key=_age, reverse=True)
    if rule is None:
        words = "no policy says how long it is to be kept"
        return tuple(Decision(e.id, True, "no-plan", words, None) for e in newest_first)
    view = _view(newest_first, rule, facts)
    return tuple(_decide(entry, view) for entry in newest_first)


# --- how it is decided ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _View:
    """The whole database, as each guard sees it."""

    rule: Rule
    facts: Facts
    newest_good: Entry | None
    newest_verified: Entry | None
    calendar: Mapping[str, Mapping[str, str]]
    """Guard's name to backups kept by it, each with the week, month or year."""


_Kept = tuple[str, datetime | None]
_Guard = Callable[[Entry, _View], _Kept | None]


def _decide(entry: Entry, view: _View) -> Decision:
    for name, guard in GUARDS.items():
        kept = guard(entry, view)
        if kept is not None:
            return Decision(entry.id, True, name, *kept)
    now, grace = view.facts.now, view.rule.deletion_grace
    when = max(now, (now if entry.marked_at is None else entry.marked_at) + grace)
    end = _day(promised_end(entry, view.rule.plan))
    return Decision(entry.id, False, "expired", f"its window ended on {end}", when)


def _view(newest_first: Sequence[Entry], rule: Rule, facts: Facts) -> _View:
    good = [entry for entry in newest_first if entry.good]
    plan = rule.plan
    return _View(
        rule,
        facts,
        newest_good=next(iter(good), None),
        newest_verified=next((entry for entry in newest_first if entry.verified), None),
        calendar={
            "weekly": _newest_of_each(good, _week, plan.keep_weekly),
            "monthly": _newest_of_each(good, _month, plan.keep_monthly),
            "yearly": _newest_of_each(good, _year, plan.keep_yearly),
        },
    )


def _newest_of_each(
    newest_first: Iterable[Entry], period: Callable[[datetime], str], count: int
) -> dict[str, str]:
    found: dict[str, str] = {}  # period to backup
    for entry in newest_first:
        name = period(entry.taken_at.astimezone(UTC))
        if name not in found:
            if len(found) == count:
                break
            found[name] = entry.id
    return {backup: name for name, backup in found.items()}


def _age(entry: Entry) -> tuple[datetime, str]:
    return entry.taken_at, entry.id


def _week(at: datetime) -> str:
    year, week, _ = at.isocalendar()
    return f"{year}-W{week:02}"


def _month(at: datetime) -> str:
    return f"{at.year:04}-{at.month:02}"


def _year(at: datetime) -> str:
    return f"{at.year:04}"


def _day(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


# --- the guards -----------------------------------------------------------------------


def _window(entry: Entry, view: _View) -> _Kept | None:
    end = promised_end(entry, view.rule.plan)
    if view.facts.now >= end:
        return None
    added = "" if end == entry.promised_until else f", by the plan {view.rule.plan.name}"
    return f"inside its window until {_day(end)}{added}", end


def _downgrade(entry: Entry, view: _View) -> _Kept | None:
    rule = view.rule
    ends = [_graced(entry, plan, rule.downgrade_grace) for plan in rule.earlier]
    end = max(ends, default=entry.taken_at)
    if view.facts.now >= end:
        return None
    return f"the plan was lowered; this one may go from {_day(end)}", end


def _graced(entry: Entry, earlier: Earlier, grace: timedelta) -> datetime:
    end = entry.taken_at + timedelta(days=earlier.days)
    if earlier.lowered_at is None:
        return end
    if entry.taken_at >= earlier.lowered_at:  # it never stood under that plan
        return entry.taken_at
    return min(end, earlier.lowered_at + grace)


def _hold(entry: Entry, _: _View) -> _Kept | None:
    return (f"under hold: {'; '.join(entry.holds)}", None) if entry.holds else None


def _newest_good(entry: Entry, view: _View) -> _Kept | None:
    if entry is not view.newest_good or view.facts.ended:
        return None
    return "the newest good backup", None


def _newest_verified(entry: Entry, view: _View) -> _Kept | None:
    if entry is not view.newest_verified or view.facts.ended:
        return None
    return "the newest backup that a restore test passed", None


def _in_use(entry: Entry, _: _View) -> _Kept | None:
    return (f"in use: {entry.used_by}", None) if entry.used_by else None


def _newest_of(name: str) -> _Guard:
    def guard(entry: Entry, view: _View) -> _Kept | None:
        period = view.calendar[name].get(entry.id)
        return None if period is None else (f"the newest of {period}", None)

    return guard


def _lock(entry: Entry, view: _View) -> _Kept | None:
    until = entry.locked_until
    if until is None or view.facts.now >= until:
        return None
    return f"locked in its store until {_day(until)}", until


def _state(_: Entry, view: _View) -> _Kept | None:
    return (f"frozen: {view.facts.state}", None) if view.facts.state else None


def _unreadable(_: Entry, view: _View) -> _Kept | None:
    troubles = view.facts.troubles
    if not troubles:
        return None
    more = f"; and {len(troubles) - 1} more" if len(troubles) > 1 else ""
    return f"frozen: {troubles[0]}{more}", None


def _clock(_: Entry, view: _View) -> _Kept | None:
    """A clock that ran ahead makes everything look old. What bears it out: a record not long
    ago; records without a hole before that, so that one backup taken by the wrong clock does
    not vouch for it; and an object that the store's own clock dated not long ago."""
    now, bound, said = view.facts.now, view.rule.clock_bound, view.facts.chronicle
    stored = view.facts.stored_at
    times = [at for at in (said.newest, stored) if at is not None]
    if any(at > now + SKEW for at in times):
        return f"frozen: the clock says {_day(now)}, and {_day(max(times))} is on record", None
    if any(now - at > bound for at in times) or said.newest is None:
        last = _day(min(times)) if times else "never"
        return f"frozen: the clock is in doubt, the last record is of {last}", None
    first, before = said.first_since, said.last_before
    if first is not None and before is not None and first - before > bound:
        words = f"nothing is on record between {_day(before)} and {_day(first)}"
        return f"frozen: the clock is in doubt, {words}", first + bound
    return None


def _stale(_: Entry, view: _View) -> _Kept | None:
    newest, limit = view.newest_good, 2 * timedelta(hours=view.rule.plan.rpo_hours)
    fresh = newest is not None and view.facts.now - newest.taken_at <= limit
    if fresh or view.facts.ended:
        return None
    last = (
        "there is no good one" if newest is None else f"the last is of {_day(newest.taken_at)}"
    )
    return f"frozen: no fresh good backup, {last}", None


GUARDS: dict[str, _Guard] = {
    "window": _window,
    "downgrade": _downgrade,
    "hold": _hold,
    "newest-good": _newest_good,
    "newest-verified": _newest_verified,
    "in-use": _in_use,
    "weekly": _newest_of("weekly"),
    "monthly": _newest_of("monthly"),
    "yearly": _newest_of("yearly"),
    "lock": _lock,
    "state": _state,
    "unreadable": _unreadable,
    "clock": _clock,
    "stale": _stale,
}
"""Name to guard; tests take each away in turn and show that something then goes wrong."""
