"""Transactions and rows, as every part of the catalog uses them.

No exception of SQLAlchemy leaves this package.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Row, Table, select, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from backups.declared import Standing
from backups.errors import Busy, CatalogError, NotFound
from backups.keeping import Deletion, Hold, Record
from backups.model import Backup, Copy, Operation, Run, Scrub

_SQLITE_BUSY = {5, 6}
"""Primary result codes SQLITE_BUSY and SQLITE_LOCKED (sqlite.org/rescode.html)."""
_POSTGRESQL_BUSY = {"40001", "40P01", "55P03"}
"""Serialization failure, deadlock, lock not available (PostgreSQL manual, appendix A)."""

T = TypeVar("T", Run, Backup, Operation)


@contextmanager
def write(engine: Engine) -> Iterator[Connection]:
    """One transaction that may change things. Raises CatalogError, Busy."""
    with translated(), engine.execution_options(write=True).begin() as connection:
        yield connection


@contextmanager
def read(engine: Engine) -> Iterator[Connection]:
    """One transaction that sees one state. Raises CatalogError, Busy."""
    with translated(), engine.begin() as connection:
        yield connection


@contextmanager
def translated() -> Iterator[None]:
    """What the driver raises, in words of ours. Raises CatalogError, Busy."""
    try:
        yield
    except DBAPIError as error:
        cause = error.orig
        code = getattr(cause, "sqlite_errorcode", None)
        if (code is not None and code & 0xFF in _SQLITE_BUSY) or (
            getattr(cause, "sqlstate", None) in _POSTGRESQL_BUSY
        ):
            raise Busy("another process holds the catalog") from error
        # The driver's own words only: SQLAlchemy's add the statement and its values.
        raise CatalogError(f"the catalog refused: {' '.join(str(cause).split())}") from error
    except (SQLAlchemyError, UnicodeEncodeError, OverflowError) as error:
        raise CatalogError(f"the catalog cannot take this: {type(error).__name__}") from error


# --- rows -----------------------------------------------------------------------------


def move(
    connection: Connection,
    table: Table,
    id_: str,
    states: tuple[str, ...],
    values: Mapping[str, Any],
) -> None:
    """Change a row that is in one of `states`. Raises NotFound, CatalogError."""
    where = table.c.id == id_
    moved = connection.execute(
        update(table).where(where, table.c.state.in_(states)).values(**values)
    )
    if moved.rowcount:
        return
    what = table.name.removesuffix("s")
    state = connection.execute(select(table.c.state).where(where)).scalar()
    if state is None:
        raise NotFound(f"there is no {what} {id_}")
    raise CatalogError(
        f"{what} {id_} is {state}, not {' or '.join(states)}",
        hint="Another process changed it meanwhile; `backups status` shows how things stand.",
    )


def one(
    connection: Connection, table: Table, kind: type[T], id_: str, *where: ColumnElement[bool]
) -> T:
    """The row with that id. Raises NotFound."""
    row = connection.execute(select(table).where(table.c.id == id_, *where)).one_or_none()
    if row is None:
        raise NotFound(f"there is no {table.name.removesuffix('s')} {id_!r}")
    return model_of(kind, row)


def model_of(kind: type[T], row: Row[Any]) -> T:
    """A row as its dataclass."""
    fields = dict(row._mapping)
    if "warnings" in fields:  # JSON knows no tuples
        fields["warnings"] = tuple(fields["warnings"] or ())
    return kind(**fields)


def fields_of(record: Run | Backup | Operation) -> dict[str, Any]:
    """A record as its row."""
    fields = shallow(record)
    if not isinstance(record, Backup):
        fields["error"] = storable(record.error)
    return fields


def shallow(
    record: Run | Backup | Operation | Copy | Scrub | Hold | Deletion | Record | Standing,
) -> dict[str, Any]:
    """Fields by name; values are not looked into."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def storable(text: str | None) -> str | None:
    """Text that any column takes."""
    # An error may quote what no text column takes: lone surrogates, or a NUL.
    if text is None:
        return None
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
