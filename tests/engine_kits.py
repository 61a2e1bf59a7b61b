"""What each engine's contract needs: databases to make, and statements both understand."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import psycopg
from pg_kit import drop, url_of

from backups.clock import SystemClock
from backups.engines.mysql.server import connected, login
from backups.engines.mysql.sessions import quoted as mysql_quoted
from backups.engines.mysql.sessions import rows as run
from backups.engines.registry import open_engine
from backups.entropy import SystemEntropy
from backups.model import Source
from backups.ports import Engine

Session = Callable[..., list[Any]]
"""Executes a statement, commits, and gives its rows."""


class Kit(Protocol):
    """One engine's."""

    engine: Engine
    schema: str
    """Before a table's name, in `only` and in a fingerprint."""

    def make(self, *statements: str) -> Source:
        """A new database."""

    def fresh(self, name: str = "") -> Source:
        """Where there is none yet."""

    def session(self, source: Source) -> Any:
        """A context that gives a `Session`."""

    def left(self) -> set[str]:
        """Names of whatever lies where targets are made."""


class PostgresKit:
    """On a real server."""

    schema = "public."

    def __init__(self, server: str) -> None:
        self.engine = open_engine("postgresql", SystemClock(), SystemEntropy())
        self._server = server
        self._stem = "kit_" + SystemEntropy().bytes(5).hex()
        self._made: list[str] = []

    def make(self, *statements: str) -> Source:
        source = self.fresh()
        with psycopg.connect(self._server, autocommit=True) as connection:
            made = f'create database "{self._made[-1]}" template template0'
            connection.execute(made)  # type: ignore[arg-type]
        with self.session(source) as execute:
            for statement in statements:
                execute(statement)
        return source

    def fresh(self, name: str = "") -> Source:
        self._made.append(f"{self._stem}_{len(self._made)}{name}")
        return Source(url_of(self._server, self._made[-1]))

    @contextmanager
    def session(self, source: Source) -> Iterator[Session]:
        with psycopg.connect(source.url, autocommit=True) as connection:

            def execute(statement: str) -> list[Any]:
                cursor = connection.execute(statement)  # type: ignore[arg-type]
                return cursor.fetchall() if cursor.description else []

            yield execute

    def left(self) -> set[str]:
        with psycopg.connect(self._server) as connection:
            rows = connection.execute("select datname from pg_database").fetchall()
        return {name for (name,) in rows if name.startswith(self._stem)}

    def close(self) -> None:
        for name in self.left():
            drop(self._server, name)


class MysqlKit:
    """On a real server."""

    schema = ""

    def __init__(self, server: str) -> None:
        self.engine = open_engine(server.partition(":")[0], SystemClock(), SystemEntropy())
        self._server = Source(server)
        self._stem = "kit_" + SystemEntropy().bytes(5).hex()
        self._count = 0

    def make(self, *statements: str) -> Source:
        source = self.fresh()
        with connected(login(source), database=False) as connection:
            name = mysql_quoted(login(source).database)
            run(connection, f"create database {name} character set utf8mb4")
        with self.session(source) as execute:
            for statement in statements:
                execute(statement)
        return source

    def fresh(self, name: str = "") -> Source:
        self._count += 1
        return self.engine.beside(self._server, f"{self._stem}_{self._count}{name}")

    @contextmanager
    def session(self, source: Source) -> Iterator[Session]:
        with connected(login(source)) as connection:
            run(connection, "set sql_mode = concat(@@sql_mode, ',ANSI_QUOTES')")
            yield lambda statement: run(connection, _said(statement))

    def left(self) -> set[str]:
        with connected(login(self._server)) as connection:
            found = run(connection, "select schema_name from information_schema.schemata")
        return {name for (name,) in found if name.startswith(self._stem)}

    def close(self) -> None:
        with connected(login(self._server)) as connection:
            for name in self.left():
                run(connection, f"drop database {mysql_quoted(name)}")


def _said(statement: str) -> str:
    """As both servers say it."""
    return statement + (" on orders" if statement.startswith("drop index") else "")


class SqliteKit:
    """Files in a folder."""

    schema = "main."

    def __init__(self, folder: Path) -> None:
        self.engine = open_engine("sqlite", SystemClock(), SystemEntropy())
        self._folder = folder
        self._count = 0

    def make(self, *statements: str) -> Source:
        source = self.fresh()
        with self.session(source) as execute:
            execute("pragma journal_mode = wal")
            for statement in statements:
                execute(statement)
        return source

    def fresh(self, name: str = "") -> Source:
        self._count += 1
        return Source(f"sqlite://{quote(str(self._folder / f'{self._count}{name}.db'))}")

    @contextmanager
    def session(self, source: Source) -> Iterator[Session]:
        from backups.engines.sqlite.files import path_of

        opened = sqlite3.connect(path_of(source), isolation_level=None, timeout=30)
        with closing(opened) as connection:
            yield lambda statement: connection.execute(statement).fetchall()

    def left(self) -> set[str]:
        return {path.name for path in self._folder.iterdir()}

    def close(self) -> None: ...
