"""The audit chain, written: appended in the very transaction of what it records, so that
no change is without its record and no record without its change.

The table refuses updates and deletions by triggers; what gets round them breaks the chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, text

from backups.catalog import tables
from backups.catalog.sql import shallow, storable
from backups.format.audit import digest
from backups.keeping import FIRST, Record
from backups.ports import Clock, Entropy


@dataclass(frozen=True, slots=True)
class Journal:
    """Who is at work, and what a record needs of the world."""

    actor: str
    clock: Clock
    entropy: Entropy


def append(
    connection: Connection,
    journal: Journal,
    action: str,
    customer: str | None,
    subject: str,
    details: Mapping[str, object] | None = None,
) -> None:
    """Add a record to the end of the chain, as part of the connection's transaction."""
    if connection.dialect.name == "postgresql":  # SQLite's writers are one at a time anyway
        connection.execute(text("LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE"))
    table = tables.audit
    query = select(table.c.sequence, table.c.digest).order_by(table.c.sequence.desc()).limit(1)
    last = connection.execute(query).one_or_none()
    record = Record(
        sequence=last.sequence + 1 if last else 1,
        at=journal.clock.now(),
        actor=journal.actor,
        action=action,
        customer=customer,
        subject=subject,
        details={name: storable(str(value)) or "" for name, value in (details or {}).items()},
        salt=journal.entropy.bytes(32).hex(),
        previous=last.digest if last else FIRST,
    )
    connection.execute(insert(table).values(**shallow(record), digest=digest(record)))
