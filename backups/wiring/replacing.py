"""Replacing live databases, put together: policy, engine, restore agent, safety backup."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal

from backups.declared import Policy
from backups.errors import BackupsError, Busy
from backups.model import Backup, Manifest, RestoreOptions
from backups.ports import Progress
from backups.replacing import Replacement, approved, stale_rehearsal
from backups.run.restore import RestorePorts
from backups.settings import load_settings
from backups.wiring.app import App
from backups.wiring.asking import backup_by_another
from backups.wiring.giving import Ending, giving_back, operation
from backups.wiring.taking import backup_ports, source_of

if TYPE_CHECKING:
    from backups.run.replace import ReplacePorts


@contextmanager
def held(app: App, database: str) -> Iterator[ReplacePorts]:
    """One database, for us alone, and brought to rest if an earlier process died at it.

    Raises Busy, NotFound, ConfigError when its engine can't do that.
    """
    from backups.run.replace import settle
    from backups.wiring.holding import alone

    policy = app.catalog.policy(database)
    with alone(app, f"{database}.replace", "a replacement"):
        ports = ports_of(app, policy)
        for plan in app.replacements.all(database):
            settle(ports, plan)
        yield ports


def ports_of(app: App, policy: Policy) -> ReplacePorts:
    """What replacing a policy's database needs. Raises ConfigError."""
    from backups.engines.registry import open_engine, open_swapper
    from backups.run.replace import ReplacePorts

    live = source_of(policy)
    engine = open_engine(policy.engine, app.clock, app.entropy)
    return ReplacePorts(
        clock=app.clock,
        records=app.replacements,
        engine=engine,
        swapper=open_swapper(policy.engine, live),
        live=live,
        beside=partial(engine.beside, live),
    )


def plan(
    app: App,
    entry: Backup,
    by: str,
    progress: Progress,
    say: Callable[[str], None],
    *,
    ticket: str = "",
    consent: str = "",
) -> Replacement:
    """What replacing the live database by that backup would do; on record, nothing changed.

    Raises ConfigError when the customer's state forbids it, and as reading either does."""
    from backups.fleet.states import refuse_restore, standing_of
    from backups.run.replace import Terms, plan

    policy = app.catalog.policy(entry.database)
    standings = app.standings.standings(entry.customer)
    standing = standing_of(standings, entry.customer, entry.database)
    refuse_restore(standing, app.clock.now(), entry.database)
    settings = load_settings(app.home)
    terms = Terms(
        planned_by=by,
        needs=needs(policy, len(settings.restore_approvers)),
        delay=timedelta(minutes=settings.restore_cooling_minutes),
        keep_days=settings.restore_keep_days,
        ticket=ticket,
        consent=consent,
    )
    with held(app, entry.database) as ports:

        def planned(manifest: Manifest, giving: RestorePorts) -> Replacement:
            return plan(ports, giving, manifest, policy, terms, app.entropy, progress)

        return giving_back(app, entry, planned, say)


def needs(policy: Policy, approvers: int) -> Literal["nothing", "person", "delay"]:
    """What a plan waits for: a second person where the plan asks and there are two."""
    if not policy.plan.second_approver:
        return "nothing"
    return "person" if approvers > 1 else "delay"


def approve(app: App, plan_id: str, name: str, *, known: bool = False) -> Replacement:
    """With another person's word; `known`: that they may, a token says. Raises NotFound,
    UsageError, ApprovalMissing."""
    found = app.replacements.one(plan_id)
    approvers = [name] if known else load_settings(app.home).restore_approvers
    plan = approved(found, name, approvers, app.clock.now())
    app.replacements.save(plan, "approved")
    return plan


