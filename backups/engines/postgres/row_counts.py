"""How many rows each table has, counted by the server apart from the dump.

Another session counts in the snapshot that pg_dump reads, beside it: a count that differs from
the archive's proves that rows were lost or read twice on their way. It costs the server a
second look at each table, so that it has a budget; the smallest tables come first. What
was not counted is named, never passed over.

A table that is rewritten once pg_dump has let go of it looks empty to this snapshot, and one
that is renamed is another: its file or its name is not the snapshot's any more, and the count
says nothing.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import Connection, sql

from backups.engines.postgres.archive import Event, PartOfRow, Rows
from backups.engines.postgres.rewrites import lenient
from backups.engines.postgres.server import Login, connected
from backups.engines.postgres.toc import Toc
from backups.errors import BackupsError

SECONDS = 20.0
"""Of counting, from its beginning, by the server's clock."""
PAGES = 131_072
"""Of all tables that are counted together: 1 GiB."""
BATCH = 20
"""Tables in one statement: one for each costs round trips, and a hundred together take longer
to plan than in turn."""
LOCK_WAIT = 200
"""Milliseconds for a table's lock: whoever waits for an exclusive one is not kept waiting."""

_PAGES = "pg_relation_size(c.oid) / current_setting('block_size')::int"
_TABLES = """
    SELECT c.oid, n.nspname, c.relname, c.relfilenode, {}::bigint,
           coalesce((SELECT e.extcondition[array_position(e.extconfig, c.oid)]
                       FROM pg_extension e WHERE c.oid = ANY (e.extconfig)), '')
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = ANY (%s::oid[]) AND c.relkind = 'r'"""
_FILES = """
    SELECT t.oid::bigint, pg_relation_filenode(t.oid)
      FROM unnest(%s::oid[], %s::text[]) AS t(oid, name) WHERE to_regclass(t.name) = t.oid"""

TOO_LARGE = "it is beyond what is counted a second time"
TOO_LATE = "the time for counting was over"
LOCKED = "another session held or wanted its lock"
REWRITTEN = "it was rewritten or renamed before it was counted"


class Seen:
    """Rows of each table (by oid) as the archive passes."""

    def __init__(self) -> None:
        self.rows: Counter[int] = Counter()

    def add(self, events: Iterable[Event]) -> None:
        """Count what these events carry."""
        for event in events:
            if isinstance(event, Rows):
                self.rows[event.entry.oid] += len(event.rows)
            elif isinstance(event, PartOfRow) and event.last:
                self.rows[event.entry.oid] += 1


@dataclass(frozen=True, slots=True)
class Counted:
    """What the witness found, by oid."""

    rows: Mapping[int, int]
    not_counted: Mapping[int, str]
    """With the reason."""


@dataclass(frozen=True, slots=True)
class _Table:
    oid: int
    name: sql.Identifier
    file: int
    pages: int
    condition: str
    """Of an extension that has only some of its rows dumped: SQL from its own script."""


