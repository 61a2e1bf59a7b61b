"""Putting a backup in the place of a live database, so that it can be undone. Ports only.

The order is the whole of its safety: a safety backup of what is there; the copy made beside
and compared; one transaction that exchanges names; the old database kept. Each step is on
record before it is begun, so that after a crash `settle` knows what to look for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal, Protocol

from backups.errors import BackupsError, UsageError
from backups.format import canonical
from backups.ids import uuid7
from backups.model import Backup, Manifest, Policy, RestoreOptions, Source
from backups.ports import Clock, Engine, Entropy, Progress
from backups.replacing import (
    Changes,
    Replacement,
    done,
    require_accepted,
    require_cancellable,
    require_rehearsable,
    require_same_target,
    require_startable,
    require_undoable,
    settled,
)
from backups.run import contrast
from backups.run.restore import Restored, RestorePorts, in_words, read_fingerprint, restore


class Swapper(Protocol):
    """What an engine that can exchange databases does. Raises EngineError's kinds."""

    @property
    def name(self) -> str:
        """The live database's, on its server."""

    def beside(self, what: str, tail: str) -> str:
        """A name for another database of that server, told apart by `what` and `tail`."""

    def names(self) -> set[str]:
        """Of all databases of the server."""

    def stays_behind(self) -> tuple[str, ...]:
        """What is bound to the old database and does not come along, in words."""

    def swap(self, copy: str, aside: str) -> None:
        """Make `copy` the live one and name the old one `aside`, in one step, with everybody's
        sessions ended and nobody let into the old one. Raises TargetRefused."""

    def changes(self, copy: str, tables: Iterable[tuple[str, str]]) -> tuple[Changes, ...]:
        """How rows of these tables (schema, name) differ between the live one and the copy."""

    def release(self) -> None:
        """Let everybody into the live database again."""

    def drop(self, name: str) -> None:
        """A database that is not the live one; missing is fine."""


class Replacements(Protocol):
    """Where they are kept. Raises CatalogError; NotFound where one is asked for."""

    def save(self, plan: Replacement, action: str) -> None:
        """As it is now; `action` is what was done, for the audit chain."""

    def one(self, plan_id: str) -> Replacement:
        """The one with that id."""

    def all(self, database: str | None = None) -> list[Replacement]:
        """Newest first."""


@dataclass(frozen=True, slots=True)
class ReplacePorts:
    """What a replacement needs of one live database."""

    clock: Clock
    records: Replacements
    engine: Engine
    swapper: Swapper
    live: Source
    beside: Callable[[str], Source]
    """The source of another database of the same server, by its name."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which a plan is made."""

    planned_by: str
    needs: Literal["nothing", "person", "delay"]
    delay: timedelta
    keep_days: int
    ticket: str = ""
    consent: str = ""


def plan(
    ports: ReplacePorts,
    giving: RestorePorts,
    manifest: Manifest,
    policy: Policy,
    terms: Terms,
    entropy: Entropy,
    progress: Progress,
) -> Replacement:
    """Look at both sides and say what would happen; nothing is changed. Raises what reading
    either of them raises."""
    now = ports.clock.now()
    progress("looking at the live database", 0, None)
    there = ports.engine.fingerprint(ports.live)
    theirs = read_fingerprint(giving, manifest, progress)
    found = contrast.planned(there, theirs)
    known = {
        "backup": manifest.backup,
        "difference": list(found),
        "snapshot_at": manifest.snapshot_at.isoformat(),
        "target": policy.source_url,
        "target_sha256": contrast.digest(there),
    }
    planned = Replacement(
        id=uuid7(now, entropy.bytes(10)),
        customer=policy.customer,
        database=policy.database,
        backup=manifest.backup,
        snapshot_at=manifest.snapshot_at,
        target=policy.source_url,
        live=ports.swapper.name,
        digest=hashlib.sha256(canonical.dumps(known)).hexdigest(),
        target_sha256=contrast.digest(there),
        difference=found,
        stays_behind=ports.swapper.stays_behind(),
        planned_at=now,
        planned_by=terms.planned_by,
        needs=terms.needs,
        not_before=now + terms.delay if terms.needs == "delay" else None,
        keep_days=terms.keep_days,
        ticket=terms.ticket,
        consent=terms.consent,
    )
    ports.records.save(planned, "planned")
    return planned


