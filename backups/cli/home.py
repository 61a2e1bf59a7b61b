"""Where the home is: asked once, in one wording."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from backups.errors import ConfigError


def pass_home_path(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the home's path as its first argument. Raises ConfigError."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        path = click.get_current_context().find_object(str)
        if not path:
            raise ConfigError(
                "no home was named", hint="Use --home DIR, or set BACKUPS_HOME to it."
            )
        return function(path, *args, **kwargs)

    return wrapper


def databases(home: str | None) -> list[str]:
    """Ids of declared databases, for shell completion."""
    from backups import wiring

    if not home:
        return []
    with wiring.opened(home) as app:
        return [policy.database for policy in app.catalog.policies()]


def customers(home: str | None) -> list[str]:
    """Ids of customers with declared databases, for shell completion."""
    from backups import wiring

    if not home:
        return []
    with wiring.opened(home) as app:
        return sorted({policy.customer for policy in app.catalog.policies()})


def backups_and_databases(home: str | None) -> list[str]:
    """What restore takes, for shell completion."""
    from backups import wiring

    if not home:
        return []
    with wiring.opened(home) as app:
        names = {backup.database for backup in app.catalog.backups()}
        return [*sorted(names), *(backup.id for backup in app.catalog.backups())]
