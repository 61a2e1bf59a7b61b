"""How things stand with customers and databases, and whether the catalog may be trusted to
delete: adapters of `ports.Standings` and `ports.Reconciliation`, on the catalog's engine."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select

from backups.catalog import tables
from backups.catalog.journal import append
from backups.catalog.sql import read, write
from backups.catalog.store import SqlCatalog
from backups.declared import Standing


class SqlStandings:
    """Adapter of `ports.Standings`; they are written by `SqlCatalog.save_policies`."""

    def __init__(self, catalog: SqlCatalog) -> None:
        """Uses the catalog's connections; closing that one closes this one."""
        self._engine = catalog._engine

    def standings(self, customer: str | None = None) -> list[Standing]:
        """By customer and database, of those that ever had one."""
        table = tables.standings
        query = select(table).order_by(table.c.customer, table.c.database)
        if customer is not None:
            query = query.where(table.c.customer == customer)
        with read(self._engine) as connection:
            return [Standing(**row._mapping) for row in connection.execute(query)]


class SqlReconciliation:
    """Adapter of `ports.Reconciliation`."""

    def __init__(self, catalog: SqlCatalog) -> None:
        """Uses the catalog's connections; closing that one closes this one."""
        self._engine = catalog._engine
        self._journal = catalog.journal

    def doubt(self, at: datetime, why: str) -> None:
        """From now on nothing is known of any store, until it was read."""
        with write(self._engine) as connection:
            connection.execute(insert(tables.doubts).values(since=at, why=why))
            append(connection, self._journal, "catalog.doubted", None, "catalog", {"why": why})

    def saw_whole(self, store_url: str, at: datetime) -> None:
        """All that lies in a store was listed, and all of it was believed."""
        table = tables.readings
        with write(self._engine) as connection:
            if not _doubted(connection):
                return
            connection.execute(delete(table).where(table.c.store_url == store_url))
            connection.execute(insert(table).values(store_url=store_url, read_at=at))
            append(connection, self._journal, "catalog.reconciled", None, store_url)

    def unread(self, store_urls: Iterable[str]) -> list[str]:
        """Those that were not seen whole since the catalog was last doubted."""
        table = tables.readings
        with read(self._engine) as connection:
            since = _doubted(connection)
            if since is None:
                return []
            query = select(table.c.store_url).where(table.c.read_at >= since)
            seen = set(connection.execute(query).scalars())
        return [url for url in store_urls if url not in seen]


def _doubted(connection: Connection) -> datetime | None:
    since: datetime | None = connection.execute(
        select(func.max(tables.doubts.c.since))
    ).scalar()
    return since
