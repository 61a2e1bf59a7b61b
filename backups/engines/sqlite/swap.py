"""Exchanging two SQLite databases by their names, with nobody in the old one.

The old file gets its second name first, by link(2); then one rename(2) puts the copy in its
place. Until that moment the live database is the old one, and after it the new one. A journal
would be played into whatever bears the database's name: the old one is taken out of WAL mode
first, which SQLite allows to nobody who is not alone. Sources: sqlite.org, lockingv3.html and
wal.html; POSIX, rename().
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from backups.engines.sqlite.changes import changes
from backups.engines.sqlite.files import BESIDE, connect, path_of, translated
from backups.errors import TargetRefused
from backups.model import Source
from backups.private import sync_folder
from backups.replacing import Changes

_HINT = "Nothing was changed. Stop the application that has it open, then start it again."


class SqliteSwapper:
    """Adapter of `run.replace.Swapper`: databases are the files of one folder with one ending,
    named without it."""

    def __init__(self, live: Source) -> None:
        """Raises UsageError when the URL can't be read."""
        self._path = path_of(live)

    @property
    def name(self) -> str:
        """The live database's."""
        return self._path.stem

    def beside(self, what: str, tail: str) -> str:
        """See the port."""
        return f"{self.name}_{what}_{tail}"

    def names(self) -> set[str]:
        """See the port. A second name of the live file does not count: it was not exchanged."""
        with translated(self._path):
            live = self._path.stat().st_ino if self._path.exists() else None
            return {
                path.stem
                for path in self._path.parent.iterdir()
                if path.suffix == self._path.suffix
                and (path == self._path or path.stat().st_ino != live)
            }

    def stays_behind(self) -> tuple[str, ...]:
        """See the port."""
        with translated(self._path):
            links = self._path.stat().st_nlink - 1
        return (f"{links} other names of the file",) if links else ()

    def swap(self, copy: str, aside: str) -> None:
        """See the port."""
        new, old = self._named(copy), self._named(aside)
        with translated(self._path):
            if not new.exists():
                raise TargetRefused(f"there is no database {copy!r} any more")
            if old.exists() and old.samefile(self._path):
                old.unlink()  # of an exchange that was interrupted
            shutil.copystat(self._path, new)
            found = self._path.stat()
            os.chown(new, found.st_uid, found.st_gid)
            with self._alone() as journal:
                try:
                    os.link(self._path, old)  # unlike a rename it replaces nothing
                except FileExistsError:
                    raise TargetRefused(f"{old} is there already") from None
                new.rename(self._path)
                sync_folder(self._path.parent)
            if journal == "wal":
                with closing(connect(old, mode="rw")) as connection:
                    connection.execute("PRAGMA journal_mode = WAL")

    def changes(self, copy: str, tables: Iterable[tuple[str, str]]) -> tuple[Changes, ...]:
        """See the port."""
        with translated(self._path):
            return changes(self._path, self._named(copy), tables)

    def release(self) -> None:
        """See the port: locks end with their process."""

    def drop(self, name: str) -> None:
        """See the port."""
        if name == self.name:
            raise TargetRefused("the live database is never dropped")
        path = self._named(name)
        with translated(path):
            for each in (path, *(Path(f"{path}{end}") for end in BESIDE)):
                each.unlink(missing_ok=True)

    def _named(self, name: str) -> Path:
        return self._path.with_name(name + self._path.suffix)

    @contextmanager
    def _alone(self) -> Iterator[str]:
        """Nobody else is in it, or can come in; its journal's mode, which is DELETE now."""
        with closing(connect(self._path, mode="rw")) as connection:
            try:
                connection.execute("PRAGMA busy_timeout = 10000")
                (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
                connection.execute("PRAGMA journal_mode = DELETE")
                connection.execute("BEGIN EXCLUSIVE")
                (now,) = connection.execute("PRAGMA journal_mode").fetchone()
            except sqlite3.OperationalError:
                raise TargetRefused("somebody else uses the database", hint=_HINT) from None
            if now != "delete" or any(Path(f"{self._path}{end}").exists() for end in BESIDE):
                raise TargetRefused("somebody else uses the database", hint=_HINT)
            for pid in _others(self._path):
                raise TargetRefused(f"process {pid} has the database open", hint=_HINT)
            yield str(journal)


def _others(path: Path) -> Iterator[int]:
    """Processes that have it open, of those whose files we may see: outside WAL mode SQLite
    does not tell of one that reads and writes nothing now."""
    wanted = path.stat()
    for folder in Path("/proc").glob("[0-9]*/fd"):
        if folder.parent.name == str(os.getpid()):
            continue
        try:
            opened = [os.stat(each) for each in folder.iterdir()]
        except OSError:  # it ended, or is somebody else's
            continue
        if any((o.st_dev, o.st_ino) == (wanted.st_dev, wanted.st_ino) for o in opened):
            yield int(folder.parent.name)
