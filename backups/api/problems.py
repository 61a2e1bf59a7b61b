"""Errors as problem documents (RFC 9457): what, why, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from backups import errors
from backups.errors import BackupsError

MEDIA = "application/problem+json"
LOOK_UP = errors.CallRefused.hint


STATUS: Mapping[type[BackupsError], int] = MappingProxyType(
    {
        errors.Unauthenticated: 401,
        errors.SessionOver: 401,
        errors.Forbidden: 403,
        errors.NotFound: 404,
        errors.UsageError: 422,
        errors.Busy: 409,
        errors.ApprovalMissing: 409,
        errors.PlanVoid: 409,
        errors.TargetRefused: 409,
        errors.TooManyCalls: 429,
        errors.ConfigError: 409,
        errors.StoreUnavailable: 503,
        errors.Unreachable: 503,
    }
)
"""By class, the nearest of an error's ancestors; 500 for all others."""


def status_of(error: BackupsError) -> int:
    """The HTTP status of an error."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def document(status: int, title: str, detail: str, next_: str = "") -> dict[str, Any]:
    """A problem: `next` says what to do."""
    about = f"urn:bloomneo:backups:problem:{title}"
    return {"type": about, "title": title, "status": status, "detail": detail, "next": next_}


def response(problem: dict[str, Any]) -> JSONResponse:
    """With its status and media type."""
    headers = {"WWW-Authenticate": "Bearer"} if problem["status"] == 401 else {}
    return JSONResponse(
        problem, status_code=problem["status"], media_type=MEDIA, headers=headers
    )


def of(error: Exception) -> dict[str, Any]:
    """The document of whatever was raised. Nothing of an unknown error is told."""
    if isinstance(error, BackupsError):
        return document(status_of(error), type(error).__name__, str(error), error.hint)
    if isinstance(error, RequestValidationError):
        found = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:10]
        )
        return document(422, "Invalid", found, LOOK_UP)
    if isinstance(error, HTTPException):
        phrase = HTTPStatus(error.status_code).phrase
        return document(error.status_code, phrase, error.detail, LOOK_UP)
    return document(500, "Internal", "something went wrong here", "It is on our record.")
