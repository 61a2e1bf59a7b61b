"""The verifier put to the test: negative controls, cold starts, and the month's of both."""

from __future__ import annotations

from datetime import timedelta

from backups.errors import NotFound
from backups.ids import uuid7
from backups.model import Backup
from backups.ports import Progress
from backups.proving import Drill, Pick, SelfTest
from backups.settings import load_settings
from backups.wiring.app import App
from backups.wiring.proving import drill_ports, month_of, subject_of, testing

SMALLEST = 16 << 10
"""Bytes: what is smaller holds too little that could be damaged in every way. ASSUMED."""


def self_test(app: App, entry: Backup, progress: Progress) -> SelfTest:
    """Negative controls on one backup, as evidence. Raises as `drill_one` does."""
    from verify.controls import self_test
    from verify.meddle.registry import meddlings

    policy = app.catalog.policy(entry.database)
    with (
        testing(app, entry.database),
        drill_ports(app, entry) as (ports, place),
    ):
        subject = subject_of(app, entry, policy, Pick("person"), place)
        found = self_test(ports, subject, meddlings(entry.engine), app.entropy, progress)
        app.archive.add(found)
    return found


def cold_start(app: App, database: str, progress: Progress) -> Drill:
    """The newest backup, from its store and the identity alone: the catalog is not asked what
    there is. Raises NotFound, and as `drill_one` does."""
    from verify.coldstart import cold_subject
    from verify.drill import drill

    policy = app.catalog.policy(database)
    listed = app.catalog.backups(database)
    if not listed:
        raise NotFound(f"there is no backup of {database!r} to test")
    settings = load_settings(app.home)
    with (
        testing(app, database),
        drill_ports(app, listed[0]) as (ports, place),
    ):
        drill_id = uuid7(app.clock.now(), app.entropy.bytes(10))
        subject = cold_subject(
            ports.store,
            place.store_url,
            ports.verify_keys,
            drill_id,
            policy,
            limit=timedelta(minutes=settings.scratch.ttl_minutes),
            region=settings.scratch.region,
            jobs=settings.restore_jobs,
        )
        app.archive.add(subject.begun(app.clock.now()))
        found = drill(ports, subject, progress)
        app.archive.add(found)
    return found


def controls_due(app: App, progress: Progress) -> str:
    """Make this month's self-test of each engine, and its cold start, if they were not made;
    returns what was made, in words. Raises Busy while one of these is under test, and as
    `drill_one` does.

    A self-test restores one backup many times: the smallest is taken, and when it could not
    be brought to its end the next one. Of a cold start the database is drawn.
    """
    from verify.sampling import drawn

    now = app.clock.now()
    made = app.archive.evidence(["self-test", "drill"], since=month_of(now))
    newest: dict[str, Backup] = {}
    for backup in app.catalog.backups():
        newest.setdefault(backup.database, backup)
    engines = {policy.database: policy.engine for policy in app.catalog.policies()}
    newest = {name: backup for name, backup in newest.items() if name in engines}
    did = []
    for engine in sorted({engines[name] for name in newest}):
        fit = sorted(
            (backup.plain_bytes, backup.id)
            for name, backup in newest.items()
            if engines[name] == engine and backup.plain_bytes >= SMALLEST
        )
        tests = [
            e for e in made if isinstance(e, SelfTest) and engines.get(e.database) == engine
        ]
        if fit and all(test.error for test in tests):
            entry = app.catalog.backup(fit[len(tests) % len(fit)][1])
            found = self_test(app, entry, progress)
            caught = len(found.trials) - len(found.missed)
            did.append(f"self-test of {engine}: {caught} of {len(found.trials)} rejected")
    cold = (e for e in made if isinstance(e, Drill) and e.kind == "cold start")
    names = sorted(newest)
    if names and all(each.verdict != "PASSED" for each in cold):
        chosen = names[drawn(f"{now:%Y-%m} cold start", len(names))]
        did.append(f"cold start of {chosen}: {cold_start(app, chosen, progress).verdict}")
    return "; ".join(did)
