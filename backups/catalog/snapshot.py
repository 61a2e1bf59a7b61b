"""A catalog on SQLite as one file: taken while it is in use, and put in its place."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from backups.errors import CatalogError
from backups.private import write_private


def take_snapshot(catalog: Path, target: Path) -> None:
    """A consistent copy by SQLite's online backup, private from its first byte; nobody has to
    wait. `target` must not exist. Raises CatalogError, ConfigError."""
    write_private(target, b"")
    try:
        with (
            closing(sqlite3.connect(catalog)) as source,
            closing(sqlite3.connect(target)) as to,
        ):
            source.backup(to, pages=1000)
            to.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
        _require_whole(target)
    except sqlite3.Error as error:
        raise CatalogError(f"no copy of the catalog could be made: {error}") from error


def put_in_place(snapshot: Path, catalog: Path) -> None:
    """Make a snapshot the catalog. Never replaces one; what is left beside a lost one is kept
    under another name, because SQLite would write it into the new one. Raises CatalogError."""
    try:
        _require_whole(snapshot)
    except sqlite3.Error as error:
        raise CatalogError(f"this is no catalog: {error}") from error
    for left in (Path(f"{catalog}-wal"), Path(f"{catalog}-shm"), catalog):
        if left != catalog and left.exists():
            left.rename(f"{left}.lost")
        elif left.exists() and not left.stat().st_size:
            left.unlink()
    try:
        os.link(snapshot, catalog)  # unlike a rename it fails when one is there
    except FileExistsError:
        raise CatalogError(
            f"{catalog} is there: it is not overwritten", hint="Move it away first."
        ) from None


def _require_whole(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        raise sqlite3.DatabaseError(str(said))
