"""The audit chain, read: adapter of `ports.Audit`, beside the catalog on the same engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Row, select

from backups.catalog import tables
from backups.catalog.journal import append
from backups.catalog.sql import read, write
from backups.catalog.store import SqlCatalog
from backups.keeping import Record

PAGE = 1000
"""Records read at once."""


class SqlAudit:
    """Adapter of `ports.Audit`."""

    def __init__(self, catalog: SqlCatalog) -> None:
        """Uses the catalog's connections; closing that one closes this one."""
        self._engine = catalog._engine
        self._journal = catalog.journal

    def note(
        self,
        action: str,
        customer: str | None,
        subject: str,
        details: Mapping[str, object] | None = None,
    ) -> None:
        """Record what changes nothing in the catalog, such as the use of a key."""
        with write(self._engine) as connection:
            append(connection, self._journal, action, customer, subject, details)

    def records(self, after: int = 0) -> Iterator[Record]:
        """Those with a later sequence, in order, as they are stored: not checked."""
        table = tables.audit
        while True:
            query = select(table).where(table.c.sequence > after)
            with read(self._engine) as connection:
                page = connection.execute(query.order_by(table.c.sequence).limit(PAGE)).all()
            yield from map(record_of, page)
            if len(page) < PAGE:
                return
            after = page[-1].sequence


def record_of(row: Row[Any]) -> Record:
    """A row of `audit`."""
    fields = dict(row._mapping)
    del fields["digest"]  # only ever computed anew
    return Record(**fields)
