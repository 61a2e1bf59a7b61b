"""What `serve` does regularly beside backups, each time in a process of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from backups.errors import BackupsError, Busy
from backups.ports import Progress
from backups.schedule.attempts import Outcome
from backups.schedule.chores import (
    CATALOG,
    CHORES,
    DRILLS,
    HEADS,
    POSTURE,
    PRUNE,
    REPLACEMENTS,
    REPORTS,
    SCRUB,
    SELF_TEST,
    WATCH,
    due,
)
from backups.schedule.jobs import CHORE
from backups.settings import load_settings
from backups.wiring.app import App
from backups.wiring.auditing import publish_heads
from backups.wiring.pruning import prunable, prune
from backups.wiring.safekeeping import back_up_catalog
from backups.wiring.scrubbing import scrub_ports
from backups.wiring.stores import declared_stores
from backups.wiring.watching import watch

ORPHAN_AGE = timedelta(days=7)
DRILLING = timedelta(minutes=30)
"""After so long no further restore test is begun; the next time goes on."""
SAMPLE = 3
"""Segments of each store that a scrub by `serve` reads."""


def due_chores(app: App, now: datetime) -> Sequence[str]:
    """Their names, marked as chores. Restore tests come as often as they run at once."""
    more = range(2, load_settings(app.home).drills + 1)
    all_ = (*CHORES, *(replace(DRILLS, name=f"{DRILLS.name}/{number}") for number in more))
    return [CHORE + chore.name for chore in due(all_, app.diary.attempts(), now)]


def chore(app: App, name: str, progress: Progress) -> Outcome:
    """One chore, begun and brought to its end on record."""
    from backups.run.backup import how_it_ended

    app.diary.begin(name, app.clock.now())
    try:
        words = DOES[name.partition("/")[0]](app, progress)
    except Exception as error:  # noqa: BLE001  # whatever it was, it goes on record
        _, reason = how_it_ended(error)
        app.diary.end(name, app.clock.now(), reason)
        return Outcome(f"failed: {reason}", failed=app.clock.now())
    app.diary.end(name, app.clock.now(), None)
    return Outcome(words)


def mourn_chore(app: App, name: str, words: str) -> Outcome:
    """The failure of a chore whose process died."""
    app.diary.end(name, app.clock.now(), words)
    return Outcome(f"failed: {words}", failed=app.clock.now())


# --- what each does -------------------------------------------------------------------


def _prune(app: App, progress: Progress) -> str:
    did: Counter[str] = Counter()
    for customer, database in prunable(app, None):
        progress(f"pruning {database}", 0, None)
        try:
            done = prune(app, customer, database)
        except Busy:
            did["left alone, busy"] += 1
            continue
        except BackupsError as error:
            did[f"failed: {error}"] += 1
            continue
        did.update(step.did for step in done.steps)
        did["frozen"] += bool(done.frozen)
    told = ", ".join(f"{count} {what}" for what, count in sorted(did.items()) if count)
    if any(what.startswith("failed") for what in did):
        raise BackupsError(f"pruned with failures: {told}")
    return f"pruned: {told or 'nothing to do'}"


def _scrub(app: App, progress: Progress) -> str:
    from backups.run.scrub import ScrubOptions, scrub

    options = ScrubOptions(ORPHAN_AGE, remove_orphans=False, sample=SAMPLE)
    found: Counter[str] = Counter()
    stores = declared_stores(app, None)
    for customer, destination in stores:
        ports = scrub_ports(app, customer, destination, with_identity=False)
        found.update(finding.kind for finding in scrub(ports, options, progress).findings)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
    return f"{len(stores)} stores scrubbed: {told or 'all as the manifests say'}"


def _heads(app: App, _progress: Progress) -> str:
    results = publish_heads(app)
    failed = [row["store"] for row in results if row["error"]]
    if failed:
        raise BackupsError(f"the audit head was not published into {', '.join(failed)}")
    return f"the audit head lies in {len(results)} stores"


def _watch(app: App, _progress: Progress) -> str:
    done = watch(app)
    told = f"{done.delivered} told, {done.undelivered} in vain"
    return f"{done.standing} alarms stand, {done.opened} new, {done.closed} over; {told}"


def _drills(app: App, progress: Progress) -> str:
    """The only one that reads the restore identity, in a process that ends with it."""
    from backups.wiring.proving import drill_all_due, sweep

    left = [place.id for place in sweep(app) if place.destroyed_at is None]
    told = drill_all_due(app, app.clock.now() + DRILLING, progress)
    if left:
        raise BackupsError(f"something is left of scratch places {', '.join(left)}; {told}")
    return f"restore tests: {told}"


def _self_test(app: App, progress: Progress) -> str:
    from backups.wiring.controlling import controls_due

    return controls_due(app, progress) or "the month's self-test and cold start were made"


def _reports(app: App, progress: Progress) -> str:
    from backups.wiring.reporting import publish_due

    did = publish_due(app, progress)
    return f"reports published: {', '.join(did) or 'none is due'}"


def _posture(app: App, progress: Progress) -> str:
    from backups.wiring.enrolling import examination

    failed, stores = 0, declared_stores(app, None)
    for customer, destination in stores:
        progress(f"looking at {destination.url}", 0, None)
        looks = examination(app, customer, destination, progress)
        failed += any(look.outcome == "failed" for look in looks)
    return f"{len(stores)} stores looked at, {failed} of them not as they must be"


def _replacements(app: App, _progress: Progress) -> str:
    from backups.wiring.replacing import tidy

    return tidy(app)


def _catalog(app: App, _progress: Progress) -> str:
    store = load_settings(app.home).catalog_store
    if store is None:
        return "the catalog is not backed up: settings.yaml names no catalog_store"
    label = back_up_catalog(app, store, ())
    return f"the catalog is backed up as {label.name}"


DOES: Mapping[str, Callable[[App, Progress], str]] = {
    WATCH.name: _watch,
    REPLACEMENTS.name: _replacements,
    DRILLS.name: _drills,
    REPORTS.name: _reports,
    SELF_TEST.name: _self_test,
    POSTURE.name: _posture,
    PRUNE.name: _prune,
    SCRUB.name: _scrub,
    HEADS.name: _heads,
    CATALOG.name: _catalog,
}
