"""What a caller may ask: of their own customer, and of nobody else's.

Something of another customer's and something that does not exist are the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from backups.api import views
from backups.api.tokens import Caller
from backups.api.views import Row
from backups.errors import NotFound, UsageError
from backups.fleet.states import state_of
from backups.model import Backup, Policy
from backups.proving import Drill, Publication
from backups.replacing import Replacement
from backups.requested import Request
from backups.wiring import App

T = TypeVar("T", Policy, Backup, Drill, Request, Replacement, Publication)
U = TypeVar("U")
PAGE = 50
LONGEST = 200


def own(caller: Caller, found: T | None, what: str, name: str) -> T:
    """It, if it is theirs. Raises NotFound in the same words whether it is not there or not
    theirs."""
    if found is None or not caller.sees(found.customer):
        raise NotFound(f"there is no {what} {name[:80]!r}")
    return found


def policy(app: App, caller: Caller, name: str) -> Policy:
    """Raises NotFound."""
    try:
        found = app.catalog.policy(name)
    except NotFound:
        found = None
    return own(caller, found, "database", name)


def entry(app: App, caller: Caller, name: str) -> Backup:
    """Raises NotFound."""
    try:
        found = app.catalog.backup(name)
    except NotFound:
        found = None
    return own(caller, found, "backup", name)


def databases(app: App, caller: Caller) -> list[Row]:
    """All that are theirs."""
    newest = app.looks.newest(caller.customer)
    mine = [each for each in app.catalog.policies() if caller.sees(each.customer)]
    standings = app.standings.standings(caller.customer)
    return [
        views.database(
            each,
            newest.get(each.database),
            state_of(standings, each.customer, each.database).name,
        )
        for each in mine
    ]


def database(app: App, caller: Caller, name: str) -> Row:
    """Raises NotFound."""
    found = policy(app, caller, name)
    state = state_of(app.standings.standings(found.customer), found.customer, name)
    newest = next(iter(app.looks.backups(name, 1)), None)
    return views.database(found, newest, state.name)


def backups(
    app: App, caller: Caller, name: str, cursor: str | None, limit: int
) -> dict[str, object]:
    """A page of one database's, newest first. Raises NotFound, UsageError."""
    policy(app, caller, name)
    before = None
    if cursor is not None:
        before = app.looks.one(name, cursor)
        if before is None:
            raise _leads_nowhere()
    entries = app.looks.backups(name, limit + 1, before)
    shown = entries[:limit]
    more = len(entries) > limit
    return {"items": rows(app, shown), "next": shown[-1].id if more else None}


def rows(app: App, entries: Sequence[Backup]) -> list[Row]:
    """Listed backups of one database, with their badges."""
    if not entries:
        return []
    now, of = app.clock.now(), entries[0].database
    names = [each.id for each in entries]
    verdicts, copies = app.looks.verdicts(names), app.looks.copies(names)
    held = {
        hold.backup
        for hold, release in app.ledger.holds(of)
        if release is None and (hold.until is None or hold.until > now)
    }
    return [
        views.backup(
            each,
            verdicts.get(each.id, "NOT TESTED"),
            1 + copies.get(each.id, 0),
            each.id in held,
            now,
        )
        for each in entries
    ]


def drills(app: App, caller: Caller, name: str) -> list[Row]:
    """Of one database, newest first. Raises NotFound."""
    policy(app, caller, name)
    found = app.archive.evidence(["drill"], database=name)
    return [views.drill(each) for each in reversed(found) if isinstance(each, Drill)]


def drill(app: App, caller: Caller, name: str) -> Row:
    """One, with its checks. Raises NotFound."""
    try:
        found = app.archive.one(name, "drill")
    except NotFound:
        found = None
    mine = own(caller, found if isinstance(found, Drill) else None, "restore test", name)
    return views.drill(mine, whole=True)


def reports(app: App, caller: Caller) -> list[Row]:
    """All published ones of theirs, newest first; the operator's people see the fleet's."""
    found = app.archive.evidence(["publication"])
    return [
        views.report(each)
        for each in reversed(found)
        if isinstance(each, Publication) and caller.sees(each.customer)
    ]


def publication(app: App, caller: Caller, name: str) -> Publication:
    """Raises NotFound."""
    try:
        found = app.archive.one(name, "publication")
    except NotFound:
        found = None
    return own(caller, found if isinstance(found, Publication) else None, "report", name)


def operation(app: App, caller: Caller, name: str) -> Request:
    """Raises NotFound."""
    try:
        found = app.requests.one(name)
    except NotFound:
        found = None
    return own(caller, found, "operation", name)


def replacement(app: App, caller: Caller, name: str) -> Replacement:
    """Raises NotFound."""
    try:
        found = app.replacements.one(name)
    except NotFound:
        found = None
    return own(caller, found, "replacement", name)


def replacements(app: App, caller: Caller) -> list[Row]:
    """All of theirs, newest first."""
    return [views.replacement(r) for r in app.replacements.all() if caller.sees(r.customer)]


def events(app: App, caller: Caller, after: int, limit: int) -> list[Row]:
    """What happened, from a record on, oldest first."""
    found = app.looks.events(views.TOLD, caller.customer, after, limit)
    return [views.event(record) for record in found]


def paged(found: Sequence[Row], cursor: str | None, limit: int) -> dict[str, object]:
    """A page, and the cursor of the next one. Raises UsageError."""
    items, more = cut(found, cursor, limit, lambda row: str(row["id"]))
    return {"items": items, "next": str(items[-1]["id"]) if more else None}


def cut(
    found: Sequence[U], cursor: str | None, limit: int, name: Callable[[U], str]
) -> tuple[list[U], bool]:
    """Those after the one that `cursor` names, and whether there are more. Raises UsageError
    when none has that name."""
    start = 0
    if cursor is not None:
        names = [name(each) for each in found]
        if cursor not in names:
            raise _leads_nowhere()
        start = names.index(cursor) + 1
    return list(found[start : start + limit]), start + limit < len(found)


def _leads_nowhere() -> UsageError:
    return UsageError("this cursor leads nowhere", hint="Begin without one.")


def at(text: str) -> datetime:
    """An instant as a caller writes it. Raises UsageError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text[:40]!r} is not an instant", hint="Write 2026-11-23T04:00Z."
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
