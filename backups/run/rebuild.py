"""The catalog from the buckets: manifests are the authority, the catalog an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from backups.ports import Catalog, ObjectStore
from backups.run.backup import as_backup
from backups.run.reader import Unbelieved, list_manifests


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a store held."""

    found: int
    added: int
    unreadable: tuple[Unbelieved, ...]


def rebuild(
    catalog: Catalog,
    store: ObjectStore,
    store_url: str,
    verify_keys: Sequence[Ed25519PublicKey],
) -> Rebuilt:
    """List every backup whose manifest is in the store; adds, never removes."""
    found, added = 0, 0
    unreadable: list[Unbelieved] = []
    for entry in list_manifests(store, verify_keys):
        if isinstance(entry, Unbelieved):
            unreadable.append(entry)
        else:
            found += 1
            added += catalog.add_backup(as_backup(entry.manifest, store_url, entry.sha256))
    return Rebuilt(found, added, tuple(unreadable))
