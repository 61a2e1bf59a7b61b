"""What `serve` and workers do with a job's name, each time in a process of its own.

Identities are read by what needs the role `restore` alone.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path

from backups.errors import BackupsError, Busy, CatalogError
from backups.lacking import not_carried
from backups.model import Backup, Policy
from backups.ports import Clock, Lane, Progress, Role
from backups.schedule.attempts import Outcome, Patience
from backups.schedule.choose import Limits
from backups.schedule.jobs import CHORE, NOW, REQUEST, lanes_of
from backups.settings import Settings
from backups.wiring.app import App, opened
from backups.wiring.chores import chore, mourn_chore
from backups.wiring.stores import lacking
from backups.wiring.taking import backup_ports, copy_to, source_of

PRELOAD = (
    "backups.catalog.open",
    "backups.engines.registry",
    "backups.run.backup",
    "backups.wiring.working",
    "providers.registry",
)
"""Imported once for all workers."""
HEALED = 7
"""Newest backups of a database whose missing copies are made good after each backup."""


def fleet(app: App, customer: str | None = None) -> list[Policy]:
    """The policies in force; those of which nothing may be taken now, paused."""
    from backups.fleet.states import obeying

    policies = [p for p in app.catalog.policies() if customer in (None, p.customer)]
    return obeying(policies, app.standings.standings(customer))


def work(
    home: Path, roles: Collection[Role], clock: Clock, name: str, progress: Progress
) -> Outcome:
    """One job, from the catalog's word that it is still to be done to its outcome."""
    try:
        with opened(home, clock, roles=roles) as app:
            if name.startswith(CHORE):
                return chore(app, name.removeprefix(CHORE), progress)
            if name.startswith(REQUEST):
                return _request(app, name.removeprefix(REQUEST))
            return _backup(app, name.removeprefix(NOW), progress, now=name.startswith(NOW))
    except CatalogError as error:  # so nothing is on record: it comes again, and soon
        return Outcome(f"not finished: {error}", unfinished=True)


def _backup(app: App, database: str, progress: Progress, *, now: bool) -> Outcome:
    from backups.fleet.states import obeying

    (policy,) = obeying([app.catalog.policy(database)], app.standings.standings())
    if policy.paused and not now:
        return Outcome("not started: paused")
    began = app.clock.now()
    try:
        return _attempt(app, policy, progress, now=now)
    except Busy as error:
        return Outcome(f"left alone: {error}")
    except Exception as error:  # noqa: BLE001  # whatever it was, it goes on record
        return failed(app, policy, began, error)


def _attempt(app: App, policy: Policy, progress: Progress, *, now: bool) -> Outcome:
    from backups.run.backup import back_up, back_up_if_due

    with backup_ports(app, policy, anyway=now) as ports:
        if now:
            done = back_up(ports, policy, source_of(policy), progress)
        else:
            asked = back_up_if_due(ports, app.agenda, policy, source_of(policy), progress)
            if not isinstance(asked, Backup):
                return Outcome(f"not started: {asked.why}", again=asked.next)
            done = asked
    words = f"backup {done.id}, {done.stored_bytes} bytes stored in {done.seconds or 0:.1f} s"
    lacks = [f"not backed up: {each}" for each in not_carried(done.warnings)]
    refused = _copies(app, policy, progress)
    return Outcome("; ".join((words, *lacks, *refused)), taken=done.created_at)


def _copies(app: App, policy: Policy, progress: Progress) -> list[str]:
    """Make the newest backups complete; what was refused, in words."""
    refused = []
    for entry in app.catalog.backups(policy.database)[:HEALED]:
        for store in lacking(app, policy, entry):
            try:
                copy_to(app, entry, store, progress)
            except BackupsError as error:
                refused.append(f"{entry.id} not copied to {store.url}: {error}")
    return refused


def _request(app: App, request_id: str) -> Outcome:
    from backups.wiring.requests import work

    try:
        done = work(app, request_id)
    except Busy as error:
        return Outcome(f"left alone: {error}")
    if done is None:
        return Outcome("over already")
    if done.state == "failed":
        return Outcome(f"failed: {done.error}", failed=app.clock.now())
    lacks = f", with {len(done.exceptions)} exceptions" if done.exceptions else ""
    return Outcome(f"{done.kind} done{lacks}")


def failed(app: App, policy: Policy, began: datetime, error: Exception) -> Outcome:
    """The failure of an attempt that began then, put on record."""
    from backups.run.backup import how_it_ended, record_failure

    _, words = how_it_ended(error)
    try:
        record_failure(app.catalog, app.clock, app.entropy, policy, began, error)
    except BackupsError as unrecorded:  # so it comes again, and soon
        words += f"; and this could not be recorded: {unrecorded}"
        return Outcome(f"failed: {words}", unfinished=True)
    if isinstance(error, CatalogError):
        return Outcome(f"not finished: {words}", unfinished=True)
    return Outcome(f"failed: {words}", failed=app.clock.now())


def mourn(app: App, name: str, began: datetime, words: str) -> Outcome:
    """The failure of an attempt whose process died, put on record for it."""
    try:
        if name.startswith(CHORE):
            return mourn_chore(app, name.removeprefix(CHORE), words)
        if name.startswith(REQUEST):
            # Not over: whoever is put at it next finds that nobody does it, and records that.
            return Outcome(f"failed: {words}", failed=app.clock.now())
        policy = app.catalog.policy(name.removeprefix(NOW))
    except BackupsError as error:
        return Outcome(f"failed: {words}; and this could not be recorded: {error}")
    return failed(app, policy, began, BackupsError(words))


def patience(settings: Settings) -> Patience:
    """How long an attempt may take."""
    return Patience(
        timedelta(minutes=settings.stall_minutes), timedelta(hours=settings.run_hours)
    )


def limits(settings: Settings, *, shared: bool) -> Limits:
    """How many backups are open at once, over all who work through one queue."""
    total = settings.released if shared else settings.workers
    return Limits(total, settings.workers_per_source, settings.workers_per_bucket)


def room(settings: Settings, roles: Collection[Role]) -> dict[Lane, int]:
    """How many jobs of each lane one worker does at once."""
    places: dict[Lane, int] = {
        "backup": settings.workers,
        "house": 7,  # each chore of ours is short or rare: none waits for another
        "restore": settings.restores + 1,  # and the tidying of replacements
        "drill": settings.drills + 1,  # and the month's self-test
        "prune": 1,
        "posture": 1,
    }
    return {lane: places[lane] for lane in lanes_of(roles)}
