"""Telling a copy that is being made from a database: neither server can rename one.

A new copy bears its name at once, and a mark until it is compared. One that bears a mark whose
maker's lock nobody holds belongs to a restore that died.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from pymysql.connections import Connection

from backups.engines.mysql.sessions import quoted, rows

MARK = "backups: being restored"
_CREATE = "CREATE DATABASE {name} CHARACTER SET %s COLLATE %s"
_COMMENT = "SELECT schema_comment FROM information_schema.schemata WHERE schema_name = %s"
_HOLDS = """
    SELECT table_name FROM information_schema.tables WHERE table_schema = %s
    UNION ALL SELECT routine_name FROM information_schema.routines WHERE routine_schema = %s
    UNION ALL SELECT event_name FROM information_schema.events WHERE event_schema = %s"""
_THERE = "SELECT count(*) FROM information_schema.schemata WHERE schema_name = %s"


class Mark(Protocol):
    """How a copy is marked."""

    def make(self, connection: Connection[Any], name: str, charset: str, order: str) -> None:
        """A new database, marked."""

    def take_away(self, connection: Connection[Any], name: str) -> None:
        """It is compared: it is a database now."""

    def is_left(self, connection: Connection[Any], name: str) -> bool | None:
        """Whether a database of that name is an unfinished copy; None: there is no database."""

    def ignored(self, name: str) -> tuple[str, ...]:
        """What keeps the mark out of a dump of the copy."""


@dataclass(frozen=True, slots=True)
class ByComment:
    """A comment of the database; one statement makes both."""

    def make(self, connection: Connection[Any], name: str, charset: str, order: str) -> None:
        """See the port."""
        rows(connection, f"{_named(_CREATE, name)} COMMENT %s", charset, order, MARK)

    def take_away(self, connection: Connection[Any], name: str) -> None:
        """See the port."""
        rows(connection, f"ALTER DATABASE {quoted(name)} COMMENT = ''")

    def is_left(self, connection: Connection[Any], name: str) -> bool | None:
        """See the port."""
        found = rows(connection, _COMMENT, name)
        return found[0][0] == MARK if found else None

    def ignored(self, name: str) -> tuple[str, ...]:  # noqa: ARG002
        """Comments of databases are not dumped."""
        return ()


@dataclass(frozen=True, slots=True)
class ByTable:
    """A table: MySQL's databases have no comments. A maker that died between the two statements
    left a database that holds nothing, and such a one is taken."""

    def make(self, connection: Connection[Any], name: str, charset: str, order: str) -> None:
        """See the port."""
        rows(connection, _named(_CREATE, name), charset, order)
        rows(connection, f"CREATE TABLE {quoted(name)}.{quoted(MARK)} (made int PRIMARY KEY)")

    def take_away(self, connection: Connection[Any], name: str) -> None:
        """See the port."""
        rows(connection, f"DROP TABLE {quoted(name)}.{quoted(MARK)}")

    def is_left(self, connection: Connection[Any], name: str) -> bool | None:
        """See the port."""
        if rows(connection, _THERE, name) == [(0,)]:
            return None
        found = rows(connection, _HOLDS, name, name, name)
        return not found or (MARK,) in found

    def ignored(self, name: str) -> tuple[str, ...]:
        """See the port."""
        return (f"--ignore-table={name}.{MARK}",)


def _named(statement: str, name: str) -> str:
    return statement.format(name=quoted(name).replace("%", "%%"))
