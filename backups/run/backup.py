"""Taking a backup: the write order of DESIGN section 4.

run row, segments, exit gate, last segments, prepared, manifest, catalog. FORMAT.md tables
what a crash after each step leaves; tests kill the process at each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backups import __version__
from backups.errors import (
    BackupsError,
    Cancelled,
    CatalogError,
    Damaged,
    ObjectExists,
    StoreDenied,
)
from backups.format import fingerprint as fingerprints
from backups.format.age import Recipient
from backups.format.manifest import manifest_key, sign, verify
from backups.format.recipe import readme_text
from backups.ids import uuid7
from backups.lacking import counted
from backups.model import Backup, History, Manifest, Policy, Run, Source
from backups.ports import Agenda, Catalog, Clock, Engine, Entropy, ObjectStore, Progress
from backups.run.reader import fetch
from backups.run.writer import ArtifactWriter
from backups.schedule.due import MEMORY, Due, due

CLOCK_DOUBT = timedelta(minutes=5)
"""A server whose clock is further from ours than this does not date its backup."""


@dataclass(frozen=True, slots=True)
class BackupPorts:
    """What taking a backup needs. Nothing in it can decrypt."""

    catalog: Catalog
    clock: Clock
    entropy: Entropy
    engine: Engine
    store: ObjectStore
    signing_key: Ed25519PrivateKey
    recipients: Sequence[Recipient]
    """The customer's and the restore agent's."""
    level: int
    """Of zstd, 1 to 19."""
    exclusive: Callable[[str], AbstractContextManager[int]]
    """Holds a database for one run at a time and gives the lease's epoch; raises Busy."""
    name: Callable[[tuple[str, ...]], None] = lambda _names: None
    """Told what is not backed up, by name: for a person's eyes, never for a log."""


def back_up(ports: BackupPorts, policy: Policy, source: Source, progress: Progress) -> Backup:
    """Take one backup now; returns it committed and listed.

    Whatever is raised, the run is recorded as failed and nothing is listed; after the
    manifest was prepared it stays so, and the next run settles it.
    """
    with ports.exclusive(policy.database) as epoch:
        settle(ports, policy, epoch)
        return _take(ports, policy, source, progress, epoch)


def back_up_if_due(
    ports: BackupPorts, agenda: Agenda, policy: Policy, source: Source, progress: Progress
) -> Backup | Due:
    """Take the local day's backup if it is still due now that the database is held.

    Whoever asked may have known less than the catalog, or asked long ago.
    """
    with ports.exclusive(policy.database) as epoch:
        settle(ports, policy, epoch)
        now = ports.clock.now()
        histories = agenda.histories(now - MEMORY, policy.database)
        found = due(policy, histories.get(policy.database, History()), now)
        if not found.start:
            return found
        return _take(ports, policy, source, progress, epoch, found.day)


def _take(
    ports: BackupPorts,
    policy: Policy,
    source: Source,
    progress: Progress,
    epoch: int,
    slot: date | None = None,
) -> Backup:
    run = replace(_new_run(ports.clock, ports.entropy, policy), epoch=epoch, slot=slot)
    ports.catalog.start_run(run)
    try:
        _leave_readme(ports, policy.database)
        manifest = _write(ports, policy, source, run, progress)
        envelope = sign(manifest, ports.signing_key)
    except BaseException as error:
        state, words = how_it_ended(error)
        ports.catalog.end_run(run.id, state, ports.clock.now(), words)
        raise
    ports.catalog.prepare_run(run.id, envelope)
    return _commit(ports, policy, run, envelope, manifest)


def _new_run(clock: Clock, entropy: Entropy, policy: Policy) -> Run:
    started = clock.now()
    return Run(
        id=uuid7(started, entropy.bytes(10)),
        customer=policy.customer,
        database=policy.database,
        policy_version=policy.version,
        state="running",
        started_at=started,
    )


def settle(ports: BackupPorts, policy: Policy, epoch: int) -> None:
    """Bring runs that died to an end. Called with the database held, so none of an earlier
    epoch is alive, or may do more than finish in vain.

    A prepared one is carried through: all that its manifest names is stored already.
    """
    for run in ports.catalog.unfinished_runs(policy.database):
        if run.epoch is not None and run.epoch > epoch:
            continue  # it is we who were fenced off meanwhile
        if run.envelope is None:
            ports.catalog.end_run(
                run.id, "interrupted", ports.clock.now(), "the process ended during the run"
            )
        else:
            manifest = verify(run.envelope, [ports.signing_key.public_key()])
            _commit(ports, policy, run, run.envelope, manifest)


def record_failure(
    catalog: Catalog,
    clock: Clock,
    entropy: Entropy,
    policy: Policy,
    since: datetime,
    error: BaseException,
) -> None:
    """See to it that an attempt which began at `since` and failed is on record, also when it
    failed before its run began or its process died during it."""
    state, words = how_it_ended(error)
    now = clock.now()  # a clock that was set back left runs that started later than that
    found = catalog.runs(policy.database, limit=5)
    mine = [run for run in found if since <= run.started_at <= now]
    if any(run.state in ("failed", "interrupted") for run in mine):
        return
    left = [run.id for run in mine if run.state == "running"]
    if not left:  # a prepared one is left as it is: it can still be carried through
        run = _new_run(clock, entropy, policy)
        catalog.start_run(run)
        left = [run.id]
    for run_id in left:
        catalog.end_run(run_id, state, clock.now(), words)


