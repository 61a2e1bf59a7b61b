"""Reading a SQLite database: one consistent copy by the online backup API, then its bytes.

The copy is the one file of a database's size that this program writes on the way out: only
SQLite itself can tell a consistent state from its files. It is private, and has no name any
more as soon as it is whole. Source: sqlite.org, backup.html and c3ref/backup_finish.html; a
connection that holds a read transaction copies the state that it began with, whoever writes.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from backups.engines.sqlite.content import fingerprint, require_library, require_whole
from backups.engines.sqlite.files import connect, path_of, temporary, translated
from backups.errors import DumpFailed, EnvironmentLacks, Unreachable, UsageError
from backups.model import Fingerprint, Preflight, Snapshot, Source
from backups.ports import Blocks, Clock, Entropy

BLOCK = 1 << 20
PAGES = 2048
"""Copied at a time; between two the copying can be stopped."""


class SqliteDump:
    """Adapter of `ports.Dump` on a copy that nobody else can see."""

    def __init__(
        self, snapshot: Snapshot, preflight: Preflight, copy: sqlite3.Connection, file: int
    ) -> None:
        self.snapshot = snapshot
        self.preflight = preflight
        self._copy = copy
        self._file = file
        self._complete = False

    def artifacts(self) -> Iterator[tuple[str, Blocks]]:
        """`database`: the file."""
        yield "database", self._blocks()

    def finish(self) -> Fingerprint:
        """What the snapshot contained. Raises DumpFailed unless it was read to its end."""
        if not self._complete:
            raise DumpFailed("the dump was not read to its end")
        try:
            return fingerprint(self._copy, self._file)
        except sqlite3.Error as error:
            raise DumpFailed(f"the copy can't be read: {type(error).__name__}") from None

    def _blocks(self) -> Blocks:
        at = 0
        while block := os.pread(self._file, BLOCK, at):
            at += len(block)
            yield block
        if at != os.fstat(self._file).st_size:
            raise DumpFailed("the copy was not read to its end")
        self._complete = True


def look(source: Source) -> Preflight:
    """Raises Unreachable, AccessDenied, DumpFailed, ToolError, EnvironmentLacks."""
    require_library()
    path = _path(source)
    with translated(path):
        size = path.stat().st_size + _size(Path(f"{path}-wal"))
        with closing(connect(path)) as connection:
            connection.execute("SELECT count(*) FROM main.sqlite_schema").fetchone()
    free = shutil.disk_usage(spool()).free
    if size > free:
        raise EnvironmentLacks(
            f"a copy of {size} bytes is made on the way; {spool()} has {free} free",
            hint="Set TMPDIR to a folder with more room.",
        )
    return Preflight(sqlite3.sqlite_version, sqlite3.sqlite_version, size)


@contextmanager
def open_dump(source: Source, clock: Clock, entropy: Entropy) -> Iterator[SqliteDump]:
    """Make the copy, look that it is whole, and hold it open without a name."""
    preflight = look(source)
    path = _path(source)
    with ExitStack() as stack, translated(path):
        with temporary(spool(), "spool", entropy) as copy:
            with closing(connect(path)) as live, closing(connect(copy, mode="rw")) as to:
                live.execute("BEGIN")
                live.execute("SELECT count(*) FROM main.sqlite_schema").fetchone()
                snapshot = Snapshot(taken_at=clock.now(), position="")
                live.backup(to, pages=PAGES, sleep=0)
            file = os.open(copy, os.O_RDONLY)
            stack.callback(os.close, file)
            opened = stack.enter_context(closing(connect(copy, immutable=True)))
            require_whole(opened)
        yield SqliteDump(snapshot, preflight, opened, file)


def spool() -> Path:
    """A folder of ours alone."""
    folder = Path(tempfile.gettempdir(), f"backups-sqlite-{os.geteuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o170077 != 0o040000:
        raise EnvironmentLacks(
            f"{folder} is not a folder of ours alone",
            hint="Somebody else made it: look at it, and remove it.",
        )
    return folder


def _path(source: Source) -> Path:
    try:
        return path_of(source)
    except UsageError as error:
        raise Unreachable(str(error), hint=error.hint) from None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
