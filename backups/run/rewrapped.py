"""Headers that replace those of stored segments after a rotation (FORMAT.md section 4)."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field

from backups.errors import IntegrityError, ObjectMissing, WrongKey
from backups.format.age import Identity
from backups.format.headers import read_bundle
from backups.format.manifest import manifest_key
from backups.format.segment import SegmentHeader, open_segment
from backups.model import Context
from backups.ports import ObjectStore

_NUMBER = re.compile(r".*/headers-([1-9][0-9]{0,8})\.age-bundle")


def bundle_key(database: str, backup: str, number: int) -> str:
    """Of a backup's n-th rotation."""
    return f"{_folder(database, backup)}/headers-{number}.age-bundle"


def bundles(store: ObjectStore, database: str, backup: str) -> list[int]:
    """Numbers of those that are there, newest first."""
    keys = (info.key for info in store.list(f"{_folder(database, backup)}/headers-"))
    return sorted({int(m[1]) for key in keys if (m := _NUMBER.fullmatch(key))}, reverse=True)


def _read_headers(
    store: ObjectStore, database: str, backup: str, number: int
) -> dict[str, SegmentHeader]:
    """By the segments' keys. Raises ObjectMissing, Damaged, UnknownFormat."""
    with closing(store.open(bundle_key(database, backup, number))) as body:
        return read_bundle(body.read(), backup)


@dataclass(slots=True)
class Headers:
    """Opens the segments of one backup; replacement headers are fetched when one is needed."""

    store: ObjectStore
    database: str
    backup: str
    _found: list[Mapping[str, SegmentHeader]] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(
        self,
        data: bytes,
        identities: Sequence[Identity],
        expected: Context,
        key: str,
        plain_bytes: int,
    ) -> Iterator[bytes]:
        """As `open_segment`, by its own header or the newest one that our identities open.

        Raises UnknownFormat, WrongKey, Damaged."""
        try:
            return open_segment(data, identities, expected, plain_bytes)
        except WrongKey:
            for header in self.of(key):
                try:
                    return open_segment(data, identities, expected, plain_bytes, header)
                except IntegrityError:
                    continue  # for others, or broken: an earlier one may do
            raise

    def of(self, key: str) -> Iterable[SegmentHeader]:
        """Of one segment, newest first. Raises StoreError's kinds."""
        return [found[key] for found in self.all() if key in found]

    def all(self) -> Sequence[Mapping[str, SegmentHeader]]:
        """Of each rotation, newest first; one that can't be read is left out. Raises
        StoreError's kinds."""
        with self._lock:
            if self._found is None:
                found: list[Mapping[str, SegmentHeader]] = []
                for number in bundles(self.store, self.database, self.backup):
                    with suppress(IntegrityError, ObjectMissing):
                        found.append(
                            _read_headers(self.store, self.database, self.backup, number)
                        )
                self._found = found
            return self._found


def _folder(database: str, backup: str) -> str:
    return manifest_key(database, backup).rpartition("/")[0]
