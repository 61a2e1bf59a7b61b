"""The pages: for customers to look, restore and go back, for operators to see the fleet.

Server-rendered; a small script follows an operation, and without it the page reloads itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import jinja2
from fastapi import APIRouter, Form
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, StreamingResponse

from backups.api import reading, views
from backups.api.calls import House, House_, Id, follow, need
from backups.api.feed import status
from backups.api.sessions import Session, Session_, require_own_form
from backups.errors import NotFound
from backups.replacing import require_startable
from backups.wiring import replacing, requests
from backups.wiring.reporting import kept

pages = APIRouter()
HERE = Path(__file__).parent
DAYS = 91
"""Of the calendar: thirteen weeks."""
STATIC = {"style.css": "text/css", "follow.js": "text/javascript"}

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def size(count: int) -> str:
    """Bytes as people read them."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def when(text: str | None) -> str:
    """An instant of the API as people read it."""
    return f"{text[:10]} {text[11:16]} UTC" if text else "-"


_TEMPLATES.filters.update(size=size, when=when)


def page(session: Session, template: str, **values: Any) -> HTMLResponse:
    """A template with what every page shows."""
    found = _TEMPLATES.get_template(f"{template}.html.j2")
    return HTMLResponse(found.render(caller=session.caller, csrf=session.csrf, **values))


def problem_page(problem: dict[str, Any]) -> HTMLResponse:
    """What went wrong, and what to do next."""
    text = _TEMPLATES.get_template("problem.html.j2").render(caller=None, problem=problem)
    return HTMLResponse(text, status_code=problem["status"])


@pages.get("/static/{name}")
def static(name: Id) -> FileResponse:
    if name not in STATIC:
        raise NotFound(f"there is no file {name!r}")
    return FileResponse(HERE / "static" / name, media_type=STATIC[name])


@pages.get("/")
def home(house: House_, session: Session_) -> HTMLResponse:
    rows = reading.databases(house.app, session.caller)
    last = house.app.looks.last_tests(session.caller.customer)
    tests = {
        name: {"verdict": verdict, "ended_at": views.instant(at)}
        for name, (verdict, at) in last.items()
    }
    return page(session, "databases", databases=rows, tests=tests)


@pages.get("/fleet")
def fleet(house: House_, session: Session_) -> HTMLResponse:
    """For the operator's people alone."""
    app = house.app
    if session.caller.customer is not None:
        raise NotFound("there is no page 'fleet'")
    return page(
        session,
        "fleet",
        status=status(house),
        alarms=app.notices.alarms(limit=200),
        queue=[views.operation(each) for each in app.requests.all(limit=20)],
        unfit=app.proofs.unfit(),
        events=[views.event(each) for each in app.looks.last_events(views.TOLD, None, 30)],
    )


@pages.get("/databases/{database}")
def database(
    house: House_, session: Session_, database: Id, cursor: str | None = None
) -> HTMLResponse:
    app, caller = house.app, session.caller
    found = reading.database(app, caller, database)
    return page(
        session,
        "database",
        database=found,
        days=calendar(house, database),
        backups=reading.backups(app, caller, database, cursor, reading.PAGE),
        cursor=cursor,
        tests=reading.drills(app, caller, database)[:20],
        replacements=[
            row for row in reading.replacements(app, caller) if row["database"] == database
        ][:10],
    )


def calendar(house: House, database: str) -> list[dict[str, Any]]:
    """The last thirteen weeks, oldest first: each day, its newest backup and how it stands."""
    now = house.app.clock.now()
    since = now - timedelta(days=DAYS)
    newest: dict[str, str] = {}
    for at, name in house.app.looks.taken(database, since):
        newest.setdefault(f"{at:%Y-%m-%d}", name)
    failed = {
        f"{run.started_at:%Y-%m-%d}"
        for run in house.app.catalog.runs(database, 500)
        if run.state in ("failed", "interrupted") and run.started_at > since
    }
    days = []
    for back in range(DAYS - 1, -1, -1):
        day = f"{now - timedelta(days=back):%Y-%m-%d}"
        state = "taken" if day in newest else "failed" if day in failed else "none"
        days.append({"day": day, "state": state, "backup": newest.get(day)})
    return days


