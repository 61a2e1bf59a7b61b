"""Sessions that load rows, each on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Queue
from typing import Any

import psycopg
from psycopg import Connection

from backups.engines.postgres.archive import LargeObject, PartOfRow, Rows
from backups.engines.postgres.failures import words
from backups.engines.postgres.pins import LOADING
from backups.engines.postgres.server import Login, connected
from backups.engines.postgres.toc import TocEntry
from backups.errors import BackupsError, EnvironmentLacks, RestoreFailed, Unreachable

WAITING = 2
"""Blocks of rows, of about 1 MiB, that wait for a session."""
OBJECTS = 1000
"""Pieces of large objects that go to the server at once."""
OBJECT_BYTES = 4 << 20
"""Bytes of such pieces that are held."""

_SESSION = {
    "search_path": "",
    "standard_conforming_strings": "on",
    "check_function_bodies": "off",
    "xmloption": "content",
    "row_security": "off",
    "synchronous_commit": "off",
    # Text of the type money is written so (`pins.READING`). Everything else that tells how text
    # is read is the database's own: rows are checked as they were at the source.
    "lc_monetary": "C",
}
"""What pg_restore sets before it loads (pg_backup_archiver.c, _doSetFixedOutputState)."""
_LO_PUT = """
    SELECT pg_catalog.count(pg_catalog.lo_put(given.o, given.a, given.d))
      FROM ROWS FROM (pg_catalog.unnest(%b::oid[]), pg_catalog.unnest(%b::bigint[]),
                      pg_catalog.unnest(%b::bytea[])) AS given (o, a, d)"""
_NOT_ITS_ROWS = ("", "08", "28", "53", "57", "58", "XX")
"""Classes of errors that say nothing of a table's rows: the connection, the server's means."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A table whose rows the server did not take."""

    entry: TocEntry
    state: str
    words: str
    constraint: tuple[str, str, str] | None
    """Schema, table or domain, and name of the CHECK that they break."""
    domain: bool
    """That CHECK is a domain's."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Where rows of an entry go."""

    entry: TocEntry
    statement: bytes
    """COPY ... FROM stdin."""
    waits: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Committed:
    """Asks a lane to commit what it has."""

    done: threading.Semaphore


_Item = tuple[Target, bytes] | _Committed | bool


@dataclass(slots=True)
class _Lane:
    """A session that loads, on its own thread."""

    queue: Queue[_Item] = field(default_factory=lambda: Queue(WAITING))
    """Rows; True at the end, False to give up."""
    told: bool = False
    """It was told that nothing more comes."""
    error: Exception | None = None
    table: int = 0
    """Dump id of the table that it was given last."""
    loaded: dict[int, int] = field(default_factory=dict)
    """Rows by dump id, as the server counted them."""
    refused: dict[int, Refused] = field(default_factory=dict)
    thread: threading.Thread | None = None

    def run(self, login: Login, encoding: str, path: str) -> None:
        """Load until told to stop; after an error, only take what comes and drop it."""
        try:
            with connected(login, LOADING) as connection:
                prepare(connection, encoding, path)
                item = self._take()
                while not isinstance(item, bool):
                    item = self._next(connection, item)
        except (BackupsError, psycopg.Error, OSError) as error:
            self.error = error
        finally:
            while not self.told:
                item = self._take()
                if isinstance(item, _Committed):
                    item.done.release()

    def _take(self) -> _Item:
        item = self.queue.get()
        self.told = isinstance(item, bool)
        return item

    def _next(
        self, connection: Connection[Any], item: tuple[Target, bytes] | _Committed
    ) -> _Item:
        if isinstance(item, _Committed):
            item.done.release()
            return self._take()
        return self._table(connection, *item)

    def _table(self, connection: Connection[Any], target: Target, rows: bytes) -> _Item:
        """One COPY, for as long as rows of this table come; returns what came then."""
        table = target.entry.dump_id
        item: _Item = (target, rows)
        if table not in self.refused:
            cursor = connection.cursor()
            try:
                with cursor.copy(target.statement) as copy:
                    while isinstance(item, tuple) and item[0] is target:
                        copy.write(item[1])
                        item = self._take()
                    if item is False:  # leaving by an error ends the COPY without its rows
                        raise RestoreFailed("the load was stopped")
                self.loaded[table] = self.loaded.get(table, 0) + cursor.rowcount
            except psycopg.Error as error:
                self.refused[table] = refused(target.entry, error)
        while isinstance(item, tuple) and item[0] is target:
            item = self._take()
        return item


