"""From a dashboard to our pages: a signed link that lives a minute and works once becomes a
session in a cookie that no script reads.

Both are JSON Web Tokens (HS256) by a key of this home alone, told apart by their audience.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import jwt
from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse

from backups.api.calls import House_
from backups.api.tokens import ROLES, Caller
from backups.errors import SessionOver, UsageError

router = APIRouter()
COOKIE = "backups-session"
LINK, SESSION = "backups-link", "backups-session"
LINK_LIVES = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Session:
    """Who looks at the pages."""

    caller: Caller
    csrf: str
    """Must come back with every form."""


def link(
    key: bytes, customer: str | None, subject: str, roles: list[str], now: datetime, nonce: str
) -> str:
    """The token of a link. Raises UsageError when a role is none."""
    unknown = sorted(set(roles) - ROLES)
    if unknown:
        raise UsageError(f"there is no role {', '.join(unknown)}")
    claims = {"sub": subject, "customer": customer, "roles": roles, "jti": nonce}
    return _sign(key, LINK, claims, now, LINK_LIVES)


def _sign(
    key: bytes, audience: str, claims: dict[str, Any], now: datetime, lives: timedelta
) -> str:
    times = {"iat": int(now.timestamp()), "exp": int((now + lives).timestamp())}
    return jwt.encode({**claims, **times, "aud": audience}, key, algorithm="HS256")


def _claims(key: bytes, audience: str, token: str, now: datetime) -> dict[str, Any]:
    """Raises SessionOver."""
    try:
        found: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=["HS256"],
            audience=audience,
            options={
                "require": ["sub", "iat", "exp"],
                "verify_exp": False,
                "verify_iat": False,
            },
        )
    except jwt.InvalidTokenError:
        raise SessionOver("this link or session is not ours, or was changed") from None
    if not found["iat"] - 30 <= now.timestamp() < found["exp"]:
        raise SessionOver("this link or session is over")
    return found


def caller_in(claims: dict[str, Any]) -> Caller:
    """Whom our own token is about."""
    return Caller(claims["sub"], claims["customer"], frozenset(claims["roles"]))


@router.get("/enter")
def enter(house: House_, request: Request, link: str) -> RedirectResponse:
    """Where a dashboard leads to."""
    app, now = house.app, house.app.clock.now()
    claims = _claims(house.session_key, LINK, link, now)
    used = f"link {claims['jti']}"
    with app.notices.changing() as desk:
        if desk.moment(used) is not None:
            raise SessionOver("this link was used already")
        desk.set_moment(used, now)
    lives = timedelta(minutes=house.session_minutes)
    kept = {name: claims[name] for name in ("sub", "customer", "roles")}
    kept["csrf"] = app.entropy.bytes(16).hex()
    answer = RedirectResponse("/", status_code=303)
    answer.set_cookie(
        COOKIE,
        _sign(house.session_key, SESSION, kept, now, lives),
        max_age=int(lives.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=request.url.hostname not in ("localhost", "127.0.0.1"),
    )
    return answer


def session_of(house: House_, request: Request) -> Session:
    """Raises SessionOver."""
    token = request.cookies.get(COOKIE)
    if not token:
        raise SessionOver("there is no session")
    claims = _claims(house.session_key, SESSION, token, house.app.clock.now())
    caller = caller_in(claims)
    house.limits.take(caller.customer or f"operator {caller.subject}")
    return Session(caller, claims["csrf"])


Session_ = Annotated[Session, Depends(session_of)]


def require_own_form(session: Session, csrf: str) -> None:
    """Raises SessionOver when a form was not made by our page in this session."""
    if not hmac.compare_digest(session.csrf.encode(), csrf.encode()):
        raise SessionOver("this form was not made in this session")
