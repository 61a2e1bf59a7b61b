"""The routes below /v1."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field

from backups.api import reading, views
from backups.api.limits import Limits
from backups.api.tokens import Caller, Tokens
from backups.errors import Forbidden, NotFound, Unauthenticated, UsageError
from backups.replacing import require_startable
from backups.wiring import App, replacing, requests
from backups.wiring.reporting import kept


@dataclass(frozen=True, slots=True)
class House:
    """What routes work with."""

    app: App
    tokens: Tokens
    limits: Limits
    session_key: bytes
    session_minutes: int


def house_of(request: Request) -> House:
    house: House = request.app.state.house
    return house


House_ = Annotated[House, Depends(house_of)]


BEARER = HTTPBearer(auto_error=False, bearerFormat="JWT", description="Of your dashboard.")


def caller_of(
    house: House_, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]
) -> Caller:
    if bearer is None or not bearer.credentials:
        raise Unauthenticated("the call has no token")
    caller = house.tokens.caller(bearer.credentials.strip())
    house.limits.take(caller.customer or f"operator {caller.subject}")
    if not caller.roles:
        raise Forbidden("the token has no role that is known here")
    return caller


Caller_ = Annotated[Caller, Depends(caller_of)]
Id = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
Cursor = Annotated[str | None, Query(max_length=64, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=reading.LONGEST)]
Key = Annotated[
    str, Header(alias="Idempotency-Key", min_length=8, max_length=200,
                description="Chosen by you: the same again is the same operation.")
]  # fmt: skip
PROBLEM: dict[int | str, dict[str, Any]] = {
    status: {"description": words, "content": {"application/problem+json": {}}}
    for status, words in (
        (400, "this can't be read"),
        (401, "no valid token"),
        (403, "not with these roles"),
        (404, "there is none, or it is somebody else's"),
        (409, "not now, or not any more"),
        (422, "this can't be asked"),
        (429, "too many calls"),
        (500, "our fault"),
        (503, "a server that is needed can't be reached"),
    )
}

read = APIRouter(responses=PROBLEM)
write = APIRouter(responses=PROBLEM)


# --- reading ----------------------------------------------------------------------------


@read.get("/me", summary="Who the token says you are")
def me(caller: Caller_) -> dict[str, Any]:
    return {
        "subject": caller.subject,
        "customer": caller.customer,
        "roles": sorted(caller.roles),
    }


@read.get("/databases", summary="Your databases")
def databases(
    house: House_, caller: Caller_, cursor: Cursor = None, limit: Limit = reading.PAGE
) -> dict[str, Any]:
    return reading.paged(reading.databases(house.app, caller), cursor, limit)


@read.get("/databases/{database}", summary="One database")
def database(house: House_, caller: Caller_, database: Id) -> dict[str, Any]:
    return reading.database(house.app, caller, database)


@read.get("/databases/{database}/backups", summary="Its backups, newest first")
def backups(
    house: House_, caller: Caller_, database: Id,
    cursor: Cursor = None, limit: Limit = reading.PAGE,
) -> dict[str, Any]:  # fmt: skip
    return reading.backups(house.app, caller, database, cursor, limit)


@read.get("/backups/{backup}", summary="One backup")
def backup(house: House_, caller: Caller_, backup: Id) -> dict[str, Any]:
    return reading.rows(house.app, [reading.entry(house.app, caller, backup)])[0]


@read.get("/databases/{database}/tests", summary="Its restore tests, newest first")
def drills(
    house: House_, caller: Caller_, database: Id,
    cursor: Cursor = None, limit: Limit = reading.PAGE,
) -> dict[str, Any]:  # fmt: skip
    return reading.paged(reading.drills(house.app, caller, database), cursor, limit)


@read.get("/tests/{test}", summary="One restore test, with every check")
def drill(house: House_, caller: Caller_, test: Id) -> dict[str, Any]:
    return reading.drill(house.app, caller, test)


@read.get("/reports", summary="Published reports, newest first")
def reports(
    house: House_, caller: Caller_, cursor: Cursor = None, limit: Limit = reading.PAGE
) -> dict[str, Any]:
    return reading.paged(reading.reports(house.app, caller), cursor, limit)


@read.get("/reports/{report}", summary="One report, and its files")
def report(house: House_, caller: Caller_, report: Id) -> dict[str, Any]:
    found = reading.publication(house.app, caller, report)
    names = sorted(path.name for path in kept(house.app, found).iterdir())
    return {**views.report(found), "files": names}


@read.get(
    "/reports/{report}/files/{name}",
    summary="A file of a report",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def report_file(house: House_, caller: Caller_, report: Id, name: Id) -> Response:
    folder = kept(house.app, reading.publication(house.app, caller, report))
    path = folder / name
    if name not in {each.name for each in folder.iterdir()}:
        raise NotFound(f"there is no file {name!r} in this report")
    return Response(
        path.read_bytes(),
        media_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@read.get("/operations", summary="What was asked for, newest first")
def operations(
    house: House_, caller: Caller_, cursor: Cursor = None, limit: Limit = reading.PAGE
) -> dict[str, Any]:
    found = [views.operation(r) for r in house.app.requests.all(caller.customer, 1000)]
    return reading.paged(found, cursor, limit)


@read.get("/operations/{operation}", summary="How far it is")
def operation(house: House_, caller: Caller_, operation: Id) -> dict[str, Any]:
    return views.operation(reading.operation(house.app, caller, operation))


@read.get(
    "/operations/{operation}/events",
    summary="How far it is, as server-sent events, until it is over",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
def operation_events(house: House_, caller: Caller_, operation: Id) -> StreamingResponse:
    reading.operation(house.app, caller, operation)  # refused before the stream begins
    return StreamingResponse(follow(house, caller, operation), media_type="text/event-stream")


LONGEST_STREAM = 15 * 60
"""Seconds; then a client connects anew, as browsers do by themselves."""


async def follow(house: House, caller: Caller, name: str) -> AsyncIterator[str]:
    """Each change of an operation, as the HTML standard writes events (section 9.2).

    It holds a thread while it looks and none while it waits: streams that are left open, by
    however many pages, leave the threads to calls. It ends with its client, or the server.
    """
    clock, last = house.app.clock, None
    until = clock.monotonic() + LONGEST_STREAM
    while clock.monotonic() < until:
        row = await run_in_threadpool(reading.operation, house.app, caller, name)
        found = views.operation(row)
        if found != last:
            last = found
            yield f"event: operation\ndata: {json.dumps(found)}\n\n"
        if found["state"] in ("done", "failed"):
            return
        await asyncio.sleep(0.5)


@read.get("/replacements", summary="Live databases replaced by a backup, or to be")
def replacements(
    house: House_, caller: Caller_, cursor: Cursor = None, limit: Limit = reading.PAGE
) -> dict[str, Any]:
    return reading.paged(reading.replacements(house.app, caller), cursor, limit)


@read.get("/replacements/{replacement}", summary="One of them: what would come and go")
def replacement(house: House_, caller: Caller_, replacement: Id) -> dict[str, Any]:
    return views.replacement(reading.replacement(house.app, caller, replacement))


@read.get("/events", summary="What happened, oldest first")
def events(
    house: House_,
    caller: Caller_,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Limit = reading.PAGE,
) -> dict[str, Any]:
    found = reading.events(house.app, caller, after, limit)
    return {"items": found, "next": found[-1]["id"] if len(found) == limit else None}


# --- asking -----------------------------------------------------------------------------


class Wanted(BaseModel):
    """Which backup: by id, or the newest at an instant, or else the newest."""

    backup: str | None = Field(default=None, max_length=64)
    at: str | None = Field(default=None, max_length=40, description="2026-11-23T04:00Z")


class Restore(Wanted):
    """A copy beside the live database."""

    name: str = Field(
        pattern="^[a-z][a-z0-9_]{0,62}$", description="Of the new database, on the same server."
    )
    owner: str | None = Field(
        default=None, min_length=1, max_length=63,
        description="The role that is to own all of it, in place of the source's owners; "
        "PostgreSQL.",
    )  # fmt: skip
    no_privileges: bool = Field(
        default=False, description="Leave out who else may use it; PostgreSQL."
    )

    def arguments(self) -> dict[str, str]:
        """What is asked for beside backup and name: nothing where all is as it is by itself."""
        owner = {"owner": self.owner} if self.owner else {}
        return owner | ({"no_privileges": "yes"} if self.no_privileges else {})


class Start(BaseModel):
    """The typed confirmation."""

    confirm: str = Field(max_length=200, description="The live database's name, typed.")
    accept_exceptions: bool = Field(
        default=False, description="Also with a copy that lacks what the rehearsal showed."
    )


def need(caller: Caller, role: str) -> None:
    """Raises Forbidden."""
    if role not in caller.roles:
        raise Forbidden(f"this needs the role {role}")


def chosen(house: House, caller: Caller, database: str, wanted: Wanted) -> str:
    """The backup's id. Raises NotFound, UsageError."""
    if wanted.backup is not None and wanted.at is not None:
        raise UsageError("either `backup` or `at`, not both")
    if wanted.backup is not None:
        found = reading.entry(house.app, caller, wanted.backup)
        if found.database != database:
            raise NotFound(f"there is no backup {wanted.backup!r} of {database!r}")
        return found.id
    at = reading.at(wanted.at) if wanted.at is not None else None
    return requests.newest_at(house.app, database, at)


