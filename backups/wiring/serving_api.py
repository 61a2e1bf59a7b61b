"""The HTTP API, put together. No identity is read here: what is asked for is entered into the
catalog, and done by `serve`."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from backups.errors import ConfigError
from backups.settings import load_settings
from backups.wiring.app import App

if TYPE_CHECKING:
    from backups.api.calls import House


def house(app: App) -> House:
    """What the API's routes work with. Raises ConfigError."""
    from backups.fleet import resolve_password

    try:
        from backups.api.calls import House
        from backups.api.limits import Limits
        from backups.api.tokens import Tokens
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the API needs the package {error.name}",
            hint="Install it with: pip install 'bloomneo-backups[api]'",
        ) from None
    settings = load_settings(app.home).api
    return House(
        app=app,
        tokens=Tokens(settings, resolve_password, app.clock.now),
        limits=Limits(settings.per_minute, app.clock.monotonic),
        session_key=session_key(app),
        session_minutes=settings.session_minutes,
    )


def session_key(app: App) -> bytes:
    """Signs links and sessions; of this home alone, and good for nothing else."""
    from backups import keys

    secret = keys.load_enrolment_key(app.home, app.entropy)
    return hmac.digest(secret, b"backups api sessions", hashlib.sha256)
