"""Customers' consent to the use of their own restore keys, beside the catalog on its engine."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import insert, select, update

from backups.catalog.journal import append
from backups.catalog.request_table import grants
from backups.catalog.sql import read, storable, write
from backups.catalog.store import SqlCatalog
from backups.ids import uuid7
from backups.keeping import Grant


class SqlGrants:
    """Time-boxed; each change is in the audit chain. Raises CatalogError."""

    def __init__(self, catalog: SqlCatalog) -> None:
        """Uses the catalog's connections; closing that one closes this one."""
        self._engine = catalog._engine
        self._journal = catalog.journal

    def add(
        self, customer: str, until: datetime, reason: str, name: str, now: datetime
    ) -> Grant:
        """One more; the latest end counts."""
        grant_id = uuid7(now, self._journal.entropy.bytes(10))
        grant = Grant(
            grant_id, customer, storable(reason) or "", storable(name) or "", now, until
        )
        with write(self._engine) as connection:
            connection.execute(insert(grants).values(**asdict(grant)))
            told = {"until": until.isoformat(), "reason": reason, "name": name}
            append(connection, self._journal, "key.granted", customer, grant.id, told)
        return grant

    def revoke(self, customer: str, name: str, now: datetime) -> int:
        """End all that are in force; returns how many were."""
        mine = (grants.c.customer == customer) & grants.c.revoked_at.is_(None)
        with write(self._engine) as connection:
            done = connection.execute(
                update(grants).where(mine, grants.c.until > now).values(revoked_at=now)
            ).rowcount
            told = {"grants": done, "name": name}
            append(connection, self._journal, "key.revoked", customer, customer, told)
        return done

    def in_force(self, customer: str, now: datetime) -> Grant | None:
        """The one that lasts longest; None: there is none."""
        query = (
            select(grants)
            .where(
                grants.c.customer == customer,
                grants.c.until > now,
                grants.c.granted_at <= now,
                grants.c.revoked_at.is_(None),
            )
            .order_by(grants.c.until.desc())
            .limit(1)
        )
        with read(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return Grant(**row._mapping) if row else None
