"""What differs between a live database and a copy beside it, row by row, by primary key.

Both sides are read in the order of their keys' text, by its bytes in UTF-8, and merged: memory
holds two rows. Rows are compared by a digest of their text, so that none leaves the server. A
table without a primary key is compared as a bag of rows, each told apart by all its values.

No value of a user's is given to the client as a date or time: PostgreSQL has years that Python
has not. What is shown of one is computed by the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import Connection, sql

from backups.engines.postgres.lanes import failure
from backups.engines.postgres.server import Login, connected
from backups.replacing import MAX_ROWS, SAMPLE, Changes

LONGEST_KEY = 60
"""Characters of a key that is shown."""

_FIRST = datetime(1, 1, 1, tzinfo=UTC).timestamp()
"""The first second that Python knows, since 1970."""

_SESSION = {
    "search_path": "",
    "default_transaction_read_only": "on",
    "row_security": "off",
    "statement_timeout": "120s",
    "extra_float_digits": "3",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
}
_COLUMNS = """
    SELECT a.attname,
           a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype),
           coalesce(a.attnum = ANY (i.indkey), false)
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
      LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary
     WHERE c.relkind = 'r' AND n.nspname = %s AND c.relname = %s AND a.attnum > 0
       AND NOT a.attisdropped AND a.attgenerated = ''"""


@dataclass(frozen=True, slots=True)
class _Table:
    """One side's: name of each column to (is of a date or time, is of the primary key)."""

    columns: dict[str, tuple[bool, bool]] = field(default_factory=dict)

    @property
    def key(self) -> list[str]:
        return sorted(name for name, (_, key) in self.columns.items() if key)


def changes(live: Login, copy: Login, tables: Iterable[tuple[str, str]]) -> tuple[Changes, ...]:
    """Of each table (schema, name), what the copy has that the live one has not, and the other
    way round. Raises RestoreFailed, Unreachable, AccessDenied."""
    with ExitStack() as stack:
        now, then = (stack.enter_context(_snapshot(each)) for each in (live, copy))
        return tuple(_table(now, then, schema, name) for schema, name in tables)


@contextmanager
def _snapshot(opened: Login) -> Iterator[Connection[Any]]:
    with connected(opened) as connection:
        for name, value in _SESSION.items():
            connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield connection


def _table(now: Connection[Any], then: Connection[Any], schema: str, name: str) -> Changes:
    try:
        ours, theirs = (_look(each, schema, name) for each in (now, then))
        if not (ours.columns and theirs.columns):
            return Changes(schema, name).without("it is there no more, or is no plain table")
        both = sorted(ours.columns.keys() & theirs.columns.keys())
        times = [c for c in both if ours.columns[c][0] and theirs.columns[c][0]]
        found = Changes(
            schema,
            name,
            newest_now=_newest(now, schema, name, times),
            newest_then=_newest(then, schema, name, times),
        )
        for each in (now, then):
            if _rows(each, schema, name) > MAX_ROWS:
                return found.without(f"it has more than {MAX_ROWS:,} rows")
        key = ours.key if ours.key == theirs.key else []
        sides = [_keyed(each, schema, name, key, both) for each in (now, then)]
        return _noted(merged(found, *sides), ours, theirs)
    except psycopg.Error as error:
        raise failure(error) from None


def _noted(found: Changes, ours: _Table, theirs: _Table) -> Changes:
    """With what must be known to read it."""
    notes = []
    if not ours.key or ours.key != theirs.key:
        why = "its primary key is another" if ours.key or theirs.key else "no primary key"
        notes.append(f"{why}: rows are told apart by all their values")
        found = replace(found, keys=((), (), ()))
    for columns, side in (
        (ours.columns.keys() - theirs.columns.keys(), "now"),
        (theirs.columns.keys() - ours.columns.keys(), "then"),
    ):
        if columns:
            notes.append(f"columns there only {side}: {', '.join(sorted(columns))}")
    return replace(found, note="; ".join(notes))