def accepted(response: Response, found: Any) -> dict[str, Any]:
    response.headers["Location"] = f"/v1/operations/{found.id}"
    return views.operation(found)


@write.post("/databases/{database}/restores", status_code=202, summary="A copy beside it")
def restore(
    house: House_, caller: Caller_, key: Key, database: Id, body: Restore, response: Response
) -> dict[str, Any]:
    need(caller, "restorer")
    policy = reading.policy(house.app, caller, database)
    backup = chosen(house, caller, database, body)
    return accepted(response, requests.ask(
        house.app, policy.customer, database, "restore", caller.subject, key,
        backup=backup, name=body.name, **body.arguments(),
    ))  # fmt: skip


@write.post(
    "/databases/{database}/replacements",
    status_code=202,
    summary="Plan to replace it by a backup: nothing is changed yet",
)
def plan(
    house: House_, caller: Caller_, key: Key, database: Id, body: Wanted, response: Response
) -> dict[str, Any]:
    need(caller, "restorer")
    policy = reading.policy(house.app, caller, database)
    backup = chosen(house, caller, database, body)
    return accepted(response, requests.ask(
        house.app, policy.customer, database, "plan", caller.subject, key, backup=backup,
    ))  # fmt: skip


@write.post(
    "/replacements/{replacement}/rehearsals",
    status_code=202,
    summary="Make the copy beside it, to be looked at",
)
def rehearse(
    house: House_, caller: Caller_, key: Key, replacement: Id, response: Response
) -> dict[str, Any]:
    need(caller, "restorer")
    found = reading.replacement(house.app, caller, replacement)
    return accepted(response, requests.ask(
        house.app, found.customer, found.database, "rehearse", caller.subject, key,
        replacement=found.id,
    ))  # fmt: skip


