"""Which backup of a database is tested: always the newest; beside it, in turn by the month,
one at random and the oldest that is kept. Pure.

The lot is drawn from a seed that is recorded: it names the newest backup, whose id nobody
knows beforehand, and anybody can draw again afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date
from typing import Literal

from backups.errors import NotFound
from backups.proving import Pick

Rule = Literal["newest", "random", "oldest"]


def extra_rule(month: date) -> Rule:
    """What is tested beside the newest in the month of that day."""
    return "random" if (month.year * 12 + month.month) % 2 else "oldest"


def pick(rule: Rule, database: str, month: date, backups: Sequence[str]) -> tuple[Pick, str]:
    """The choice and the id chosen; `backups` are ids, newest first. Raises NotFound when
    there is none."""
    if not backups:
        raise NotFound(f"there is no backup of {database!r} to test")
    count = len(backups)
    if rule == "newest":
        return Pick("newest", "", count), backups[0]
    if rule == "oldest":
        return Pick("oldest", "", count), backups[-1]
    seed = f"{month:%Y-%m} {database} {backups[0]}"
    return Pick("random", seed, count), backups[drawn(seed, count)]


def drawn(seed: str, count: int) -> int:
    """A position from 0 to `count` - 1: SHA-256 of the seed, as a number, modulo the count."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()) % count
