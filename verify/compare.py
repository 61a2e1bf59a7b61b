"""A copy beside its source: what their fingerprints say, as checks of the ladder. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from backups.differing import Definitions, texts_of, told
from backups.format.fingerprint import Difference, differences
from backups.model import Fingerprint
from backups.proving import Check

NAMED = 20
"""Differences told by name under one check; what is beyond them is counted."""

_UNDER = {"engine": "structure"} | dict.fromkeys(
    ("extensions", "settings", "roles"), "environment"
)
"""Where a kind of difference has no check of its own name."""


def compare(
    expected: Fingerprint, actual: Fingerprint, definitions: Definitions = lambda *_: None
) -> Iterator[Check]:
    """Checks environment, structure, rows, content, sequences and large objects.

    One for each when all is equal, with what was counted; else one for each difference. A
    check is evidence: of definitions it holds lines' numbers, no text and no digest.
    """
    counted = _equal(expected, actual)
    found: dict[str, list[Difference]] = {name: [] for name in counted}
    for item in differences(expected, actual):
        found[_UNDER.get(item.check, item.check)].append(item)
    for name in counted:
        if not found[name]:
            yield Check(name, True, counted[name], counted[name])
        for item in found[name][:NAMED]:
            subject = item.subject if item.check == name else f"{item.check}: {item.subject}"
            wanted, seen = told(item, texts_of(item, definitions))
            yield Check(name, False, wanted, seen, subject)
        more = len(found[name]) - NAMED
        if more > 0:
            yield Check(name, False, "no difference", f"{more} more differences")


def _equal(expected: Fingerprint, actual: Fingerprint) -> dict[str, str]:
    """What there is in both, as it is told under a check without a difference.

    A table that only one has is told under structure; where rows differ in number,
    there is no content to compare.
    """
    seen = {(table.schema, table.name): table.rows for table in actual.tables}
    both = [table for table in expected.tables if (table.schema, table.name) in seen]
    same = [table for table in both if seen[table.schema, table.name] == table.rows]
    one = expected
    objects = one.large_objects.rows if one.large_objects else 0
    left_out = f"; not compared: {', '.join(one.not_compared)}" if one.not_compared else ""
    return {
        "environment": f"{len(one.extensions)} extensions, {len(one.settings)} settings,"
        f" {len(one.roles)} roles",
        "structure": f"{len(one.objects)} objects",
        "rows": f"{sum(table.rows for table in both)} rows in {len(both)} tables",
        "content": f"content of {len(same)} tables{left_out}",
        "sequences": f"{len(one.sequences)} sequences",
        "large objects": f"{objects} large objects",
    }
