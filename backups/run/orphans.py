"""Deleting what no manifest names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from backups.errors import IntegrityError, ObjectLocked, ObjectMissing
from backups.format.manifest import parse_manifest_key
from backups.model import ObjectInfo
from backups.ports import ObjectStore
from backups.run.reader import read_manifest
from backups.run.scrubbing import folder_of, manifest_beside, unnamed


def remove(
    store: ObjectStore,
    pruner: ObjectStore,
    verify_keys: Sequence[Ed25519PublicKey],
    orphans: Sequence[ObjectInfo],
) -> Iterator[ObjectInfo]:
    """Delete those that are not locked; yields each that is gone. Raises StoreError."""
    for folder, group in groupby(orphans, lambda info: folder_of(info.key)):
        for info in _still_unnamed(store, verify_keys, folder, list(group)):
            try:
                pruner.delete(info.key, version_id=info.version_id)
            except ObjectLocked:  # a normal outcome: it is told with its lock
                continue
            yield info


def _still_unnamed(
    store: ObjectStore,
    verify_keys: Sequence[Ed25519PublicKey],
    folder: str,
    orphans: list[ObjectInfo],
) -> list[ObjectInfo]:
    """A last look, one call per backup: a manifest that came since, or that a store listed
    out of order, keeps what it names."""
    place = parse_manifest_key(manifest_beside(folder))
    if place is None:
        return []
    try:
        manifest = read_manifest(store, *place, verify_keys).manifest
    except ObjectMissing:
        return orphans
    except IntegrityError:  # the next scrub tells of it
        return []
    return list(unnamed(orphans, manifest))


def lock_of(store: ObjectStore, info: ObjectInfo) -> str:
    """In words, until when it can't be deleted; empty where nothing is known of a lock."""
    until = info.retain_until
    if until is None and store.capabilities().retention:
        try:
            until = store.stat(info.key, version_id=info.version_id).retain_until
        except ObjectMissing:
            return ""
    return f", locked until {until:%Y-%m-%d %H:%M} UTC" if until else ""
