"""An object store in this process's memory; for tests."""

# ruff: noqa: ARG002 - neither versions nor locks here, but the port has words for them

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from datetime import datetime
from threading import Lock

from backups.errors import CapabilityMissing, ObjectExists, ObjectMissing, TransferDamaged
from backups.model import Capabilities, ObjectInfo, Receipt
from backups.ports import Body, Clock
from providers.keys import check_key, check_prefix


class MemoryStore:
    """Adapter of `ports.ObjectStore` on a dict; safe to share between threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._objects: dict[str, tuple[bytes, ObjectInfo]] = {}
        self._lock = Lock()

    def put(
        self,
        key: str,
        data: bytes,
        *,
        sha256: bytes | None = None,
        retain_until: datetime | None = None,
    ) -> Receipt:
        """See `ports.ObjectStore.put`."""
        check_key(key)
        if retain_until is not None:
            raise CapabilityMissing("memory has no object lock")
        digest = hashlib.sha256(data)
        if sha256 is not None and sha256 != digest.digest():
            raise TransferDamaged(f"{key}: the bytes do not have the digest given")
        checksum = f"sha256:{digest.hexdigest()}"
        info = ObjectInfo(key, len(data), self._clock.now(), checksum=checksum)
        with self._lock:
            if key in self._objects:
                raise ObjectExists(f"{key} exists already")
            self._objects[key] = (bytes(data), info)
        return Receipt(key, len(data), checksum)

    def open(
        self,
        key: str,
        *,
        start: int = 0,
        length: int | None = None,
        version_id: str | None = None,
    ) -> Body:
        """See `ports.ObjectStore.open`."""
        data, _ = self._find(key)
        return io.BytesIO(data[start:] if length is None else data[start : start + length])

    def stat(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """See `ports.ObjectStore.stat`."""
        return self._find(key)[1]

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ports.ObjectStore.list`."""
        check_prefix(prefix)
        with self._lock:
            found = sorted(key for key in self._objects if key.startswith(prefix))
            infos = [self._objects[key][1] for key in found]
        yield from infos

    def delete(self, key: str, *, version_id: str | None = None) -> None:
        """See `ports.ObjectStore.delete`."""
        with self._lock:
            self._objects.pop(check_key(key), None)

    def extend_retention(
        self, key: str, until: datetime, *, version_id: str | None = None
    ) -> None:
        """Raises CapabilityMissing: memory has no object lock."""
        raise CapabilityMissing("memory has no object lock")

    def capabilities(self) -> Capabilities:
        """See `ports.ObjectStore.capabilities`."""
        return Capabilities(checksum="sha256", versions=False, retention=False)

    def close(self) -> None:
        """Nothing to let go of."""

    def _find(self, key: str) -> tuple[bytes, ObjectInfo]:
        with self._lock:
            found = self._objects.get(check_key(key))
        if found is None:
            raise ObjectMissing(f"there is no object {key}")
        return found


_shared: dict[str, MemoryStore] = {}
_shared_lock = Lock()


def shared(name: str, clock: Clock) -> MemoryStore:
    """The store of that name in this process: `memory:name` means the same one each time."""
    with _shared_lock:
        return _shared.setdefault(name, MemoryStore(clock))
