"""What was asked for over the API: a durable queue, beside the catalog on its engine."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, exists, insert, select, update

from backups.catalog import request_table
from backups.catalog.journal import append
from backups.catalog.sql import read, write
from backups.catalog.store import SqlCatalog
from backups.errors import Busy, CatalogError, NotFound, UsageError
from backups.format import canonical
from backups.requested import Request

_ADAPTER = TypeAdapter(Request)
_TABLE = request_table.requests


class SqlRequests:
    """A queue; a request is entered once for each key of a customer."""

    def __init__(self, catalog: SqlCatalog) -> None:
        """Uses the catalog's connections; closing that one closes this one."""
        self._engine = catalog._engine
        self._journal = catalog.journal

    def add(self, request: Request, key: str) -> Request:
        """Enter it, or return the one that was entered under `key` before.

        Raises UsageError when that one asked for something else."""
        digest = hashlib.sha256(key.encode()).hexdigest()
        asked = [request.kind, request.database, dict(sorted(request.arguments.items()))]
        body = hashlib.sha256(canonical.dumps(asked)).hexdigest()
        with write(self._engine) as connection:
            mine = (_TABLE.c.customer == request.customer) & (_TABLE.c.key == digest)
            row = connection.execute(select(_TABLE).where(mine)).one_or_none()
            if row is not None:
                if row.body != body:
                    raise UsageError(
                        "this Idempotency-Key was used for another request",
                        hint="Choose a new key for each thing that is asked for.",
                    )
                return _read(row.document)
            connection.execute(
                insert(_TABLE).values(
                    id=request.id,
                    customer=request.customer,
                    database=request.database,
                    state=request.state,
                    created_at=request.created_at,
                    key=digest,
                    body=body,
                    document=_written(request),
                )
            )
            self._note(connection, request, "asked")
        return request

    def asked(self, customer: str, key: str) -> bool:
        """Whether something was entered under that key."""
        digest = hashlib.sha256(key.encode()).hexdigest()
        mine = exists().where(_TABLE.c.customer == customer, _TABLE.c.key == digest)
        with read(self._engine) as connection:
            return bool(connection.execute(select(mine)).scalar())

    def one(self, request_id: str) -> Request:
        """Raises NotFound."""
        with read(self._engine) as connection:
            document = connection.execute(
                select(_TABLE.c.document).where(_TABLE.c.id == request_id)
            ).scalar()
        if document is None:
            raise NotFound(f"there is no operation {request_id!r}")
        return _read(document)

    def all(self, customer: str | None = None, limit: int = 50) -> list[Request]:
        """Newest first."""
        query = select(_TABLE.c.document)
        if customer is not None:
            query = query.where(_TABLE.c.customer == customer)
        query = query.order_by(_TABLE.c.created_at.desc(), _TABLE.c.id.desc()).limit(limit)
        with read(self._engine) as connection:
            return [_read(document) for document in connection.execute(query).scalars()]

    def unfinished(self) -> list[tuple[str, str, datetime]]:
        """Id, customer and when it was asked for of what is still to be done."""
        query = select(_TABLE.c.id, _TABLE.c.customer, _TABLE.c.created_at)
        query = query.where(_TABLE.c.state.in_(("queued", "running")))
        with read(self._engine) as connection:
            rows = connection.execute(query.order_by(_TABLE.c.created_at, _TABLE.c.id))
            return [(row.id, row.customer, row.created_at) for row in rows]

    def take(self, request_id: str, at: datetime) -> Request | None:
        """It is under way from now on; called by who holds its lease. None: it is over, now
        also because it was under way when its process died. Raises NotFound."""
        with write(self._engine) as connection:
            query = select(_TABLE.c.document).where(_TABLE.c.id == request_id)
            document = connection.execute(query.with_for_update()).scalar()
            if document is None:
                raise NotFound(f"there is no operation {request_id!r}")
            request = _read(document)
            if request.state == "running":
                words = "the process that did it ended in the middle"
                dead = replace(request, state="failed", ended_at=at, error=words)
                self._save(connection, replace(dead, hint="Look at it, and ask again."))
            if request.state != "queued":
                return None
            request = replace(request, state="running", started_at=at)
            self._save(connection, request)
            return request

    def save(self, request: Request) -> None:
        """How far it is, or how it ended. Raises Busy when it was taken from us meanwhile."""
        with write(self._engine) as connection:
            self._save(connection, request)

    def _save(self, connection: Connection, request: Request) -> None:
        saved = connection.execute(
            update(_TABLE)
            .where(_TABLE.c.id == request.id, _TABLE.c.state.in_(("queued", "running")))
            .values(state=request.state, document=_written(request))
        )
        if not saved.rowcount:
            raise Busy(f"operation {request.id} is over: it was given up for lost")
        if request.state in ("done", "failed"):
            self._note(connection, request, request.state)

    def _note(self, connection: Connection, request: Request, what: str) -> None:
        told = {"database": request.database, "kind": request.kind, "by": request.by}
        append(
            connection, self._journal, f"request.{what}", request.customer, request.id, told
        )  # fmt: skip


def _written(request: Request) -> str:
    return canonical.dumps(_ADAPTER.dump_python(request, mode="json")).decode()


def _read(document: str) -> Request:
    try:
        return _ADAPTER.validate_json(document)
    except ValidationError as error:
        raise CatalogError("a request in the catalog can't be read") from error
