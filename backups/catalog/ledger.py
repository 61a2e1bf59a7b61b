"""Holds and deletions: adapter of `ports.Ledger`, beside the catalog on the same engine."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Row, exists, func, insert, select, union, update

from backups.catalog import tables
from backups.catalog.journal import append
from backups.catalog.sql import read, shallow, storable, write
from backups.catalog.store import SqlCatalog
from backups.errors import CatalogError, NotFound
from backups.keeping import Chronicle, Deletion, Hold, Release
from backups.model import Plan

_PLAN = TypeAdapter(Plan)


class SqlLedger:
    """See `ports.Ledger`. May be used from several threads and processes at once."""

    def __init__(self, catalog: SqlCatalog) -> None:
        """Uses the catalog's connections; closing that one closes this one."""
        self._engine = catalog._engine
        self._journal = catalog.journal

    # --- holds

    def add_hold(self, hold: Hold) -> bool:
        """Record a hold of a listed backup; False when it was known.

        Raises NotFound when the backup is not listed, CatalogError when another hold has
        its id.
        """
        table, backups = tables.holds, tables.backups
        mine = (backups.c.id == hold.backup) & (backups.c.database == hold.database)
        with write(self._engine) as connection:
            # Locked against `delete_backup`: of the two, one sees what the other did.
            query = select(backups.c.id).where(mine, tables.is_listed).with_for_update()
            if connection.execute(query).one_or_none() is None:
                raise NotFound(f"there is no backup {hold.backup!r} of {hold.database}")
            row = connection.execute(select(table).where(table.c.id == hold.id)).one_or_none()
            if row is not None:
                if _hold(row)[0] != hold:
                    raise CatalogError(f"another hold is recorded as {hold.id}")
                return False
            connection.execute(insert(table).values(**shallow(hold)))
            append(
                connection, self._journal, "hold.added", hold.customer, hold.backup,
                {"hold": hold.id, "reason": hold.reason, "name": hold.name},
            )  # fmt: skip
            return True

    def release_hold(self, release: Release) -> bool:
        """Record that a hold is over; False when it was known. Raises NotFound."""
        table = tables.holds
        values = {"released_by": release.name, "released_at": release.released_at}
        mine = (table.c.id == release.hold) & (table.c.backup == release.backup)
        with write(self._engine) as connection:
            in_force = update(table).where(mine, table.c.released_at.is_(None))
            if connection.execute(in_force.values(**values)).rowcount:
                append(
                    connection, self._journal, "hold.released", release.customer,
                    release.backup, {"hold": release.hold, "name": release.name},
                )  # fmt: skip
                return True
            if connection.execute(select(table.c.id).where(mine)).one_or_none() is None:
                raise NotFound(f"there is no hold {release.hold!r}")
            return False

    def holds(self, database: str | None = None) -> list[tuple[Hold, Release | None]]:
        """Newest first, those that are over too."""
        table = tables.holds
        query = select(table).order_by(table.c.placed_at.desc(), table.c.id.desc())
        if database is not None:
            query = query.where(table.c.database == database)
        with read(self._engine) as connection:
            return [_hold(row) for row in connection.execute(query)]

    # --- deletions

    def delete_backup(self, deletion: Deletion) -> bool:
        """List the backup no more; False, and nothing is done, when a hold is in force.

        May be repeated. Raises NotFound.
        """
        table, holds, backups = tables.deletions, tables.holds, tables.backups
        values = {**shallow(deletion), "reason": storable(deletion.reason)}
        with write(self._engine) as connection:
            row = select(backups.c.id).where(backups.c.id == deletion.backup)
            if connection.execute(row.with_for_update()).one_or_none() is None:
                raise NotFound(f"there is no backup {deletion.backup!r}")
            held = select(holds.c.id).where(
                holds.c.backup == deletion.backup,
                holds.c.released_at.is_(None),
                holds.c.until.is_(None) | (holds.c.until > deletion.deleted_at),
            )
            if connection.execute(held.limit(1)).one_or_none() is not None:
                return False
            known = select(table.c.backup).where(table.c.backup == deletion.backup)
            if connection.execute(known).one_or_none() is None:
                connection.execute(insert(table).values(**values))
                append(
                    connection, self._journal, "backup.deleted", deletion.customer,
                    deletion.backup, {"rule": deletion.rule, "reason": deletion.reason},
                )  # fmt: skip
            return True

    def finish_deletion(self, backup_id: str, at: datetime) -> None:
        """The last of its objects is gone. May be repeated."""
        table = tables.deletions
        with write(self._engine) as connection:
            connection.execute(
                update(table)
                .where(table.c.backup == backup_id, table.c.removed_at.is_(None))
                .values(removed_at=at)
            )

    def deletions(self, database: str) -> list[Deletion]:
        """Newest first."""
        table = tables.deletions
        query = (
            select(table)
            .where(table.c.database == database)
            .order_by(table.c.deleted_at.desc(), table.c.backup.desc())
        )
        with read(self._engine) as connection:
            return [Deletion(**row._mapping) for row in connection.execute(query)]

    def stores(self, database: str) -> list[str]:
        """URLs of the stores in which its backups are listed, or being deleted."""
        backups, copies, deletions = tables.backups, tables.copies, tables.deletions
        gone = (deletions.c.backup == backups.c.id) & deletions.c.removed_at.is_not(None)
        there = (backups.c.database == database) & ~exists().where(gone)
        firsts = select(backups.c.store_url).where(there)
        further = (
            select(copies.c.store_url).join(backups, backups.c.id == copies.c.backup)
        ).where(there)
        with read(self._engine) as connection:
            return sorted(connection.execute(union(firsts, further)).scalars())

    # --- the past

    def plans(self, database: str) -> list[tuple[Plan, datetime | None]]:
        """The plan of every version of its policy, oldest first, with the start of the first
        run under that version."""
        policies, runs = tables.policies, tables.runs
        first = (
            select(func.min(runs.c.started_at))
            .where(
                runs.c.database == policies.c.database,
                runs.c.policy_version == policies.c.version,
            )
            .scalar_subquery()
        )
        query = (
            select(policies.c.rule, first.label("first"))
            .where(policies.c.database == database)
            .order_by(policies.c.version)
        )
        with read(self._engine) as connection:
            return [(_plan(row.rule), row.first) for row in connection.execute(query)]

    def chronicle(self, since: datetime) -> Chronicle:
        """What all records say of time, around `since`."""
        columns = [
            tables.runs.c.started_at,
            tables.backups.c.created_at,
            tables.operations.c.started_at,
            tables.scrubs.c.started_at,
        ]
        with read(self._engine) as connection:

            def ask(query: Any) -> datetime | None:
                found: datetime | None = connection.execute(query).scalar()
                return found

            newest = [ask(select(func.max(column))) for column in columns]
            after = [ask(select(func.min(c)).where(c >= since)) for c in columns]
            before = [ask(select(func.max(c)).where(c < since)) for c in columns]
        return Chronicle(
            newest=max(filter(None, newest), default=None),
            first_since=min(filter(None, after), default=None),
            last_before=max(filter(None, before), default=None),
        )


def _plan(rule: Any) -> Plan:
    try:
        return _PLAN.validate_python(rule["plan"])
    except (ValidationError, LookupError, TypeError) as error:
        raise CatalogError("a policy in the catalog can't be read") from error


def _hold(row: Row[Any]) -> tuple[Hold, Release | None]:
    fields = dict(row._mapping)
    by, at = fields.pop("released_by"), fields.pop("released_at")
    hold = Hold(**fields)
    if at is None:
        return hold, None
    return hold, Release(hold.id, hold.customer, hold.database, hold.backup, by, at)
