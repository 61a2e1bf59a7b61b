"""What applying a fleet would change, field by field. Pure.

No policy holds a secret: passwords and keys are references, and no URL may carry one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timedelta

from backups.declared import Plan, Policy
from backups.model import Backup

_UNSAID = ("customer", "database", "version")


@dataclass(frozen=True, slots=True)
class Change:
    """One field: `plan.retention_days`, `stores[1].url`."""

    field: str
    old: str | None
    """None: it was not there."""
    new: str | None
    """None: it is there no more."""


def differences(old: Policy | None, new: Policy) -> list[Change]:
    """Every field that differs, in the policy's own order; all that say something, where
    there was no policy before."""
    before = dict(_flat("", old)) if old is not None else {}
    after = dict(_flat("", new))
    names = [*after, *(name for name in before if name not in after)]
    return [
        Change(name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    ]


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    if is_dataclass(value):
        for field in fields(value):
            if name or field.name not in _UNSAID:
                called = field.name.removesuffix("_ref")
                inner = getattr(value, field.name)
                yield from _flat(f"{name}.{called}" if name else called, inner)
    elif isinstance(value, tuple):
        for position, item in enumerate(value):
            yield from _flat(f"{name}[{position}]", item)
    elif isinstance(value, bool):
        if value:
            yield name, "yes"
    elif value is not None:
        yield name, str(value)


# --- plans ----------------------------------------------------------------------------


def plan_change(
    old: Plan, new: Plan, backups: Sequence[Backup], now: datetime, grace: timedelta
) -> str:
    """What a raised or lowered retention means for backups that are there and for those to
    come; empty when it stays the same.

    Raised, it counts at once for all. Lowered, it takes no backup away before the end that
    its manifest promised, nor, where an earlier rise had given it more, before `grace` is over.
    """
    before, after = timedelta(days=old.retention_days), timedelta(days=new.retention_days)
    if before == after:
        return ""
    days = f"from {old.retention_days} to {new.retention_days} days"
    if after > before:
        longer = [b for b in backups if b.created_at + after > b.expires_at]
        words = f"kept longer, {days}, at once"
        if longer:
            end = max(b.created_at + after for b in longer)
            words += f": {_count(longer)} already there until {end:%Y-%m-%d} at the latest"
        return words
    words = f"kept shorter, {days}, from the next backup on"
    raised = [b for b in backups if b.created_at + before > max(b.expires_at, now)]
    ends = {
        b.id: max(b.expires_at, b.created_at + after, min(b.created_at + before, now + grace))
        for b in raised
    }
    promised = [b for b in backups if b.id not in ends and b.expires_at > now]
    if promised:
        last = max(b.expires_at for b in promised)
        words += f"; {_count(promised)} as promised until {last:%Y-%m-%d} at the latest"
    for_less = sorted(ends.values())
    if for_less:
        words += (
            f"; {_count(raised)} that an earlier, higher plan kept longer may go from "
            f"{for_less[0]:%Y-%m-%d} on, all of them by {for_less[-1]:%Y-%m-%d}"
        )
    return words


def _count(backups: Sequence[Backup]) -> str:
    return f"{len(backups)} backup{'s' if len(backups) != 1 else ''}"
