"""When each chore was last done: adapter of `ports.Diary`, beside the catalog on its engine."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import insert, select, update

from backups.catalog import tables
from backups.catalog.sql import read, storable, write
from backups.catalog.store import SqlCatalog
from backups.keeping import Attempt


class SqlDiary:
    """Adapter of `ports.Diary`."""

    def __init__(self, catalog: SqlCatalog) -> None:
        """Uses the catalog's connections; closing that one closes this one."""
        self._engine = catalog._engine

    def attempts(self) -> dict[str, Attempt]:
        """The last one of every chore that was ever begun."""
        with read(self._engine) as connection:
            rows = connection.execute(select(tables.chores)).all()
        return {row.name: Attempt(row.began_at, row.ended_at, row.error) for row in rows}

    def begin(self, chore: str, at: datetime) -> None:
        """It is under way."""
        table = tables.chores
        values = {"began_at": at, "ended_at": None, "error": None}
        with write(self._engine) as connection:
            mine = update(table).where(table.c.name == chore)
            if not connection.execute(mine.values(**values)).rowcount:
                connection.execute(insert(table).values(name=chore, **values))

    def end(self, chore: str, at: datetime, error: str | None) -> None:
        """It is over, well or with what went wrong."""
        table = tables.chores
        with write(self._engine) as connection:
            connection.execute(
                update(table)
                .where(table.c.name == chore)
                .values(ended_at=at, error=storable(error))
            )
