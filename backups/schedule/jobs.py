"""What is put into the queue: names, and which lane each waits in. Pure.

A database's id alone is its scheduled backup; anything else has a mark before it that no id
begins with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from backups.ports.queues import Job, Lane, Role
from backups.schedule.chores import CHORES

CHORE = "@"
REQUEST = "?"
"""Before the id of something that was asked for over the API."""
NOW = "!"
"""Before the id of a database that is backed up now, whether it is due or not."""
LANES: Mapping[Lane, tuple[frozenset[Role], int]] = {
    "restore": (frozenset({"restore"}), 400),
    "house": (frozenset({"backup"}), 300),
    "backup": (frozenset({"backup"}), 200),
    "drill": (frozenset({"restore"}), 100),
    "prune": (frozenset({"prune"}), 0),
    "posture": (frozenset({"backup", "restore", "prune"}), 0),  # tries what each may do
}
"""The roles that a lane takes, all of them, and its priority."""
SCRUB_LAST = -100
_CHORES = {chore.name: chore for chore in CHORES}
PER_CUSTOMER = 2
"""Of what was asked for over the API, as many of one customer are open at once. ASSUMED."""


def job_of(name: str, lock: str = "", *, hurry: bool = False) -> Job:
    """A name with its lane and rank."""
    if name.startswith(CHORE):
        chore = _CHORES[name.removeprefix(CHORE).partition("/")[0]]
        rank = LANES[chore.lane][1] + (SCRUB_LAST if chore.name == "scrub" else 0)
        # Further ones of a kind are there to be done beside the first.
        return Job(name, chore.lane, rank, "" if "/" in name else chore.lock)
    if name.startswith(REQUEST):
        return Job(name, "restore", LANES["restore"][1] + 1)
    rank = LANES["backup"][1]
    return Job(name, "backup", rank + (name.startswith(NOW) or hurry), lock)


def lanes_of(roles: Collection[Role]) -> list[Lane]:
    """Those that these roles work through."""
    return [lane for lane, (needed, _) in LANES.items() if needed <= set(roles)]


def released(waiting: Iterable[tuple[str, str, datetime]]) -> list[str]:
    """Which of (id, customer, asked at) are open now: the oldest few of every customer, so
    that nobody's hundred keep another's one waiting."""
    taken: Counter[str] = Counter()
    chosen = []
    for request, customer, _ in sorted(waiting, key=lambda one: (one[2], one[0])):
        if taken[customer] < PER_CUSTOMER:
            taken[customer] += 1
            chosen.append(REQUEST + request)
    return chosen
