"""The catalog on a database: adapter of `ports.Catalog` in SQLAlchemy Core.

Every change is one transaction that names the state it starts from, so a late or repeated
call can't undo another's. No exception of SQLAlchemy leaves this package.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, Connection, Engine, Table, func, insert, select, update

from backups.catalog import tables
from backups.catalog.sql import (
    T,
    fields_of,
    model_of,
    move,
    one,
    read,
    shallow,
    storable,
    write,
)
from backups.errors import CatalogError, NotFound
from backups.model import Backup, Copy, Operation, Policy, Run, Scrub

_POLICY = TypeAdapter(Policy)
_SCRUB = TypeAdapter(Scrub)


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
            connection.execute(insert(tables.runs).values(**fields_of(run)))

    def prepare_run(self, run_id: str, envelope: bytes) -> None:
        """All segments are stored; the manifest is about to be put.

        Raises NotFound, or CatalogError when the run is not running.
        """
        with write(self._engine) as connection:
            move(
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
            run = one(connection, tables.runs, Run, backup.id)
            if (run.customer, run.database) != (backup.customer, backup.database):
                raise CatalogError(f"run {run.id} is not one of database {backup.database}")
            if run.state == "committed":
                if _list(connection, backup):
                    raise CatalogError(f"run {run.id} is committed but its backup is gone")
                return
            move(
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
        values = {"state": state, "ended_at": ended_at, "error": storable(error)}
        with write(self._engine) as connection:
            move(
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
            return [model_of(Run, row) for row in connection.execute(query)]

    def runs(self, database: str | None = None, limit: int = 50) -> list[Run]:
        """Newest first."""
        return self._newest(tables.runs, Run, "started_at", database, limit)

    # --- backups

    def add_backup(self, backup: Backup) -> bool:
        """List a backup found in a store, as a copy when it is listed from another one;
        False when that was known already.

        Raises CatalogError when another backup has its id, or the database is another
        customer's.
        """
        with write(self._engine) as connection:
            _claim(connection, backup.database, backup.customer)
            return _list(connection, backup)

    def backup(self, backup_id: str) -> Backup:
        """The one with this id. Raises NotFound."""
        with read(self._engine) as connection:
            return one(connection, tables.backups, Backup, backup_id, tables.is_listed)

    def backups(self, database: str | None = None) -> list[Backup]:
        """Newest first."""
        listed = tables.is_listed
        return self._newest(tables.backups, Backup, "created_at", database, None, listed)

    def add_copy(self, copy: Copy) -> bool:
        """List a copy of a listed backup; False when it was listed already.

        Raises CatalogError when another manifest is listed for it there.
        """
        with write(self._engine) as connection:
            return _list_copy(connection, copy)

    def copies(self, backup_id: str) -> list[Copy]:
        """Those beside the first one, in the order of their stores' URLs."""
        table = tables.copies
        query = select(table).where(table.c.backup == backup_id).order_by(table.c.store_url)
        with read(self._engine) as connection:
            return [Copy(**row._mapping) for row in connection.execute(query)]

    # --- what was found out

    def add_scrub(self, scrub: Scrub) -> None:
        """Record one comparison of a store with the manifests."""
        document = _SCRUB.dump_python(scrub, mode="json")
        values = {**shallow(scrub), "findings": document["findings"]}
        with write(self._engine) as connection:
            connection.execute(insert(tables.scrubs).values(**values))

    def scrubs(self, customer: str | None = None, limit: int = 50) -> list[Scrub]:
        """Newest first."""
        table = tables.scrubs
        query = (
            select(table).order_by(table.c.started_at.desc(), table.c.id.desc()).limit(limit)
        )
        if customer is not None:
            query = query.where(table.c.customer == customer)
        with read(self._engine) as connection:
            return [
                _SCRUB.validate_python(dict(row._mapping)) for row in connection.execute(query)
            ]

    def prove_recipient(self, customer: str, recipient: str, at: datetime) -> None:
        """Its holder has decrypted a canary; the newest proof counts."""
        table = tables.recipients
        who = (table.c.customer == customer) & (table.c.recipient == recipient)
        with write(self._engine) as connection:
            if not connection.execute(update(table).where(who).values(proven_at=at)).rowcount:
                connection.execute(
                    insert(table).values(customer=customer, recipient=recipient, proven_at=at)
                )

    def proven_recipients(self, customer: str) -> dict[str, datetime]:
        """Recipient to when its holder last proved to hold its identity."""
        table = tables.recipients
        query = select(table).where(table.c.customer == customer)
        with read(self._engine) as connection:
            return {row.recipient: row.proven_at for row in connection.execute(query)}

    # --- operations

    def start_operation(self, operation: Operation) -> None:
        """Record a restore before it touches its target."""
        with write(self._engine) as connection:
            connection.execute(insert(tables.operations).values(**fields_of(operation)))

    def end_operation(
        self, operation_id: str, state: str, ended_at: datetime, error: str | None
    ) -> None:
        """The restore is over: `state` is done, failed or interrupted.

        Raises NotFound, or CatalogError when it is over already.
        """
        if state not in ("done", "failed", "interrupted"):
            raise CatalogError(f"an operation does not end as {state!r}")
        values = {"state": state, "ended_at": ended_at, "error": storable(error)}
        with write(self._engine) as connection:
            move(connection, tables.operations, operation_id, ("running",), values)

    def operations(self, database: str | None = None, limit: int = 50) -> list[Operation]:
        """Newest first."""
        return self._newest(tables.operations, Operation, "started_at", database, limit)

    def _newest(
        self,
        table: Table,
        kind: type[T],
        order: str,
        database: str | None,
        limit: int | None,
        *where: ColumnElement[bool],
    ) -> list[T]:
        newest = (table.c[order].desc(), table.c.id.desc())
        query = select(table).where(*where).order_by(*newest).limit(limit)
        if database is not None:
            query = query.where(table.c.database == database)
        with read(self._engine) as connection:
            return [model_of(kind, row) for row in connection.execute(query)]


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
    """Insert it, or a copy of it in another store; False when it is there. Raises
    CatalogError when another is."""
    table = tables.backups
    query = select(table).where(table.c.id == backup.id)
    row = connection.execute(query).one_or_none()
    if row is None:
        connection.execute(insert(table).values(**fields_of(backup)))
        return True
    # A copy has a manifest of its own, and a rebuild knows no duration; all else must agree.
    known = model_of(Backup, row)
    if backup.store_url == known.store_url:
        same = dataclasses.replace(backup, seconds=known.seconds)
    else:
        same = dataclasses.replace(
            backup,
            seconds=known.seconds,
            store_url=known.store_url,
            manifest_sha256=known.manifest_sha256,
        )
    if known != same:
        raise CatalogError(f"another backup is listed as {backup.id}")
    if backup.store_url == known.store_url:
        return False
    return _list_copy(connection, Copy(backup.id, backup.store_url, backup.manifest_sha256))


def _list_copy(connection: Connection, copy: Copy) -> bool:
    table = tables.copies
    query = select(table.c.manifest_sha256).where(
        table.c.backup == copy.backup, table.c.store_url == copy.store_url
    )
    known = connection.execute(query).scalar()
    if known is None:
        connection.execute(insert(table).values(**shallow(copy)))
    elif known != copy.manifest_sha256:
        raise CatalogError(f"another manifest of backup {copy.backup} is listed there")
    return known is None
