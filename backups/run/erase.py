"""Erasure: everything of a database goes, as soon as holds and locks let it.

Promises are off: the customer asked for it. What is left when a lock or a hold refuses is
named with its end, and the next call goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

from backups.keeping import Deletion
from backups.run.prune import Step, take_apart
from backups.run.pruning import PrunePorts
from backups.run.shelves import look

RULE = "erasure"


@dataclass(frozen=True, slots=True)
class Erased:
    """What came of it."""

    steps: tuple[Step, ...]
    left: int
    """Backups of which something is still there."""


def erase(ports: PrunePorts, reason: str) -> Erased:
    """Take apart every backup of the database. Called with the database held.

    A store that fails, or whose lock is not over, is a step in the result. Raises
    CatalogError.
    """
    pending = [d for d in ports.ledger.deletions(ports.database) if d.removed_at is None]
    listed = ports.catalog.backups(ports.database)
    steps: list[Step] = []
    for entry in listed:
        deletion = Deletion(
            entry.id, ports.customer, ports.database, RULE, reason, ports.clock.now()
        )
        if ports.ledger.delete_backup(deletion):
            steps.append(Step(entry.id, None, "unlisted", reason))
            pending.append(deletion)
        else:
            steps.append(Step(entry.id, None, "held", "a hold keeps it: `backups hold remove`"))
    known = frozenset(entry.id for entry in listed) | {each.backup for each in pending}
    keys = [ports.signing_key.public_key()]
    contents = tuple(
        look(shelf, ports.customer, ports.database, known, keys) for shelf in ports.shelves
    )
    # What can't be read stops retention. It does not stop an erasure, and is named.
    steps += [
        Step("-", each.shelf.url, "failed", words)
        for each in contents
        if not each.objects
        for words in each.troubles
    ]
    steps += take_apart(ports, contents, pending)
    gone = {step.backup for step in steps if step.did == "removed"}
    held = {step.backup for step in steps if step.did == "held"}
    return Erased(tuple(steps), len({each.backup for each in pending} - gone | held))
