"""What one store holds of one database, as retention needs to know it before it deletes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from backups.errors import IntegrityError, ObjectMissing, StoreError
from backups.format.manifest import manifest_key, parse_manifest_key, parse_segment_key
from backups.format.marks import kind_of, verify
from backups.ids import ID
from backups.keeping import Hold, Release, Tombstone
from backups.model import Manifest, ObjectInfo
from backups.ports import ObjectStore
from backups.run.reader import fetch, named, read_manifest

_BUNDLE = re.compile(rf"v1/{ID.pattern}/{ID.pattern}/headers-[1-9][0-9]{{0,8}}\.age-bundle")


@dataclass(frozen=True, slots=True)
class Shelf:
    """One store in which backups of the database lie."""

    url: str
    reader: ObjectStore
    """As the restorer."""
    pruner: ObjectStore
    listed: Mapping[str, str]
    """What the catalog lists here: backup to its manifest's SHA-256 (hex)."""


@dataclass(slots=True)
class Contents:
    """What lies on a shelf; kept up to date while things are deleted from it."""

    shelf: Shelf
    database: str
    objects: dict[str, dict[str, ObjectInfo]] = field(default_factory=dict)
    """Backup to its objects, by key; what is named like nothing of ours is left alone."""
    manifests: dict[str, Manifest] = field(default_factory=dict)
    tombstones: dict[str, Tombstone] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    """Those placed and not released here, by id."""
    newest: datetime | None = None
    """Of the objects, by the store's own clock."""
    troubles: list[str] = field(default_factory=list)
    """What can't be read or believed, in words."""

    def locked_until(self, backup: str) -> datetime | None:
        """The lock of the backup's manifest; None without one. Raises StoreError."""
        if backup not in self.manifests or not self.shelf.reader.capabilities().retention:
            return None
        return self.shelf.reader.stat(manifest_key(self.database, backup)).retain_until

    def named(self) -> set[str]:
        """Keys of the segments that the manifests here name."""
        return {
            segment.key
            for manifest in self.manifests.values()
            for artifact in manifest.artifacts
            for segment in artifact.segments
        }


def look(
    shelf: Shelf,
    customer: str,
    database: str,
    known: frozenset[str],
    keys: Sequence[Ed25519PublicKey],
) -> Contents:
    """List and read a database's part of a store. What fails is a trouble, not an error.

    `known` are the backups that may lie here without being listed here: those being taken,
    copied or deleted.
    """
    found = Contents(shelf, database)
    try:
        for info in shelf.reader.list(f"v1/{database}/"):
            if _is_part(info.key):
                found.objects.setdefault(info.key.split("/")[2], {})[info.key] = info
                found.newest = max(filter(None, (found.newest, info.modified)))
        _read(found, customer, database, keys)
    except StoreError as error:
        found.troubles.append(f"{shelf.url}: {error}")
        return found
    for backup in sorted(shelf.listed.keys() - found.manifests.keys()):
        if not any(f"/{backup}/" in trouble for trouble in found.troubles):
            key = manifest_key(database, backup)
            found.troubles.append(f"{shelf.url}: {key} is gone and its backup is listed")
    for backup in sorted(found.manifests.keys() - shelf.listed.keys() - known):
        found.troubles.append(
            f"{shelf.url}: backup {backup} is not in the catalog: run `backups catalog rebuild`"
        )
    return found


def _is_part(key: str) -> bool:
    """Whether it is of a backup, or a mark beside one."""
    parsed = parse_segment_key(key) or parse_manifest_key(key) or kind_of(key)
    return parsed is not None or _BUNDLE.fullmatch(key) is not None


def _read(
    found: Contents, customer: str, database: str, keys: Sequence[Ed25519PublicKey]
) -> None:
    shelf, released = found.shelf, set[str]()
    for backup, objects in found.objects.items():
        for key in objects:
            try:
                if parse_manifest_key(key):
                    there = read_manifest(shelf.reader, database, backup, keys)
                    listed = shelf.listed.get(backup, there.sha256)
                    if (there.manifest.customer, there.sha256) == (customer, listed):
                        found.manifests[backup] = there.manifest
                    else:
                        found.troubles.append(f"{shelf.url}: {key} is not the one listed")
                elif kind_of(key):
                    released |= _read_mark(found, key, keys)
            except (IntegrityError, ObjectMissing) as error:
                found.troubles.append(f"{shelf.url}: {error}")
    for hold in released:
        found.holds.pop(hold, None)


def _read_mark(found: Contents, key: str, keys: Sequence[Ed25519PublicKey]) -> set[str]:
    """Take note of a mark; returns the hold that it releases, if it does."""
    mark = read_mark(found.shelf.reader, key, keys)
    if isinstance(mark, Release):
        return {mark.hold}
    if isinstance(mark, Hold):
        found.holds[mark.id] = mark
    else:
        found.tombstones[mark.backup] = mark
    return set()


def read_mark(
    store: ObjectStore, key: str, keys: Sequence[Ed25519PublicKey]
) -> Hold | Release | Tombstone:
    """What lies under a mark's key, believed. Raises ObjectMissing and IntegrityError's kinds,
    each naming the object."""
    envelope = fetch(store, key)
    try:
        return verify(envelope, key, keys)
    except IntegrityError as error:
        raise named(error, key) from error
