"""Opening a catalog: its file, its connections, its schema's version.

Alembic is imported only when there is something to migrate: opening an up-to-date catalog
is one small query.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from backups.catalog.journal import Journal
from backups.catalog.sql import read, write
from backups.catalog.store import SqlCatalog
from backups.catalog.tables import HEAD
from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import CatalogError

_UPGRADING = 0x6261636B757073
"""Key of the advisory lock under which a schema is changed: two programs may start at once."""
WAIT = 10.0
"""Seconds to wait for another writer before Busy; our transactions take milliseconds. And for
a server that takes no connection: one that is started anew is back within seconds."""
_STARTING = "57P03"
"""cannot_connect_now (PostgreSQL manual, appendix A)."""


def open_catalog(where: str | Path | URL, journal: Journal | None = None) -> SqlCatalog:
    """The catalog at a path (SQLite) or URL, made or brought up to date where needed.

    Raises CatalogError when it can't be opened, is something else, or is of a newer
    release; Busy when another process holds it.
    """
    engine = connect(where)
    try:
        with read(engine) as connection:
            version = _version(connection)
        if version != HEAD:
            with write(engine) as connection:
                if engine.dialect.name == "postgresql":  # SQLite's writers wait by themselves
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({_UPGRADING})"))
                _upgrade(connection)
    except BaseException:
        engine.dispose()
        raise
    journal = journal or Journal("the program itself", SystemClock(), SystemEntropy())
    return SqlCatalog(engine, journal)


def is_empty(where: str | Path | URL) -> bool:
    """Whether nothing is there yet; makes nothing. Raises CatalogError."""
    engine = connect(where)
    try:
        with read(engine) as connection:
            return _version(connection) is None
    finally:
        engine.dispose()


def connect(where: str | Path | URL) -> Engine:
    """Connections as the catalog needs them; looks at no table. Raises CatalogError."""
    url = _url(where)
    if url.get_backend_name() != "sqlite":
        engine = create_engine(url, pool_pre_ping=True)
        event.listen(engine, "do_connect", _patiently)
        return engine
    if not url.database:
        raise CatalogError("a catalog needs a file")
    _create_private(Path(url.database))
    engine = create_engine(url, connect_args={"timeout": WAIT})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _url(where: str | Path | URL) -> URL:
    if isinstance(where, Path) or (isinstance(where, str) and "://" not in where):
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(where)
        url.get_dialect()
    except (ArgumentError, NoSuchModuleError):
        # The URL may hold a password: it isn't repeated.
        raise CatalogError("the catalog's URL is none that is known") from None
    # SQLAlchemy 2.0 and 2.1 differ in the driver they take; ours is psycopg.
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _create_private(path: Path) -> None:
    # SQLite gives its journal files the mode of the main one: 0600 before the first byte.
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise CatalogError(f"the catalog can't be made at {path}: {error.strerror}") from error


def _configure(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver begins no transactions of its own
    cursor = connection.cursor()
    # Readers and one writer don't stop each other.
    cursor.execute("PRAGMA journal_mode = WAL")
    # Every commit reaches the disk: a run's row must be there before its first object is,
    # and a prepared manifest before it is put. A run commits four times; it is cheap.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _patiently(dialect: Any, _record: object, argv: Any, options: Any) -> Any:
    """A connection, if the server takes one soon. Raises psycopg's own error."""
    clock = SystemClock()
    limit = clock.monotonic() + WAIT
    while True:
        try:
            return dialect.connect(*argv, **options)
        except dialect.loaded_dbapi.OperationalError as error:
            # Neither a wrong password nor a missing database becomes right by waiting.
            code = getattr(error, "sqlstate", None)
            refused = any(words in str(error) for words in _NOBODY_THERE)
            if clock.monotonic() >= limit or not (refused or code == _STARTING):
                raise
        clock.sleep(0.25)


_NOBODY_THERE = ("Connection refused", "No such file or directory", "starting up", "shutting")


def _begin(connection: Connection) -> None:
    # A reader that turns writer may be refused without waiting; writers say so at once.
    writes = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _version(connection: Connection) -> str | None:
    """The schema's version, None when the database is empty. Raises CatalogError."""
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    if "alembic_version" not in tables:
        raise CatalogError("this database is no catalog: it has tables of something else")
    version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if version is not None and version > HEAD:
        raise CatalogError(
            f"the catalog was written by a newer release (schema {version}, this is {HEAD})",
            hint="Use that release. Nothing was changed.",
        )
    return None if version is None else str(version)


def _upgrade(connection: Connection) -> None:
    if _version(connection) == HEAD:  # another process was first
        return
    from alembic import command  # noqa: PLC0415  # see the module's docstring
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    command.upgrade(config, HEAD)
