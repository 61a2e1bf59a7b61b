"""Making a MariaDB database: its final name at once, marked until it is compared.

MariaDB can't rename a database. A new one bears a comment that says what it is, and a lock
of its maker's session; a copy whose lock nobody holds belongs to a restore that died. Events
are made disabled, and enabled when the copy is published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from pymysql.connections import Connection

from backups.engines.beside import removed_at_the_end
from backups.engines.mariadb.dump import failure, open_dump, tool
from backups.engines.mariadb.server import Login, connected, login, quoted, rows, version_of
from backups.engines.mariadb.text import Reader, Statement, disabled
from backups.engines.process import Child
from backups.errors import (
    DumpFailed,
    EngineError,
    NotFound,
    RestoreFailed,
    TargetRefused,
    UsageError,
)
from backups.model import Fingerprint, RestoreOptions, Source, Written
from backups.ports import Blocks, Progress

MARK = "backups: being restored"
_SCHEMATA = "SELECT schema_comment FROM information_schema.schemata WHERE schema_name = %s"
_EMPTY = """
    SELECT (SELECT count(*) FROM information_schema.tables WHERE table_schema = %s)
         + (SELECT count(*) FROM information_schema.routines WHERE routine_schema = %s)
         + (SELECT count(*) FROM information_schema.events WHERE event_schema = %s)"""


class MariadbRestoration:
    """Adapter of `ports.Restoration`."""

    def __init__(self, opened: Login, target: Source, options: RestoreOptions) -> None:
        self._login = opened
        self._target = target
        self._options = options
        self._enabled: list[str] = []
        self._made = False
        self._published = False

    def lacks(self, expected: Fingerprint) -> tuple[str, ...]:
        """See the port."""
        with connected(self._login, database=False) as connection:
            found = version_of(connection)
        if found.split(".")[:2] != expected.server_version.split(".")[:2]:
            return (f"the server is MariaDB {found}, the backup of {expected.server_version}",)
        return ()

    def load(
        self, expected: Fingerprint, artifact: Callable[[str], Blocks], progress: Progress
    ) -> Written:
        """Make the database, marked, and give the dump to the client."""
        only = _Only(expected, self._options.only)
        with connected(self._login, database=False) as connection:
            self._create(connection, expected)
        arguments = ("--batch", "--default-character-set=utf8mb4", "--local-infile=0")
        into = f"--database={self._login.database}"
        with self._login.running(tool("mariadb"), *arguments, into, takes=True) as child:
            self._give(child, artifact("dump"), only, progress)
            if child.wait():
                raise _refused(child)
        return only.written()

    def fingerprint(self) -> Fingerprint:
        """By a dump that is read and thrown away."""
        with open_dump(self._target, broken=True) as dump:
            for _, blocks in dump.artifacts():
                for _ in blocks:
                    pass
            return dump.finish()

    def publish(self) -> None:
        """Enable its events, then take the mark away."""
        with connected(self._login) as connection:
            for name in self._enabled:
                rows(connection, f"ALTER EVENT {quoted(name)} ENABLE")
            rows(connection, f"ALTER DATABASE {quoted(self._login.database)} COMMENT = ''")
        self._published = True

    def remove(self) -> None:
        """Drop what was not published."""
        if self._made and not self._published:
            with connected(self._login, database=False) as connection:
                rows(connection, f"DROP DATABASE IF EXISTS {quoted(self._login.database)}")
            self._made = False

    def _create(self, connection: Connection[Any], expected: Fingerprint) -> None:
        name = quoted(self._login.database).replace("%", "%%")
        with connection.cursor() as cursor:
            cursor.execute(
                f"CREATE DATABASE {name} CHARACTER SET %s COLLATE %s COMMENT %s",
                (expected.settings["charset"], expected.settings["collation"], MARK),
            )
        self._made = True

    def _give(self, child: Child, blocks: Blocks, only: _Only, progress: Progress) -> None:
        reader, out, done = Reader(), bytearray(), 0

        def give(statement: Statement) -> None:
            if not only.wants(statement):
                return
            text = statement.text
            if statement.kind == "EVENT":
                text, enabled = disabled(text)
                if enabled:
                    self._enabled.append(statement.name)
            out.extend(text)

        taking = True
        for block in blocks:
            reader.feed(block, give)
            if taking and not child.give(bytes(out)):
                taking = False
            out.clear()
            done += len(block)
            progress("loading", done, None)
        reader.finish()
        child.end_of_input()


class _Only:
    """Which statements are wanted, and what the copy is then to contain."""

    def __init__(self, whole: Fingerprint, names: Sequence[str]) -> None:
        self._whole = whole
        self._names = set(names)
        self._given: set[tuple[str, str]] = set()
        known = {each.name for each in whole.tables}
        for name in names:
            if name not in known:
                near = get_close_matches(name, known, 3, 0.5) or sorted(known)[:10]
                raise NotFound(
                    f"the backup has no table {name!r}", hint=f"It has: {', '.join(near)}."
                )

    def wants(self, statement: Statement) -> bool:
        """Whether it is given to the server: a table with its rows and triggers."""
        if not self._names or statement.kind == "NOISE":
            return True
        if statement.table not in self._names:
            return False
        self._given.add((statement.kind, statement.name))
        return True

    def written(self) -> Written:
        """Once all was given."""
        if not self._names:
            return Written(self._whole)
        whole = self._whole
        part = replace(
            whole,
            objects=tuple(o for o in whole.objects if (o.kind, o.name) in self._given),
            tables=tuple(t for t in whole.tables if t.name in self._names),
            sequences=tuple(s for s in whole.sequences if s.name in self._names),
        )
        return Written(part, ("foreign keys may refer to tables that are not there",))


@contextmanager
def open_restore(target: Source, options: RestoreOptions) -> Iterator[MariadbRestoration]:
    """Look at the target; leaving drops what was not published."""
    try:
        opened = login(target)
    except UsageError as error:
        raise TargetRefused(str(error), hint=error.hint) from None
    with connected(opened, database=False) as guard:
        if rows(guard, "SELECT GET_LOCK(%s, 0)", _lock(opened.database)) != [(1,)]:
            raise TargetRefused("another restore is at work on this database")
        _require_free(guard, opened.database)
        restoration = MariadbRestoration(opened, target, options)
        with removed_at_the_end(restoration.remove, opened.database):
            yield restoration


def _require_free(connection: Connection[Any], name: str) -> None:
    found = rows(connection, _SCHEMATA, name)
    if not found:
        return
    if found[0][0] != MARK:
        raise TargetRefused(f"the database {name!r} is there already")
    rows(connection, f"DROP DATABASE {quoted(name)}")  # of a restore that died


def _lock(name: str) -> str:
    """At most 64 characters; see GET_LOCK."""
    return "backups " + hashlib.sha256(name.encode()).hexdigest()[:40]


def _refused(child: Child) -> Exception:
    found = failure(child)
    if isinstance(found, DumpFailed) or type(found) is EngineError:
        return RestoreFailed(f"the server did not take the dump: {found}")
    return found
