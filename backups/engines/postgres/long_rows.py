"""Rows of any length: lines of COPY text in pieces, and values that the text can't hold.

A row of COPY text may have up to 1 GiB (the server's MaxAllocSize), and a `bytea` takes two
characters for each byte. Whoever holds such a line holds it twice while it is joined, so a
line beyond `LONG` bytes is passed on in the pieces in which it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, LiteralString

import psycopg
from psycopg import Connection, sql

from backups.engines.postgres.server import quoted
from backups.errors import EngineError

LONG = 8 << 20
"""Bytes of a line that is held whole; a longer one may come in pieces."""

MAX_BYTEA = 511 << 20
"""Bytes of a `bytea` whose text still fits into the server's buffer of 1 GiB."""

MIN_TOAST = 250 << 20
"""Bytes beside a table's rows from which on it is asked for such values."""
MAX_HEAP = 4 << 30
"""Bytes of a table's rows beyond which it is not: to look at them takes too long."""

LOOKED_AT = 5_000
"""Milliseconds for each table that is asked for values beyond `MAX_BYTEA`."""

_CANDIDATES: LiteralString = """
    SELECT n.nspname, c.relname, array_agg(a.attname::text ORDER BY a.attnum)
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
           AND NOT a.attisdropped AND a.attgenerated = ''
      JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
     WHERE c.relkind = 'r' AND c.reltoastrelid <> 0
       AND 'bytea'::pg_catalog.regtype IN (t.oid, t.typbasetype)
       AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
       AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
       AND pg_catalog.pg_relation_size(c.reltoastrelid) > %s
       AND pg_catalog.pg_relation_size(c.oid) < %s
     GROUP BY 1, 2 ORDER BY 1, 2"""

# In any language the size stands there: more than 2^30 - 1 (MaxAllocSize), 10 digits.
_TOO_LONG = re.compile(
    r"memory alloc request size|enlarge string buffer|string buffer exceeds"
    r"|PQgetResult\(\) failed\.(?s:.*)\b1[0-9]{9}\b"
)
_TABLE = re.compile(r'contents of table "(.{1,200}?)" failed')


@dataclass(frozen=True, slots=True)
class Piece:
    """The next bytes of a long line."""

    data: bytes
    last: bool
    """The line is complete; `data` ends with its newline."""


class Lines:
    """Cuts text, in blocks of any size, into whole lines; of a long line it gives pieces.

    Memory holds one block and at most `LONG` bytes of an unfinished line.
    """

    def __init__(self) -> None:
        self._carry: list[bytes] = []
        self._size = 0
        self._long = False

    @property
    def inside(self) -> bool:
        """A line has begun that has not ended."""
        return self._long or bool(self._carry)

    def feed(self, text: bytes) -> Iterator[list[bytes] | Piece]:
        """What these next bytes complete: lists of lines, each line with its newline."""
        if self._long:
            cut = text.find(b"\n") + 1
            self._long = not cut
            yield Piece(text[:cut], True) if cut else Piece(text, False)
            text = text[cut:] if cut else b""
        cut = text.rfind(b"\n") + 1
        if cut:
            yield BytesIO(b"".join([*self._carry, text[:cut]])).readlines()
            self._carry, self._size, text = [], 0, text[cut:]
        if text:
            self._carry.append(text)
            self._size += len(text)
        if self._size > LONG:
            yield from (Piece(data, False) for data in self._carry)
            self._carry, self._size, self._long = [], 0, True


def row_too_long(said: str) -> EngineError | None:
    """The permanent error behind what pg_dump says of a row whose text is beyond 1 GiB."""
    if not _TOO_LONG.search(said):
        return None
    table = _TABLE.search(said)
    where = f" of table {table[1]}" if table else ""
    return EngineError(
        f"a row{where} is larger than PostgreSQL itself can write as text (1 GiB; a bytea "
        "takes two characters for each byte)",
        hint="No dump can carry such a row: store the value as a large object, or in pieces.",
    )


def too_large(connection: Connection[Any]) -> list[str]:
    """Values that no dump as text can carry, each named by its column, as a sentence.

    Only columns of `bytea` are asked, of tables with more than 250 MB beside their rows
    (TOAST) and less than 4 GiB of rows; the lengths are read from the rows, the values are
    not. A table that takes longer than 5 s is left out: the dump itself then finds out.
    The session must be in a transaction, and needs no other rights than the dump.
    """
    found = []
    candidates = connection.execute(_CANDIDATES, (MIN_TOAST, MAX_HEAP)).fetchall()
    for schema, table, columns in candidates:
        counts = [
            sql.SQL("count(*) FILTER (WHERE pg_catalog.octet_length({c}) > {max})").format(
                c=sql.Identifier(column), max=sql.Literal(MAX_BYTEA)
            )
            for column in columns
        ]
        query = sql.SQL("SELECT ") + sql.SQL(", ").join(counts)
        row = _within(connection, query + quoted(" FROM ONLY {s}.{t}", s=schema, t=table))
        found += [
            f"column {column} of {schema}.{table} holds {count} values of more than 511 MiB, "
            "which PostgreSQL itself cannot write as text"
            for column, count in zip(columns, row or (), strict=False)
            if count
        ]
    return found


def _within(connection: Connection[Any], query: sql.Composed) -> tuple[int, ...] | None:
    """Its only row, or None when the time is over."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(
                "SELECT pg_catalog.set_config('statement_timeout', %s, true)", (str(LOOKED_AT),)
            )
            return connection.execute(query).fetchone()
    except psycopg.errors.QueryCanceled:
        return None
