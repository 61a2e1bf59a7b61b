"""Rows into a copy, over several sessions at once.

One pg_restore loads one table after the other, bound by one core of the server. Here whole
rows go in turn to the session that has the least to do, so that one large table keeps all
of them busy too. The order of rows in a table is then not the source's; SQL promises none.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Queue
from typing import Any

import psycopg
from psycopg import Connection

from backups.engines.postgres.archive import ArchiveParser, Event, Head, LargeObject, Rows
from backups.engines.postgres.server import Login, connected
from backups.engines.postgres.toc import Toc, TocEntry
from backups.errors import BackupsError, DumpFailed, EnvironmentLacks, RestoreFailed
from backups.ports import Blocks, Progress

WAITING = 2
"""Blocks of rows, of about 1 MiB, that wait for a session."""

_SESSION = {
    "search_path": "",
    "standard_conforming_strings": "on",
    "check_function_bodies": "off",
    "xmloption": "content",
    "row_security": "off",
    "synchronous_commit": "off",
}
"""What pg_restore sets before it loads (pg_backup_archiver.c, _doSetFixedOutputState)."""


@dataclass(slots=True)
class _Lane:
    """A session that loads, on its own thread."""

    queue: Queue[tuple[TocEntry, bytes] | bool] = field(default_factory=lambda: Queue(WAITING))
    """Rows; True at the end, False to give up."""
    told: bool = False
    """It was told that nothing more comes."""
    error: Exception | None = None
    table: int = 0
    """Dump id of the table that it was given last."""
    loaded: dict[int, int] = field(default_factory=dict)
    """Rows by dump id, as the server counted them."""
    thread: threading.Thread | None = None

    def run(self, login: Login, encoding: str) -> None:
        """Load until told to stop; after an error, only take what comes and drop it."""
        try:
            with connected(login) as connection:
                _prepare(connection, encoding)
                item = self._take()
                while not isinstance(item, bool):
                    item = self._table(connection, *item)
        except (BackupsError, psycopg.Error, OSError) as error:
            self.error = error
        finally:
            while not self.told:
                self._take()

    def _take(self) -> tuple[TocEntry, bytes] | bool:
        item = self.queue.get()
        self.told = isinstance(item, bool)
        return item

    def _table(
        self, connection: Connection[Any], entry: TocEntry, rows: bytes
    ) -> tuple[TocEntry, bytes] | bool:
        """One COPY, for as long as rows of this table come; returns what came then."""
        statement = entry.copy_stmt.encode("utf-8", "surrogateescape")
        item: tuple[TocEntry, bytes] | bool = (entry, rows)
        cursor = connection.cursor()
        try:
            with cursor.copy(statement) as copy:
                while not isinstance(item, bool) and item[0] is entry:
                    copy.write(item[1])
                    item = self._take()
                if item is False:  # leaving by an error ends the COPY without its rows
                    raise RestoreFailed("the load was stopped")
        except psycopg.Error as error:
            raise failure(error) from None
        self.loaded[entry.dump_id] = self.loaded.get(entry.dump_id, 0) + cursor.rowcount
        return item


class Loader:
    """Gives rows to lanes, and large objects to a session of its own."""

    def __init__(self, lanes: list[_Lane], objects: Connection[Any]) -> None:
        self._lanes = lanes
        self._objects = objects
        self._rows: dict[int, int] = {}
        self._at = 0

    def rows(self, event: Rows) -> None:
        """Load these rows, now or soon. Raises RestoreFailed, EnvironmentLacks, Unreachable."""
        table = event.entry.dump_id
        self._rows[table] = self._rows.get(table, 0) + len(event.rows)
        lane = min(self._lanes, key=lambda one: (one.queue.qsize(), one.table != table))
        lane.table = table
        lane.queue.put((event.entry, b"".join(event.rows)))
        self._raise()

    def large_object(self, event: LargeObject) -> None:
        """Load the next bytes of an object that exists already."""
        data = b"".join(event.pieces)
        if data:
            values = (event.oid, self._at, data)
            self._objects.execute("SELECT lo_put(%s::oid, %s::bigint, %b)", values)
        self._at = 0 if event.last else self._at + len(data)

    def finish(self) -> None:
        """Wait for the rest. Raises RestoreFailed unless the server counted every row."""
        _stop(self._lanes, True)
        self._raise()
        loaded: dict[int, int] = {}
        for lane in self._lanes:
            for table, count in lane.loaded.items():
                loaded[table] = loaded.get(table, 0) + count
        if loaded != self._rows:
            raise RestoreFailed("the server did not take every row that it was given")

    def _raise(self) -> None:
        for lane in self._lanes:
            if lane.error:
                raise lane.error


class ArchiveRows:
    """The archive's stream: first its table of contents, then the data."""

    def __init__(self, blocks: Blocks) -> None:
        self._rest = blocks
        self._parser = ArchiveParser()
        self._events: list[Event] = []
        self._bytes = 0
        self.head = self._read_head()

    def load(self, target: Loader, wanted: Toc, progress: Progress) -> None:
        """Give the data of those entries to `target`; all of it is read. Raises DumpFailed
        unless the archive is complete."""
        entries = {entry.dump_id for entry in wanted.entries}
        self._give(self._events, target, entries)
        for block in self._rest:
            self._give(self._parser.feed(block), target, entries)
            self._bytes += len(block)
            progress("loading rows", self._bytes, None)
        self._parser.finish()
        target.finish()

    def _read_head(self) -> Head:
        for block in self._rest:
            self._bytes += len(block)
            events = self._parser.feed(block)
            if events and isinstance(events[0], Head):
                self._events = events[1:]
                return events[0]
        raise DumpFailed("the archive ends inside its table of contents")

    def _give(self, events: Iterable[Event], target: Loader, entries: set[int]) -> None:
        for event in events:
            if isinstance(event, Head) or event.entry.dump_id not in entries:
                continue
            if isinstance(event, Rows):
                target.rows(event)
            elif isinstance(event, LargeObject):
                target.large_object(event)


@contextmanager
def loader(login: Login, encoding: str, lanes: int) -> Iterator[Loader]:
    """Open the sessions; whatever happens, no thread outlives the context."""
    opened = [_Lane() for _ in range(lanes)]
    with connected(login) as objects:
        _prepare(objects, encoding)
        try:
            for lane in opened:
                lane.thread = threading.Thread(target=lane.run, args=(login, encoding))
                lane.thread.start()
            yield Loader(opened, objects)
        finally:
            _stop(opened, False)


def failure(error: psycopg.Error) -> BackupsError:
    """Why the server did not take rows; its detail and context may hold them and are cut."""
    state = error.sqlstate or ""
    words = (error.diag.message_primary or "the connection was lost").split(': "')[0]
    table = error.diag.table_name
    where = f" in table {table!r}" if table else ""
    if state in ("53100", "53200", "42501") or state.startswith("58"):
        return EnvironmentLacks(f"the server could not take rows{where}: {words}")
    return RestoreFailed(f"the server refused rows{where}: {words}")


def _prepare(connection: Connection[Any], encoding: str) -> None:
    values: Mapping[str, str] = {**_SESSION, "client_encoding": encoding}
    for name, value in values.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))


def _stop(lanes: list[_Lane], well: bool) -> None:
    for lane in lanes:
        if lane.thread:
            lane.queue.put(well)
    for lane in lanes:
        if lane.thread:
            lane.thread.join()
            lane.thread = None
