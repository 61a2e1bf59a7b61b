"""Whether what a dump reads is still what its snapshot showed.

A snapshot is taken before pg_dump has its locks, and names are looked up when they are used.
A table that is rewritten meanwhile (TRUNCATE, ALTER TYPE) is read as empty, one that changes
its name with another is read as the other, and the server's own deparsing of definitions
(pg_get_viewdef and the like) speaks of the catalog as it is now. None of it is an error to the
server. So the shape of the database is read in the snapshot and again once all locks are
held; a dump is good only if both are the same. Taking the locks first would not do: a
writer that asks for an exclusive lock waits for ours, and pg_dump for the writer.

Two kinds of facts make a shape:

- *Momentary* ones matter until pg_dump has read the schema and holds its locks: a table's
  file, versions of constraints, triggers, rules, policies, functions, types, names of roles.
  With each goes the transaction that wrote it last: a small archive is in the pipe, and its
  pg_dump gone, before we look, so that two tables may have exchanged their names and changed
  them back by then.
- *Lasting* ones matter to the end of the stream, for no lock of pg_dump protects them. Schemas
  can be renamed and exchanged, which leads COPY to other tables; labels of enums can be
  renamed and attributes of composite types added, which changes what COPY prints. Where a table
  has a column of a type that prints names by oid (regclass, regrole, aclitem, ...), the names
  of relations, functions, types and roles are lasting, too.

So too a schema whose row was written again fails the run even if its name is what it was: it
may have been another in between (a GRANT on it looks the same from here).
Sources: PostgreSQL, src/bin/pg_dump/pg_dump.c (getTables, dumpTableData_copy),
src/backend/utils/adt/ruleutils.c, and "Caveats" of MVCC in its manual.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.adapt import Buffer, Loader

NAMED = 5
"""How many changed things an error names."""

_OURS = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
_SHAPE: LiteralString = f"""
    WITH ours AS (SELECT n.oid, n.nspname, n.xmin FROM pg_namespace n WHERE {_OURS}),
    columns AS (
        SELECT attrelid, md5(string_agg(concat_ws(' ', attnum, attname, atttypid, xmin), ','
                                        ORDER BY attnum)) AS those
          FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND attrelid >= 16384
         GROUP BY 1),
    parts AS (
        SELECT of, md5(string_agg(version, ',' ORDER BY version)) AS those FROM (
            SELECT conrelid AS of, 'c' || oid || ' ' || xmin AS version FROM pg_constraint
            UNION ALL SELECT tgrelid, 't' || oid || ' ' || xmin FROM pg_trigger
            UNION ALL SELECT ev_class, 'r' || oid || ' ' || xmin FROM pg_rewrite
            UNION ALL SELECT polrelid, 'p' || oid || ' ' || xmin FROM pg_policy
            UNION ALL SELECT adrelid, 'd' || oid || ' ' || xmin FROM pg_attrdef
            UNION ALL SELECT indrelid, 'i' || indexrelid || ' ' || xmin FROM pg_index
            UNION ALL SELECT inhrelid, 'h' || inhparent || ' ' || xmin FROM pg_inherits
        ) versions WHERE of >= 16384 GROUP BY 1)
    SELECT 'relation', n.nspname || '.' || c.relname,
           -- Tables are locked, and altered by whoever waited as soon as pg_dump has ended.
           CASE WHEN c.relkind = 'c' THEN concat_ws(' ', c.oid, c.relnatts, a.those)
                WHEN c.relkind = 'S' THEN c.oid::text END,
           concat_ws(' ', c.oid, a.those, p.those, c.relkind, c.relpersistence,
                     CASE WHEN c.relkind IN ('r', 'p') THEN c.xmin END,
                     CASE WHEN c.relkind = 'r' THEN c.relfilenode END)
      FROM pg_class c JOIN ours n ON n.oid = c.relnamespace
      LEFT JOIN columns a ON a.attrelid = c.oid LEFT JOIN parts p ON p.of = c.oid
    UNION ALL
    SELECT 'schema', nspname,
           CASE WHEN EXISTS (SELECT FROM pg_class WHERE relnamespace = ours.oid
                                AND relkind IN ('r', 'p', 'S'))
                THEN concat_ws(' ', oid, xmin) END, concat_ws(' ', oid, xmin)
      FROM ours
    UNION ALL
    SELECT 'label of an enum', e.oid::text, e.enumlabel || ' ' || e.xmin,
           e.enumlabel || ' ' || e.xmin
      FROM pg_enum e WHERE e.oid >= 16384
    UNION ALL
    SELECT 'function', f.oid::text, NULL, concat_ws(' ', f.proname, f.xmin)
      FROM pg_proc f JOIN ours n ON n.oid = f.pronamespace
    UNION ALL
    SELECT 'type', t.oid::text, NULL, concat_ws(' ', t.typname, t.xmin)
      FROM pg_type t JOIN ours n ON n.oid = t.typnamespace
     WHERE t.typtype <> 'c' AND t.typelem = 0
    UNION ALL
    SELECT 'statistics', s.oid::text, NULL, concat_ws(' ', s.stxname, s.xmin)
      FROM pg_statistic_ext s JOIN ours n ON n.oid = s.stxnamespace
    UNION ALL
    SELECT 'operator', o.oid::text, NULL, concat_ws(' ', o.oprname, o.xmin)
      FROM pg_operator o JOIN ours n ON n.oid = o.oprnamespace
    UNION ALL
    SELECT 'collation', l.oid::text, NULL, concat_ws(' ', l.collname, l.xmin)
      FROM pg_collation l JOIN ours n ON n.oid = l.collnamespace
    UNION ALL
    SELECT 'role', oid::text, NULL, rolname FROM pg_roles"""  # noqa: S608
# What prints a name for a number: by oid in pg_type.dat, the same on every server.
_PRINTS_NAMES = "24, 1033, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191, 8326"
_NAMES_IN_ROWS: LiteralString = f"""
    WITH RECURSIVE made AS (
        SELECT oid, typbasetype AS of FROM pg_type WHERE typtype = 'd'
        UNION ALL SELECT oid, typelem FROM pg_type WHERE typelem <> 0
        UNION ALL SELECT t.oid, a.atttypid FROM pg_type t JOIN pg_attribute a
               ON a.attrelid = t.typrelid AND a.attnum > 0 WHERE t.oid >= 16384),
    prints AS (
        SELECT oid FROM pg_type WHERE oid IN ({_PRINTS_NAMES})
        UNION SELECT made.oid FROM made JOIN prints p ON made.of = p.oid)
    SELECT EXISTS (
        SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
          JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind = 'r' AND {_OURS}
           AND a.atttypid IN (SELECT oid FROM prints))"""  # noqa: S608
_NAMES: LiteralString = """
    SELECT 'name of relation', c.oid::text, n.nspname || '.' || c.relname
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid >= 16384 AND c.relpersistence <> 't' AND c.relkind <> 't'
       AND n.nspname !~ '^pg_toast'
    UNION ALL
    SELECT 'name of function', f.oid::text,
           n.nspname || '.' || f.proname || pg_get_function_identity_arguments(f.oid)
      FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace WHERE f.oid >= 16384
    UNION ALL
    SELECT 'name of type', t.oid::text, n.nspname || '.' || t.typname
      FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
     WHERE t.oid >= 16384 AND t.typtype <> 'c' AND t.typelem = 0
    UNION ALL
    SELECT 'name of operator', o.oid::text, n.nspname || '.' || o.oprname
      FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid >= 16384
    UNION ALL
    SELECT 'name of collation', l.oid::text, n.nspname || '.' || l.collname
      FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace WHERE l.oid >= 16384
    UNION ALL
    SELECT 'name of text search configuration', c.oid::text, n.nspname || '.' || c.cfgname
      FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace WHERE c.oid >= 16384
    UNION ALL
    SELECT 'name of text search dictionary', d.oid::text, n.nspname || '.' || d.dictname
      FROM pg_ts_dict d JOIN pg_namespace n ON n.oid = d.dictnamespace WHERE d.oid >= 16384
    UNION ALL
    SELECT 'name of role', oid::text, rolname::text FROM pg_roles"""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a database as one session sees it."""

    momentary: Mapping[Key, str]
    lasting: Mapping[Key, str]
    names: bool
    """Rows hold numbers that are printed as names."""


