"""What pages and calls ask of the catalog: each a query that costs what it shows, however much
there is beside it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Select, and_, func, or_, select

from backups.catalog import tables
from backups.catalog.audit import record_of
from backups.catalog.sql import model_of, read
from backups.catalog.store import SqlCatalog
from backups.keeping import Record
from backups.model import Backup


class SqlLooks:
    """Reads alone. Raises CatalogError."""

    def __init__(self, catalog: SqlCatalog) -> None:
        """Uses the catalog's connections; closing that one closes this one."""
        self._engine = catalog._engine

    def newest(self, customer: str | None) -> dict[str, Backup]:
        """Every database's newest listed backup; of one customer, or of all."""
        table = tables.backups
        last = select(table.c.database, func.max(table.c.created_at).label("at"))
        last = last.where(tables.is_listed).group_by(table.c.database)
        if customer is not None:
            last = last.where(table.c.customer == customer)
        of = last.subquery()
        mine = and_(table.c.database == of.c.database, table.c.created_at == of.c.at)
        query = select(table).join(of, mine).where(tables.is_listed).order_by(table.c.id)
        with read(self._engine) as connection:
            rows = connection.execute(query)
            return {row.database: model_of(Backup, row) for row in rows}

    def backups(self, database: str, limit: int, before: Backup | None = None) -> list[Backup]:
        """Listed ones, newest first, older than `before`."""
        table = tables.backups
        query = select(table).where(table.c.database == database, tables.is_listed)
        if before is not None:
            same = and_(table.c.created_at == before.created_at, table.c.id < before.id)
            query = query.where(or_(table.c.created_at < before.created_at, same))
        query = query.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
        with read(self._engine) as connection:
            return [model_of(Backup, row) for row in connection.execute(query)]

    def one(self, database: str, backup: str) -> Backup | None:
        """A backup of that database, though it be listed no more."""
        table = tables.backups
        query = select(table).where(table.c.database == database, table.c.id == backup)
        with read(self._engine) as connection:
            row = connection.execute(query).one_or_none()
            return None if row is None else model_of(Backup, row)

    def taken(self, database: str, since: datetime) -> list[tuple[datetime, str]]:
        """When each listed backup was taken, newest first, with its id."""
        table = tables.backups
        mine = (table.c.database == database, table.c.created_at >= since, tables.is_listed)
        query = select(table.c.created_at, table.c.id).where(*mine)
        with read(self._engine) as connection:
            rows = connection.execute(query.order_by(table.c.created_at.desc()))
            return [(row.created_at, row.id) for row in rows]

    def copies(self, backups: Collection[str]) -> dict[str, int]:
        """How many copies those of them have that have any."""
        table = tables.copies
        query = select(table.c.backup, func.count().label("many")).group_by(table.c.backup)
        with read(self._engine) as connection:
            rows = connection.execute(query.where(table.c.backup.in_(backups)))
            return {row.backup: row.many for row in rows}

    def verdicts(self, backups: Collection[str]) -> dict[str, str]:
        """What the last restore test of each said, of those that had one."""
        table = tables.evidence
        query = select(table.c.about, table.c.outcome).order_by(table.c.sequence)
        mine = query.where(table.c.kind == "drill", table.c.about.in_(backups))
        with read(self._engine) as connection:
            return {row.about: row.outcome for row in connection.execute(mine)}

    def last_tests(self, customer: str | None) -> dict[str, tuple[str, datetime]]:
        """Every database's last restore test: its verdict, and when it ended."""
        table = tables.evidence
        last = select(func.max(table.c.sequence)).where(table.c.kind == "drill")
        if customer is not None:
            last = last.where(table.c.customer == customer)
        query = select(table).where(table.c.sequence.in_(last.group_by(table.c.database)))
        with read(self._engine) as connection:
            rows = connection.execute(query)
            return {row.database: (row.outcome, row.at) for row in rows}

    def events(
        self, actions: Collection[str], customer: str | None, after: int, limit: int
    ) -> list[Record]:
        """Records of those actions about a customer, oldest first, with a later sequence."""
        query = _events(actions, customer).where(tables.audit.c.sequence > after)
        return self._records(query.order_by(tables.audit.c.sequence).limit(limit))

    def last_events(
        self, actions: Collection[str], customer: str | None, limit: int
    ) -> list[Record]:
        """The same, newest first."""
        query = _events(actions, customer).order_by(tables.audit.c.sequence.desc())
        return self._records(query.limit(limit))

    def _records(self, query: Select[tuple[object, ...]]) -> list[Record]:
        with read(self._engine) as connection:
            return [record_of(row) for row in connection.execute(query)]


def _events(actions: Collection[str], customer: str | None) -> Select[tuple[object, ...]]:
    table = tables.audit
    query = select(table).where(table.c.action.in_(actions), table.c.customer.is_not(None))
    return query if customer is None else query.where(table.c.customer == customer)
