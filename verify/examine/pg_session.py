"""A session in a copy that changes nothing, and in which restored code has no power.

All of it is one transaction that is rolled back. What may call functions of the copy runs
inside a function with SECURITY DEFINER, as a role without superuser's rights: there the
server refuses to change the role, and so any way back to the session's own (postgres's
guc_tables.c, GUC_NOT_WHILE_SEC_REST). `SET ROLE` by itself could be reset by what it calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import psycopg
from psycopg import Connection, sql

from backups.engines.postgres.pins import LOADING
from backups.engines.postgres.server import connected, login, quoted
from backups.errors import Unreachable
from backups.model import Source
from backups.proving import Check

NAMED = 20
"""Findings told by name under one check; what is beyond them is counted."""

SLOW = 10
"""Times the limit of a statement, for amcheck and the full read."""

USERS = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_t'"
"""Schemas that are not the server's own, nor temporary or of TOAST."""

T = TypeVar("T")
DEFAULT_PATH = '"$user", public'
_UNFOUND = ("42883", "42P01", "42704", "42703", "3F000", "42P02")
"""States of a name that was not found."""

_QUIET = """
    SELECT set_config('client_encoding', 'UTF8', true);
    SELECT set_config(name, value, true) FROM pg_catalog.pg_settings
      JOIN (VALUES ('session_replication_role', 'replica'), ('event_triggers', 'off'),
                   ('row_security', 'off'), ('synchronize_seqscans', 'off'))
        AS wanted (name, value) USING (name)
     WHERE context = 'user' OR {super}"""
_FIRST = "-c search_path= -c standard_conforming_strings=on"
_SUPER = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
_EVENT_TRIGGERS = "SELECT evtname FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D'"


@dataclass(frozen=True, slots=True)
class Session:
    """One of the examiner's, for one check."""

    connection: Connection[Any]
    superuser: bool
    limit: timedelta
    path: str = DEFAULT_PATH
    """Where the source's sessions look for names."""

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """Of the catalog, asked as ourselves."""
        return self.connection.execute(statement, values or None).fetchall()

    def one(self, statement: str | bytes | sql.Composed) -> Any:
        """The first row."""
        return self.connection.execute(statement).fetchone()

    @contextmanager
    def timed(self, times: int = 1, *, asking: bool = False) -> Iterator[None]:
        """A savepoint, undone at the end, whose statements have a limit each. It is
        read-only from the start, or where it is for `ask` as soon as that says."""
        with self.connection.transaction(force_rollback=True):
            limit = int(self.limit.total_seconds() * 1000) * times
            self.connection.execute(
                "SELECT set_config('statement_timeout', %s, true),"
                " set_config('transaction_read_only', %s, true)",
                (str(max(limit, 1)), "off" if asking else "on"),
            )
            yield

    def reader(self, owners: set[str]) -> str | None:
        """A role of this transaction only, that may read everything and call what `owners`
        may; None: we are no superuser, and as good as that ourselves."""
        if not self.superuser:
            return None
        name = f"backups_reader_{self.connection.info.backend_pid}"
        self.connection.execute(quoted("CREATE ROLE {r} NOLOGIN BYPASSRLS", r=name))
        for role in sorted({"pg_read_all_data", *owners}):
            self.connection.execute(quoted("GRANT {o} TO {r}", o=role, r=name))
        return name

    def look_in(self, path: str) -> None:
        """Search there. What we say ourselves from here on must need no path to be
        understood, for the copy's own functions and operators may come first."""
        self.connection.execute(
            "SELECT pg_catalog.set_config('search_path', %s, true)", (path,)
        )

    def tried(self, work: Callable[[str], T]) -> T:
        """What `work` gives with no search path, so that nothing of the copy's comes before
        the server's own; where a name isn't found, as in a function that names another
        without a schema, again with the path of the source's sessions. It opens `timed`."""
        try:
            return work("")
        except psycopg.Error as error:
            if error.sqlstate not in _UNFOUND:
                raise
        return work(self.path)

    def ask(
        self, role: str | None, statement: str, returns: str, search_path: str = ""
    ) -> list[Any]:
        """The first two rows of a query of one column, as `role`, in a read-only
        transaction. Call it within `timed(asking=True)`."""
        self.look_in(search_path)
        create = f"CREATE FUNCTION pg_temp.asked() RETURNS SETOF {returns} LANGUAGE sql"
        body = sql.SQL(" SECURITY DEFINER AS {}").format(sql.Literal(statement))
        self.connection.execute(sql.SQL(create) + body)
        if role is not None:
            self.connection.execute(quoted("ALTER FUNCTION pg_temp.asked OWNER TO {r}", r=role))
        self.connection.execute("SET LOCAL transaction_read_only = on")
        found = self.connection.execute("SELECT pg_temp.asked() LIMIT 2").fetchall()
        return [row[0] for row in found]


@contextmanager
def session(target: Source, limit: timedelta, path: str = DEFAULT_PATH) -> Iterator[Session]:
    """Open one; nothing of what is done in it stays. Raises Unreachable, AccessDenied."""
    opened = login(target)
    # Of the first statement on: a search path of the copy's may lead to its own functions.
    options = f"{opened.parameters.get('options', '')} {_FIRST}".strip()
    opened = replace(opened, parameters={**opened.parameters, "options": options})
    with (
        # Time zone and date style are the copy's own: assertions mean what they do there.
        connected(opened, LOADING) as connection,
        connection.transaction(force_rollback=True),
    ):
        row = connection.execute(_SUPER).fetchone()
        superuser = row is not None and bool(row[0])
        connection.execute(_QUIET.format(super=superuser))
        if superuser:
            for (name,) in connection.execute(_EVENT_TRIGGERS).fetchall():
                connection.execute(quoted("ALTER EVENT TRIGGER {n} DISABLE", n=name))
        yield Session(connection, superuser, limit, path)


# --- what went wrong, in words --------------------------------------------------------


def unknown(error: psycopg.Error) -> bool:
    """Whether it says nothing of the copy: a time limit, rights, or the server's means."""
    state = error.sqlstate or ""
    return state[:2] in ("53", "57", "55", "40", "0A") or state == "42501"


def words(error: psycopg.Error, *, ours: bool = True) -> str:
    """Why it failed, without what rows may hold: the name of the condition, or the server's
    own message about pages and rights where the statement is `ours`, for what a customer's
    function raises may say anything. Raises Unreachable when the server is gone."""
    state = error.sqlstate or ""
    message = error.diag.message_primary or ""
    if state == "57014":
        return "it took longer than the time limit"
    if not state or state[:2] in ("08", "57"):
        raise Unreachable(f"the database server stopped answering: {message or 'it is gone'}")
    if ours and (state[:2] in ("XX", "58", "53", "55") or state == "42501"):
        return f"{message} ({state})"
    return f"{type(error).__name__} ({state})"


def told(name: str, expected: str, problems: list[Check], actual: str) -> Iterator[Check]:
    """The problems, some by name; without any, that it passed."""
    if not problems:
        yield Check(name, True, expected, actual)
        return
    yield from problems[:NAMED]
    more = problems[NAMED:]
    if more:
        passed = False if any(check.passed is False for check in more) else None
        yield Check(name, passed, expected, f"{len(more)} more findings")
