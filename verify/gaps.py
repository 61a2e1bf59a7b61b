"""What a backup does not carry, and what a restore could not make, as checks. Pure.

`carried` and `source` are promises of the ladder: they take levels away, not the proof of what
the backup does hold. What a copy lacks through our own fault fails `restored`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from backups.lacking import not_carried
from backups.model import Fingerprint, Manifest, Unrestored
from backups.proving import Check

NAMED = 20
"""Things told by name; what is beyond them is counted."""

ALL = "all that the source held"
RULES = "the source's own rows keep its own rules"


def carried(expected: Fingerprint, manifest: Manifest) -> Check:
    """Whether the backup holds all that its source did: by the names in the fingerprint, or by
    the manifest's counts where the fingerprint has none."""
    lacks = expected.not_backed_up or not_carried(manifest.warnings)
    return Check("carried", not lacks, ALL, _listed(lacks) or "all of it")


def restored(notes: Sequence[str], exceptions: Iterable[Unrestored]) -> Iterator[Check]:
    """`restored`, which fails for each thing that the copy lacks without its source's doing;
    and `source` for each that the source's own rows or definitions stand against."""
    exceptions = list(exceptions)
    ours = [each for each in exceptions if not each.at_source]
    theirs = [each for each in exceptions if each.at_source]
    if not ours:
        yield Check("restored", True, "nothing is wrong", "; ".join(notes) or "all of it")
    yield from _each("restored", "it is in the copy", ours)
    yield from _each("source", RULES, theirs)


def _each(name: str, expected: str, found: Sequence[Unrestored]) -> Iterator[Check]:
    for each in found[:NAMED]:
        yield Check(name, False, expected, each.reason, each.subject)
    if len(found) > NAMED:
        yield Check(name, False, expected, f"{len(found) - NAMED} more like these")


def _listed(lacks: Sequence[str]) -> str:
    more = [f"and {len(lacks) - NAMED} more"] if len(lacks) > NAMED else []
    return "; ".join([*lacks[:NAMED], *more])