def rehearse(
    ports: ReplacePorts,
    plan: Replacement,
    giving: Callable[[Callable[[Manifest, RestorePorts], Restored]], Restored],
    options: RestoreOptions,
    progress: Progress,
) -> Replacement:
    """Make the copy beside the live database, to be looked at, and compare both row by row.

    Starting makes another: this one may be written to. It is dropped with the plan. What could
    not be made is in the plan's `exceptions`; an approval that was given before anybody knew
    of them is taken back. Raises UsageError once it was started; whatever else is raised,
    nothing remains of the copy."""
    require_rehearsable(plan)
    copy = ports.swapper.beside("rehearsal", plan.id[-8:])
    plan = replace(plan, rehearsal=copy, rehearsed_at=None, seen=(), rehearsed_sha256="")
    plan = _step(ports, plan, "rehearsal.started")
    try:
        ports.swapper.drop(copy)  # of the time before

        def give(manifest: Manifest, opened: RestorePorts) -> Restored:
            return restore(opened, manifest, ports.beside(copy), options, progress)

        made = giving(give)
        progress("comparing with the live database", 0, None)
        there = ports.engine.fingerprint(ports.live)
        changes = ports.swapper.changes(copy, contrast.changed(there, made.contains))
        seen = contrast.rehearsed(there, made.contains, changes)
    except BaseException:
        ports.swapper.drop(copy)
        _step(ports, replace(plan, rehearsal=""), "rehearsal.failed")
        raise
    lacks = in_words(made.exceptions)
    if set(lacks) - set(plan.exceptions):
        plan = replace(plan, approved_by="", approved_at=None)
    plan = replace(
        plan,
        rehearsed_at=ports.clock.now(),
        rehearsed_sha256=contrast.digest(there),
        seen=seen,
        exceptions=lacks,
    )
    return _step(ports, plan, "rehearsed")


def end_rehearsal(ports: ReplacePorts, plan: Replacement) -> Replacement:
    """Drop the copy that was made to be looked at, if there is one."""
    if not plan.rehearsal:
        return plan
    ports.swapper.drop(plan.rehearsal)
    return _step(ports, replace(plan, rehearsal=""), "rehearsal.dropped")


def start(
    ports: ReplacePorts,
    plan: Replacement,
    giving: Callable[[Callable[[Manifest, RestorePorts], Restored]], Restored],
    safety: Callable[[], Backup],
    options: RestoreOptions,
    progress: Progress,
    *,
    by: str,
    confirm: str,
    broke_glass: str = "",
    accept: bool = False,
) -> Replacement:
    """Do what was planned, to its end. `giving` opens the backup, `safety` takes one of what
    is there. `accept`: the copy may lack what the rehearsal showed that it lacks.

    Raises UsageError, ApprovalMissing and PlanVoid while it must not be; whatever else is
    raised, the live database is the old one, open to everybody, and the plan has failed.
    """
    require_startable(plan, confirm, ports.clock.now(), broke_glass, accept=accept)
    progress("looking at the live database", 0, None)
    require_same_target(
        plan, contrast.digest(ports.engine.fingerprint(ports.live)), broke_glass
    )
    plan = replace(plan, state="running", started_by=by, broke_glass=broke_glass)
    tail = plan.id[-8:]
    try:
        plan = _step(ports, replace(plan, step="safety"), "started")
        plan = end_rehearsal(ports, plan)
        progress("taking a backup of what is there", 0, None)
        plan = replace(plan, safety_backup=safety().id)
        copy = ports.swapper.beside("new", tail)
        plan = _step(ports, replace(plan, step="restore", copy=copy), "safe")
        ports.swapper.drop(copy)  # of an attempt that died

        def give(manifest: Manifest, opened: RestorePorts) -> Restored:
            return restore(opened, manifest, ports.beside(copy), options, progress)

        lacks = in_words(giving(give).exceptions)
        require_accepted(plan, lacks, accept=accept, broke_glass=broke_glass)
        plan = replace(plan, exceptions=lacks, accepted_by=by if lacks else "")
        aside = ports.swapper.beside("before", tail)
        plan = _step(ports, replace(plan, step="swap", aside=aside), "compared")
        progress("exchanging the databases", 0, None)
        ports.swapper.swap(copy, aside)
    except BaseException as error:
        if not _swapped(ports, plan):
            _failed(ports, plan, error)
            raise
    plan = done(plan, ports.clock.now())
    ports.records.save(plan, "done")
    return plan


