"""Making a MariaDB or MySQL database: its final name at once, marked until it is compared.

Its maker's session holds a lock meanwhile; see `marks`. Events are made disabled, and enabled
when the copy is published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from pymysql.connections import Connection

from backups.engines.beside import refuse_owners, removed_at_the_end
from backups.engines.mysql.dump import failure, fingerprint, tool
from backups.engines.mysql.server import Login, connected, login, version_of
from backups.engines.mysql.sessions import quoted, rows
from backups.engines.mysql.text import Reader, Statement, disabled
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


class MysqlRestoration:
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
            found = version_of(connection, self._login.family)
        title = self._login.family.title
        if expected.engine != self._login.family.engine:
            return (f"the server is {title}, the backup of {expected.engine[:40]}",)
        if found.split(".")[:2] != expected.server_version.split(".")[:2]:
            return (f"the server is {title} {found}, the backup of {expected.server_version}",)
        return ()

    def load(
        self, expected: Fingerprint, artifact: Callable[[str], Blocks], progress: Progress
    ) -> Written:
        """Make the database, marked, and give the dump to the client."""
        family = self._login.family
        if expected.engine != family.engine:
            raise TargetRefused(f"a backup of {expected.engine[:40]} is not for {family.title}")
        only = _Only(expected, self._options.only)
        with connected(self._login, database=False) as connection:
            self._create(connection, expected)
        arguments = (
            "--batch", "--default-character-set=utf8mb4", "--local-infile=0",
            *family.client_options, f"--database={self._login.database}",
        )  # fmt: skip
        client = tool(family, family.client)
        with self._login.running(client, *arguments, takes=True) as child:
            self._give(child, artifact("dump"), only, progress)
            if child.wait():
                raise _refused(child)
        return only.written()

    def fingerprint(self) -> Fingerprint:
        """By a dump that is read and thrown away."""
        return fingerprint(self._target, broken=True)

    def definitions(self, _kind: str, _schema: str, _name: str, /) -> None:
        """See the port: no such texts are kept."""
        return None

    def publish(self) -> None:
        """Enable its events, then take the mark away."""
        with connected(self._login) as connection:
            for name in self._enabled:
                rows(connection, f"ALTER EVENT {quoted(name)} ENABLE")
            self._login.family.mark.take_away(connection, self._login.database)
        self._published = True

    def remove(self) -> None:
        """Drop what was not published."""
        if self._made and not self._published:
            with connected(self._login, database=False) as connection:
                rows(connection, f"DROP DATABASE IF EXISTS {quoted(self._login.database)}")
            self._made = False

    def _create(self, connection: Connection[Any], expected: Fingerprint) -> None:
        made = expected.settings
        self._login.family.mark.make(
            connection, self._login.database, made["charset"], made["collation"]
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
def open_restore(target: Source, options: RestoreOptions) -> Iterator[MysqlRestoration]:
    """Look at the target; leaving drops what was not published. Raises TargetRefused,
    UsageError."""
    refuse_owners(options, "a MariaDB or MySQL database")
    try:
        opened = login(target)
    except UsageError as error:
        raise TargetRefused(str(error), hint=error.hint) from None
    with connected(opened, database=False) as guard:
        if rows(guard, "SELECT GET_LOCK(%s, 0)", _lock(opened.database)) != [(1,)]:
            raise TargetRefused("another restore is at work on this database")
        _require_free(guard, opened)
        restoration = MysqlRestoration(opened, target, options)
        with removed_at_the_end(restoration.remove, opened.database):
            yield restoration


def _require_free(connection: Connection[Any], opened: Login) -> None:
    left = opened.family.mark.is_left(connection, opened.database)
    if left is False:
        raise TargetRefused(f"the database {opened.database!r} is there already")
    if left:
        rows(connection, f"DROP DATABASE {quoted(opened.database)}")  # of a restore that died


def _lock(name: str) -> str:
    """At most 64 characters; see GET_LOCK."""
    return "backups " + hashlib.sha256(name.encode()).hexdigest()[:40]


def _refused(child: Child) -> Exception:
    found = failure(child)
    if isinstance(found, DumpFailed) or type(found) is EngineError:
        return RestoreFailed(f"the server did not take the dump: {found}")
    return found
