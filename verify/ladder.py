"""The ladder: every check there is, its level, and what all of them together say. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from backups.proving import Check, Verdict


@dataclass(frozen=True, slots=True)
class Rung:
    """What a check is about."""

    level: int
    words: str


CHECKS: Mapping[str, Rung] = MappingProxyType(
    {
        "on time": Rung(0, "the newest backup is not older than the plan's RPO"),
        "present": Rung(1, "every object of the backup lies in the customer's store, whole"),
        "locked": Rung(1, "each is locked to the end of its window, where the store has locks"),
        "signed": Rung(
            2, "the manifest is signed by us, and is the one that the catalog lists"
        ),
        "chained": Rung(2, "the manifest names the one before it, where that is still there"),
        "downloaded": Rung(2, "every object has the digest that the manifest says"),
        "authentic": Rung(3, "every byte is authenticated, for this customer and this backup"),
        "archive": Rung(4, "the archive is well formed, and of a version we know"),
        "restored": Rung(5, "an empty, isolated server of the same major took all of it"),
        "environment": Rung(5, "extensions, settings and roles are the source's"),
        "structure": Rung(6, "every object is there, with its definition, owner and rights"),
        "carried": Rung(6, "the backup carries all that the source held"),
        "rows": Rung(7, "every table has exactly its rows"),
        "content": Rung(8, "the content hash of every table is the source's"),
        "sequences": Rung(8, "every sequence stands where it stood"),
        "large objects": Rung(8, "every large object is there, with its bytes"),
        "pages": Rung(9, "the engine's own integrity check finds nothing"),
        "full read": Rung(9, "every row of every table can be read"),
        "foreign keys": Rung(10, "every constraint holds when it is checked anew"),
        "source": Rung(10, "the source's own rows keep its own rules"),
        "sequences ahead": Rung(10, "no sequence would give a key that is taken"),
        "newest row": Rung(10, "how old the newest row is, where a column tells"),
        "assertion": Rung(10, "the customer's own queries are true"),
        "usable": Rung(11, "the application's role can read"),
        "restore time": Rung(12, "the restore took no longer than the plan's RTO"),
        "data age": Rung(12, "the data was not older than the plan's RPO"),
        "cold start": Rung(14, "all of it from the store and an identity alone"),
        "self-test": Rung(15, "this month's damaged copies were all rejected"),
        "destroyed": Rung(15, "nothing is left of the scratch place"),
    }
)
"""By name; FIELD's L13, a random point in time, is not sold."""

PROMISES = frozenset(
    {
        "on time", "locked", "carried", "source", "restore time", "data age", "cold start",
        "self-test", "destroyed",
    }
)  # fmt: skip
"""Not about the backup's data but about promises around it: one that fails is an exception
of its own, and takes away levels, not the proof. `carried`: the proof is of what it
holds; what it lacks is named. `source`: what its own rows break is the customer's to mend."""

FIRST = ("carried", "source")
"""Of the promises that were missed, those told first."""

ENVIRONMENT = frozenset({"environment"})
"""Checks whose failure speaks of the scratch place."""


def level(checks: Sequence[Check]) -> int | None:
    """The highest level with a check such that every check from 1 up to it passed; None: none.

    Level 0 is about the schedule: a backup that came late may be as good as any."""
    levels = [(CHECKS[check.name].level, check.passed is True) for check in checks]
    bad = [each for each, passed in levels if each and not passed]
    return max((each for each, _ in levels if 0 < each < min(bad, default=99)), default=None)


REQUIRED = frozenset(
    {
        "present", "signed", "downloaded", "authentic", "archive", "restored", "environment",
        "structure", "rows", "content", "sequences", "pages", "full read", "foreign keys",
        "sequences ahead", "usable",
    }
)  # fmt: skip
"""Without each of these nothing is PASSED: a check that wasn't made proves nothing."""


def verdict(checks: Sequence[Check]) -> tuple[Verdict, str]:
    """What they say together, and why it is not PASSED or which promise was missed."""
    about = [check for check in checks if check.name not in PROMISES]
    failed = [check for check in about if check.passed is False]
    lacking = [check for check in failed if check.name in ENVIRONMENT]
    if len(failed) > len(lacking):
        return "FAILED", _named(check for check in failed if check not in lacking)
    if lacking:
        return "ENVIRONMENT", _named(lacking)
    unknown = [check for check in about if check.passed is None]
    if unknown:
        return "INCONCLUSIVE", _named(unknown)
    missing = sorted(REQUIRED - {check.name for check in about})
    if missing:
        return "INCONCLUSIVE", f"not checked: {', '.join(missing)}"
    missed = [check for check in checks if check.passed is not True]
    return "PASSED", _named(sorted(missed, key=lambda check: check.name not in FIRST))


def _named(checks: Iterable[Check]) -> str:
    told = [
        f"{check.name}{f' of {check.subject}' if check.subject else ''}: "
        f"expected {check.expected}, found {check.actual}"
        for check in checks
    ]
    more = f"; and {len(told) - 5} more" if len(told) > 5 else ""
    return "; ".join(told[:5]) + more
