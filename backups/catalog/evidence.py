"""Evidence of restore tests: adapter of `ports.Archive`, beside the catalog on its engine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import exists, func, insert, select

from backups.catalog import tables
from backups.catalog.journal import append
from backups.catalog.sql import read, write
from backups.catalog.store import SqlCatalog
from backups.errors import CatalogError, NotFound
from backups.format import canonical
from backups.notify.proof import Failing, Outcome
from backups.proving import (
    Begun,
    Drill,
    Evidence,
    Examination,
    Opinion,
    Publication,
    SelfTest,
)


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    adapter: TypeAdapter[Any]
    at: Callable[[Any], datetime]
    told: Callable[[Any], Mapping[str, object]]
    """What the audit record says beside the digest."""
    about: Callable[[Any], str | None] = lambda _: None
    outcome: Callable[[Any], str | None] = lambda _: None


_EXAMINATION = TypeAdapter(Examination)
_KINDS: Mapping[type, _Kind] = MappingProxyType(
    {
        Begun: _Kind(
            "begun", TypeAdapter(Begun), lambda e: e.at, lambda e: {"backup": e.backup}
        ),
        Drill: _Kind(
            "drill",
            TypeAdapter(Drill),
            lambda e: e.ended_at,
            lambda e: {"backup": e.backup, "verdict": e.verdict, "level": e.level},
            about=lambda e: e.backup,
            outcome=lambda e: e.verdict,
        ),
        SelfTest: _Kind(
            "self-test",
            TypeAdapter(SelfTest),
            lambda e: e.ended_at,
            lambda e: {
                "backup": e.backup,
                "caught": sum(trial.caught for trial in e.trials),
                "trials": len(e.trials),
            },
            about=lambda e: e.backup,
            outcome=lambda e: "MISSED" if e.missed else "INCONCLUSIVE" if e.error else "PASSED",
        ),
        Publication: _Kind(
            "publication",
            TypeAdapter(Publication),
            lambda e: e.built_at,
            lambda e: {"month": e.month, "statement": e.statement_sha256},
            about=lambda e: e.month,
            outcome=lambda e: e.month,
        ),
        Examination: _Kind(
            "examination",
            _EXAMINATION,
            lambda e: e.at,
            lambda e: {
                "store": e.store_url,
                "failed": len(e.failed),
            },
            about=lambda e: hashlib.sha256(e.store_url.encode()).hexdigest(),
            outcome=lambda e: "FAILED" if e.failed else "PASSED",
        ),
        Opinion: _Kind(
            "opinion",
            TypeAdapter(Opinion),
            lambda e: e.at,
            lambda e: {"drill": e.drill, "passed": e.passed},
        ),
    }
)
_ADAPTERS = {kind.name: kind.adapter for kind in _KINDS.values()}


class SqlArchive:
    """Adapter of `ports.Archive`."""

    def __init__(self, catalog: SqlCatalog) -> None:
        """Uses the catalog's connections; closing that one closes this one."""
        self._engine = catalog._engine
        self._journal = catalog.journal

    def add(self, evidence: Evidence) -> None:
        """Keep it, and its digest in the audit chain. Raises CatalogError when there is one
        with that id already."""
        kind = _KINDS[type(evidence)]
        document = canonical.dumps(kind.adapter.dump_python(evidence, mode="json"))
        database = getattr(evidence, "database", None)
        with write(self._engine) as connection:
            connection.execute(
                insert(tables.evidence).values(
                    id=evidence.id,
                    kind=kind.name,
                    customer=evidence.customer or None,
                    database=database,
                    about=kind.about(evidence),
                    outcome=kind.outcome(evidence),
                    at=kind.at(evidence),
                    document=document.decode(),
                )
            )
            append(
                connection,
                self._journal,
                f"{kind.name}.recorded",
                evidence.customer or None,
                database or evidence.id,
                {
                    "evidence": evidence.id,
                    "sha256": hashlib.sha256(document).hexdigest(),
                    **kind.told(evidence),
                },
            )

    def evidence(
        self,
        kinds: Collection[str] = (),
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        customer: str | None = None,
        database: str | None = None,
    ) -> list[Evidence]:
        """Oldest first. Raises CatalogError when something stored can't be read."""
        table = tables.evidence
        query = select(table.c.kind, table.c.document).order_by(table.c.sequence)
        if kinds:
            query = query.where(table.c.kind.in_(kinds))
        if since is not None:
            query = query.where(table.c.at >= since)
        if until is not None:
            query = query.where(table.c.at < until)
        if customer is not None:
            query = query.where(table.c.customer == customer)
        if database is not None:
            query = query.where(table.c.database == database)
        with read(self._engine) as connection:
            return [_read(row.kind, row.document) for row in connection.execute(query)]

    def one(self, evidence_id: str, kind: str) -> Evidence:
        """Raises NotFound."""
        table = tables.evidence
        query = select(table.c.document).where(table.c.id == evidence_id, table.c.kind == kind)
        with read(self._engine) as connection:
            document = connection.execute(query).scalar()
        if document is None:
            raise NotFound(
                f"there is no {kind} {evidence_id!r}", hint="See `backups verify list`."
            )
        return _read(kind, document)

    def verified(self, database: str) -> dict[str, datetime]:
        """Backups that passed a restore test and failed none since, with when it ended."""
        found: dict[str, datetime] = {}
        for drill in self.evidence(["drill"], database=database):
            if isinstance(drill, Drill) and drill.verdict == "PASSED":
                found[drill.backup] = drill.ended_at
            elif isinstance(drill, Drill) and drill.verdict == "FAILED":
                found.pop(drill.backup, None)
        return found

    # --- what alarms ask: adapter of `notify.ports.Proofs`

    def outcomes(self) -> list[Outcome]:
        """When each kind of evidence last came to each outcome, by customer and database."""
        table = tables.evidence
        whose = (table.c.kind, table.c.customer, table.c.database, table.c.outcome)
        query = select(*whose, func.max(table.c.at).label("at")).group_by(*whose)
        query = query.where(table.c.outcome.is_not(None)).order_by(*whose)
        with read(self._engine) as connection:
            return [
                Outcome(row.kind, row.customer or "", row.database or "", row.outcome, row.at)
                for row in connection.execute(query)
            ]

    def failing(self) -> list[Failing]:
        """Listed backups that failed a restore test and passed none since."""
        table, backups = tables.evidence, tables.backups
        later = table.alias("later")
        answered = exists().where(
            later.c.about == table.c.about,
            later.c.kind == "drill",
            later.c.outcome == "PASSED",
            later.c.sequence > table.c.sequence,
        )
        query = (
            select(table.c.customer, table.c.database, table.c.about, func.min(table.c.at))
            .join(backups, backups.c.id == table.c.about)
            .where(table.c.kind == "drill", table.c.outcome == "FAILED", ~answered)
            .where(tables.is_listed)
            .group_by(table.c.customer, table.c.database, table.c.about)
            .order_by(table.c.database, table.c.about)
        )
        with read(self._engine) as connection:
            return [Failing(*row) for row in connection.execute(query)]

    def unfit(self) -> list[Examination]:
        """The newest of each store, where it found something wrong."""
        table = tables.evidence
        newest = (
            select(func.max(table.c.sequence))
            .where(table.c.kind == "examination")
            .group_by(table.c.customer, table.c.about)
        )
        query = select(table.c.document).where(
            table.c.sequence.in_(newest), table.c.outcome == "FAILED"
        )
        with read(self._engine) as connection:
            documents = list(connection.execute(query).scalars())
        return [_EXAMINATION.validate_json(document) for document in documents]


def _read(kind: str, document: str) -> Evidence:
    try:
        found: Evidence = _ADAPTERS[kind].validate_json(document)
    except (KeyError, ValidationError) as error:
        raise CatalogError(f"evidence of kind {kind!r} in the catalog can't be read") from error
    return found
