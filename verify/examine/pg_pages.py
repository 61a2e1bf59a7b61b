"""Level 9: every page is what PostgreSQL wrote, every row can be read.

amcheck's functions: https://www.postgresql.org/docs/current/amcheck.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from backups.engines.postgres.server import quoted
from backups.proving import Check
from verify.examine.pg_batches import batches, together
from verify.examine.pg_session import SLOW, USERS, Session, told, unknown, words

_AVAILABLE = "SELECT FROM pg_available_extensions WHERE name = 'amcheck'"
_PACKAGE = (
    "the server lacks the extension amcheck, as those of Python's packages do, and nothing else"
    " tells it: Debian has a server with it in postgresql-{major}, PGDG for Red Hat in"
    " postgresql{major}-contrib; where one is installed beside, it is taken"
)
_SCHEMA = """
    SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
     WHERE e.extname = 'amcheck'"""
# Shared catalogs are the server's, not the copy's, and locking them would stop others.
_HEAPS = """
    SELECT c.oid, n.nspname, c.relname, pg_relation_size(c.oid)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_am a ON a.oid = c.relam
     WHERE c.relkind IN ('r', 'm', 't') AND a.amname = 'heap' AND c.relpersistence <> 't'
       AND NOT c.relisshared ORDER BY 1"""
_INDEXES = """
    SELECT c.oid, n.nspname, c.relname, pg_relation_size(c.oid)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_am a ON a.oid = c.relam JOIN pg_index i ON i.indexrelid = c.oid
     WHERE c.relkind = 'i' AND a.amname = 'btree' AND c.relpersistence <> 't'
       AND NOT c.relisshared AND i.indisvalid AND i.indisready ORDER BY 1"""
_RELATIONS = f"""
    SELECT c.oid, n.nspname, c.relname,
           ARRAY(SELECT a.attname FROM pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                    AND a.attgenerated <> 'v' ORDER BY a.attnum),
           pg_table_size(c.oid)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'm') AND c.relispopulated AND c.relpersistence <> 't' AND {USERS}
     ORDER BY 2, 3"""
_LARGE_OBJECTS = "SELECT count(*), coalesce(sum(octet_length(data)), 0) FROM pg_largeobject"


def pages(session: Session) -> Iterator[Check]:
    """amcheck over every table, TOAST table, materialised view and B-tree, the catalog's too:
    the heap with its TOAST pointers, the tree against its heap.

    It evaluates index expressions as the table's owner in a restricted context by itself.
    """
    expected = "every page is in order"
    if not session.rows(_SCHEMA) and not session.rows(_AVAILABLE):
        major = session.connection.info.server_version // 10000
        yield Check("pages", None, expected, _PACKAGE.format(major=major))
        return
    try:
        if not session.rows(_SCHEMA):
            session.connection.execute("CREATE SCHEMA backups_amcheck")
            session.connection.execute("CREATE EXTENSION amcheck SCHEMA backups_amcheck")
    except psycopg.Error as error:
        yield Check("pages", None, expected, words(error))
        return
    ((schema,),) = session.rows(_SCHEMA)
    heap = quoted(
        "SELECT pg_catalog.count(*), pg_catalog.min("
        "pg_catalog.format('block %%s, item %%s: %%s', blkno, offnum, msg))"
        " FROM {s}.verify_heapam(%(oid)s::oid, check_toast := true)",
        s=schema,
    )
    tree = quoted(
        "SELECT 0, {s}.bt_index_parent_check(%(oid)s::oid, heapallindexed := true)::text",
        s=schema,
    )
    heaps, indexes = session.rows(_HEAPS), session.rows(_INDEXES)
    heaps_of = quoted(
        "SELECT pg_catalog.count(*) FROM pg_catalog.unnest(%(oids)s::oid[]) AS o"
        " CROSS JOIN LATERAL {s}.verify_heapam(o::oid, check_toast := true)",
        s=schema,
    )
    trees_of = quoted(
        "SELECT pg_catalog.cardinality(%(oids)s::oid[]) - pg_catalog.count("
        "{s}.bt_index_parent_check(o::oid, heapallindexed := true)::text)"
        " FROM pg_catalog.unnest(%(oids)s::oid[]) AS o",
        s=schema,
    )
    problems = [
        check
        for relations, one, many in ((heaps, heap, heaps_of), (indexes, tree, trees_of))
        for some in batches(relations, lambda relation: int(relation[3]))
        if not _in_order(session, many, [relation[0] for relation in some])
        for oid, namespace, name, _ in some
        for check in _checked(session, one, oid, f"{namespace}.{name}", expected)
    ]
    counted = f"{len(heaps)} tables and {len(indexes)} indexes are"
    yield from told("pages", expected, problems, counted)


def _in_order(session: Session, statement: sql.Composed, oids: list[int]) -> bool:
    """Whether one statement over all of them finds nothing."""

    def ask() -> bool:
        with session.timed(SLOW):
            session.look_in("")
            row = session.connection.execute(statement, {"oids": oids}).fetchone()
        return row is not None and row[0] == 0

    return together(oids, ask) is True


def _checked(
    session: Session, statement: sql.Composed, oid: int, subject: str, expected: str
) -> Iterator[Check]:

    def check(path: str) -> Any:
        with session.timed(SLOW):
            session.look_in(path)
            return session.connection.execute(statement, {"oid": oid}).fetchone()

    try:
        row = session.tried(check)
    except psycopg.Error as error:
        # Damage is told as an error of the classes XX and 58; anything else is no finding.
        found = (error.sqlstate or "")[:2] in ("XX", "58")
        yield Check("pages", False if found else None, expected, words(error), subject)
        return
    if row is not None and row[0]:
        more = f"; and {row[0] - 1} more" if row[0] > 1 else ""
        yield Check("pages", False, expected, f"{row[1]}{more}", subject)


def full_read(session: Session) -> Iterator[Check]:
    """Every row of every table and materialised view, out of TOAST and through the types'
    own output, and every large object. Rows stay at the server: only sums come back."""
    expected = "every row can be read"
    problems: list[Check] = []
    rows = size = 0
    relations = session.rows(_RELATIONS)
    for some in batches(relations, lambda relation: int(relation[4])):
        parts = [_row_and_table(relation) for relation in some]
        found = together(some, partial(_read_all, session, parts))
        if found is not None:
            rows, size = rows + found[0], size + found[1]
            continue
        for relation, (row, table) in zip(some, parts, strict=True):
            try:
                count, length = session.tried(partial(_read, session, row, table))
                rows, size = rows + count, size + length
            except psycopg.Error as error:
                passed = None if unknown(error) else False
                subject = f"{relation[1]}.{relation[2]}"
                problems.append(Check("full read", passed, expected, words(error), subject))
    try:
        with session.timed(SLOW):
            objects, length = session.one(_LARGE_OBJECTS)
            size += length
    except psycopg.Error as error:
        passed = None if unknown(error) else False
        problems.append(Check("full read", passed, expected, words(error), "large objects"))
        objects = 0
    counted = f"{rows} rows of {len(relations)} tables, {objects} pages of large objects"
    yield from told("full read", expected, problems, f"{counted}, {size} bytes")


_AS_IT_IS = """
    SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', true)
     WHERE pg_catalog.getdatabaseencoding() = 'SQL_ASCII'"""
"""Bytes of any kind are text there; in UTF-8 the server would refuse to send them."""


_COUNTED = sql.SQL(
    "SELECT pg_catalog.count(*) AS n, coalesce(pg_catalog.sum(pg_catalog.octet_length("
)


def _row_and_table(relation: Any) -> tuple[sql.Composed, sql.Composed]:
    _, namespace, name, columns, _ = relation
    row = sql.SQL("ROW(") + sql.SQL(", ").join(map(sql.Identifier, columns)) + sql.SQL(")")
    return row, quoted(" FROM ONLY {n}.{t}", n=namespace, t=name)


def _in_binary(row: sql.Composed, table: sql.Composed) -> sql.Composed:
    return _COUNTED + sql.SQL("pg_catalog.record_send(") + row + sql.SQL("))), 0) AS b") + table


def _read_all(
    session: Session, parts: list[tuple[sql.Composed, sql.Composed]]
) -> tuple[int, int]:
    """Rows and bytes of all these tables."""
    each = sql.SQL(" UNION ALL ").join(_in_binary(row, table) for row, table in parts)
    whole = (
        sql.SQL("SELECT pg_catalog.sum(x.n)::int8, pg_catalog.sum(x.b)::int8 FROM (")
        + each
        + sql.SQL(") x")
    )
    with session.timed(SLOW):
        statement = whole.as_bytes(session.connection)
        session.rows(_AS_IT_IS)
        session.look_in("")
        count, length = session.one(statement)
    return int(count), int(length)


def _read(
    session: Session, row: sql.Composed, table: sql.Composed, path: str
) -> tuple[int, int]:
    """Rows and bytes."""
    try:
        with session.timed(SLOW):
            statement = _in_binary(row, table).as_bytes(session.connection)
            session.rows(_AS_IT_IS)  # until the savepoint's end: it is for text to be sent
            session.look_in(path)
            count, length = session.one(statement)
    except psycopg.errors.UndefinedFunction:  # a type without binary output, as aclitem
        with session.timed(SLOW):
            session.look_in(path)
            text = (
                _COUNTED
                + sql.SQL("pg_catalog.record_out(")
                + row
                + sql.SQL(")::pg_catalog.text)), 0)")
                + table
            )
            count, length = session.one(text)
    return int(count), int(length)
