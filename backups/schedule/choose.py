"""Which of what is due starts now: limits, fairness and urgency. Pure."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

LAST_CALL = timedelta(hours=2)
"""Before a local day's end: what still lacks its backup then goes first."""


@dataclass(frozen=True, slots=True)
class Item:
    """One backup that is due."""

    database: str
    customer: str
    source: str
    """The server it reads from."""
    bucket: str
    """The bucket it writes to."""
    slot: datetime
    ends: datetime
    """When its local day is over."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many backups run at once."""

    total: int
    per_source: int
    per_bucket: int


def choose(
    waiting: Iterable[Item],
    running: Collection[Item],
    limits: Limits,
    served: Mapping[str, datetime],
    now: datetime,
) -> list[Item]:
    """What to start now, in order, within the limits.

    Customers take turns: the one with the fewest backups under way, then the one least
    recently `served` (when a backup of theirs last started). Of one customer's: what would
    else miss its day, then the newest slot first, so that after an outage the databases whose
    hour it is are not late as well.
    """
    free = limits.total - len(running)
    if free <= 0:
        return []
    sources = Counter(item.source for item in running)
    buckets = Counter(item.bucket for item in running)
    busy = Counter(item.customer for item in running)

    def fits(item: Item) -> bool:
        return (
            sources[item.source] < limits.per_source
            and buckets[item.bucket] < limits.per_bucket
        )

    queues: dict[str, list[tuple[bool, float, str, Item]]] = defaultdict(list)
    for item in waiting:
        if fits(item):
            hurry = item.ends - now <= LAST_CALL
            order = item.ends.timestamp() if hurry else -item.slot.timestamp()
            queues[item.customer].append((not hurry, order, item.database, item))
    turns = [
        (busy[name], served[name].timestamp() if name in served else 0.0, name)
        for name in queues
    ]
    heapq.heapify(turns)
    chosen: list[Item] = []
    heaps: set[str] = set()
    while turns and len(chosen) < free:
        count, _, name = heapq.heappop(turns)
        if name not in heaps:
            heapq.heapify(queues[name])
            heaps.add(name)
        first = _first(queues[name], fits)
        if first is not None:
            chosen.append(first)
            sources[first.source] += 1
            buckets[first.bucket] += 1
            heapq.heappush(turns, (count + 1, now.timestamp(), name))
    return chosen


def _first(
    queue: list[tuple[bool, float, str, Item]], fits: Callable[[Item], bool]
) -> Item | None:
    """Take the most urgent one that fits; what doesn't fit now won't in this round."""
    while queue:
        *_, item = heapq.heappop(queue)
        if fits(item):
            return item
    return None