class Lenient(Loader):
    """Text of any bytes: a database in SQL_ASCII may hold names that are no UTF-8."""

    def load(self, data: Buffer) -> str:
        """What is no UTF-8 is escaped."""
        return bytes(data).decode("utf-8", "backslashreplace")


def lenient(connection: Connection[Any]) -> None:
    """Let names of any bytes be read on it."""
    for name in ("text", "name"):
        connection.adapters.register_loader(name, Lenient)


def shape(connection: Connection[Any]) -> Shape:
    """As the connection's snapshot shows it, or as it is now where it has none."""
    connection.execute("SET jit = off")  # compiling such statements takes seconds
    momentary, lasting = {}, {}
    for kind, key, last, moment in connection.execute(_SHAPE):
        momentary[kind, key] = moment
        if last is not None:
            lasting[kind, key] = last
    row = connection.execute(_NAMES_IN_ROWS).fetchone()
    names = row == (True,)
    if names:
        for kind, key, name in connection.execute(_NAMES):
            lasting[kind, key] = name
    return Shape(momentary, lasting, names)


def changed_before_locks(then: Shape, now: Shape) -> list[str]:
    """What is not any more as the snapshot shows it, in words; new things don't matter."""
    return _changed(then.momentary, now.momentary, gone=True)


def changed_since_locks(then: Shape, now: Shape) -> list[str]:
    """What no lock of pg_dump protects and is other than the snapshot shows it, in words.

    A thing that went is none of it: pg_dump fails by itself if it still needed it. But a
    schema that went may have been another's name in between, and a name is printed."""
    found = _changed(then.lasting, now.lasting, gone=False)
    lost = [
        key
        for key in then.lasting
        if key not in now.lasting and (key[0] == "schema" or key[0].startswith("name of "))
    ]
    return [*found, *map(_words, lost)]


def told(changed: list[str]) -> str:
    """The first of them, in words."""
    more = len(changed) - NAMED
    return ", ".join(changed[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _changed(then: Mapping[Key, str], now: Mapping[Key, str], *, gone: bool) -> list[str]:
    return [
        _words(key, value)
        for key, value in then.items()
        if now.get(key, None if gone else value) != value
    ]


def _words(key: Key, value: str = "") -> str:
    kind, name = key
    if name.isdigit():
        name = value.split(" ", maxsplit=1)[0] or f"with oid {name}"
    return f"{kind} {name}"