def undo(ports: ReplacePorts, plan: Replacement, by: str) -> Replacement:
    """Make the old database the live one again; the one that had replaced it is kept beside,
    with all that was written since, for as long. Raises UsageError, EngineError's kinds."""
    require_undoable(plan)
    undone = ports.swapper.beside("undone", plan.id[-8:])
    plan = replace(plan, state="running", step="undo", copy=undone, undone_by=by)
    ports.records.save(plan, "undo.started")
    try:
        ports.swapper.swap(plan.aside, undone)
    except BaseException as error:
        words = str(error) if isinstance(error, BackupsError) else type(error).__name__
        ports.records.save(replace(plan, state="replaced", error=words), "undo.failed")
        raise
    plan = replace(plan, state="undone", ended_at=ports.clock.now(), error="")
    ports.records.save(plan, "undone")
    return plan


def cancel(ports: ReplacePorts, plan: Replacement) -> Replacement:
    """It will not be done. Raises UsageError once it was started."""
    require_cancellable(plan)
    plan = end_rehearsal(ports, plan)
    plan = replace(plan, state="cancelled", ended_at=ports.clock.now())
    ports.records.save(plan, "cancelled")
    return plan


def drop_kept(ports: ReplacePorts, plan: Replacement, *, anyway: bool = False) -> Replacement:
    """Drop what was kept beside, once its days are over; `anyway` is a person's word. Then it
    can't be undone. Raises UsageError."""
    now = ports.clock.now()
    if plan.state not in ("replaced", "undone") or plan.kept_until is None:
        raise UsageError(f"replacement {plan.id} is {plan.state}: nothing is kept of it")
    if now < plan.kept_until and not anyway:
        raise UsageError(
            f"the old database is kept until {plan.kept_until:%Y-%m-%d %H:%M UTC}",
            hint="`backups replace drop` with --anyway drops it now.",
        )
    before = plan
    plan = replace(plan, state="running", step="drop")
    if before.state == "replaced":
        ports.records.save(plan, "drop.started")
    ports.swapper.drop(before.aside if before.state == "replaced" else before.copy)
    state: Literal["dropped", "undone"] = "dropped" if before.state == "replaced" else "undone"
    plan = replace(plan, state=state, kept_until=None, ended_at=before.ended_at or now)
    ports.records.save(plan, "dropped")
    return plan


def settle(ports: ReplacePorts, plan: Replacement) -> Replacement:
    """Bring one to its end whose process died: called with the database held, so that nobody
    is at work on it. The live database is open to everybody again."""
    if plan.state != "running":
        return plan
    names = ports.swapper.names()
    found = settled(plan, names, ports.clock.now())
    if plan.live in names:
        ports.swapper.release()
    if found.state == "failed" and found.copy:
        ports.swapper.drop(found.copy)
    ports.records.save(found, "settled")
    return found


def _step(ports: ReplacePorts, plan: Replacement, action: str) -> Replacement:
    ports.records.save(plan, action)
    return plan


def _swapped(ports: ReplacePorts, plan: Replacement) -> bool:
    """Whether an exchange that ended with an error took place: its answer may be lost. Raises
    EngineError's kinds when that can't be told; `settle` tells it later."""
    return plan.step == "swap" and plan.aside in ports.swapper.names()


def _failed(ports: ReplacePorts, plan: Replacement, error: BaseException) -> None:
    """The live database is the old one."""
    words = str(error) if isinstance(error, BackupsError) else type(error).__name__
    try:
        if plan.copy:
            ports.swapper.drop(plan.copy)
    except BackupsError as also:
        words += f"; and {plan.copy!r} could not be dropped: {also}"
    failed = replace(plan, state="failed", ended_at=ports.clock.now(), error=words)
    ports.records.save(failed, "failed")
