"""A copy on MariaDB or MySQL, examined: CHECK TABLE, full read, foreign keys, counters.

What a customer wrote is asked by a user who may only read this database; the scratch server
is ours, and so that user is made for it and goes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import SSCursor

from backups.engines.mysql.server import Login, connected, login
from backups.engines.mysql.sessions import quoted, rows
from backups.model import Fingerprint, Source
from backups.ports import Clock
from backups.proving import Check
from verify.ports import Questions

NAMED = 20
SLOW = 10
READER = "backups_reader"
_KEYS = """
    SELECT constraint_name, table_name, referenced_table_name,
           group_concat(column_name ORDER BY ordinal_position SEPARATOR 0x00),
           group_concat(referenced_column_name ORDER BY ordinal_position SEPARATOR 0x00)
      FROM information_schema.key_column_usage
     WHERE table_schema = database() AND referenced_table_schema = database()
     GROUP BY 1, 2, 3 ORDER BY 2, 1"""
_COUNTERS = """
    SELECT t.table_name, t.auto_increment, c.column_name
      FROM information_schema.tables t JOIN information_schema.columns c
        ON c.table_schema = t.table_schema AND c.table_name = t.table_name
     WHERE t.table_schema = database() AND c.extra LIKE '%auto_increment%' ORDER BY 1"""
_SOUND = {("status", "OK"), ("note", "The storage engine for the table doesn't support check")}


class MysqlExaminer:
    """Adapter of `verify.ports.Examiner`; the server itself keeps to the limits."""

    def __init__(self, _clock: Clock) -> None: ...

    def examine(
        self, target: Source, expected: Fingerprint, questions: Questions
    ) -> Iterator[Check]:
        """Levels 9 to 11. Raises Unreachable when the server is gone."""
        opened = login(target)
        reader = replace(opened, user=READER)
        names = [table.name for table in expected.tables]
        seconds = questions.limit.total_seconds()
        steps: list[tuple[Login, float, Callable[[Connection[Any]], Iterator[Check]]]] = [
            (opened, seconds * SLOW, partial(_integrity, names=names)),
            (opened, seconds * SLOW, partial(_full_read, expected=expected)),
            (opened, seconds * SLOW, _foreign_keys),
            (opened, seconds, _counters_ahead),
            (opened, seconds, partial(_make_reader, database=opened.database)),
            (reader, seconds, partial(_assertions, questions=questions)),
            (reader, seconds, partial(_usable, names=names)),
        ]
        for whom, limit, step in steps:
            with connected(whom) as connection:
                rows(connection, opened.family.limit(limit))
                found = list(step(connection))
            yield from found


def _integrity(connection: Connection[Any], names: list[str]) -> Iterator[Check]:
    expected, faults = "CHECK TABLE EXTENDED finds nothing", 0
    for name in names:
        try:
            said = rows(connection, f"CHECK TABLE {quoted(name)} EXTENDED")
        except pymysql.MySQLError as error:
            yield Check("pages", None, expected, _words(error), name)
            return
        bad = [row for row in said if (row[2], row[3]) not in _SOUND and row[2] != "note"]
        if bad:
            faults += 1
            yield Check("pages", False, expected, f"{len(bad)} findings", name)
    if not faults:
        yield Check("pages", True, expected, f"nothing in {len(names)} tables")


def _full_read(connection: Connection[Any], expected: Fingerprint) -> Iterator[Check]:
    every = f"{sum(table.rows for table in expected.tables)} rows"
    found = 0
    for table in expected.tables:
        try:
            with connection.cursor(SSCursor) as cursor:
                cursor.execute(f"SELECT * FROM {quoted(table.name).replace('%', '%%')}")  # noqa: S608
                found += sum(1 for _ in cursor)
        except pymysql.MySQLError as error:
            yield Check("full read", None, every, _words(error), table.name)
            return
    yield Check("full read", every == f"{found} rows", every, f"{found} rows")


def _foreign_keys(connection: Connection[Any]) -> Iterator[Check]:
    expected, broken = "every reference has its row", 0
    keys = rows(connection, _KEYS)
    for name, table, other, columns, theirs in keys:
        ours, keyed = str(columns).split("\0"), str(theirs).split("\0")
        same = " AND ".join(
            f"p.{quoted(b)} = c.{quoted(a)}" for a, b in zip(ours, keyed, strict=True)
        )
        given = " AND ".join(f"c.{quoted(a)} IS NOT NULL" for a in ours)
        query = (
            f"SELECT count(*) FROM {quoted(table)} c LEFT JOIN {quoted(other)} p ON {same}"  # noqa: S608
            f" WHERE {given} AND p.{quoted(keyed[0])} IS NULL"
        )
        try:
            without = rows(connection, query)[0][0]
        except pymysql.MySQLError as error:
            yield Check("foreign keys", None, expected, _words(error), f"{table}.{name}")
            return
        if without:
            broken += 1
            words = f"{without} rows without"
            yield Check("foreign keys", False, expected, words, f"{table}.{name}")
    if not broken:
        yield Check("foreign keys", True, expected, f"{len(keys)} keys hold")


def _counters_ahead(connection: Connection[Any]) -> Iterator[Check]:
    found, behind = rows(connection, _COUNTERS), 0
    for table, at, column in found:
        highest = rows(connection, f"SELECT max({quoted(column)}) FROM {quoted(table)}")[0][0]  # noqa: S608
        if highest is not None and at is not None and highest >= at:
            behind += 1
            words = f"next is {at}, the highest key is {highest}"
            yield Check("sequences ahead", False, "ahead of every key", words, table)
    if not behind:
        yield Check("sequences ahead", True, "ahead of every key", f"{len(found)} counters")


def _make_reader(connection: Connection[Any], database: str) -> Iterator[Check]:
    """No check of its own: somebody who may read this database, and nothing else."""
    rows(connection, f"DROP USER IF EXISTS {READER}@localhost")
    rows(connection, f"CREATE USER {READER}@localhost")
    rows(connection, f"GRANT SELECT, SHOW VIEW ON {quoted(database)}.* TO {READER}@localhost")
    yield from ()


def _assertions(connection: Connection[Any], questions: Questions) -> Iterator[Check]:
    for each in questions.assertions:
        try:
            rows(connection, "START TRANSACTION READ ONLY")
            found = rows(connection, each.sql)
        except pymysql.MySQLError as error:
            yield Check("assertion", None, "true", _words(error), each.name)
            continue
        finally:
            connection.rollback()
        if len(found) != 1 or len(found[0]) != 1 or found[0][0] not in (0, 1):
            yield Check("assertion", None, "one row with 0 or 1", "something else", each.name)
        else:
            true = bool(found[0][0])
            yield Check("assertion", true, "true", "true" if true else "false", each.name)


def _usable(connection: Connection[Any], names: list[str]) -> Iterator[Check]:
    expected = "a user with SELECT can read"
    for name in names:
        try:
            rows(connection, f"SELECT 1 FROM {quoted(name)} LIMIT 1")  # noqa: S608
        except pymysql.MySQLError as error:
            yield Check("usable", False, expected, _words(error), name)
            return
    yield Check("usable", True, expected, f"{len(names)} tables")


def _words(error: pymysql.MySQLError) -> str:
    """Its number: the message may quote a row."""
    code = error.args[0] if error.args else ""
    return f"error {code}" if isinstance(code, int) else type(error).__name__
