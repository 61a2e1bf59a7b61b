"""What is done regularly beside backups, and when it is due again. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from backups.keeping import Attempt
from backups.ports.queues import Lane

RETRY = timedelta(hours=1)
"""After a failure, where the chore itself doesn't come round sooner."""


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to be done again and again."""

    name: str
    every: timedelta
    lane: Lane
    lock: str = ""
    """Chores with the same one are not done at once."""


WATCH = Chore("watch", timedelta(minutes=1), "house")
"""Looks for what is not as promised, and tells it."""
PRUNE = Chore("prune", timedelta(days=1), "prune")
SCRUB = Chore("scrub", timedelta(days=7), "house")
HEADS = Chore("heads", timedelta(days=1), "house")
"""Publishes the head of the audit chain."""
CATALOG = Chore("catalog", timedelta(days=1), "house")
"""Backs up the catalog into the operator's own store, where the settings name one."""
DRILLS = Chore("drills", timedelta(minutes=10), "drill", "tests")
"""Makes the restore tests that are due."""
REPORTS = Chore("reports", timedelta(hours=6), "house")
"""Publishes the reports of the month that is over."""
SELF_TEST = Chore("self-test", timedelta(hours=12), "drill", "tests")
"""The month's test of the verifier itself, and the month's cold start."""
POSTURE = Chore("posture", timedelta(days=7), "posture")
"""Looks at how customers' stores are set up."""
REPLACEMENTS = Chore("replacements", timedelta(minutes=1), "restore")
"""Brings replacements of live databases to rest whose process died."""
CHORES: Sequence[Chore] = (
    WATCH, REPLACEMENTS, DRILLS, REPORTS, SELF_TEST, HEADS, CATALOG, PRUNE, SCRUB,
    POSTURE,
)  # fmt: skip


def due_at(chore: Chore, last: Attempt | None) -> datetime | None:
    """When it is due; None is at once. One that died is begun anew like one that failed."""
    if last is None:
        return None
    well = last.ended_at is not None and last.error is None
    return last.began_at + (chore.every if well else min(chore.every, RETRY))


def due(
    chores: Sequence[Chore], last: Mapping[str, Attempt], now: datetime
) -> tuple[Chore, ...]:
    """Those to begin now, the ones that come round soonest first."""
    found = []
    for chore in chores:
        at = due_at(chore, last.get(chore.name))
        # An attempt that began in the future is a clock that was wrong: it binds nobody.
        ahead = chore.name in last and last[chore.name].began_at > now
        if at is None or ahead or at <= now:
            found.append(chore)
    return tuple(sorted(found, key=lambda chore: chore.every))
