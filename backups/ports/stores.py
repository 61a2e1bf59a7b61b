"""Object stores."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from backups.model import (
    Capabilities,
    ObjectInfo,
    Receipt,
)


class Body(Protocol):
    """An object's bytes as they arrive."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, all when negative; empty at the end.

        Raises StoreUnavailable when the stream is cut short of its length."""

    def close(self) -> None:
        """Let go of the connection; may be called twice."""


class ObjectStore(Protocol):
    """One bucket below one prefix. Keys are relative to it and use `/`.

    Every call may raise StoreUnavailable, StoreDenied and BucketMissing; no other
    exception but those named here leaves an adapter.
    """

    def put(
        self,
        key: str,
        data: bytes,
        *,
        sha256: bytes | None = None,
        retain_until: datetime | None = None,
    ) -> Receipt:
        """Store whole bytes under a new key; the store checks the digest it is given.

        Raises ObjectExists when the key is taken (nothing is overwritten),
        TransferDamaged when the store saw other bytes, CapabilityMissing when
        `retain_until` is asked of a store that has no locks.
        """

    def open(
        self,
        key: str,
        *,
        start: int = 0,
        length: int | None = None,
        version_id: str | None = None,
    ) -> Body:
        """Read bytes `[start, start + length)`, clipped to the object's end.

        Raises ObjectMissing."""

    def stat(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """Raises ObjectMissing."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with `prefix`, by key; the newest version only."""

    def delete(self, key: str, *, version_id: str | None = None) -> None:
        """Remove it; missing is fine. Raises ObjectLocked."""

    def extend_retention(
        self, key: str, until: datetime, *, version_id: str | None = None
    ) -> None:
        """Lock to a later instant; an earlier one changes nothing.

        Raises ObjectMissing, CapabilityMissing."""

    def capabilities(self) -> Capabilities:
        """What this store does; no call to the network."""

    def close(self) -> None:
        """Let go of connections; may be called twice."""
