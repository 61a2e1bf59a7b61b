"""Levels 10 and 11: what the copy answers to those who would use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

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
_GROUPS = """
    WITH RECURSIVE wider (oid) AS (
        SELECT m.roleid FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
         WHERE r.rolname = %s AND (to_jsonb(m)->>'set_option') IS DISTINCT FROM 'false'
        UNION
        SELECT m.roleid FROM pg_auth_members m JOIN wider w ON w.oid = m.member
         WHERE (to_jsonb(m)->>'set_option') IS DISTINCT FROM 'false')
    SELECT rolname FROM wider JOIN pg_roles USING (oid) ORDER BY 1"""
"""Roles that a role may become; the option is of PostgreSQL 16 and later."""
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


def usable(session: Session, wanted: str, expected: Fingerprint) -> Iterator[Check]:
    """`wanted`, or the database's owner, may connect, and reads every table that it has
    rights on, as it would: with its rights and row security alone, or those of a group that it
    may become. Members of groups are no part of a copy: they are made for this check."""
    goal = "connects and reads what it has rights on"
    role = wanted or str(session.one(_OWNER)[0])
    if session.superuser:
        _join(session, expected.members)
    may = session.rows(_ROLE, role)
    if not may or not may[0][0]:
        actual = "it may not connect" if may else "there is no such role"
        yield Check("usable", False, goal, actual, role)
        return
    readers, count = _readers(session, role)
    counted = f"{len(readers)} of {count} tables"
    if count and not readers:
        # An owner of the database needs no rights on its tables, an application does.
        passed, also = (False, "") if wanted else (None, ": name the application's role")
        yield Check("usable", passed, goal, f"reads {counted}{also}", role)
        return
    problems = []
    for subject, question, acting in _questions(session, role, readers):
        passed, found = _answered(session, acting, question)
        if passed is not True:
            problems.append(Check("usable", passed, goal, found, role + subject))
    for check in told("usable", goal, problems, f"it does: {counted}"):
        yield check if check.subject else replace(check, subject=role)


def _join(session: Session, members: Sequence[tuple[str, str, bool]]) -> None:
    """Make the memberships that the source had, for this transaction, with roles that are
    missing; a role that is there keeps what it is."""
    present = {row[0] for row in session.rows("SELECT rolname FROM pg_roles")}
    options = session.connection.info.server_version >= 160000
    for member, group, inherits in members:
        inherit = "INHERIT" if inherits else "NOINHERIT"
        for role in {member, group} - present:
            said = f"CREATE ROLE {{r}} NOLOGIN {inherit if role == member else ''}"
            session.connection.execute(quoted(said, r=role))
            present.add(role)
        option = f" WITH INHERIT {'TRUE' if inherits else 'FALSE'}" if options else ""
        session.connection.execute(quoted(f"GRANT {{g}} TO {{m}}{option}", g=group, m=member))


def _readers(session: Session, role: str) -> tuple[dict[tuple[str, str], str], int]:
    """Tables that a role reads, by itself or as a group that it may become, each with whom it
    reads it as; and how many tables there are."""
    found: dict[tuple[str, str], str] = {}
    count = 0
    for acting in (role, *(row[0] for row in session.rows(_GROUPS, role))):
        tables = session.rows(_READABLE, acting, acting)
        count = len(tables)
        for namespace, name, readable in tables:
            if readable:
                found.setdefault((namespace, name), acting)
    return found, count


def _questions(
    session: Session, role: str, readers: Mapping[tuple[str, str], str]
) -> Iterator[tuple[str, str, str]]:
    """What each is about, as SQL that gives true, and as whom to ask it."""
    connection = session.connection
    canary = sql.SQL("SELECT current_user = {}").format(sql.Literal(role))
    yield "", canary.as_string(connection), role
    for (namespace, name), acting in sorted(readers.items()):
        read = quoted(
            "SELECT pg_catalog.count(*) >= 0 FROM (SELECT FROM {n}.{t} LIMIT 1) one",
            n=namespace,
            t=name,
        )
        yield f" reading {namespace}.{name}", read.as_string(connection), acting


def _answered(session: Session, role: str, question: str) -> tuple[bool | None, str]:
    """Whether the answer is true, and if not, why."""

    def ask(path: str) -> list[object]:
        with session.timed(asking=True):
            session.connection.execute("SET LOCAL row_security = on")
            return session.ask(role, question, "boolean", path)

    try:
        answer = session.tried(ask)
    except psycopg.Error as error:
        # Whether its rights suffice is the very question.
        passed = None if unknown(error) and error.sqlstate != "42501" else False
        return passed, words(error, ours=False)
    return answer == [True], "no answer"
