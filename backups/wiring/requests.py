"""Doing what was asked for over the API. The restore identity is read here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from backups.errors import BackupsError, RestoredInPart, UsageError
from backups.ids import uuid7
from backups.model import RestoreOptions
from backups.ports import Progress
from backups.requested import Kind, Request
from backups.settings import load_settings
from backups.wiring import replacing
from backups.wiring.app import App
from backups.wiring.giving import choose, giving_back, operation
from backups.wiring.holding import leased

TOLD_EVERY = timedelta(seconds=1)


def ask(
    app: App, customer: str, database: str, kind: Kind, by: str, key: str, **arguments: str
) -> Request:
    """Enter a request; the same key again gives the one that was entered. Raises UsageError."""
    now = app.clock.now()
    request = Request(
        uuid7(now, app.entropy.bytes(10)), customer, database, kind, by, now, arguments
    )
    return app.requests.add(request, key)


def work(app: App, request_id: str) -> Request | None:
    """Do one, on record; None when it was over before. Raises Busy when another process does,
    NotFound."""
    with leased(app, f"request/{request_id}", f"{request_id}.request", "the work"):
        request = app.requests.take(request_id, app.clock.now())
        return _done(app, request) if request else None


def work_all(app: App) -> int:
    """Do all that waits, oldest first; returns how many were done. Raises as `work` does."""
    waiting = app.requests.unfinished()
    return sum(work(app, request_id) is not None for request_id, _, _ in waiting)


def _done(app: App, request: Request) -> Request:
    told = app.clock.now()
    so_far = request

    def progress(what: str, done: int, _total: int | None) -> None:
        nonlocal told, so_far
        now = app.clock.now()
        if what != so_far.doing or now - told >= TOLD_EVERY:
            told, so_far = now, replace(so_far, doing=what, bytes=done)
            app.requests.save(so_far)

    try:
        did = DOES[request.kind](app, request, progress)
    except BackupsError as error:
        end = replace(
            so_far, state="failed", error=str(error), hint=error.hint, exit_code=error.exit_code
        )
    except Exception as error:  # noqa: BLE001  # whatever it was, it goes on record
        end = replace(so_far, state="failed", error=type(error).__name__, exit_code=1)
    else:
        code = RestoredInPart.exit_code if did.exceptions else 0
        end = replace(
            so_far, state="done", result=did.result, exceptions=did.exceptions, exit_code=code
        )
    end = replace(end, ended_at=app.clock.now())
    app.requests.save(end)
    return end


@dataclass(frozen=True, slots=True)
class Did:
    """What came of a request that was done."""

    result: str
    exceptions: tuple[str, ...] = ()


def _restore(app: App, request: Request, progress: Progress) -> Did:
    """A copy beside the live database, compared, under the name that was asked for."""
    from backups.engines.registry import open_engine
    from backups.fleet.states import refuse_restore, standing_of
    from backups.run.restore import in_words, restore
    from backups.wiring.taking import source_of

    entry = app.catalog.backup(request.arguments["backup"])
    standings = app.standings.standings(entry.customer)
    standing = standing_of(standings, entry.customer, entry.database)
    refuse_restore(standing, app.clock.now(), entry.database)
    policy = app.catalog.policy(request.database)
    live, name = source_of(policy), request.arguments["name"]
    target = open_engine(policy.engine, app.clock, app.entropy).beside(live, name)
    if urlsplit(target.url).path == urlsplit(live.url).path:
        raise UsageError("a copy can't have the live database's name")
    options = RestoreOptions(
        load_settings(app.home).restore_jobs,
        owner=request.arguments.get("owner", ""),
        no_privileges="no_privileges" in request.arguments,
    )
    with operation(app, entry, target.url, by=request.by) as ending:
        done = giving_back(
            app,
            entry,
            lambda manifest, giving: restore(giving, manifest, target, options, progress),
            lambda words: progress(words, 0, None),
        )
        ending.exceptions = in_words(done.exceptions)
    return Did(name, ending.exceptions)


def _plan(app: App, request: Request, progress: Progress) -> Did:
    entry = app.catalog.backup(request.arguments["backup"])
    return Did(replacing.plan(app, entry, request.by, progress, lambda _: None).id)


def _rehearse(app: App, request: Request, progress: Progress) -> Did:
    plan = request.arguments["replacement"]
    found = replacing.rehearse(app, plan, progress, lambda _: None)
    return Did(found.id, found.exceptions)


def _start(app: App, request: Request, progress: Progress) -> Did:
    plan, confirm = request.arguments["replacement"], request.arguments["confirm"]
    accept = "accept_exceptions" in request.arguments
    found = replacing.start(
        app, plan, request.by, confirm, progress, lambda _: None, accept=accept
    )
    return Did(found.id, found.exceptions)


def _undo(app: App, request: Request, _progress: Progress) -> Did:
    return Did(replacing.undo(app, request.arguments["replacement"], request.by).id)


def _cancel(app: App, request: Request, _progress: Progress) -> Did:
    return Did(replacing.cancel(app, request.arguments["replacement"]).id)


DOES: Mapping[Kind, Callable[[App, Request, Progress], Did]] = {
    "restore": _restore,
    "plan": _plan,
    "rehearse": _rehearse,
    "start": _start,
    "undo": _undo,
    "cancel": _cancel,
}


def newest_at(app: App, database: str, at: datetime | None) -> str:
    """The id of its newest backup, or of the newest at an instant. Raises NotFound."""
    return choose(app, database, at).id