@pages.get("/backups/{backup}")
def backup(house: House_, session: Session_, backup: Id) -> HTMLResponse:
    app = house.app
    entry = reading.entry(app, session.caller, backup)
    tests = reading.drills(app, session.caller, entry.database)
    name = f"{entry.database.replace('-', '_')}_restored_{entry.created_at:%Y%m%d}"
    return page(
        session,
        "backup",
        backup=reading.rows(app, [entry])[0],
        tests=[row for row in tests if row["backup"] == entry.id],
        name=name[:63],
        key=app.entropy.bytes(16).hex(),
        policy=app.catalog.policy(entry.database),
    )


@pages.get("/tests/{test}")
def drill(house: House_, session: Session_, test: Id) -> HTMLResponse:
    return page(session, "test", test=reading.drill(house.app, session.caller, test))


@pages.get("/reports")
def reports(house: House_, session: Session_) -> HTMLResponse:
    return page(session, "reports", reports=reading.reports(house.app, session.caller))


@pages.get("/reports/{report}")
def report(house: House_, session: Session_, report: Id) -> FileResponse:
    found = reading.publication(house.app, session.caller, report)
    return FileResponse(
        kept(house.app, found) / "report.html",
        media_type="text/html",
        headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
    )


@pages.get("/operations/{operation}")
def operation(house: House_, session: Session_, operation: Id) -> HTMLResponse:
    found = reading.operation(house.app, session.caller, operation)
    return page(session, "operation", operation=views.operation(found))


@pages.get("/operations/{operation}/events")
def operation_events(house: House_, session: Session_, operation: Id) -> StreamingResponse:
    reading.operation(house.app, session.caller, operation)
    events = follow(house, session.caller, operation)
    return StreamingResponse(events, media_type="text/event-stream")


@pages.get("/replacements/{replacement}")
def replacement(house: House_, session: Session_, replacement: Id) -> HTMLResponse:
    found = reading.replacement(house.app, session.caller, replacement)
    return page(
        session,
        "replacement",
        replacement=views.replacement(found),
        mine=found.planned_by == session.caller.subject,
        key=house.app.entropy.bytes(16).hex(),
    )


# --- forms ------------------------------------------------------------------------------

Csrf = Annotated[str, Form(max_length=64)]
Key = Annotated[str, Form(min_length=8, max_length=64)]


def asked(
    house: House, session: Session, csrf: str, key: str, whose: Any, kind: Any, **arguments: str
) -> RedirectResponse:
    """Enter a request, and lead to its operation. Raises SessionOver, Forbidden, UsageError."""
    require_own_form(session, csrf)
    need(session.caller, "restorer")
    found = requests.ask(
        house.app,
        whose.customer,
        whose.database,
        kind,
        session.caller.subject,
        key,
        **arguments,
    )
    return RedirectResponse(f"/operations/{found.id}", status_code=303)


@pages.post("/backups/{backup}/restore")
def restore(
    house: House_, session: Session_, backup: Id, csrf: Csrf, key: Key,
    name: Annotated[str, Form(pattern="^[a-z][a-z0-9_]{0,62}$")],
) -> RedirectResponse:  # fmt: skip
    entry = reading.entry(house.app, session.caller, backup)
    return asked(house, session, csrf, key, entry, "restore", backup=entry.id, name=name)


@pages.post("/backups/{backup}/plan")
def plan(
    house: House_, session: Session_, backup: Id, csrf: Csrf, key: Key
) -> RedirectResponse:
    entry = reading.entry(house.app, session.caller, backup)
    return asked(house, session, csrf, key, entry, "plan", backup=entry.id)


@pages.post("/replacements/{replacement}/{what}")
def act(
    house: House_, session: Session_, replacement: Id, what: str, csrf: Csrf, key: Key,
    confirm: Annotated[str, Form(max_length=200)] = "",
    accept: Annotated[str, Form(max_length=3)] = "",
) -> RedirectResponse:  # fmt: skip
    found = reading.replacement(house.app, session.caller, replacement)
    if what == "approve":
        require_own_form(session, csrf)
        need(session.caller, "restore_approver")
        replacing.approve(house.app, found.id, session.caller.subject, known=True)
        return RedirectResponse(f"/replacements/{found.id}", status_code=303)
    arguments: Mapping[str, str] = {"replacement": found.id}
    if what == "start":
        accepted = accept == "yes"
        require_startable(found, confirm, house.app.clock.now(), "", accept=accepted)
        arguments = {**arguments, "confirm": confirm}
        if accepted:
            arguments = {**arguments, "accept_exceptions": "yes"}
    elif what not in ("rehearse", "undo", "cancel"):
        raise NotFound(f"there is no form {what[:40]!r}")
    return asked(house, session, csrf, key, found, what, **arguments)
