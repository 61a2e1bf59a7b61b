"""The API, put together: routes below /v1, the status feed, the pages."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from backups import __version__
from backups.api import feed, problems, sessions
from backups.api.calls import House, read, write
from backups.api.pages import pages, problem_page
from backups.errors import BackupsError

ABOUT = """Backups of your databases: what there is, whether it was proven to restore, and
restores that you ask for. Everything is of the customer that the token names. Writes are
answered with 202 and an operation; the same `Idempotency-Key` again is the same operation.
Errors are problem documents (RFC 9457); `next` says what to do."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'self'",
}

Next = Callable[[Request], Awaitable[Response]]


def create(house: House) -> FastAPI:
    """The whole application."""
    app = FastAPI(
        title="Backups",
        version=__version__,
        description=ABOUT,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.house = house
    kinds: tuple[type[Exception], ...] = (
        BackupsError, RequestValidationError, HTTPException, Exception,
    )  # fmt: skip
    for kind in kinds:
        app.add_exception_handler(kind, _told)
    app.include_router(read, prefix="/v1")
    app.include_router(write, prefix="/v1")
    app.include_router(feed.router)
    app.include_router(sessions.router, include_in_schema=False)
    app.include_router(pages, include_in_schema=False)
    app.middleware("http")(_dressed)
    return app


async def _told(request: Request, error: Exception) -> Response:
    """A problem document for programs, a page for people."""
    problem = problems.of(error)
    if request.url.path.startswith(("/v1", "/feed", "/openapi")):
        return problems.response(problem)
    return problem_page(problem)


async def _dressed(request: Request, call_next: Next) -> Response:
    """Headers of every answer; and one that did not change is not sent again (RFC 9110,
    section 13)."""
    answer = await call_next(request)
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    json = answer.headers.get("content-type", "").startswith("application/json")
    if request.method != "GET" or answer.status_code != 200 or not json:
        return answer
    body = b"".join([piece async for piece in _pieces(answer)])
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = dict(answer.headers) | {"etag": tag}
    asked = [each.strip() for each in request.headers.get("if-none-match", "").split(",")]
    if tag in asked or "*" in asked:
        headers.pop("content-length", None)
        return Response(status_code=304, headers=headers)
    return Response(body, status_code=200, headers=headers)


def _pieces(answer: Any) -> Any:
    return answer.body_iterator