def rehearse(
    app: App, plan_id: str, progress: Progress, say: Callable[[str], None]
) -> Replacement:
    """Make the copy to be looked at. Raises as `run.replace.rehearse` does."""
    from backups.run.replace import rehearse

    found = app.replacements.one(plan_id)
    entry = app.catalog.backup(found.backup)
    options = RestoreOptions(load_settings(app.home).restore_jobs)
    with held(app, found.database) as ports, _on_record(app, entry, found) as ending:
        seen = rehearse(
            ports,
            app.replacements.one(plan_id),
            lambda use: giving_back(app, entry, use, say),
            options,
            progress,
        )
        ending.exceptions = seen.exceptions
    return seen


def start(
    app: App,
    plan_id: str,
    by: str,
    confirm: str,
    progress: Progress,
    say: Callable[[str], None],
    *,
    broke_glass: str = "",
    accept: bool = False,
) -> Replacement:
    """Do it. Raises as `run.replace.start` does; NotFound when its backup is gone."""
    from backups.run.backup import back_up
    from backups.run.replace import start

    found = app.replacements.one(plan_id)
    entry = app.catalog.backup(found.backup)
    policy = app.catalog.policy(found.database)

    def safety() -> Backup:
        if "backup" not in app.roles:
            return backup_by_another(app, policy, progress)
        with backup_ports(app, policy, anyway=True) as ports:
            return back_up(ports, policy, source_of(policy), progress)

    with held(app, found.database) as ports, _on_record(app, entry, found) as ending:
        did = start(
            ports,
            app.replacements.one(plan_id),
            lambda use: giving_back(app, entry, use, say),
            safety,
            RestoreOptions(load_settings(app.home).restore_jobs),
            progress,
            by=by,
            confirm=confirm,
            broke_glass=broke_glass,
            accept=accept,
        )
        ending.exceptions = did.exceptions
    return did


def _on_record(app: App, entry: Backup, plan: Replacement) -> AbstractContextManager[Ending]:
    asked = {"by": plan.planned_by, "ticket": plan.ticket, "consent": plan.consent}
    return operation(app, entry, plan.target, **asked)


def undo(app: App, plan_id: str, by: str) -> Replacement:
    """Make the old database live again. Raises as `run.replace.undo` does."""
    from backups.run.replace import undo

    with held(app, app.replacements.one(plan_id).database) as ports:
        return undo(ports, app.replacements.one(plan_id), by)


def cancel(app: App, plan_id: str) -> Replacement:
    """Take a plan back that was not started. Raises as `run.replace.cancel` does."""
    from backups.run.replace import cancel

    with held(app, app.replacements.one(plan_id).database) as ports:
        return cancel(ports, app.replacements.one(plan_id))


def drop(app: App, plan_id: str, *, anyway: bool = False) -> Replacement:
    """Drop what is kept of it. Raises as `run.replace.drop_kept` does."""
    from backups.run.replace import drop_kept

    with held(app, app.replacements.one(plan_id).database) as ports:
        return drop_kept(ports, app.replacements.one(plan_id), anyway=anyway)


def tidy(app: App) -> str:
    """Bring those to rest whose process died, and drop what was kept long enough; in words.

    Raises BackupsError when one could not be, after all the others."""
    from backups.run.replace import drop_kept, end_rehearsal

    did, failed = [], []
    now = app.clock.now()
    for each in app.replacements.all():
        over = each.kept_until is not None and each.kept_until <= now
        stale = stale_rehearsal(each, now)
        if each.state != "running" and not over and not stale:
            continue
        try:
            with held(app, each.database) as ports:
                if over:
                    drop_kept(ports, app.replacements.one(each.id))
                elif stale:
                    end_rehearsal(ports, app.replacements.one(each.id))
            did.append(f"{each.database}: {app.replacements.one(each.id).state}")
        except Busy:
            continue
        except BackupsError as error:
            failed.append(f"{each.database}: {error}")
    if failed:
        raise BackupsError(f"replacements that need a person: {'; '.join(failed)}")
    return f"replacements: {', '.join(did) or 'none to see to'}"
