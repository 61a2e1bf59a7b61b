"""The catalog on a database: adapter of `ports.Catalog` in SQLAlchemy Core.

Every change is one transaction that names the state it starts from, so a late or repeated
call can't undo another's. No exception of SQLAlchemy leaves this package.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, Engine, Row, Table, func, insert, select, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from backups.catalog import tables
from backups.errors import Busy, CatalogError, NotFound
from backups.model import Backup, Operation, Policy, Run

_POLICY = TypeAdapter(Policy)
_SQLITE_BUSY = {5, 6}
"""Primary result codes SQLITE_BUSY and SQLITE_LOCKED (sqlite.org/rescode.html)."""
_POSTGRESQL_BUSY = {"40001", "40P01", "55P03"}
"""Serialization failure, deadlock, lock not available (PostgreSQL manual, appendix A)."""

T = TypeVar("T", Run, Backup, Operation)


class SqlCatalog:
    """See `ports.Catalog`. May be used from several threads and processes at once.

    Raises, besides what the port says, Busy when another holds the catalog for too long.
    """

    def __init__(self, engine: Engine) -> None:
        """`engine` is one that `open.connect` made, its schema at HEAD."""
        self._engine = engine

    def close(self) -> None:
        """Let go of connections; may be called twice."""
        self._engine.dispose()

    # --- policies

    def save_policy(self, policy: Policy) -> Policy:
        """Make it the database's newest version if it differs; returns what is in force.

        The version that `policy` carries is ignored. Raises CatalogError when the
        database is another customer's.
        """
        with write(self._engine) as connection:
            _claim(connection, policy.database, policy.customer)
            newest = _policy(connection, policy.database)
            if newest is not None and self.same_rule(newest, policy):
                return newest
            saved = dataclasses.replace(policy, version=newest.version + 1 if newest else 1)
            connection.execute(
                insert(tables.policies).values(
                    database=saved.database,
                    version=saved.version,
                    customer=saved.customer,
                    rule=_POLICY.dump_python(saved, mode="json"),
                )
            )
            return saved

    def same_rule(self, known: Policy | None, policy: Policy) -> bool:
        """Whether saving `policy` over `known` would change nothing."""
        return known is not None and known == dataclasses.replace(policy, version=known.version)

    def policy(self, database: str, version: int | None = None) -> Policy:
        """The newest version, or a given one. Raises NotFound."""
        with read(self._engine) as connection:
            found = _policy(connection, database, version)
        if found is None:
            which = f"no version {version} of a policy" if version else "no policy"
            raise NotFound(f"there is {which} for a database {database!r}")
        return found

    def policies(self) -> list[Policy]:
        """The newest of every database, by customer and database."""
        table = tables.policies
        newest = (
            select(table.c.database, func.max(table.c.version).label("version"))
            .group_by(table.c.database)
            .subquery()
        )
        query = (
            select(table.c.rule)
            .join(
                newest,
                (table.c.database == newest.c.database) & (table.c.version == newest.c.version),
            )
            .order_by(table.c.customer, table.c.database)
        )
        with read(self._engine) as connection:
            return [_rule(row.rule) for row in connection.execute(query)]

    # --- runs

    def start_run(self, run: Run) -> None:
        """Record a run before its first byte. Raises CatalogError when the id is taken."""
        with write(self._engine) as connection:
            connection.execute(insert(tables.runs).values(**_fields(run)))

    def prepare_run(self, run_id: str, envelope: bytes) -> None:
        """All segments are stored; the manifest is about to be put.

        Raises NotFound, or CatalogError when the run is not running.
        """
        with write(self._engine) as connection:
            _move(
                connection, tables.runs, run_id, ("running",),
                {"state": "prepared", "envelope": envelope},
            )  # fmt: skip

    def commit_run(self, backup: Backup, ended_at: datetime) -> None:
        """In one transaction: the run is committed and the backup is listed.

        May be repeated with the same backup, and after a rebuild has listed it. `seconds`
        is filled in from the run where the backup has none. Raises NotFound, or
        CatalogError when the run is not prepared or another backup has its id.
        """
        with write(self._engine) as connection:
            run = _one(connection, tables.runs, Run, backup.id)
            if (run.customer, run.database) != (backup.customer, backup.database):
                raise CatalogError(f"run {run.id} is not one of database {backup.database}")
            if run.state == "committed":
                if _list(connection, backup):
                    raise CatalogError(f"run {run.id} is committed but its backup is gone")
                return
            _move(
                connection, tables.runs, run.id, ("prepared",),
                {"state": "committed", "ended_at": ended_at, "envelope": None},
            )  # fmt: skip
            if backup.seconds is None:
                seconds = (ended_at - run.started_at).total_seconds()
                backup = dataclasses.replace(backup, seconds=seconds)
            if not _list(connection, backup):
                connection.execute(
                    update(tables.backups)
                    .where(tables.backups.c.id == backup.id)
                    .values(seconds=backup.seconds)
                )

    def end_run(self, run_id: str, state: str, ended_at: datetime, error: str) -> None:
        """The run is over without a backup: `state` is failed or interrupted.

        Raises NotFound, or CatalogError when the run is over already.
        """
        if state not in ("failed", "interrupted"):
            raise CatalogError(f"a run does not end as {state!r}")
        values = {"state": state, "ended_at": ended_at, "error": _storable(error)}
        with write(self._engine) as connection:
            _move(
                connection, tables.runs, run_id, ("running", "prepared"),
                {**values, "envelope": None},
            )  # fmt: skip

    def unfinished_runs(self, database: str) -> list[Run]:
        """Those in state running or prepared, oldest first."""
        table = tables.runs
        query = (
            select(table)
            .where(table.c.database == database, table.c.state.in_(("running", "prepared")))
            .order_by(table.c.started_at, table.c.id)
        )
        with read(self._engine) as connection:
            return [_model(Run, row) for row in connection.execute(query)]

    def runs(self, database: str | None = None, limit: int = 50) -> list[Run]:
        """Newest first."""
        return self._newest(tables.runs, Run, "started_at", database, limit)

    # --- backups

    def add_backup(self, backup: Backup) -> bool:
        """List a backup found in a bucket; False when it was listed already.

        Raises CatalogError when another backup has its id, or the database is another
        customer's.
        """
        with write(self._engine) as connection:
            _claim(connection, backup.database, backup.customer)
            return _list(connection, backup)

    def backup(self, backup_id: str) -> Backup:
        """The one with this id. Raises NotFound."""
        with read(self._engine) as connection:
            return _one(connection, tables.backups, Backup, backup_id)

    def backups(self, database: str | None = None) -> list[Backup]:
        """Newest first."""
        return self._newest(tables.backups, Backup, "created_at", database, None)

    # --- operations

    def start_operation(self, operation: Operation) -> None:
        """Record a restore before it touches its target."""
        with write(self._engine) as connection:
            connection.execute(insert(tables.operations).values(**_fields(operation)))

    def end_operation(
        self, operation_id: str, state: str, ended_at: datetime, error: str | None
    ) -> None:
        """The restore is over: `state` is done, failed or interrupted.

        Raises NotFound, or CatalogError when it is over already.
        """
        if state not in ("done", "failed", "interrupted"):
            raise CatalogError(f"an operation does not end as {state!r}")
        values = {"state": state, "ended_at": ended_at, "error": _storable(error)}
        with write(self._engine) as connection:
            _move(connection, tables.operations, operation_id, ("running",), values)

    def operations(self, database: str | None = None, limit: int = 50) -> list[Operation]:
        """Newest first."""
        return self._newest(tables.operations, Operation, "started_at", database, limit)

    def _newest(
        self, table: Table, kind: type[T], order: str, database: str | None, limit: int | None
    ) -> list[T]:
        query = select(table).order_by(table.c[order].desc(), table.c.id.desc()).limit(limit)
        if database is not None:
            query = query.where(table.c.database == database)
        with read(self._engine) as connection:
            return [_model(kind, row) for row in connection.execute(query)]


# --- transactions ---------------------------------------------------------------------


@contextmanager
def write(engine: Engine) -> Iterator[Connection]:
    """One transaction that may change things. Raises CatalogError, Busy."""
    with _translated(), engine.execution_options(write=True).begin() as connection:
        yield connection


@contextmanager
def read(engine: Engine) -> Iterator[Connection]:
    """One transaction that sees one state. Raises CatalogError, Busy."""
    with _translated(), engine.begin() as connection:
        yield connection


@contextmanager
def _translated() -> Iterator[None]:
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
        raise CatalogError(f"the catalog refused: {cause}") from error
    except (SQLAlchemyError, UnicodeEncodeError, OverflowError) as error:
        raise CatalogError(f"the catalog cannot take this: {type(error).__name__}") from error


# --- rows -----------------------------------------------------------------------------


def _claim(connection: Connection, database: str, customer: str) -> None:
    """Record whose database it is, and hold it against other writers."""
    table = tables.databases
    query = select(table.c.customer).where(table.c.id == database).with_for_update()
    owner = connection.execute(query).scalar_one_or_none()
    if owner is None:
        connection.execute(insert(table).values(id=database, customer=customer))
    elif owner != customer:
        raise CatalogError(
            f"database {database} belongs to customer {owner}, not to {customer}",
            hint="A database's id is never passed on: choose another id.",
        )


def _policy(connection: Connection, database: str, version: int | None = None) -> Policy | None:
    table = tables.policies
    query = select(table.c.rule).where(table.c.database == database)
    if version is not None:
        query = query.where(table.c.version == version)
    rule = connection.execute(query.order_by(table.c.version.desc()).limit(1)).scalar()
    return _rule(rule) if rule is not None else None


def _rule(document: Any) -> Policy:
    try:
        return _POLICY.validate_python(document)
    except ValidationError as error:
        raise CatalogError("a policy in the catalog can't be read") from error


def _list(connection: Connection, backup: Backup) -> bool:
    """Insert it; False when it is there. Raises CatalogError when another is."""
    table = tables.backups
    query = select(table).where(table.c.id == backup.id)
    row = connection.execute(query).one_or_none()
    if row is None:
        connection.execute(insert(table).values(**_fields(backup)))
        return True
    # A second copy lies elsewhere, and a rebuild knows no duration; all else must agree.
    known = _model(Backup, row)
    if known != dataclasses.replace(backup, seconds=known.seconds, store_url=known.store_url):
        raise CatalogError(f"another backup is listed as {backup.id}")
    return False


def _move(
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


def _one(connection: Connection, table: Table, kind: type[T], id_: str) -> T:
    row = connection.execute(select(table).where(table.c.id == id_)).one_or_none()
    if row is None:
        raise NotFound(f"there is no {table.name.removesuffix('s')} {id_!r}")
    return _model(kind, row)


def _model(kind: type[T], row: Row[Any]) -> T:
    return kind(**row._mapping)


def _fields(record: Run | Backup | Operation) -> dict[str, Any]:
    fields = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    if not isinstance(record, Backup):
        fields["error"] = _storable(record.error)
    return fields


def _storable(text: str | None) -> str | None:
    # An error may quote what no text column takes: lone surrogates, or a NUL.
    if text is None:
        return None
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
