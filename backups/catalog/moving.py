"""A whole catalog from one database to another, SQLite or PostgreSQL: to move it, and to take a
copy of it into a file.

All is read in one transaction and written in one. The audit chain travels as it is: its head is
the same on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, delete, func, insert, select, text

from backups.catalog import request_table, tables
from backups.catalog.columns import metadata
from backups.catalog.journal import append
from backups.catalog.open import open_catalog
from backups.catalog.sql import read, write
from backups.catalog.store import SqlCatalog
from backups.errors import Busy, CatalogError

BATCH = 1000
"""Rows at a time."""
MOVED = "catalog.moved"
"""The last record that a catalog has in common with where it went."""
ALL = metadata.sorted_tables
"""Those that others refer to come first."""
_OVER = "the catalog was moved away from here"
_ALSO = (request_table.requests, tables.audit)  # imported, hence in `ALL`


def copy_to_file(catalog: SqlCatalog, target: Path) -> None:
    """All of it as a new catalog in a file, while it is in use. Raises CatalogError."""
    with (
        closing(open_catalog(target, catalog.journal)) as copy,
        _one_state(catalog._engine) as source,
        write(copy._engine) as sink,
    ):
        _copy(source, sink)


def move(catalog: SqlCatalog, where: str | Path | URL, now: datetime) -> int:
    """All of it into an empty database at `where`; returns the number of rows. From then on
    the old one takes no change.

    May be called again when it was killed: what lies over there is as good as moved if nothing
    was recorded here since. Raises Busy while somebody works, CatalogError when something
    else is there.
    """
    with (
        closing(open_catalog(where, catalog.journal)) as goal,
        write(catalog._engine) as source,
    ):
        _alone(source, now)
        with write(goal._engine) as sink:
            if not is_used(sink):
                _copy(source, sink)
                told = {"records": _count(source, "audit")}
                append(sink, catalog.journal, MOVED, None, "catalog", told)
            elif not _continues(source, sink):
                raise CatalogError(
                    "another catalog is there, or an older copy of this one",
                    hint="Nothing was changed. Name an empty database.",
                )
            rows = sum(_count(sink, table.name) for table in ALL)
        _close(source)
    return rows


def fill(where: str | Path | URL, snapshot: Path) -> None:
    """Bring a catalog in a file back into an empty database. Raises CatalogError."""
    with (
        closing(open_catalog(snapshot)) as kept,
        closing(open_catalog(where)) as goal,
        _one_state(kept._engine) as source,
        write(goal._engine) as sink,
    ):
        if is_used(sink):
            raise CatalogError("a catalog is there: it is not overwritten")
        _copy(source, sink)


def is_used(connection: Connection) -> bool:
    """Whether anything was ever recorded."""
    return _last(connection) is not None


@contextmanager
def _one_state(engine: Engine) -> Iterator[Connection]:
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with read(engine) as connection:
        yield connection


def _alone(connection: Connection, now: datetime) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE"))
    table = tables.leases
    query = select(table.c.name).where(table.c.ends_at > now).limit(1)
    held = connection.execute(query).scalar()
    if held is not None:
        raise Busy(
            f"{held.partition('/')[2] or held} is under way",
            hint="Stop `backups serve` and every worker, and wait for what runs.",
        )


def _copy(source: Connection, sink: Connection) -> None:
    for table in reversed(ALL):
        if _count(sink, table.name):  # what a new catalog begins with
            sink.execute(delete(table))
    for table in ALL:
        rows = source.execute(select(table).execution_options(yield_per=BATCH))
        for part in rows.mappings().partitions(BATCH):
            sink.execute(insert(table), [dict(row) for row in part])
        if (copied := _count(sink, table.name)) != (there := _count(source, table.name)):
            raise CatalogError(f"{copied} of {there} rows of {table.name} were taken over")
    if sink.dialect.name == "postgresql":
        sink.execute(
            text(
                "SELECT setval(pg_get_serial_sequence('evidence', 'sequence'), "
                "(SELECT coalesce(max(sequence), 1) FROM evidence))"
            )
        )


def _count(connection: Connection, name: str) -> int:
    query = select(func.count()).select_from(metadata.tables[name])
    return int(connection.execute(query).scalar_one())


def _last(connection: Connection) -> str | None:
    table = tables.audit
    query = select(table.c.digest).order_by(table.c.sequence.desc()).limit(1)
    return connection.execute(query).scalar()


def _continues(source: Connection, sink: Connection) -> bool:
    """Whether the other one begins where this one ends."""
    table = tables.audit
    query = select(table.c.previous).where(table.c.action == MOVED)
    newest = query.order_by(table.c.sequence.desc()).limit(1)
    return sink.execute(newest).scalar() == _last(source)


def _close(connection: Connection) -> None:
    """Every change has its record in the chain: what takes no record takes no change."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            text(
                "CREATE OR REPLACE FUNCTION audit_is_over() RETURNS trigger LANGUAGE plpgsql "
                f"AS $$ BEGIN RAISE EXCEPTION '{_OVER}'; END $$"
            )
        )
        connection.execute(
            text(
                "CREATE OR REPLACE TRIGGER audit_over BEFORE INSERT ON audit "
                "EXECUTE FUNCTION audit_is_over()"
            )
        )
        return
    connection.execute(
        text(
            "CREATE TRIGGER IF NOT EXISTS audit_over BEFORE INSERT ON audit "
            f"BEGIN SELECT RAISE(ABORT, '{_OVER}'); END"
        )
    )
