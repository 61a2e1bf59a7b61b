"""Levels 10 and 11: what the copy answers to those who would use it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg
from psycopg import sql

from backups.declared import Assertion
from backups.engines.postgres.server import quoted
from backups.model import Fingerprint
from backups.proving import Check
from verify.examine.pg_session import USERS, Session, told, unknown, words

LARGE = 64 << 20
"""Bytes of a table above which its newest row is looked for in an index only."""

_TIMES = f"""
    SELECT n.nspname, c.relname, a.attname
      FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {USERS} AND a.attnum > 0
       AND NOT a.attisdropped AND a.attgenerated <> 'v'
       AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
       AND (pg_relation_size(c.oid) <= {LARGE} OR EXISTS (
           SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
             JOIN pg_am m ON m.oid = x.relam
            WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum AND i.indpred IS NULL
              AND i.indisvalid AND m.amname = 'btree'))
     ORDER BY 1, 2, 3"""
_OWNER = """
    SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"""
_ROLE = (
    "SELECT has_database_privilege(oid, current_database(), 'CONNECT') FROM pg_roles"
    " WHERE rolname = %s"
)
_READABLE = f"""
    SELECT n.nspname, c.relname, has_schema_privilege(%s, n.oid, 'USAGE')
           AND has_any_column_privilege(%s, c.oid, 'SELECT')
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'm') AND c.relispopulated AND c.relpersistence <> 't' AND {USERS}
     ORDER BY 1, 2"""
_BOOL = 16
"""Oid of the type (pg_type.dat)."""


def newest_row(session: Session) -> Iterator[Check]:
    """The latest instant of the past in any column of a date and time; no check without one.

    For information: how old is too old only the customer can say, in an assertion.
    """
    newest: tuple[float, str, str] | None = None
    for namespace, table, column in session.rows(_TIMES):
        try:
            with session.timed():
                # A date of birth or of expiry is no row's age; the latter lies ahead.
                row = session.one(
                    quoted(
                        "SELECT extract(epoch FROM now() - at)::float8, to_char(at AT TIME"
                        " ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"+00:00\" BC') FROM (SELECT"
                        " max({c})::timestamptz AS at FROM ONLY {n}.{t}"
                        " WHERE {c} <= now() AND {c} > '-infinity') found",
                        c=column,
                        n=namespace,
                        t=table,
                    )
                )
        except psycopg.Error as error:
            words(error)
            continue
        if row[0] is not None and (newest is None or row[0] < newest[0]):
            newest = row[0], row[1].removesuffix(" AD"), f"{namespace}.{table}.{column}"
    if newest is not None:
        age, at, subject = newest
        actual = f"{at}, {age / 3600:.1f} hours ago"
        yield Check("newest row", True, "for information", actual, subject)


def assertions(
    session: Session, asked: Sequence[Assertion], expected: Fingerprint
) -> Iterator[Check]:
    """Each in a read-only transaction of its own time limit, as a role that may read
    everything and do nothing."""
    path = expected.settings.get("set search_path", '"$user", public')
    role = session.reader(set()) if asked else None
    for each in asked:
        try:
            with session.timed(asking=True):
                wrong = _unfit(session, each.sql, path)
                answer = session.ask(role, each.sql, "boolean", path) if not wrong else []
        except psycopg.errors.QueryCanceled as error:
            yield Check("assertion", None, "true", words(error), each.name)
            continue
        except psycopg.Error as error:
            found = f"the query failed: {words(error, ours=False)}"
            yield Check("assertion", False, "true", found, each.name)
            continue
        if not wrong and len(answer) != 1:
            wrong = f"it gave {'no row' if not answer else 'more than one row'}"
        value = {True: "true", False: "false", None: "null"}[answer[0]] if answer else ""
        yield Check("assertion", answer == [True], "true", wrong or value, each.name)


def _unfit(session: Session, statement: str, path: str) -> str:
    """Why it is no question, found without asking it: the extended protocol parses one
    statement only, and tells what it would give."""
    session.look_in(path)
    pgconn = session.connection.pgconn
    for result in (
        pgconn.prepare(b"", statement.encode()),
        pgconn.describe_prepared(b""),
    ):
        if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result)
    if result.nfields != 1 or result.ftype(0) != _BOOL:
        return "it must give one column, a boolean"
    return ""


def usable(session: Session, wanted: str) -> Iterator[Check]:
    """`wanted`, or the database's owner, may connect, and reads every table that it has
    rights on, as it would: with its rights and row security alone."""
    expected = "connects and reads what it has rights on"
    role = wanted or str(session.one(_OWNER)[0])
    may = session.rows(_ROLE, role)
    if not may or not may[0][0]:
        actual = "it may not connect" if may else "there is no such role"
        yield Check("usable", False, expected, actual, role)
        return
    tables = session.rows(_READABLE, role, role)
    readable = [row[:2] for row in tables if row[2]]
    counted = f"{len(readable)} of {len(tables)} tables"
    if tables and not readable:
        # An owner of the database needs no rights on its tables, an application does.
        passed, also = (False, "") if wanted else (None, ": name the application's role")
        yield Check("usable", passed, expected, f"reads {counted}{also}", role)
        return
    problems: list[Check] = []
    connection = session.connection
    canary = sql.SQL("SELECT current_user = {}").format(sql.Literal(role)).as_string(connection)
    questions = [("", canary)]
    for namespace, name in readable:
        read = quoted(
            "SELECT count(*) >= 0 FROM (SELECT FROM {n}.{t} LIMIT 1) one", n=namespace, t=name
        )
        questions.append((f" reading {namespace}.{name}", read.as_string(connection)))
    for subject, question in questions:
        try:
            with session.timed(asking=True):
                connection.execute("SET LOCAL row_security = on")
                answer = session.ask(role, question, "boolean")
        except psycopg.Error as error:
            # Whether its rights suffice is the very question.
            passed = None if unknown(error) and error.sqlstate != "42501" else False
            found = words(error, ours=False)
            problems.append(Check("usable", passed, expected, found, role + subject))
            continue
        if answer != [True]:
            problems.append(Check("usable", False, expected, "no answer", role + subject))
    for check in told("usable", expected, problems, f"it does: {counted}"):
        yield (
            check
            if check.subject
            else Check(check.name, check.passed, check.expected, check.actual, role)
        )
