"""Exchanging two databases by their names, with nobody connected to either.

Source: PostgreSQL manual, ALTER DATABASE: renaming is transactional, and refused while
anybody is connected; ALLOW_CONNECTIONS keeps everybody out, superusers too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import Connection

from backups.engines.postgres.changes import changes
from backups.engines.postgres.remove import beside, drop_database, sweep
from backups.engines.postgres.server import login, quoted
from backups.engines.postgres.target import maintenance
from backups.errors import TargetRefused
from backups.model import Source
from backups.replacing import Changes

PATIENCE_MS = 10_000
"""Given to each session that is ended, to end."""
_SESSIONS = """
    SELECT pg_catalog.pg_terminate_backend(pid, %s) FROM pg_catalog.pg_stat_activity
     WHERE datname = ANY(%s) AND pid <> pg_catalog.pg_backend_pid()"""
_THERE = "SELECT FROM pg_catalog.pg_database WHERE datname = %s"
_BEHIND = """
    SELECT 'replication slot ' || slot_name FROM pg_catalog.pg_replication_slots
     WHERE database = %(name)s
    UNION ALL
    SELECT 'subscription ' || subname FROM pg_catalog.pg_subscription s
      JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = %(name)s
    UNION ALL
    SELECT 'prepared transaction ' || gid FROM pg_catalog.pg_prepared_xacts
     WHERE database = %(name)s
     ORDER BY 1"""


class PostgresSwapper:
    """Adapter of `run.replace.Swapper`; `live` names a database of the server."""

    def __init__(self, live: Source) -> None:
        """Raises UsageError when the URL can't be read."""
        self._login = login(live)

    @property
    def name(self) -> str:
        """The live database's."""
        return self._login.database

    def beside(self, what: str, tail: str) -> str:
        """See the port."""
        return beside(self.name, what, tail)

    def names(self) -> set[str]:
        """See the port."""
        with self._server() as connection:
            return {r[0] for r in connection.execute("SELECT datname FROM pg_database")}

    def stays_behind(self) -> tuple[str, ...]:
        """See the port."""
        with self._server() as connection:
            found = connection.execute(_BEHIND, {"name": self.name})
            return tuple(row[0] for row in found)

    def swap(self, copy: str, aside: str) -> None:
        """See the port."""
        with self._server() as connection:
            self._require(connection, copy)
            connection.execute(_allow(self.name, "false"))
            try:
                connection.execute(_SESSIONS, (PATIENCE_MS, [self.name, copy]))
                with connection.transaction():
                    connection.execute(_rename(self.name, aside))
                    connection.execute(_rename(copy, self.name))
                    connection.execute(_allow(self.name, "true"))
            except BaseException as error:
                with suppress(psycopg.Error):
                    connection.execute(_allow(self.name, "true"))
                if isinstance(error, psycopg.errors.ObjectInUse):
                    raise TargetRefused(
                        f"somebody holds on to {self.name!r}: {error.diag.message_primary}",
                        hint="Nothing was changed. End their sessions, then start it again.",
                    ) from None
                raise

    def changes(self, copy: str, tables: Iterable[tuple[str, str]]) -> tuple[Changes, ...]:
        """See the port."""
        return changes(self._login, self._login.to(copy), tables)

    def release(self) -> None:
        """See the port."""
        with self._server() as connection:
            connection.execute(_allow(self.name, "true"))

    def drop(self, name: str) -> None:
        """See the port."""
        if name == self.name:
            raise TargetRefused("the live database is never dropped")
        with self._server() as connection:
            sweep(connection, self._login, name)
            if connection.execute(_THERE, (name,)).fetchone() is not None:
                connection.execute(_allow(name, "true"))  # its subscriptions are seen to inside
                drop_database(connection, self._login, name)

    @contextmanager
    def _server(self) -> Iterator[Connection[Any]]:
        with maintenance(self._login) as connection:
            yield connection

    def _require(self, connection: Connection[Any], copy: str) -> None:
        there = {r[0] for r in connection.execute("SELECT datname FROM pg_database")}
        for name in (self.name, copy):
            if name not in there:
                raise TargetRefused(f"there is no database {name!r} any more")


def _rename(name: str, to: str) -> Any:
    return quoted("ALTER DATABASE {name} RENAME TO {to}", name=name, to=to)


def _allow(name: str, whether: str) -> Any:
    return quoted(f"ALTER DATABASE {{name}} ALLOW_CONNECTIONS {whether}", name=name)
