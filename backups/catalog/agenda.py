"""What the schedule reads: adapter of `ports.Agenda`, beside the catalog on its engine."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from sqlalchemy import func, select

from backups.catalog import tables
from backups.catalog.sql import read
from backups.catalog.store import SqlCatalog
from backups.model import History


class SqlAgenda:
    """Adapter of `ports.Agenda`."""

    def __init__(self, catalog: SqlCatalog) -> None:
        """Uses the catalog's connections; closing that one closes this one."""
        self._engine = catalog._engine

    def revision(self) -> str:
        """See the port."""
        # Policies are only ever added; a standing that changes gets a new date.
        policies, standings = tables.policies, tables.standings
        queries = (
            select(func.count()).select_from(policies),
            select(func.count()).select_from(standings),
            select(func.max(standings.c.since)),
        )
        with read(self._engine) as connection:
            return " ".join(str(connection.execute(query).scalar()) for query in queries)

    def histories(self, since: datetime, database: str | None = None) -> dict[str, History]:
        """See the port."""
        backups, runs = tables.backups, tables.runs
        # A deleted backup was taken all the same: its day is not done again.
        taken = select(backups.c.database, backups.c.created_at).where(
            backups.c.created_at >= since
        )
        failed = select(
            runs.c.database, runs.c.state, runs.c.started_at, runs.c.ended_at
        ).where(runs.c.started_at >= since, runs.c.state.in_(("failed", "interrupted")))
        if database is not None:
            taken = taken.where(backups.c.database == database)
            failed = failed.where(runs.c.database == database)
        with read(self._engine) as connection:
            lists: dict[str, tuple[list[datetime], ...]] = defaultdict(lambda: ([], [], []))
            for name, created_at in connection.execute(taken):
                lists[name][0].append(created_at)
            for name, state, started_at, ended_at in connection.execute(failed):
                over = state == "failed"
                lists[name][1 if over else 2].append(ended_at if over else started_at)
        return {
            name: History(*(tuple(sorted(instants)) for instants in found))
            for name, found in lists.items()
        }