class Witness:
    """A session that reads in a snapshot that another one exported."""

    def __init__(self, connection: Connection[Any]) -> None:
        self.connection = connection
        self._wanted: list[int] = []
        self._rows: dict[int, int] = {}
        self._not: dict[int, str] = {}
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._now = 0.0
        self._ends = 0.0

    @classmethod
    @contextmanager
    def opened(cls, login: Login, snapshot: str) -> Iterator[Witness]:
        """While the session that exported the snapshot still has it. Raises Unreachable."""
        with connected(login, reads=True) as connection:
            lenient(connection)
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            connection.execute(
                sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot))
            )
            connection.execute("SET LOCAL search_path = pg_catalog")
            connection.execute("SET LOCAL jit = off")
            connection.execute(f"SET LOCAL lock_timeout = {LOCK_WAIT}")
            witness = cls(connection)
            try:
                yield witness
            finally:
                witness.stop()

    def start(self, toc: Toc) -> None:
        """Count the archive's tables in a thread; ends the transaction when it is done."""
        self._wanted = [e.oid for e in toc.entries if e.desc == "TABLE DATA"]
        self._thread = threading.Thread(target=self._run, name="row counts")
        self._thread.start()

    def result(self) -> Counted:
        """Waits for the rest of the budget at most."""
        if self._thread:
            self._thread.join()
        missing = [oid for oid in self._wanted if oid not in self._rows]
        return Counted(self._rows, {oid: self._not.get(oid, TOO_LATE) for oid in missing})

    def stop(self) -> None:
        """End it, done or not."""
        self._stopped.set()
        while self._thread and self._thread.is_alive():
            with suppress(psycopg.Error):
                self.connection.cancel()
            self._thread.join(timeout=0.2)  # between two statements nothing is cancelled
        self.connection.close()

    def _run(self) -> None:
        try:
            self._count()
        except (psycopg.Error, BackupsError) as error:
            # What was not counted is named with the reason by whoever asks for the result.
            words = getattr(error, "sqlstate", None) or "no answer"
            for oid in self._wanted:
                self._not.setdefault(oid, f"the counting session failed ({words})")
        finally:
            with suppress(psycopg.Error):
                self.connection.close()

    def _count(self) -> None:
        tables = self._tables()
        self._now = self._clock()
        self._ends = self._now + SECONDS
        pages = 0
        fitting = []
        for table in sorted(tables, key=lambda each: each.pages):
            pages += table.pages
            if pages > PAGES:
                self._not[table.oid] = TOO_LARGE
            else:
                fitting.append(table)
        for first in range(0, len(fitting), BATCH):
            batch = fitting[first : first + BATCH]
            if not self._try(batch):
                for table in batch:
                    if not self._try([table]):
                        self._not.setdefault(table.oid, LOCKED)
        self._drop_rewritten(fitting)

    def _try(self, tables: list[_Table]) -> bool:
        left = self._ends - self._now
        if left <= 0 or self._stopped.is_set():
            self._not |= {table.oid: TOO_LATE for table in tables}
            return True
        limit = f"SET LOCAL statement_timeout = {int(left * 1000) + 1}"
        self.connection.execute(f"RELEASE SAVEPOINT s; SAVEPOINT s; {limit}")
        try:
            found = self.connection.execute(_count_of(tables)).fetchall()
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
            self.connection.execute("ROLLBACK TO SAVEPOINT s")
            self._now = self._clock()
            return False
        for number, rows in found:
            if number < 0:
                self._now = rows / 1e6
            else:
                self._rows[tables[number].oid] = rows
        return True

    def _drop_rewritten(self, tables: list[_Table]) -> None:
        """Locks are held from the counts on: what has the snapshot's name and file now, had
        them then."""
        names = [table.name.as_string(self.connection) for table in tables]
        oids = [table.oid for table in tables]
        files = dict(self.connection.execute(_FILES, (oids, names)).fetchall())
        for table in tables:
            if table.oid in self._rows and files.get(table.oid) != table.file:
                del self._rows[table.oid]
                self._not[table.oid] = REWRITTEN

    def _tables(self) -> list[_Table]:
        self.connection.execute("SAVEPOINT s")
        try:
            rows = self._described(_PAGES)
        except psycopg.errors.LockNotAvailable:
            self.connection.execute("ROLLBACK TO SAVEPOINT s")
            rows = self._described("c.relpages")
        return [
            _Table(oid, sql.Identifier(schema, name), file, pages, condition)
            for oid, schema, name, file, pages, condition in rows
        ]

    def _described(self, pages: LiteralString) -> list[tuple[Any, ...]]:
        query = sql.SQL(_TABLES).format(sql.SQL(pages))
        return self.connection.execute(query, (self._wanted,)).fetchall()

    def _clock(self) -> float:
        query = "SELECT extract(epoch FROM clock_timestamp())::float8"
        return float(self.connection.execute(query).fetchall()[0][0])


def _count_of(tables: list[_Table]) -> sql.Composed:
    """With the server's clock, in microseconds, as number -1."""
    clock = sql.SQL(
        "SELECT -1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint UNION ALL "
    )
    return clock + sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}, count(*) FROM ONLY {} ").format(sql.Literal(number), table.name)
        + sql.SQL(table.condition)
        for number, table in enumerate(tables)
    )
