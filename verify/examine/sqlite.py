"""A copy on SQLite, examined: integrity, full read, foreign keys, counters, assertions.

The file is opened so that nothing can be written, attached or loaded (sqlite.org,
security.html, and c3ref/set_authorizer.html for what a statement may do).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from backups.engines.sqlite.content import columns_of, quoted
from backups.engines.sqlite.files import connect, path_of
from backups.model import Fingerprint, Source
from backups.ports import Clock
from backups.proving import Check
from verify.ports import Questions

NAMED = 20
SLOW = 10
_STEPS = 10_000
"""Of SQLite's machine, between two looks at the clock."""
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION,
            sqlite3.SQLITE_RECURSIVE}  # fmt: skip
_TABLES = """
    SELECT name FROM pragma_table_list
     WHERE schema = 'main' AND type IN ('table', 'shadow')
       AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY 1"""
_COUNTERS = "SELECT name, seq FROM main.sqlite_sequence ORDER BY 1"


class SqliteExaminer:
    """Adapter of `verify.ports.Examiner`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def examine(
        self, target: Source, expected: Fingerprint, questions: Questions
    ) -> Iterator[Check]:
        """Levels 9 to 11."""
        path = path_of(target)
        seconds = questions.limit.total_seconds()
        steps: list[tuple[float, Callable[[sqlite3.Connection], Iterator[Check]]]] = [
            (seconds * SLOW, _integrity),
            (seconds * SLOW, partial(_full_read, expected=expected)),
            (seconds * SLOW, _foreign_keys),
            (seconds, _counters_ahead),
            (seconds, partial(_assertions, questions=questions)),
            (seconds, _usable),
        ]
        for limit, step in steps:
            yield from _asked(path, self._clock, limit, step)


def _asked(
    path: Path,
    clock: Clock,
    limit: float,
    step: Callable[[sqlite3.Connection], Iterator[Check]],
) -> list[Check]:
    """With a session of its own, which is ended when its time is over."""
    until = clock.monotonic() + limit
    with closing(connect(path, immutable=True)) as connection:
        connection.set_progress_handler(lambda: clock.monotonic() > until, _STEPS)
        return list(step(connection))


def _integrity(connection: sqlite3.Connection) -> Iterator[Check]:
    expected = "integrity_check finds nothing"
    try:
        said = [row[0] for row in connection.execute(f"PRAGMA main.integrity_check({NAMED})")]
    except sqlite3.Error as error:
        yield Check("pages", _known(error), expected, _words(error))
        return
    whole = said == ["ok"]
    yield Check("pages", whole, expected, "nothing" if whole else f"{len(said)} faults")


def _full_read(connection: sqlite3.Connection, expected: Fingerprint) -> Iterator[Check]:
    every = f"{sum(table.rows for table in expected.tables)} rows"
    rows = 0
    for (name,) in connection.execute(_TABLES).fetchall():
        columns = ", ".join(map(quoted, columns_of(connection, name))) or "NULL"
        query = f"SELECT {columns} FROM main.{quoted(name)} NOT INDEXED"  # noqa: S608
        try:
            rows += sum(1 for _ in connection.execute(query))
        except sqlite3.Error as error:
            yield Check("full read", _known(error), every, _words(error), name)
            return
    yield Check("full read", every == f"{rows} rows", every, f"{rows} rows")


def _foreign_keys(connection: sqlite3.Connection) -> Iterator[Check]:
    expected = "every reference has its row"
    try:
        broken: dict[str, int] = {}
        for table, *_ in connection.execute("PRAGMA main.foreign_key_check"):
            broken[table] = broken.get(table, 0) + 1
    except sqlite3.Error as error:
        yield Check("foreign keys", _known(error), expected, _words(error))
        return
    for table, count in sorted(broken.items())[:NAMED]:
        yield Check("foreign keys", False, expected, f"{count} rows without", table)
    if not broken:
        yield Check("foreign keys", True, expected, "all have")


def _counters_ahead(connection: sqlite3.Connection) -> Iterator[Check]:
    there = "SELECT count(*) FROM main.sqlite_schema WHERE name = 'sqlite_sequence'"
    rows = connection.execute(_COUNTERS).fetchall() if _one(connection, there) else []
    behind = 0
    for name, at in rows:
        highest = _one(connection, f"SELECT max(rowid) FROM main.{quoted(name)}")  # noqa: S608
        if highest is not None and highest > at:
            behind += 1
            words = f"at {at}, the highest key is {highest}"
            yield Check("sequences ahead", False, "ahead of every key", words, name)
    if not behind:
        yield Check("sequences ahead", True, "ahead of every key", f"{len(rows)} counters")


def _assertions(connection: sqlite3.Connection, questions: Questions) -> Iterator[Check]:
    connection.set_authorizer(_only_reading)
    for each in questions.assertions:
        try:
            rows = connection.execute(each.sql).fetchmany(2)
        except sqlite3.Error as error:
            yield Check("assertion", None, "true", _words(error), each.name)
            continue
        if len(rows) != 1 or len(rows[0]) != 1 or rows[0][0] not in (0, 1):
            yield Check("assertion", None, "one row with 0 or 1", "something else", each.name)
        else:
            true = bool(rows[0][0])
            yield Check("assertion", true, "true", "true" if true else "false", each.name)


def _usable(connection: sqlite3.Connection) -> Iterator[Check]:
    try:
        count = _one(connection, "SELECT count(*) FROM main.sqlite_schema")
    except sqlite3.Error as error:
        yield Check("usable", False, "whoever can open the file", _words(error))
        return
    yield Check("usable", True, "whoever can open the file", f"{count} objects")


def _only_reading(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _one(connection: sqlite3.Connection, query: str) -> int | None:
    row = connection.execute(query).fetchone()
    found: int | None = row[0] if row else None
    return found


def _known(error: sqlite3.Error) -> bool | None:
    """Damage is a failure; what ran out of time is not known."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return False if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) else None


def _words(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", type(error).__name__))