def merged(
    found: Changes, now: Iterator[tuple[str, str]], then: Iterator[tuple[str, str]]
) -> Changes:
    """Both sides' (key, digest), in the order of the keys' bytes, brought together."""
    comes, goes, changed = _Keys(), _Keys(), _Keys()
    left, right = next(now, None), next(then, None)
    while left is not None or right is not None:
        if left is not None and (right is None or _bytes(left[0]) < _bytes(right[0])):
            goes.add(left[0])
            left = next(now, None)
        elif right is not None and (left is None or _bytes(right[0]) < _bytes(left[0])):
            comes.add(right[0])
            right = next(then, None)
        elif left is not None and right is not None:
            if left[1] != right[1]:
                changed.add(left[0])
            left, right = next(now, None), next(then, None)
    return found.counted(
        (comes.count, goes.count, changed.count),
        (tuple(comes.first), tuple(goes.first), tuple(changed.first)),
    )


def _bytes(key: str) -> bytes:
    return key.encode()


@dataclass(slots=True)
class _Keys:
    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, key: str) -> None:
        self.count += 1
        if len(self.first) < SAMPLE:
            self.first.append(key if len(key) <= LONGEST_KEY else f"{key[:LONGEST_KEY]}...")


def _look(connection: Connection[Any], schema: str, name: str) -> _Table:
    rows = connection.execute(_COLUMNS, (schema, name)).fetchall()
    return _Table({column: (time, key) for column, time, key in rows})


def _newest(
    connection: Connection[Any], schema: str, name: str, times: Sequence[str]
) -> datetime | None:
    """The latest instant of the past in any column of a date or time; None also where that is
    before the year 1."""
    if not times:
        return None
    each = [
        sql.SQL(
            "pg_catalog.max({c}) FILTER (WHERE {c} OPERATOR(pg_catalog.<=) pg_catalog.now() "
            "AND {c} OPERATOR(pg_catalog.>) '-infinity')::timestamptz"
        ).format(c=sql.Identifier(column))
        for column in times
    ]
    query = sql.SQL("SELECT pg_catalog.date_part('epoch', GREATEST({})) FROM ONLY {}").format(
        sql.SQL(", ").join(each), sql.Identifier(schema, name)
    )
    row = connection.execute(query).fetchone()
    seconds = row[0] if row else None
    if seconds is None or seconds < _FIRST:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def _rows(connection: Connection[Any], schema: str, name: str) -> int:
    query = sql.SQL("SELECT pg_catalog.count(*) FROM (SELECT FROM ONLY {} LIMIT {}) counted")
    row = connection.execute(
        query.format(sql.Identifier(schema, name), sql.Literal(MAX_ROWS + 1))
    ).fetchone()
    return int(row[0]) if row else 0


def _keyed(
    connection: Connection[Any],
    schema: str,
    name: str,
    key: Sequence[str],
    columns: Sequence[str],
) -> Iterator[tuple[str, str]]:
    """(text of the key, digest of the row), in the order of the keys' bytes in UTF-8. Without
    a key the digest is its own key: equal rows then stand beside each other. What has no
    encoding (SQL_ASCII) is told in octal."""
    row = sql.SQL("pg_catalog.md5(ROW({})::pg_catalog.text)").format(
        sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    told = sql.SQL(
        "pg_catalog.encode(pg_catalog.convert_to({}, 'SQL_ASCII'), 'escape')"
        if (plain := connection.info.parameter_status("server_encoding") == "SQL_ASCII")
        else "{}"
    ).format(_text(key) if key else row)
    query = sql.SQL(
        "SELECT keyed.k, keyed.row FROM (SELECT {key} AS k, {row} AS row FROM ONLY {table})"
        " keyed ORDER BY pg_catalog.convert_to(keyed.k, {encoding})"
    ).format(
        key=told,
        row=row,
        table=sql.Identifier(schema, name),
        encoding=sql.Literal("SQL_ASCII" if plain else "UTF8"),
    )
    with connection.cursor(f"keys of {schema}.{name}"[:60]) as cursor:
        cursor.itersize = 5000
        cursor.execute(query)
        yield from cursor


def _text(key: Sequence[str]) -> sql.Composable:
    """One column as it is, several as a row: `7`, `(7,x)`."""
    if len(key) == 1:
        return sql.SQL("({}::pg_catalog.text)").format(sql.Identifier(key[0]))
    names = sql.SQL(", ").join(map(sql.Identifier, key))
    return sql.SQL("(ROW({})::pg_catalog.text)").format(names)
