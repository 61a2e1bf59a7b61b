"""Which backup a person means. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from backups.errors import NotFound
from backups.model import Backup, Manifest

T = TypeVar("T", Backup, Manifest)


def newest(backups: Sequence[T], database: str, at: datetime | None) -> T:
    """The newest backup of `database`, or the newest that was taken at `at` or before.

    Raises NotFound.
    """
    of_it = [backup for backup in backups if backup.database == database]
    if not of_it:
        raise NotFound(f"there is no backup of a database {database!r}")
    early = [backup for backup in of_it if at is None or _taken(backup) <= at]
    if not early:
        first = min(_taken(backup) for backup in of_it)
        raise NotFound(
            f"no backup of {database} was taken at {at} or before",
            hint=f"The oldest one there is was taken at {first}.",
        )
    return max(early, key=_taken)


def _taken(backup: Backup | Manifest) -> datetime:
    return backup.created_at if isinstance(backup, Backup) else backup.snapshot_at
