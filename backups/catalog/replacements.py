"""Replacements of live databases: adapter of `run.replace.Replacements`."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import insert, select, update

from backups.catalog import tables
from backups.catalog.journal import append
from backups.catalog.sql import read, write
from backups.catalog.store import SqlCatalog
from backups.errors import CatalogError, NotFound
from backups.format import canonical
from backups.replacing import Replacement

_ADAPTER = TypeAdapter(Replacement)


class SqlReplacements:
    """Adapter of `run.replace.Replacements`."""

    def __init__(self, catalog: SqlCatalog) -> None:
        """Uses the catalog's connections; closing that one closes this one."""
        self._engine = catalog._engine
        self._journal = catalog.journal

    def save(self, plan: Replacement, action: str) -> None:
        """As it is now, and in the audit chain what was done."""
        table = tables.replacements
        document = canonical.dumps(_ADAPTER.dump_python(plan, mode="json")).decode()
        values = {"state": plan.state, "document": document}
        told = {
            "database": plan.database, "backup": plan.backup, "target": plan.target,
            "plan": plan.digest, "step": plan.step, "by": plan.started_by or plan.planned_by,
        }  # fmt: skip
        optional = {
            "approved_by": plan.approved_by, "broke_glass": plan.broke_glass,
            "accepted_by": plan.accepted_by, "ticket": plan.ticket, "consent": plan.consent,
            "error": plan.error,
        }  # fmt: skip
        with write(self._engine) as connection:
            mine = update(table).where(table.c.id == plan.id).values(**values)
            if not connection.execute(mine).rowcount:
                connection.execute(
                    insert(table).values(
                        id=plan.id,
                        customer=plan.customer,
                        database=plan.database,
                        planned_at=plan.planned_at,
                        **values,
                    )
                )
            append(
                connection, self._journal, f"replacement.{action}", plan.customer, plan.id,
                told | {name: value for name, value in optional.items() if value},
            )  # fmt: skip

    def one(self, plan_id: str) -> Replacement:
        """Raises NotFound."""
        table = tables.replacements
        with read(self._engine) as connection:
            document = connection.execute(
                select(table.c.document).where(table.c.id == plan_id)
            ).scalar()
        if document is None:
            raise NotFound(
                f"there is no replacement {plan_id!r}", hint="See `backups replace list`."
            )
        return _read(document)

    def all(self, database: str | None = None) -> list[Replacement]:
        """Newest first."""
        table = tables.replacements
        query = select(table.c.document).order_by(table.c.planned_at.desc(), table.c.id.desc())
        if database is not None:
            query = query.where(table.c.database == database)
        with read(self._engine) as connection:
            return [_read(document) for document in connection.execute(query).scalars()]


def _read(document: str) -> Replacement:
    try:
        return _ADAPTER.validate_json(document)
    except ValidationError as error:
        raise CatalogError("a replacement in the catalog can't be read") from error
