"""Where databases are, files that are being made, and SQLite's errors in our words."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from backups.errors import (
    AccessDenied,
    DumpFailed,
    EngineError,
    EnvironmentLacks,
    Unreachable,
    UsageError,
)
from backups.model import Source
from backups.ports import Entropy

BESIDE = ("-journal", "-wal", "-shm")
"""What SQLite keeps beside a database, and would play back into another of its name."""
PATIENCE = 60.0
"""Seconds that a writer may hold the database locked."""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DENIED = {
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN,
}  # fmt: skip
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def path_of(source: Source) -> Path:
    """`sqlite:///folder/file` or `file:file`. Raises UsageError."""
    parts = urlsplit(source.url)
    path = Path(unquote(parts.path))
    if parts.scheme not in ("sqlite", "file") or parts.netloc or not path.name:
        raise UsageError(
            "the URL names no SQLite database",
            hint="Write sqlite:///folder/database.db, with a path from the root.",
        )
    if "\0" in str(path):
        raise UsageError("the path of a database can't hold a NUL byte")
    return path.absolute()


def connect(path: Path, *, mode: str = "ro", immutable: bool = False) -> sqlite3.Connection:
    """A session that loads no code and trusts nothing that the schema says (sqlite.org,
    security.html). `immutable`: nobody writes to it, and nothing is made beside it."""
    query = f"mode={mode}" + ("&immutable=1" if immutable else "")
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{query}", uri=True, timeout=PATIENCE, isolation_level=None
    )
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


@contextmanager
def temporary(folder: Path, stem: str, entropy: Entropy) -> Iterator[Path]:
    """A private file (0600) for as long as the context lives, or until it got another name;
    those of the same stem that dead processes left are removed first."""
    _sweep(folder, stem)
    while True:
        path = folder / f".{stem}.{entropy.bytes(4).hex()}.part"
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_there(path, handle):  # or another's sweep was between both
            break
        os.close(handle)
    try:
        yield path
    finally:
        for each in (path, *(Path(f"{path}{end}") for end in BESIDE)):
            each.unlink(missing_ok=True)
        os.close(handle)


def _sweep(folder: Path, stem: str) -> None:
    for path in folder.iterdir():
        if not (path.name.startswith(f".{stem}.") and path.name.endswith(".part")):
            continue
        with suppress(OSError):  # another's sweep was quicker, or it is another's file
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(handle)


def _is_there(path: Path, handle: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's and the system's errors as ours; no message of either holds a row."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        words = f"{path}: {getattr(error, 'sqlite_errorname', type(error).__name__)}"
        if code in _BUSY:
            raise Unreachable(f"{words}: somebody holds it locked") from None
        if code in _DENIED:
            raise AccessDenied(
                f"{words}: it can't be opened",
                hint="The user must be able to read it and, beside it, to write -wal and -shm.",
            ) from None
        if code in _BROKEN:
            raise DumpFailed(f"{words}: it is damaged, or no SQLite database") from None
        if code == sqlite3.SQLITE_FULL:
            raise EnvironmentLacks(f"{words}: the disk is full") from None
        if code == sqlite3.SQLITE_IOERR:
            raise Unreachable(f"{words}: it can't be read") from None
        raise EngineError(words) from None
    except FileNotFoundError as error:
        raise Unreachable(f"there is no {error.filename}") from None
    except PermissionError as error:
        raise AccessDenied(f"{error.filename} can't be opened: {error.strerror}") from None
    except OSError as error:
        raise EnvironmentLacks(f"{path}: {error.strerror}") from None
