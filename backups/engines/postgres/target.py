"""Where a copy is made: a target that is empty or not there, and a name beside it.

A copy has a name of its own until it is published. Where an extension can live in a database
of one name only (pg_cron), the copy is made under the target's name, marked as unfinished and
closed to everybody else until then.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection, sql

from backups.engines.postgres import create
from backups.engines.postgres.claim import Claim
from backups.engines.postgres.remove import UNFINISHED, beside, drop_database
from backups.engines.postgres.server import Login, connected, login, quoted
from backups.errors import AccessDenied, TargetRefused, Unreachable, UsageError
from backups.model import Source

_NOT_EMPTY = """
    SELECT (SELECT count(*) FROM pg_class WHERE oid >= 16384)
         + (SELECT count(*) FROM pg_proc WHERE oid >= 16384)
         + (SELECT count(*) FROM pg_type WHERE oid >= 16384)
         + (SELECT count(*) FROM pg_namespace WHERE oid >= 16384)
         + (SELECT count(*) FROM pg_extension WHERE oid >= 16384)
         + (SELECT count(*) FROM pg_event_trigger)
         + (SELECT count(*) FROM pg_publication)
         + (SELECT count(*) FROM pg_largeobject_metadata)"""  # 16384: FirstNormalObjectId
_OTHERS = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()"""

_LEFT_IN_A_POOL = """
    SELECT pg_catalog.pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity
     WHERE datname = ANY (%s) AND usename = current_user AND state = 'idle'
       AND pid <> pg_catalog.pg_backend_pid()"""
"""A pooler keeps the backends of our sessions for the next one; a database that has any can't
be renamed."""


@dataclass(slots=True)
class Place:
    """The database that a copy is made in."""

    server: Login
    target: str
    """The final name."""
    copy: Login
    replaces: bool
    """An empty database of the final name is there."""
    created: bool = False
    aside: str = ""
    """The name of the empty database meanwhile."""
    published: bool = False

    @property
    def name(self) -> str:
        """The copy's name now."""
        return self.copy.database

    @property
    def final(self) -> bool:
        """Whether the copy bears the target's name already."""
        return self.name == self.target

    def create(
        self, connection: Connection[Any], settings: Mapping[str, str], major: int
    ) -> None:
        """Make the database, with nobody else let in."""
        connection.execute(create.create_database(self.name, settings, major))
        self.created = True
        self.close(connection)
        if settings.get("public schema") == "absent":
            with connected(self.copy) as inside:
                inside.execute("DROP SCHEMA public")

    def close(self, connection: Connection[Any]) -> None:
        """Let nobody else in; under the final name also say that it is unfinished."""
        connection.execute(quoted("REVOKE CONNECT ON DATABASE {d} FROM PUBLIC", d=self.name))
        if self.final:
            marked = quoted("COMMENT ON DATABASE {d} IS ", d=self.name)
            connection.execute(marked + sql.Literal(UNFINISHED))

    def take_final_name(self, connection: Connection[Any], claim: Claim) -> None:
        """Begin again under the target's name. Raises TargetRefused when that is taken, or
        another restore works under it."""
        self.drop(connection)
        if not claim.take(self.target):
            raise TargetRefused(f"another restore is making the database {self.target!r}")
        if self.replaces:
            require_empty(self.server.to(self.target))
            aside = beside(self.target, "replaced", self.name[-8:])
            connection.execute(_rename(self.target, aside))
            self.aside = aside
        self.copy = self.server.to(self.target)

    def publish(self, connection: Connection[Any], settings: Mapping[str, str]) -> None:
        """Give the copy its final name and let its users in; an empty database of that name
        leaves in the same transaction. Raises TargetRefused."""
        if self.final:
            create.apply_ownership(connection, self.target, settings)
            create.apply_rights(connection, self.target, settings)
        else:
            self._exchange(connection)
        self.published = True
        if self.aside:
            connection.execute(quoted("DROP DATABASE {d}", d=self.aside))
            self.aside = ""

    def remove(self, connection: Connection[Any]) -> None:
        """Drop what was not published, and give an empty database its name again."""
        if not self.published:
            self.drop(connection)
            if self.aside:
                connection.execute(_rename(self.aside, self.target))
        elif self.aside:
            drop_database(connection, self.server, self.aside)
        self.aside = ""

    def drop(self, connection: Connection[Any]) -> None:
        """Drop the copy; missing is fine."""
        if self.created:
            drop_database(connection, self.server, self.name)
            self.created = False

    def _exchange(self, connection: Connection[Any]) -> None:
        aside = beside(self.target, "replaced", self.name[-8:])
        if self.replaces:
            require_empty(self.server.to(self.target))
        if self.server.facts and self.server.facts.pooled:
            left = [self.name, *([self.target] if self.replaces else [])]
            connection.execute(_LEFT_IN_A_POOL, (left,))
        try:
            with connection.transaction():
                if self.replaces:
                    connection.execute(_rename(self.target, aside))
                connection.execute(_rename(self.name, self.target))
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.ObjectInUse) as error:
            raise TargetRefused(
                f"the database {self.target!r} was taken or is in use by now: "
                f"{error.diag.message_primary}"
            ) from None
        self.aside = aside if self.replaces else ""
        self.copy = self.server.to(self.target)


def login_of_target(target: Source) -> Login:
    """What the target's URL says. Raises TargetRefused."""
    try:
        return login(target)
    except UsageError as error:
        raise TargetRefused(str(error), hint=error.hint) from None


@contextmanager
def maintenance(wanted: Login) -> Iterator[Connection[Any]]:
    """A session beside the target: in `postgres`, or where that is missing in `template1`."""
    first = wanted.to("postgres")
    try:
        with connected(first):
            pass
    except (AccessDenied, Unreachable):  # it is not there, or takes nobody
        first = wanted.to("template1")
    with connected(first) as connection:
        yield connection


def require_empty(opened: Login) -> None:
    """Raises TargetRefused when the database has anything of a user's, or a session."""
    with connected(opened) as connection:
        found = connection.execute(_NOT_EMPTY).fetchone()
        others = connection.execute(_OTHERS).fetchone()
    if found != (0,):
        raise TargetRefused(f"the database {opened.database!r} is not empty")
    if others != (0,):
        raise TargetRefused(f"somebody is connected to the database {opened.database!r}")


@contextmanager
def private_folder() -> Iterator[Path]:
    """For lists and a table of contents, never rows; only we may enter (mode 0700). It lies in
    another such folder, so that it may be opened to a tool that is kept in."""
    with tempfile.TemporaryDirectory(prefix="backups-") as outer:
        folder = Path(outer, "read")
        folder.mkdir(mode=0o700)
        yield folder


def _rename(name: str, to: str) -> Any:
    return quoted("ALTER DATABASE {name} RENAME TO {to}", name=name, to=to)