def _leave_readme(ports: BackupPorts, database: str) -> None:
    """Say in the bucket, in plain words, how to recover without this program."""
    if not ports.catalog.backups(database):
        with suppress(ObjectExists):
            ports.store.put("README.txt", readme_text().encode())


def _write(
    ports: BackupPorts, policy: Policy, source: Source, run: Run, progress: Progress
) -> Manifest:
    with ports.engine.dump(source) as dump:
        # Before the first byte is put: every object is locked to the same end.
        snapshot_at, doubts = _date(dump.snapshot.taken_at, run.started_at, ports.clock.now())
        expires_at = snapshot_at + timedelta(days=policy.plan.retention_days)
        with ArtifactWriter(
            ports.store,
            ports.entropy,
            ports.recipients,
            level=ports.level,
            customer=run.customer,
            database=run.database,
            backup=run.id,
            engine=policy.engine,
            retain_until=ports.store.capabilities().lock(expires_at, ports.clock.now()),
        ) as writer:
            artifacts = [
                writer.write(name, blocks, progress) for name, blocks in dump.artifacts()
            ]
            found = dump.finish()
            ports.name(found.not_backed_up)
            fingerprint = fingerprints.write(found, ports.entropy.bytes(16))
            artifacts.append(writer.write("fingerprint", iter([fingerprint]), progress))
        earlier = ports.catalog.backups(policy.database)
        return Manifest(
            customer=run.customer,
            database=run.database,
            backup=run.id,
            engine=policy.engine,
            snapshot_at=snapshot_at,
            position=dump.snapshot.position,
            expires_at=expires_at,
            policy_version=policy.version,
            server_version=dump.preflight.server_version,
            tool_version=dump.preflight.tool_version,
            program_version=__version__,
            recipients=tuple(
                sorted(
                    hashlib.sha256(str(key).encode()).hexdigest() for key in ports.recipients
                )
            ),
            artifacts=tuple(artifacts),
            fingerprint_sha256=hashlib.sha256(fingerprint).hexdigest(),
            previous=earlier[0].manifest_sha256 if earlier else None,
            warnings=counted((*dump.preflight.warnings, *doubts), found.not_backed_up),
        )


def _date(
    taken_at: datetime, started_at: datetime, now: datetime
) -> tuple[datetime, tuple[str, ...]]:
    """The snapshot's instant by the server's clock, or by ours when that one is off."""
    if started_at - CLOCK_DOUBT <= taken_at <= now + CLOCK_DOUBT:
        return taken_at, ()
    return started_at, ("the server's clock differs from ours by more than 5 minutes",)


def _commit(
    ports: BackupPorts, policy: Policy, run: Run, envelope: bytes, manifest: Manifest
) -> Backup:
    key = manifest_key(run.database, run.id)
    digest = hashlib.sha256(envelope)
    try:
        until = ports.store.capabilities().lock(manifest.expires_at, ports.clock.now())
        ports.store.put(key, envelope, sha256=digest.digest(), retain_until=until)
    except ObjectExists:
        _require_ours(ports.store, key, envelope)
    ended = ports.clock.now()
    backup = as_backup(manifest, policy.stores[0].url, digest.hexdigest())
    ports.catalog.commit_run(backup, ended)
    return ports.catalog.backup(backup.id)


def _require_ours(store: ObjectStore, key: str, envelope: bytes) -> None:
    """What lies under the manifest's key must be the very bytes we meant to put.

    A writer that may not read takes it as its own: the key holds 74 random bits, and the
    put of a process that died before it heard the answer is the one way it can be taken.
    """
    try:
        found = fetch(store, key)
    except StoreDenied:
        return
    if found != envelope:
        raise Damaged(f"object {key} is not the manifest that this run signed")


def as_backup(manifest: Manifest, store_url: str, envelope_sha256: str) -> Backup:
    """The catalog's entry for a manifest; the same whether just written or found."""
    return Backup(
        id=manifest.backup,
        customer=manifest.customer,
        database=manifest.database,
        engine=manifest.engine,
        created_at=manifest.snapshot_at,
        expires_at=manifest.expires_at,
        plain_bytes=sum(artifact.plain_bytes for artifact in manifest.artifacts),
        stored_bytes=sum(artifact.stored_bytes for artifact in manifest.artifacts),
        store_url=store_url,
        manifest_sha256=envelope_sha256,
        warnings=manifest.warnings,
    )


def how_it_ended(error: BaseException) -> tuple[str, str]:
    """State and reason, as the catalog records a run or an operation that did not end well."""
    # A catalog out of reach says as little of the database as somebody who stops us does.
    ours = isinstance(error, Cancelled | CatalogError)
    stopped = ours or not isinstance(error, Exception)
    state = "interrupted" if stopped else "failed"
    # Only our own errors are known to hold no secret; of others the kind must do.
    return state, str(error) if isinstance(error, BackupsError) else type(error).__name__
