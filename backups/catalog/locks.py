"""Locks that die with their process, among all machines that share a catalog on PostgreSQL:
advisory ones of a session (PostgreSQL manual, section 13.3.5)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from backups.catalog.sql import translated
from backups.catalog.store import SqlCatalog
from backups.errors import Busy


@contextmanager
def advisory(
    catalog: SqlCatalog, name: str, by: str, *, shared: bool = False
) -> Iterator[None]:
    """Hold `name` until the block ends. Raises Busy when another process does `by` with it."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    how = "_shared" if shared else ""
    with translated():
        connection = catalog._engine.connect()
    with connection:
        with translated():
            got = connection.execute(text(f"SELECT pg_try_advisory_lock{how}({key})")).scalar()
            connection.commit()
        if not got:
            raise Busy(f"{by} of {name.partition('.')[0]} is under way already")
        try:
            yield
        finally:
            # Closed for good: the server lets go of the lock, whatever became of the session.
            connection.invalidate()
