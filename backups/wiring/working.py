"""What `serve` and its workers are made of. No identity is read here."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from backups.errors import BackupsError, Busy
from backups.model import Backup, Policy
from backups.ports import Clock, Progress
from backups.schedule.choose import Limits
from backups.schedule.chores import CHORE
from backups.schedule.workers import Outcome, Patience
from backups.settings import load_settings
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


def work(home: Path, clock: Clock, database: str, progress: Progress) -> Outcome:
    """One scheduled attempt, from the catalog's word that it is due to its outcome; or a
    chore, by its marked name."""
    if database.startswith(CHORE):
        return chore(home, clock, database.removeprefix(CHORE), progress)
    from backups.fleet.states import obeying

    with opened(home, clock) as app:
        (policy,) = obeying([app.catalog.policy(database)], app.standings.standings())
        if policy.paused:
            return Outcome("not started: paused")
        began = app.clock.now()
        try:
            return _attempt(app, policy, progress)
        except Busy as error:
            return Outcome(f"left alone: {error}")
        except Exception as error:  # noqa: BLE001  # whatever it was, it goes on record
            return failed(app, policy, began, error)


def _attempt(app: App, policy: Policy, progress: Progress) -> Outcome:
    from backups.run.backup import back_up_if_due

    with backup_ports(app, policy) as ports:
        done = back_up_if_due(ports, app.agenda, policy, source_of(policy), progress)
    if not isinstance(done, Backup):
        return Outcome(f"not started: {done.why}", again=done.next)
    words = f"backup {done.id}, {done.stored_bytes} bytes stored in {done.seconds or 0:.1f} s"
    refused = _copies(app, policy, progress)
    return Outcome("; ".join((words, *refused)), taken=done.created_at)


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


def failed(app: App, policy: Policy, began: datetime, error: Exception) -> Outcome:
    """The failure of an attempt that began then, put on record."""
    from backups.run.backup import how_it_ended, record_failure

    _, words = how_it_ended(error)
    try:
        record_failure(app.catalog, app.clock, app.entropy, policy, began, error)
    except BackupsError as unrecorded:
        words += f"; and this could not be recorded: {unrecorded}"
    return Outcome(f"failed: {words}", failed=app.clock.now())


def mourn(app: App, database: str, began: datetime, words: str) -> Outcome:
    """The failure of an attempt whose process died, put on record for it."""
    try:
        if database.startswith(CHORE):
            return mourn_chore(app, database.removeprefix(CHORE), words)
        policy = app.catalog.policy(database)
    except BackupsError as error:
        return Outcome(f"failed: {words}; and this could not be recorded: {error}")
    return failed(app, policy, began, BackupsError(words))


def limits(app: App) -> tuple[Limits, Patience, timedelta]:
    """What the settings allow: at once, for how long, and when draining."""
    settings = load_settings(app.home)
    return (
        Limits(settings.workers, settings.workers_per_source, settings.workers_per_bucket),
        Patience(
            timedelta(minutes=settings.stall_minutes), timedelta(hours=settings.run_hours)
        ),
        timedelta(minutes=settings.drain_minutes),
    )
