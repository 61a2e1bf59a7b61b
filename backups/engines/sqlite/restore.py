"""Making a SQLite database: a file beside its target, compared, then named.

Its name is given by link(2), which replaces nothing. Whatever lies beside the target under
the names of a journal would be played back into it, and is refused.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import quote

from backups.engines.beside import refuse_owners
from backups.engines.sqlite.content import columns_of, fingerprint, only, quoted, require_whole
from backups.engines.sqlite.files import (
    BESIDE,
    connect,
    path_of,
    temporary,
    translated,
)
from backups.errors import NotFound, RestoreFailed, TargetRefused, UsageError
from backups.model import Fingerprint, RestoreOptions, Source, Written
from backups.ports import Blocks, Entropy, Progress
from backups.private import sync_folder

_SCHEMA = """
    SELECT type, name, tbl_name, sql FROM main.sqlite_schema
     WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite~_%' ESCAPE '~'"""
_SET = ("encoding", "page_size", "auto_vacuum", "user_version", "application_id")


class SqliteRestoration:
    """Adapter of `ports.Restoration`."""

    def __init__(
        self, path: Path, copy: Path, options: RestoreOptions, entropy: Entropy
    ) -> None:
        self._path = path
        self._copy = copy
        self._options = options
        self._entropy = entropy

    def lacks(self, expected: Fingerprint) -> tuple[str, ...]:
        """See the port."""
        ours, theirs = sqlite3.sqlite_version, expected.server_version
        if _version(ours) < _version(theirs):
            return (f"SQLite is {ours} here, and was {theirs} where the backup was taken",)
        return ()

    def load(
        self, expected: Fingerprint, artifact: Callable[[str], Blocks], progress: Progress
    ) -> Written:
        """Write the file, or a new one with the part of it that is wanted."""
        with translated(self._copy):
            if not self._options.only:
                self._write(self._copy, artifact("database"), progress)
                return Written(expected)
            stem = f"{self._path.name}.whole"
            with temporary(self._path.parent, stem, self._entropy) as all_:
                self._write(all_, artifact("database"), progress)
                progress("picking out the part", 0, None)
                return _part(all_, self._copy, expected, self._options.only)

    def fingerprint(self) -> Fingerprint:
        """What the file contains, published or not."""
        there = self._copy if self._copy.exists() else self._path
        with translated(there), closing(connect(there, immutable=True)) as connection:
            return fingerprint(connection, there)

    def definitions(self, _kind: str, _schema: str, _name: str, /) -> None:
        """See the port: no such texts are kept."""
        return None

    def publish(self) -> None:
        """Give the file its name, on disk when this returns."""
        require_free(self._path)
        with translated(self._path):
            with self._copy.open("rb") as file:
                os.fsync(file.fileno())
            try:
                os.link(self._copy, self._path)
            except FileExistsError:
                raise TargetRefused(f"{self._path} was made meanwhile") from None
            self._copy.unlink()
            sync_folder(self._path.parent)

    def _write(self, path: Path, blocks: Blocks, progress: Progress) -> None:
        done = 0
        with path.open("r+b") as file:
            for block in blocks:
                file.write(block)
                done += len(block)
                progress("writing the database", done, None)
        with closing(connect(path, immutable=True)) as connection:
            pages = connection.execute(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            ).fetchone()
            if pages != (done,):
                raise RestoreFailed("the file is not as long as it says")
            require_whole(connection)


def require_free(path: Path) -> None:
    """Raises TargetRefused when the target, or a journal of its name, is there."""
    for each in (path, *(Path(f"{path}{end}") for end in BESIDE)):
        if each.exists() or each.is_symlink():
            raise TargetRefused(
                f"{each} exists already",
                hint="Nothing is overwritten: name another file, or move it away.",
            )


@contextmanager
def open_restore(
    target: Source, options: RestoreOptions, entropy: Entropy
) -> Iterator[SqliteRestoration]:
    """Look at the target and make a private file beside it; leaving removes what has no name
    yet. Raises TargetRefused, UsageError."""
    refuse_owners(options, "a SQLite file")
    try:
        path = path_of(target)
    except UsageError as error:
        raise TargetRefused(str(error), hint=error.hint) from None
    require_free(path)
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise TargetRefused(
            f"no file can be made in {path.parent}",
            hint="Name a folder that exists and that you may write to.",
        )
    with temporary(path.parent, f"{path.name}.restoring", entropy) as copy:
        yield SqliteRestoration(path, copy, options, entropy)


def _part(whole: Path, part: Path, expected: Fingerprint, names: Sequence[str]) -> Written:
    """A new database with these tables, their indexes and triggers, and views by name."""
    with closing(connect(whole, immutable=True)) as source:
        schema = source.execute(_SCHEMA).fetchall()
        known = {name for kind, name, _, _ in schema if kind in ("table", "view")}
        wanted = [name.removeprefix("main.") for name in names]
        for name in wanted:
            if name not in known:
                near = get_close_matches(name, known, 3, 0.5) or sorted(known)[:10]
                raise NotFound(
                    f"the backup has no table {name!r}", hint=f"It has: {', '.join(near)}."
                )
        chosen = [row for row in schema if row[1] in wanted or row[2] in wanted]
        with closing(connect(part, mode="rw")) as to:
            for setting in _SET:
                (value,) = source.execute(f"PRAGMA main.{setting}").fetchone()
                to.execute(f"PRAGMA main.{setting} = {_literal(value)}")
            to.execute("PRAGMA foreign_keys = OFF")
            to.execute("ATTACH ? AS whole", (f"file:{quote(str(whole))}?mode=ro&immutable=1",))
            to.execute("BEGIN")
            for kind, name, _, sql in chosen:
                if kind == "table":
                    to.execute(sql)
                    _copy_rows(source, to, name)
            _copy_counters(to, wanted)
            for kind, _, _, sql in chosen:
                if kind != "table":
                    to.execute(sql)
            to.execute("COMMIT")
            to.execute("DETACH whole")
            if expected.settings.get("journal") == "wal":
                to.execute("PRAGMA journal_mode = WAL")
    notes = tuple(
        f"{kind} {name} was left out" for kind, name, of, _ in schema
        if kind == "view" and name not in wanted
    )  # fmt: skip
    return Written(only(expected, wanted, [row[1] for row in chosen]), notes)


def _copy_rows(source: sqlite3.Connection, to: sqlite3.Connection, table: str) -> None:
    """Within SQLite, so that text of any bytes stays what it is."""
    name, listed = quoted(table), ", ".join(map(quoted, columns_of(source, table)))
    rows = f"SELECT {listed} FROM whole.{name}"  # noqa: S608
    to.execute(f"INSERT INTO main.{name} ({listed}) {rows}")


def _copy_counters(to: sqlite3.Connection, tables: Sequence[str]) -> None:
    """Where AUTOINCREMENT stands; the table of it is there once a table needs it."""
    there = "SELECT count(*) FROM main.sqlite_schema WHERE name = 'sqlite_sequence'"
    if to.execute(there).fetchone() == (0,):
        return
    to.execute("DELETE FROM main.sqlite_sequence")
    for name in tables:
        to.execute(
            "INSERT INTO main.sqlite_sequence (name, seq)"
            " SELECT name, seq FROM whole.sqlite_sequence WHERE name = ?",
            (name,),
        )


def _literal(value: int | str) -> str:
    if isinstance(value, int):
        return str(value)
    if not value.replace("-", "").isalnum():
        raise RestoreFailed("a setting of the database has a value that is none")
    return f"'{value}'"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
