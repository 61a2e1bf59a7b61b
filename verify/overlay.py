"""A store as it would be, were some of its objects others: for reading only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from io import BytesIO

from backups.errors import ObjectMissing, StoreDenied
from backups.model import Capabilities, ObjectInfo, Receipt
from backups.ports import Body, ObjectStore


@dataclass(frozen=True, slots=True)
class Overlay:
    """Adapter of `ports.ObjectStore`; what is beneath stays as it is."""

    inner: ObjectStore
    changed: Mapping[str, bytes | None]
    """Other bytes by key; None: the object is gone."""

    def put(
        self,
        key: str,
        data: bytes,
        *,
        sha256: bytes | None = None,
        retain_until: datetime | None = None,
    ) -> Receipt:
        """Refused."""
        raise StoreDenied(f"nothing is written here: {key}")

    def open(
        self,
        key: str,
        *,
        start: int = 0,
        length: int | None = None,
        version_id: str | None = None,
    ) -> Body:
        """See `ports.ObjectStore.open`."""
        if key not in self.changed:
            return self.inner.open(key, start=start, length=length, version_id=version_id)
        data = self._data(key)
        return BytesIO(data[start : None if length is None else start + length])

    def stat(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """See `ports.ObjectStore.stat`."""
        info = self.inner.stat(key, version_id=version_id)
        if key not in self.changed:
            return info
        return replace(info, size=len(self._data(key)), checksum="")

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ports.ObjectStore.list`; objects that lie only here are not listed."""
        for info in self.inner.list(prefix):
            if info.key not in self.changed:
                yield info
            elif self.changed[info.key] is not None:
                yield replace(info, size=len(self._data(info.key)), checksum="")

    def delete(self, key: str, *, version_id: str | None = None) -> None:
        """Refused."""
        raise StoreDenied(f"nothing is deleted here: {key}")

    def extend_retention(
        self, key: str, until: datetime, *, version_id: str | None = None
    ) -> None:
        """Refused."""
        raise StoreDenied(f"nothing is locked here: {key}")

    def capabilities(self) -> Capabilities:
        """See `ports.ObjectStore.capabilities`."""
        return self.inner.capabilities()

    def close(self) -> None:
        """The store beneath belongs to somebody else."""

    def _data(self, key: str) -> bytes:
        data = self.changed[key]
        if data is None:
            raise ObjectMissing(f"there is no object {key}")
        return data
