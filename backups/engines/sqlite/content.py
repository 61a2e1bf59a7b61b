"""What a SQLite database contains.

- A table's content is the sum, modulo 2^64, of XXH3-64 (seed 0) of every row, as 16 hex
  digits: independent of the order of rows, sensitive to how often a row occurs. A row is its
  stored columns one after the other: `n` for NULL, `i<decimal>,` for an integer, `f` and the
  8 bytes of an IEEE 754 double (big-endian), `t<length>:` and UTF-8, `b<length>:` and bytes.
- A schema object's digest is the SHA-256 of its SQL.
- Virtual tables have no rows of their own: their modules keep them in tables that count.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import xxhash

from backups.errors import DumpFailed, ToolError
from backups.model import Fingerprint, ObjectDigest, SequenceValue, TableContent

ENGINE = "sqlite"
SCHEMA = "main"
OLDEST = (3, 37)
"""Of the library: the first that tells virtual tables apart (PRAGMA table_list)."""
_MASK = (1 << 64) - 1
_DOUBLE = struct.Struct(">d")
_SETTINGS = ("encoding", "page_size", "auto_vacuum", "user_version", "application_id")
_OBJECTS = """
    SELECT type, name, sql FROM main.sqlite_schema
     WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY 1, 2"""
_WAL = 2
"""File format write version of a database in WAL mode; sqlite.org, fileformat2.html, 1.3.3."""


def require_library() -> None:
    """Raises ToolError where SQLite is too old."""
    if sqlite3.sqlite_version_info[:2] < OLDEST:
        raise ToolError(
            f"SQLite {sqlite3.sqlite_version} is too old: {'.'.join(map(str, OLDEST))} is "
            "needed",
            hint="Use a Python that was built with a newer one.",
        )


def fingerprint(connection: sqlite3.Connection, file: Path | int) -> Fingerprint:
    """Of what `connection` sees; `file` tells its journal's mode. Raises sqlite3.Error."""
    tables, virtual = _tables(connection)
    return Fingerprint(
        engine=ENGINE,
        server_version=sqlite3.sqlite_version,
        settings=settings(connection, file),
        extensions={},
        roles=(),
        objects=tuple(
            sorted(
                ObjectDigest(kind.upper(), SCHEMA, _plain(name), _digest(sql))
                for kind, name, sql in connection.execute(_OBJECTS)
            )
        ),
        tables=tuple(sorted(_content(connection, name) for name in tables)),
        sequences=tuple(sorted(sequences(connection))),
        not_compared=tuple(
            f"virtual table {_plain(name)}: its module keeps its rows" for name in virtual
        ),
    )


def settings(connection: sqlite3.Connection, file: Path | int) -> dict[str, str]:
    """The database's own properties."""
    found = {name: str(_one(connection, f"PRAGMA main.{name}")) for name in _SETTINGS}
    with open(file, "rb", closefd=not isinstance(file, int)) as opened:
        opened.seek(18)
        found["journal"] = "wal" if opened.read(1) == bytes([_WAL]) else "rollback"
    return found


def sequences(connection: sqlite3.Connection) -> Iterator[SequenceValue]:
    """Of tables with AUTOINCREMENT."""
    there = "SELECT count(*) FROM main.sqlite_schema WHERE name = 'sqlite_sequence'"
    if _one(connection, there):
        for name, value in connection.execute("SELECT name, seq FROM main.sqlite_sequence"):
            yield SequenceValue(SCHEMA, _plain(name), value, True)


def columns_of(connection: sqlite3.Connection, table: str) -> list[str]:
    """Those that are stored, in their order; hidden and generated ones are not."""
    rows = connection.execute(f"PRAGMA main.table_xinfo({quoted(table)})")
    return [row[1] for row in rows if row[6] == 0]


def quoted(name: str) -> str:
    """An identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def row_digest(row: Sequence[Any]) -> int:
    """See the module."""
    parts = []
    for value in row:
        if value is None:
            parts.append(b"n")
        elif isinstance(value, int):
            parts.append(b"i%d," % value)
        elif isinstance(value, float):
            parts.append(b"f" + _DOUBLE.pack(value))
        elif isinstance(value, str):
            text = value.encode("utf-8", "surrogateescape")
            parts.append(b"t%d:" % len(text) + text)
        else:
            parts.append(b"b%d:" % len(value) + value)
    return xxhash.xxh3_64_intdigest(b"".join(parts))


def _tables(connection: sqlite3.Connection) -> tuple[list[str], list[str]]:
    tables, virtual = [], []
    for schema, name, kind, *_ in connection.execute("PRAGMA main.table_list"):
        if schema == SCHEMA and not name.startswith("sqlite_"):
            if kind in ("table", "shadow"):
                tables.append(name)
            elif kind == "virtual":
                virtual.append(name)
    return tables, sorted(virtual)


def _content(connection: sqlite3.Connection, table: str) -> TableContent:
    columns = columns_of(connection, table)
    listed = ", ".join(map(quoted, columns)) or "NULL"
    query = f"SELECT {listed} FROM main.{quoted(table)} NOT INDEXED"  # noqa: S608
    rows, content = 0, 0
    for row in connection.execute(query):
        rows += 1
        content += row_digest(row)
    names = tuple(map(_plain, columns))
    return TableContent(SCHEMA, _plain(table), names, rows, f"{content & _MASK:016x}")


def require_whole(connection: sqlite3.Connection) -> None:
    """Raises DumpFailed unless the engine's own check finds nothing: a copy of a damaged
    database is as damaged."""
    said = _one(connection, "PRAGMA main.quick_check(1)")
    if said != "ok":
        raise DumpFailed(
            "the database is damaged: SQLite's quick_check finds faults",
            hint="Run `PRAGMA integrity_check` on it, and restore the last good backup.",
        )


def _one(connection: sqlite3.Connection, query: str) -> Any:
    row = connection.execute(query).fetchone()
    return row[0] if row else None


def _digest(sql: str) -> str:
    return hashlib.sha256(sql.encode("utf-8", "surrogateescape")).hexdigest()


def _plain(text: str) -> str:
    """Printable in UTF-8 whatever bytes a name has."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def only(whole: Fingerprint, names: Iterable[str], objects: Iterable[str]) -> Fingerprint:
    """The part of it with these tables and, by name, these objects."""
    tables, kept = set(names), set(objects)
    return replace(
        whole,
        objects=tuple(each for each in whole.objects if each.name in kept),
        tables=tuple(each for each in whole.tables if each.name in tables),
        sequences=tuple(each for each in whole.sequences if each.name in tables),
        not_compared=(),
    )
