"""Holds: a person's word, in force at once in the catalog and laid beside the backup.

The catalog comes first: whatever store then fails, the backup is held (or released), and the
same call again puts what is missing, byte for byte the same. A release is a mark of its own,
since nobody who writes may delete.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backups.errors import NotFound, ObjectExists, StoreError, UsageError
from backups.format.marks import Mark, is_line, key_of, sign
from backups.ids import uuid7
from backups.keeping import Hold, Release
from backups.model import Backup
from backups.ports import Clock, Entropy, Ledger, ObjectStore


@dataclass(frozen=True, slots=True)
class HoldPorts:
    """What placing and releasing a hold of one backup needs."""

    ledger: Ledger
    clock: Clock
    entropy: Entropy
    signing_key: Ed25519PrivateKey
    stores: Sequence[tuple[str, AbstractContextManager[ObjectStore]]]
    """Those that hold the backup, by URL, as the writer."""


def place(
    ports: HoldPorts, backup: Backup, reason: str, name: str, until: datetime | None
) -> Hold:
    """Hold a backup; the hold that says the very same, where there is one.

    Raises UsageError, NotFound; StoreError's kinds when a store did not take it, and then the
    hold is in force all the same.
    """
    now = ports.clock.now()
    _require_words(reason=reason, name=name)
    if until is not None and until <= now:
        raise UsageError(
            "a hold must end in the future", hint="Leave --until out, or correct it."
        )
    wanted = (backup.id, reason, name, until)
    known = [hold for hold, release in ports.ledger.holds(backup.database) if release is None]
    same = [
        hold for hold in known if (hold.backup, hold.reason, hold.name, hold.until) == wanted
    ]
    hold = Hold(
        uuid7(now, ports.entropy.bytes(10)), backup.customer, backup.database, backup.id,
        reason, name, now, until,
    )  # fmt: skip
    if same:
        hold = same[0]
    else:
        ports.ledger.add_hold(hold)
    _lay(ports, hold, "the hold is in force")
    return hold


def release(ports: HoldPorts, hold: Hold, name: str) -> Release:
    """End a hold. Raises as `place` does."""
    _require_words(name=name)
    over = Release(hold.id, hold.customer, hold.database, hold.backup, name, ports.clock.now())
    if not ports.ledger.release_hold(over):
        over = next(
            known
            for other, known in ports.ledger.holds(hold.database)
            if other.id == hold.id and known is not None
        )
    _lay(ports, over, "the hold is over")
    return over


def find(holds: Iterable[tuple[Hold, Release | None]], wanted: str) -> list[Hold]:
    """The hold with that id, or all in force of the backup with that id. Raises NotFound."""
    holds = list(holds)
    found = [hold for hold, _ in holds if hold.id == wanted] or [
        hold for hold, over in holds if hold.backup == wanted and over is None
    ]
    if not found:
        raise NotFound(
            f"there is no hold {wanted!r}, and no hold of a backup {wanted!r}",
            hint="`backups hold list` shows what there is.",
        )
    return found


def _require_words(**words: str) -> None:
    for what, text in words.items():
        if not is_line(text):
            raise UsageError(f"a {what} must be one line of words, at most 4096 characters")


def _lay(ports: HoldPorts, mark: Mark, so: str) -> None:
    envelope = sign(mark, ports.signing_key)
    failed: list[StoreError] = []
    for url, opened in ports.stores:
        try:
            with opened as store, suppress(ObjectExists):  # these very bytes, put before
                store.put(key_of(mark), envelope)
        except StoreError as error:
            error.hint = f"{so} all the same; repeat the call to put its mark into {url}."
            failed.append(error)
    if failed:
        raise failed[0]
