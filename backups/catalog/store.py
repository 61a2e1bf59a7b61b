"""The catalog on a database: adapter of `ports.Catalog` in SQLAlchemy Core.

Every change is one transaction that names the state it starts from, so a late or repeated
call can't undo another's. No exception of SQLAlchemy leaves this package.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Engine, Table, func, insert, select, update

from backups.catalog import tables
from backups.catalog.journal import Journal, append
from backups.catalog.rows import (
    POLICY,
    SCRUB,
    claim,
    list_backup,
    newest_policy,
    place_copy,
    refuse_fenced,
    rule_of,
    scrub_of,
)
from backups.catalog.sql import (
    T,
    fields_of,
    model_of,
    move,
    one,
    read,
    shallow,
    storable,
    write,
)
from backups.declared import Standing
from backups.errors import CatalogError, NotFound
from backups.model import Backup, Copy, Operation, Policy, Run, Scrub


class SqlCatalog:
    """See `ports.Catalog`. May be used from several threads and processes at once.

    Raises, besides what the port says, Busy when another holds the catalog for too long.
    """

    def __init__(self, engine: Engine, journal: Journal) -> None:
        """`engine` is one that `open.connect` made, its schema at HEAD; every change is
        recorded by `journal` in the transaction that makes it."""
        self._engine = engine
        self.journal = journal

    def close(self) -> None:
        """Let go of connections; may be called twice."""
        self._engine.dispose()

    # --- policies

    def save_policies(
        self, policies: Iterable[Policy], standings: Iterable[Standing] = ()
    ) -> list[Policy]:
        """All or nothing: make each its database's newest version if it differs, and record
        how things stand; returns what is in force, in that order.

        The versions that they carry are ignored. Raises CatalogError when a database is
        another customer's.
        """
        with write(self._engine) as connection:
            saved = [self._save_policy(connection, policy) for policy in policies]
            for standing in standings:
                self._save_standing(connection, standing)
            return saved

    def save_policy(self, policy: Policy) -> Policy:
        """One alone."""
        return self.save_policies([policy])[0]

    def _save_policy(self, connection: Connection, policy: Policy) -> Policy:
        claim(connection, policy.database, policy.customer)
        newest = newest_policy(connection, policy.database)
        if newest is not None and self.same_rule(newest, policy):
            return newest
        saved = dataclasses.replace(policy, version=newest.version + 1 if newest else 1)
        connection.execute(
            insert(tables.policies).values(
                database=saved.database,
                version=saved.version,
                customer=saved.customer,
                rule=POLICY.dump_python(saved, mode="json"),
            )
        )
        self._note(connection, "policy.saved", saved, saved.database, version=saved.version)
        return saved

    def _save_standing(self, connection: Connection, standing: Standing) -> None:
        table = tables.standings
        whose = (table.c.customer == standing.customer) & (
            table.c.database == standing.database
        )
        row = connection.execute(select(table).where(whose).with_for_update()).one_or_none()
        if row is not None and Standing(**row._mapping) == standing:
            return
        values = shallow(standing)
        if row is None:
            connection.execute(insert(table).values(**values))
        else:
            connection.execute(update(table).where(whose).values(**values))
        self._note(
            connection, "state.changed", standing, standing.database or standing.customer,
            database=standing.database, state=standing.state, since=standing.since,
            until=standing.until, reason=standing.reason,
        )  # fmt: skip

    def same_rule(self, known: Policy | None, policy: Policy) -> bool:
        """Whether saving `policy` over `known` would change nothing."""
        return known is not None and known == dataclasses.replace(policy, version=known.version)

    def policy(self, database: str, version: int | None = None) -> Policy:
        """The newest version, or a given one. Raises NotFound."""
        with read(self._engine) as connection:
            found = newest_policy(connection, database, version)
        if found is None:
            which = f"no version {version} of a policy" if version else "no policy"
            raise NotFound(f"there is {which} for a database {database!r}")
        return found

    def policies(self) -> list[Policy]:
        """The newest of every database, by customer and database."""
        table = tables.policies
        newest = (
            select(table.c.database, func.max(table.c.version).label("version"))
            .group_by(table.c.database)
            .subquery()
        )
        query = (
            select(table.c.rule)
            .join(
                newest,
                (table.c.database == newest.c.database) & (table.c.version == newest.c.version),
            )
            .order_by(table.c.customer, table.c.database)
        )
        with read(self._engine) as connection:
            return [rule_of(row.rule) for row in connection.execute(query)]

    # --- runs

    def start_run(self, run: Run) -> None:
        """Record a run before its first byte. Raises CatalogError when the id is taken, Busy
        when its database's lease was taken anew since the run's epoch."""
        with write(self._engine) as connection:
            refuse_fenced(connection, run)
            connection.execute(insert(tables.runs).values(**fields_of(run)))
            self._note(connection, "run.started", run, run.id, database=run.database)

    def prepare_run(self, run_id: str, envelope: bytes) -> None:
        """All segments are stored; the manifest is about to be put.

        Raises NotFound, or CatalogError when the run is not running.
        """
        with write(self._engine) as connection:
            move(
                connection, tables.runs, run_id, ("running",),
                {"state": "prepared", "envelope": envelope},
            )  # fmt: skip
            run = one(connection, tables.runs, Run, run_id)
            digest = hashlib.sha256(envelope).hexdigest()
            self._note(connection, "run.prepared", run, run_id, manifest_sha256=digest)

    def commit_run(self, backup: Backup, ended_at: datetime) -> None:
        """In one transaction: the run is committed and the backup is listed.

        May be repeated with the same backup, and after a rebuild has listed it. `seconds`
        is filled in from the run where the backup has none. Raises NotFound, or
        CatalogError when the run is not prepared or another backup has its id.
        """
        with write(self._engine) as connection:
            run = one(connection, tables.runs, Run, backup.id)
            if (run.customer, run.database) != (backup.customer, backup.database):
                raise CatalogError(f"run {run.id} is not one of database {backup.database}")
            if run.state == "committed":
                if list_backup(connection, backup):
                    raise CatalogError(f"run {run.id} is committed but its backup is gone")
                return
            move(
                connection, tables.runs, run.id, ("prepared",),
                {"state": "committed", "ended_at": ended_at, "envelope": None},
            )  # fmt: skip
            if backup.seconds is None:
                seconds = (ended_at - run.started_at).total_seconds()
                backup = dataclasses.replace(backup, seconds=seconds)
            if not list_backup(connection, backup):
                connection.execute(
                    update(tables.backups)
                    .where(tables.backups.c.id == backup.id)
                    .values(seconds=backup.seconds)
                )
            self._note(
                connection, "backup.committed", backup, backup.id, database=backup.database,
                manifest_sha256=backup.manifest_sha256, expires_at=backup.expires_at,
            )  # fmt: skip

    def end_run(self, run_id: str, state: str, ended_at: datetime, error: str) -> None:
        """The run is over without a backup: `state` is failed or interrupted.

        Raises NotFound, or CatalogError when the run is over already.
        """
        if state not in ("failed", "interrupted"):
            raise CatalogError(f"a run does not end as {state!r}")
        values = {"state": state, "ended_at": ended_at, "error": storable(error)}
        with write(self._engine) as connection:
            move(
                connection, tables.runs, run_id, ("running", "prepared"),
                {**values, "envelope": None},
            )  # fmt: skip
            run = one(connection, tables.runs, Run, run_id)
            self._note(connection, f"run.{state}", run, run_id, error=error)

    def unfinished_runs(self, database: str) -> list[Run]:
        """Those in state running or prepared, oldest first."""
        table = tables.runs
        query = (
            select(table)
            .where(table.c.database == database, table.c.state.in_(("running", "prepared")))
            .order_by(table.c.started_at, table.c.id)
        )
        with read(self._engine) as connection:
            return [model_of(Run, row) for row in connection.execute(query)]

    def runs(self, database: str | None = None, limit: int = 50) -> list[Run]:
        """Newest first."""
        return self._newest(tables.runs, Run, "started_at", database, limit)

    # --- backups

    def add_backup(self, backup: Backup) -> bool:
        """List a backup found in a store, as a copy when it is listed from another one;
        False when that was known already.

        Raises CatalogError when another backup has its id, or the database is another
        customer's.
        """
        with write(self._engine) as connection:
            claim(connection, backup.database, backup.customer)
            added = list_backup(connection, backup)
            if added:
                self._note(
                    connection, "backup.found", backup, backup.id, store=backup.store_url,
                    manifest_sha256=backup.manifest_sha256,
                )  # fmt: skip
            return added

    def backup(self, backup_id: str) -> Backup:
        """The one with this id. Raises NotFound."""
        with read(self._engine) as connection:
            return one(connection, tables.backups, Backup, backup_id, tables.is_listed)

    def backups(self, database: str | None = None) -> list[Backup]:
        """Newest first."""
        listed = tables.is_listed
        return self._newest(tables.backups, Backup, "created_at", database, None, listed)

    def add_copy(self, copy: Copy) -> bool:
        """List a copy of a listed backup, or what it was healed to; False when that is what
        was listed already. Raises NotFound."""
        with write(self._engine) as connection:
            backup = one(connection, tables.backups, Backup, copy.backup)
            added = place_copy(connection, backup, copy)
            if added:
                self._note(
                    connection, "copy.committed", backup, copy.backup, store=copy.store_url,
                    manifest_sha256=copy.manifest_sha256,
                )  # fmt: skip
            return added

    def copies(self, backup_id: str) -> list[Copy]:
        """Those beside the first one, in the order of their stores' URLs."""
        table = tables.copies
        query = select(table).where(table.c.backup == backup_id).order_by(table.c.store_url)
        with read(self._engine) as connection:
            return [Copy(**row._mapping) for row in connection.execute(query)]

    # --- what was found out

    def add_scrub(self, scrub: Scrub) -> None:
        """Record one comparison of a store with the manifests."""
        document = SCRUB.dump_python(scrub, mode="json")
        values = {**shallow(scrub), "findings": document["findings"]}
        with write(self._engine) as connection:
            connection.execute(insert(tables.scrubs).values(**values))
            self._note(
                connection, "store.scrubbed", scrub, scrub.id, store=scrub.store_url,
                findings=len(scrub.findings),
            )  # fmt: skip

    def scrubs(self, customer: str | None = None, limit: int = 50) -> list[Scrub]:
        """Newest first."""
        table = tables.scrubs
        query = (
            select(table).order_by(table.c.started_at.desc(), table.c.id.desc()).limit(limit)
        )
        if customer is not None:
            query = query.where(table.c.customer == customer)
        with read(self._engine) as connection:
            return [scrub_of(row) for row in connection.execute(query)]

    def prove_recipient(self, customer: str, recipient: str, at: datetime) -> None:
        """Its holder has decrypted a canary; the newest proof counts."""
        table = tables.recipients
        who = (table.c.customer == customer) & (table.c.recipient == recipient)
        with write(self._engine) as connection:
            if not connection.execute(update(table).where(who).values(proven_at=at)).rowcount:
                connection.execute(
                    insert(table).values(customer=customer, recipient=recipient, proven_at=at)
                )
            append(connection, self.journal, "recipient.proven", customer, recipient)

    def proven_recipients(self, customer: str) -> dict[str, datetime]:
        """Recipient to when its holder last proved to hold its identity."""
        table = tables.recipients
        query = select(table).where(table.c.customer == customer)
        with read(self._engine) as connection:
            return {row.recipient: row.proven_at for row in connection.execute(query)}

    # --- operations

    def start_operation(
        self, operation: Operation, asked: Mapping[str, str] | None = None
    ) -> None:
        """Record a restore before it touches its target; `asked`: by whom, in which ticket."""
        with write(self._engine) as connection:
            connection.execute(insert(tables.operations).values(**fields_of(operation)))
            self._note(
                connection, "restore.started", operation, operation.id,
                backup=operation.backup, target=operation.target, database=operation.database,
                **(asked or {}),
            )  # fmt: skip

    def end_operation(
        self, operation_id: str, state: str, ended_at: datetime, error: str | None
    ) -> None:
        """The restore is over: `state` is done, failed or interrupted.

        Raises NotFound, or CatalogError when it is over already.
        """
        if state not in ("done", "failed", "interrupted"):
            raise CatalogError(f"an operation does not end as {state!r}")
        values = {"state": state, "ended_at": ended_at, "error": storable(error)}
        with write(self._engine) as connection:
            move(connection, tables.operations, operation_id, ("running",), values)
            operation = one(connection, tables.operations, Operation, operation_id)
            self._note(
                connection, f"restore.{state}", operation, operation_id, error=error or ""
            )

    def operations(self, database: str | None = None, limit: int = 50) -> list[Operation]:
        """Newest first."""
        return self._newest(tables.operations, Operation, "started_at", database, limit)

    def _note(
        self,
        connection: Connection,
        action: str,
        whose: Policy | Standing | Run | Backup | Scrub | Operation,
        subject: str,
        **details: object,
    ) -> None:
        append(connection, self.journal, action, whose.customer, subject, details)

    def _newest(
        self,
        table: Table,
        kind: type[T],
        order: str,
        database: str | None,
        limit: int | None,
        *where: ColumnElement[bool],
    ) -> list[T]:
        newest = (table.c[order].desc(), table.c.id.desc())
        query = select(table).where(*where).order_by(*newest).limit(limit)
        if database is not None:
            query = query.where(table.c.database == database)
        with read(self._engine) as connection:
            return [model_of(kind, row) for row in connection.execute(query)]
