"""Leases with fencing epochs: adapter of `ports.Leases`, beside the catalog on its engine."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import insert, select, update

from backups.catalog import tables
from backups.catalog.sql import write
from backups.catalog.store import SqlCatalog
from backups.errors import Busy

LONGEST = timedelta(hours=1)
"""A lease that ends later than this was written by a clock that was wrong, and is over."""


class SqlLeases:
    """Adapter of `ports.Leases`."""

    def __init__(self, catalog: SqlCatalog) -> None:
        """Uses the catalog's connections; closing that one closes this one."""
        self._engine = catalog._engine

    def acquire(
        self, name: str, holder: str, now: datetime, length: timedelta, *, dead: str = ""
    ) -> int:
        """See the port."""
        table = tables.leases
        values = {"holder": holder, "ends_at": now + min(length, LONGEST)}
        with write(self._engine) as connection:
            query = select(table).where(table.c.name == name).with_for_update()
            row = connection.execute(query).one_or_none()
            if row is None:
                connection.execute(insert(table).values(name=name, epoch=1, **values))
                return 1
            live = row.ends_at is not None and now < row.ends_at <= now + LONGEST
            if live and not (dead and row.holder.startswith(dead)):
                seconds = (row.ends_at - now).total_seconds()
                raise Busy(
                    f"{name.partition('/')[2] or name} is held by another process",
                    hint=f"Its lease ends in {seconds:.0f} s unless it is renewed.",
                )
            epoch = int(row.epoch) + 1
            connection.execute(
                update(table).where(table.c.name == name).values(epoch=epoch, **values)
            )
            return epoch

    def renew(self, name: str, epoch: int, now: datetime, length: timedelta) -> None:
        """See the port."""
        self._set(name, epoch, now + min(length, LONGEST))

    def release(self, name: str, epoch: int) -> None:
        """See the port."""
        try:
            self._set(name, epoch, None)
        except Busy:
            return  # it was lost already

    def _set(self, name: str, epoch: int, ends_at: datetime | None) -> None:
        table = tables.leases
        mine = (table.c.name == name) & (table.c.epoch == epoch)
        if ends_at is not None:
            mine &= table.c.ends_at.is_not(None)
        with write(self._engine) as connection:
            done = connection.execute(update(table).where(mine).values(ends_at=ends_at))
        if not done.rowcount:
            raise Busy(f"{name.partition('/')[2] or name} was taken over by another process")