class Loader:
    """Gives rows to lanes, and large objects to a session of its own."""

    def __init__(
        self, lanes: list[_Lane], objects: Connection[Any], targets: Mapping[int, Target]
    ) -> None:
        self._lanes = lanes
        self._objects = objects
        self._targets = targets
        self._rows: dict[int, int] = {}
        self._pinned: _Lane | None = None
        """The lane of the table that is loaded alone, or of the row that comes in parts."""
        self._begun: int | None = None
        self._pieces: list[tuple[int, int, bytes]] = []
        self._held = 0
        self._at = 0

    def rows(self, event: Rows) -> None:
        """Load these rows, now or soon. Raises RestoreFailed, EnvironmentLacks, Unreachable."""
        self._give(event.entry, b"".join(event.rows), len(event.rows), True)

    def part_of_row(self, event: PartOfRow) -> None:
        """Load the next bytes of a row; raises as `rows`."""
        self._give(event.entry, event.data, event.last, event.last)

    def large_object(self, event: LargeObject) -> None:
        """Load the next bytes of an object that exists already."""
        data = b"".join(event.pieces)
        if data:
            self._pieces.append((event.oid, self._at, data))
            self._held += len(data)
        self._at = 0 if event.last else self._at + len(data)
        if len(self._pieces) >= OBJECTS or self._held >= OBJECT_BYTES:
            self._put()

    def finish(self) -> list[Refused]:
        """Wait for the rest; gives the tables whose rows were refused, in the archive's order.
        Raises RestoreFailed unless the server counted every row of all others."""
        self._put()
        stop(self._lanes, True)
        self._raise()
        loaded: dict[int, int] = {}
        for lane in self._lanes:
            for table, count in lane.loaded.items():
                loaded[table] = loaded.get(table, 0) + count
        refused = self._refused()
        for table in refused:
            loaded.pop(table, None)
            self._rows.pop(table, None)
        if loaded != self._rows:
            raise RestoreFailed("the server did not take every row that it was given")
        return [refused[table] for table in self._targets if table in refused]

    def _give(self, entry: TocEntry, data: bytes, rows: int, whole: bool) -> None:
        table = entry.dump_id
        target = self._targets[table]
        if self._begun != table:
            self._begun, self._pinned = table, None
            if target.waits:
                self._commit()
        self._rows[table] = self._rows.get(table, 0) + rows
        lane = self._pinned or self._free(table)
        if table not in self._refused():
            lane.table = table
            lane.queue.put((target, data))
        self._pinned = None if whole and not target.alone else lane
        self._raise()

    def _free(self, table: int) -> _Lane:
        return min(self._lanes, key=lambda one: (one.queue.qsize(), one.table != table))

    def _refused(self) -> dict[int, Refused]:
        found: dict[int, Refused] = {}
        for lane in self._lanes:
            found |= lane.refused
        return found

    def _commit(self) -> None:
        """Wait until every lane has committed what it was given."""
        self._put()
        done = threading.Semaphore(0)
        for lane in self._lanes:
            lane.queue.put(_Committed(done))
        for _ in self._lanes:
            done.acquire()
        self._raise()

    def _put(self) -> None:
        if self._pieces:
            oids, places, data = zip(*self._pieces, strict=True)
            self._objects.execute(_LO_PUT, (list(oids), list(places), list(data)))
            self._pieces, self._held = [], 0

    def _raise(self) -> None:
        for lane in self._lanes:
            if lane.error:
                raise lane.error


@contextmanager
def loader(
    login: Login, encoding: str, lanes: int, targets: Sequence[Target], path: str = ""
) -> Iterator[Loader]:
    """Open the sessions, each with that search path; whatever happens, no thread outlives the
    context."""
    opened = [_Lane() for _ in range(lanes)]
    with connected(login, LOADING) as objects:
        prepare(objects, encoding)
        try:
            for lane in opened:
                lane.thread = threading.Thread(target=lane.run, args=(login, encoding, path))
                lane.thread.start()
            yield Loader(opened, objects, {each.entry.dump_id: each for each in targets})
        finally:
            stop(opened, False)


def refused(entry: TocEntry, error: psycopg.Error) -> Refused:
    """What the server says of a table's rows. Raises what `failure` says where the error is
    not the rows'."""
    state = error.sqlstate or ""
    if state[:2] in _NOT_ITS_ROWS or state == "42501":
        raise failure(error) from None
    said = error.diag
    name, domain = said.constraint_name, said.datatype_name
    constraint = None
    if state == "23514" and name:
        constraint = (said.schema_name or "", domain or said.table_name or "", name)
    return Refused(entry, state, words(error), constraint, domain is not None)


def failure(error: psycopg.Error) -> BackupsError:
    """Why the server did not take rows, without what rows hold."""
    state = error.sqlstate or ""
    table = error.diag.table_name
    where = f" in table {table!r}" if table else ""
    if state in ("53100", "53200", "42501", "42704") or state.startswith("58"):
        return EnvironmentLacks(f"the server could not take rows{where}: {words(error)}")
    if state[:2] in ("", "08", "53", "57"):
        return Unreachable(f"the server stopped taking rows{where}: {words(error)}")
    return RestoreFailed(f"the server refused rows{where}: {words(error)}")


def prepare(connection: Connection[Any], encoding: str, path: str = "") -> None:
    """Set a session up as pg_restore would, but for another search path; text is in the
    archive's encoding from here on."""
    values = {**_SESSION, "client_encoding": encoding, "search_path": path}
    for name, value in values.items():
        connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))


def stop(lanes: Sequence[_Lane], well: bool) -> None:
    """Tell all lanes that nothing more comes, and wait for them."""
    for lane in lanes:
        if lane.thread:
            lane.queue.put(well)
    for lane in lanes:
        if lane.thread:
            lane.thread.join()
            lane.thread = None
