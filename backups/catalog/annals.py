"""What was, for a report: one reading of the catalog, of one span of time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, select

from backups.catalog import tables
from backups.catalog.rows import rule_of, scrub_of
from backups.catalog.sql import model_of, read
from backups.catalog.store import SqlCatalog
from backups.declared import Standing
from backups.keeping import Annals, Deletion
from backups.model import Backup, Operation, Run


def annals(catalog: SqlCatalog, since: datetime, until: datetime) -> Annals:
    """All that happened in `[since, until)`, in one transaction. Raises CatalogError."""
    with read(catalog._engine) as connection:

        def rows(table: Any, column: str) -> Iterator[Row[Any]]:
            at = table.c[column]
            query = select(table).where(at >= since, at < until)
            key = table.c.get("id", table.c.get("backup"))
            return iter(connection.execute(query.order_by(at, key)))

        policies, standings = tables.policies, tables.standings
        rules = select(policies.c.rule).order_by(
            policies.c.customer, policies.c.database, policies.c.version
        )
        now = select(standings).order_by(standings.c.customer, standings.c.database)
        return Annals(
            policies=[rule_of(row.rule) for row in connection.execute(rules)],
            standings=[Standing(**row._mapping) for row in connection.execute(now)],
            runs=[model_of(Run, row) for row in rows(tables.runs, "started_at")],
            backups=[model_of(Backup, row) for row in rows(tables.backups, "created_at")],
            kept=[(*row,) for row in connection.execute(_kept(until))],
            deletions=[
                Deletion(**row._mapping) for row in rows(tables.deletions, "deleted_at")
            ],
            scrubs=[scrub_of(row) for row in rows(tables.scrubs, "started_at")],
            operations=[
                model_of(Operation, row) for row in rows(tables.operations, "started_at")
            ],
        )


def _kept(until: datetime) -> Select[Any]:
    backups, deletions = tables.backups, tables.deletions
    deleted = select(deletions.c.backup).where(deletions.c.deleted_at < until)
    whose = (backups.c.customer, backups.c.database)
    return (
        select(*whose, func.count())
        .where(backups.c.created_at < until, backups.c.id.not_in(deleted))
        .group_by(*whose)
        .order_by(*whose)
    )
