"""Keeps a role to its rights, whatever its credentials allow: a decorator of the port.

The bucket's policy is the true guard; this one also holds where there is none (a
directory, or one administrator's key for everything) and shows a missing right early.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from backups.errors import StoreDenied
from backups.model import Capabilities, ObjectInfo, Receipt
from backups.ports import Body, ObjectStore
from providers.access import Role

_REFUSED: dict[Role, frozenset[str]] = {
    "writer": frozenset({"delete"}),
    "restorer": frozenset({"put", "delete", "extend_retention"}),
    "pruner": frozenset(),
}
DATA = ".age"
"""How the keys of all that is encrypted end."""
_OURS = "This is a rule of the program itself, not of the bucket."


class RoleBound:
    """An ObjectStore on which a role may do its own work only; raises StoreDenied."""

    def __init__(self, inner: ObjectStore, role: Role, *, sees_data: bool = True) -> None:
        self._inner = inner
        self._sees_data = sees_data
        self._role = role
        self._refused = _REFUSED[role]

    def put(
        self,
        key: str,
        data: bytes,
        *,
        sha256: bytes | None = None,
        retain_until: datetime | None = None,
    ) -> Receipt:
        """See `ports.ObjectStore.put`."""
        self._check("put", key)
        return self._inner.put(key, data, sha256=sha256, retain_until=retain_until)

    def open(
        self,
        key: str,
        *,
        start: int = 0,
        length: int | None = None,
        version_id: str | None = None,
    ) -> Body:
        """See `ports.ObjectStore.open`."""
        if not self._sees_data and key.endswith(DATA):
            raise StoreDenied(f"who deletes may not read data such as {key}", hint=_OURS)
        return self._inner.open(key, start=start, length=length, version_id=version_id)

    def stat(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """See `ports.ObjectStore.stat`."""
        return self._inner.stat(key, version_id=version_id)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ports.ObjectStore.list`."""
        return self._inner.list(prefix)

    def delete(self, key: str, *, version_id: str | None = None) -> None:
        """See `ports.ObjectStore.delete`."""
        self._check("delete", key)
        self._inner.delete(key, version_id=version_id)

    def extend_retention(
        self, key: str, until: datetime, *, version_id: str | None = None
    ) -> None:
        """See `ports.ObjectStore.extend_retention`."""
        self._check("extend_retention", key)
        self._inner.extend_retention(key, until, version_id=version_id)

    def capabilities(self) -> Capabilities:
        """See `ports.ObjectStore.capabilities`."""
        return self._inner.capabilities()

    def close(self) -> None:
        """See `ports.ObjectStore.close`."""
        self._inner.close()

    def _check(self, call: str, key: str) -> None:
        if call in self._refused:
            raise StoreDenied(
                f"the {self._role} may not {call.replace('_', ' ')} {key}",
                hint=_OURS,
            )
