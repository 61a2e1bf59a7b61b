"""What the catalog's calls have in common: whose a database is, its rule, and how a backup is
listed."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, Row, insert, select, update

from backups.catalog import tables
from backups.catalog.sql import fields_of, model_of, shallow
from backups.errors import Busy, CatalogError
from backups.ids import lease_name
from backups.model import Backup, Copy, Policy, Run, Scrub

POLICY = TypeAdapter(Policy)
SCRUB = TypeAdapter(Scrub)


def claim(connection: Connection, database: str, customer: str) -> None:
    """Record whose database it is, and hold it against other writers."""
    table = tables.databases
    query = select(table.c.customer).where(table.c.id == database).with_for_update()
    owner = connection.execute(query).scalar_one_or_none()
    if owner is None:
        connection.execute(insert(table).values(id=database, customer=customer))
    elif owner != customer:
        raise CatalogError(
            f"database {database} belongs to customer {owner}, not to {customer}",
            hint="A database's id is never passed on: choose another id.",
        )


def newest_policy(
    connection: Connection, database: str, version: int | None = None
) -> Policy | None:
    """The newest version of its rule, or a given one; None when there is none."""
    table = tables.policies
    query = select(table.c.rule).where(table.c.database == database)
    if version is not None:
        query = query.where(table.c.version == version)
    rule = connection.execute(query.order_by(table.c.version.desc()).limit(1)).scalar()
    return rule_of(rule) if rule is not None else None


def rule_of(document: Any) -> Policy:
    """A stored rule as a policy. Raises CatalogError."""
    try:
        return POLICY.validate_python(document)
    except ValidationError as error:
        raise CatalogError("a policy in the catalog can't be read") from error


def scrub_of(row: Row[Any]) -> Scrub:
    """A stored scrub."""
    return SCRUB.validate_python(dict(row._mapping))


def list_backup(connection: Connection, backup: Backup) -> bool:
    """Insert it, or a copy of it in another store; False when it is there. Raises
    CatalogError when another is."""
    table = tables.backups
    query = select(table).where(table.c.id == backup.id)
    row = connection.execute(query).one_or_none()
    if row is None:
        connection.execute(insert(table).values(**fields_of(backup)))
        return True
    # A copy has a manifest of its own, and a rebuild knows no duration; all else must agree.
    known = model_of(Backup, row)
    if row.warnings is None:
        known = dataclasses.replace(known, warnings=backup.warnings)
        values = {"warnings": list(backup.warnings)}
        connection.execute(update(table).where(table.c.id == backup.id).values(**values))
    if backup.store_url == known.store_url:
        same = dataclasses.replace(backup, seconds=known.seconds)
    else:
        same = dataclasses.replace(
            backup,
            seconds=known.seconds,
            store_url=known.store_url,
            manifest_sha256=known.manifest_sha256,
        )
    if known != same:
        raise CatalogError(f"another backup is listed as {backup.id}")
    if backup.store_url == known.store_url:
        return False
    return list_copy(connection, Copy(backup.id, backup.store_url, backup.manifest_sha256))


def list_copy(connection: Connection, copy: Copy) -> bool:
    """Insert it; False when it is there. Raises CatalogError when another manifest is."""
    table = tables.copies
    query = select(table.c.manifest_sha256).where(
        table.c.backup == copy.backup, table.c.store_url == copy.store_url
    )
    known = connection.execute(query).scalar()
    if known is None:
        connection.execute(insert(table).values(**shallow(copy)))
    elif known != copy.manifest_sha256:
        raise CatalogError(f"another manifest of backup {copy.backup} is listed there")
    return known is None


def place_copy(connection: Connection, backup: Backup, copy: Copy) -> bool:
    """Say what lies in one of a backup's stores now; False when that was known."""
    first = copy.store_url == backup.store_url
    table = tables.backups if first else tables.copies
    where = (
        table.c.id == backup.id
        if first
        else (table.c.backup == backup.id) & (table.c.store_url == copy.store_url)
    )
    known = connection.execute(select(table.c.manifest_sha256).where(where)).scalar()
    if known is None:
        return list_copy(connection, copy)
    if known == copy.manifest_sha256:
        return False
    values = {"manifest_sha256": copy.manifest_sha256}
    connection.execute(update(table).where(where).values(values))
    return True


def refuse_fenced(connection: Connection, run: Run) -> None:
    """Raise Busy when the lease under which the run starts is not the newest any more."""
    if run.epoch is None:
        return
    table = tables.leases
    query = select(table.c.epoch).where(table.c.name == lease_name(run.database))
    newest = connection.execute(query.with_for_update()).scalar()
    if newest is not None and newest > run.epoch:
        raise Busy(f"{run.database} was taken over by another process")
