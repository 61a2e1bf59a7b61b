"""The catalog from the buckets: manifests are the authority, the catalog an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from backups.errors import IntegrityError, NotFound, ObjectMissing
from backups.format.marks import kind_of
from backups.keeping import Hold, Release
from backups.ports import Catalog, Ledger, ObjectStore
from backups.run.backup import as_backup
from backups.run.reader import Unbelieved, list_manifests
from backups.run.shelves import read_mark


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a store held."""

    found: int
    added: int
    holds: int
    """Holds and releases that were added."""
    unreadable: tuple[Unbelieved, ...]


def rebuild(
    catalog: Catalog,
    ledger: Ledger,
    store: ObjectStore,
    store_url: str,
    verify_keys: Sequence[Ed25519PublicKey],
) -> Rebuilt:
    """List every backup whose manifest is in the store, and who holds it; adds, never
    removes."""
    found, added = 0, 0
    unreadable: list[Unbelieved] = []
    for entry in list_manifests(store, verify_keys):
        if isinstance(entry, Unbelieved):
            unreadable.append(entry)
        else:
            found += 1
            added += catalog.add_backup(as_backup(entry.manifest, store_url, entry.sha256))
    holds = 0
    for mark in _holds(store, verify_keys, unreadable):
        try:
            holds += (
                ledger.add_hold(mark) if isinstance(mark, Hold) else ledger.release_hold(mark)
            )
        except NotFound:  # of a backup that is being deleted, or whose manifest is not believed
            continue
    return Rebuilt(found, added, holds, tuple(unreadable))


def _holds(
    store: ObjectStore,
    verify_keys: Sequence[Ed25519PublicKey],
    unreadable: list[Unbelieved],
) -> list[Hold | Release]:
    """Every hold in the store, then every release."""
    found: list[Hold | Release] = []
    for info in store.list("v1/"):
        if kind_of(info.key) in (Hold, Release):
            try:
                mark = read_mark(store, info.key, verify_keys)
            except (IntegrityError, ObjectMissing) as error:
                unreadable.append(Unbelieved(info.key, error))
            else:
                found += [mark] if isinstance(mark, Hold | Release) else []
    return sorted(found, key=lambda mark: isinstance(mark, Release))
