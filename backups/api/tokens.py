"""Whose call it is: JSON Web Tokens of the issuers that the settings name.

Source: RFC 7519, and RFC 8725 (best current practices): the algorithm comes from the settings
of the token's issuer, never from the token; issuer, audience, subject and both times must be
there; what lives too long is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

import jwt

from backups.errors import ConfigError, Unauthenticated
from backups.model import Secret
from backups.settings import ApiSettings, Issuer

Role = Literal["viewer", "restorer", "restore_approver", "auditor"]
ROLES: frozenset[str] = frozenset(get_args(Role))
LEEWAY = timedelta(seconds=30)
"""Clocks of two machines differ."""
SHORTEST_SECRET = 32
"""Bytes of an HS256 secret (RFC 7518, section 3.2)."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the token says."""

    subject: str
    customer: str | None
    """None: one of the operator's people, who see every customer."""
    roles: frozenset[str]

    def sees(self, customer: str) -> bool:
        """Whether something of that customer's exists for them."""
        return self.customer in (None, customer)


class Tokens:
    """Believes tokens of some issuers."""

    def __init__(
        self,
        settings: ApiSettings,
        resolve: Callable[[str], Secret],
        now: Callable[[], datetime],
    ) -> None:
        """Raises ConfigError when a secret is too short or a key file can't be read."""
        self._issuers: Mapping[str, Issuer] = {each.issuer: each for each in settings.issuers}
        self._keys = {each.issuer: _keys(each, resolve) for each in settings.issuers}
        self._longest = timedelta(minutes=settings.longest_token_minutes)
        self._now = now

    def caller(self, token: str) -> Caller:
        """Raises Unauthenticated."""
        try:
            claimed = jwt.decode(token, options={"verify_signature": False})
            issuer = self._issuers[claimed["iss"]]
        except (jwt.InvalidTokenError, LookupError, TypeError):
            raise Unauthenticated("the token is of nobody that is known here") from None
        for key in self._fitting(issuer, token):
            claims = self._believed(token, issuer, key)
            if claims is not None:
                return self._of(claims, issuer)
        raise Unauthenticated("the token is not valid")

    def _fitting(self, issuer: Issuer, token: str) -> Sequence[Any]:
        keys = self._keys[issuer.issuer]
        wanted = jwt.get_unverified_header(token).get("kid")
        named = [key for name, key in keys if wanted is not None and name == wanted]
        return named or [key for _, key in keys]

    def _believed(self, token: str, issuer: Issuer, key: Any) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[issuer.algorithm],
                audience=issuer.audience,
                issuer=issuer.issuer,
                options={
                    "require": ["iss", "aud", "sub", "iat", "exp"],
                    # Against the clock that is given, below.
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (jwt.InvalidTokenError, ValueError, TypeError):
            return None
        now = self._now().timestamp()
        times = [found["iat"], found["exp"], found.get("nbf", found["iat"])]
        if not all(isinstance(each, int | float) for each in times):
            return None
        begin, end = max(times[0], times[2]), times[1]
        leeway = LEEWAY.total_seconds()
        young = begin - leeway <= now < end + leeway
        return found if young and end - times[0] <= self._longest.total_seconds() else None

    def _of(self, claims: dict[str, Any], issuer: Issuer) -> Caller:
        roles, customer = claims.get("roles", []), claims.get("customer")
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise Unauthenticated("the token's roles are not a list of names")
        if issuer.operator:
            return Caller(claims["sub"], None, frozenset(roles) & ROLES)
        if not isinstance(customer, str) or not customer:
            raise Unauthenticated("the token names no customer")
        return Caller(claims["sub"], customer, frozenset(roles) & ROLES)


def _keys(issuer: Issuer, resolve: Callable[[str], Secret]) -> list[tuple[str | None, Any]]:
    if issuer.jwks is None:
        secrets = [resolve(reference).reveal() for reference in issuer.secrets]
        if any(len(secret.encode()) < SHORTEST_SECRET for secret in secrets):
            raise ConfigError(
                f"a secret of issuer {issuer.issuer!r} has less than {SHORTEST_SECRET} bytes",
                hint="Make one with: openssl rand -base64 48",
            )
        return [(None, secret) for secret in secrets]
    try:
        found = jwt.PyJWKSet.from_dict(json.loads(Path(issuer.jwks).read_text())).keys
    except (OSError, ValueError, jwt.PyJWTError):
        raise ConfigError(
            f"the keys of issuer {issuer.issuer!r} can't be read from {issuer.jwks}"
        ) from None
    fitting = [key for key in found if key.algorithm_name == issuer.algorithm]
    if not fitting:
        raise ConfigError(f"{issuer.jwks} holds no key for {issuer.algorithm}")
    return [(key.key_id, key.key) for key in fitting]
