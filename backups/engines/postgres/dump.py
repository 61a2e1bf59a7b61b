"""Reading one database in one snapshot, and telling what it contained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import Any

from psycopg import Connection

from backups.engines.postgres import around, preflight
from backups.engines.postgres.archive import ArchiveParser
from backups.engines.postgres.content import ContentHasher
from backups.engines.postgres.process import running
from backups.engines.postgres.server import Login, connected, pinned
from backups.engines.postgres.tools import Tools, choose
from backups.engines.process import Child
from backups.errors import AccessDenied, BackupsError, DumpFailed, Unreachable
from backups.model import Fingerprint, Preflight, Snapshot
from backups.ports import Blocks

ENGINE = "postgresql"
LOCK_WAIT = 60_000
"""Milliseconds that pg_dump waits for its shared locks before it gives up."""

FORMAT = "-c TimeZone=UTC -c bytea_output=hex"
"""Of values as text where pg_dump leaves it to the session: a copy on another server, in
another time zone, must give the same text."""

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# now() is the start of the transaction, just before its snapshot: the data is at least as
# fresh as that, by the server's own clock.
_SNAPSHOT = """
    SELECT pg_export_snapshot(), now(),
           (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                 ELSE pg_current_wal_lsn() END)::text"""
_DENIED = ("permission denied", "must be superuser", "row-level security", "must be owner")
GONE = ("server closed the connection", "terminating connection", "connection to server",
         "could not connect", "no connection to the server", "could not receive data",
         "SSL connection has been closed", "the database system is")  # fmt: skip


class PostgresDump:
    """One consistent copy being read; adapter of `ports.Dump`."""

    def __init__(
        self,
        connection: Connection[Any],
        login: Login,
        tools: Tools,
        found: Preflight,
        name: str,
        snapshot: Snapshot,
        rows: bool,
    ) -> None:
        self.preflight = found
        self.snapshot = snapshot
        self._login = login
        self._tools = tools
        self._name = name
        self._rows = rows
        self._replica = preflight.in_recovery(connection)
        self._settings = around.settings(connection)
        self._extensions = around.extensions(connection)
        self._roles = around.roles(connection)
        self._roles_sql = around.roles_sql(connection)
        self._parser = ArchiveParser()
        self._hasher = ContentHasher()
        self._complete = False

    def artifacts(self) -> Iterator[tuple[str, Blocks]]:
        """`archive`: pg_dump's custom format, not compressed. `roles`: SQL."""
        yield "archive", self._archive()
        yield "roles", iter([self._roles_sql])

    def finish(self) -> Fingerprint:
        """What the snapshot contained. Raises DumpFailed unless the archive ended well."""
        if not self._complete:
            raise DumpFailed("the dump was not read to its end")
        contents = self._hasher.result()
        return Fingerprint(
            engine=ENGINE,
            server_version=self.preflight.server_version,
            settings=self._settings,
            extensions=self._extensions,
            roles=self._roles,
            objects=contents.objects,
            tables=contents.tables,
            sequences=contents.sequences,
            large_objects=contents.large_objects,
            not_compared=contents.not_compared,
        )

    def _archive(self) -> Blocks:
        argv = [
            self._tools.path("pg_dump"),
            "--format=custom",
            "--compress=0",
            f"--snapshot={self._name}",
            f"--lock-wait-timeout={LOCK_WAIT}",
            *(["--no-unlogged-table-data"] if self._replica else []),
            *([] if self._rows else ["--exclude-table-data=*.*"]),
        ]
        with running(argv, self._login, options=FORMAT) as child:
            try:
                for block in child.blocks():
                    self._hasher.add(self._parser.feed(block))
                    yield block
            except DumpFailed:
                # Bytes that make no archive: if the tool knows why, its words are better.
                child.process.terminate()
                if child.errors():
                    raise failure(child, child.wait()) from None
                raise
            code = child.wait()
            if code:
                raise failure(child, code)
        self._parser.finish()
        self._complete = True


@contextmanager
def open_dump(login: Login, *, rows: bool = True) -> Iterator[PostgresDump]:
    """Take a snapshot and hold it; without `rows`, all but those of tables.

    Raises what `preflight.look` raises, and ToolError.
    """
    with connected(login) as connection:
        preflight.require_no_pooler(connection)
        tools = choose(preflight.major(connection))
        connection.execute(_BEGIN)
        # An empty path: nothing that users made can stand in for the catalog's functions.
        connection.execute("SET LOCAL search_path = pg_catalog")
        name, taken_at, position = connection.execute(_SNAPSHOT).fetchall()[0]
        found = preflight.look(connection, tools)
        snapshot = Snapshot(taken_at=taken_at.astimezone(UTC), position=position or "")
        dump = PostgresDump(
            connection, pinned(connection, login), tools, found, name, snapshot, rows
        )
        yield dump


def fingerprint(login: Login) -> Fingerprint:
    """What the database contains now."""
    with open_dump(login) as dump:
        for _, blocks in dump.artifacts():
            for _ in blocks:
                pass
        return dump.finish()


def failure(child: Child, code: int) -> BackupsError:
    """Why pg_dump failed, in our words and its first complaints."""
    errors = child.errors()
    words = "; ".join(errors) or (f"signal {-code}" if code < 0 else f"exit code {code}")
    text = f"{child.name} failed: {words}"
    if any(phrase in words for phrase in _DENIED):
        return AccessDenied(text)
    if any(phrase in words for phrase in GONE):
        return Unreachable(text)
    if "lock timeout" in words:
        return DumpFailed(text, hint="Another session holds a lock on a table; see pg_locks.")
    return DumpFailed(text)