@write.post("/replacements/{replacement}/start", status_code=202, summary="Carry it out")
def start(
    house: House_, caller: Caller_, key: Key, replacement: Id, body: Start, response: Response
) -> dict[str, Any]:
    need(caller, "restorer")
    found = reading.replacement(house.app, caller, replacement)
    if not house.app.requests.asked(found.customer, key):
        require_startable(
            found, body.confirm, house.app.clock.now(), "", accept=body.accept_exceptions
        )
    return accepted(response, requests.ask(
        house.app, found.customer, found.database, "start", caller.subject, key,
        replacement=found.id, confirm=body.confirm,
        **({"accept_exceptions": "yes"} if body.accept_exceptions else {}),
    ))  # fmt: skip


@write.post("/replacements/{replacement}/undo", status_code=202, summary="The way back")
def undo(
    house: House_, caller: Caller_, key: Key, replacement: Id, response: Response
) -> dict[str, Any]:
    need(caller, "restorer")
    found = reading.replacement(house.app, caller, replacement)
    return accepted(response, requests.ask(
        house.app, found.customer, found.database, "undo", caller.subject, key,
        replacement=found.id,
    ))  # fmt: skip


@write.post("/replacements/{replacement}/cancel", status_code=202, summary="Take it back")
def cancel(
    house: House_, caller: Caller_, key: Key, replacement: Id, response: Response
) -> dict[str, Any]:
    need(caller, "restorer")
    found = reading.replacement(house.app, caller, replacement)
    return accepted(response, requests.ask(
        house.app, found.customer, found.database, "cancel", caller.subject, key,
        replacement=found.id,
    ))  # fmt: skip


@write.post("/replacements/{replacement}/approvals", summary="Another person's word")
def approve(house: House_, caller: Caller_, _key: Key, replacement: Id) -> dict[str, Any]:
    """Of somebody with the role restore_approver who did not plan it."""
    need(caller, "restore_approver")
    found = reading.replacement(house.app, caller, replacement)
    if found.approved_by == caller.subject:  # the same again, whatever its key
        return views.replacement(found)
    return views.replacement(replacing.approve(house.app, found.id, caller.subject, known=True))
