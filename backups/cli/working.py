"""What `serve` and `worker` have in common: roles, and lines for a log."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import click

from backups.ports import Clock, Role

log_option = click.option(
    "--log",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="One line per event, for people or for a collector.",
)


class Roles(click.ParamType):  # type: ignore[type-arg]
    """Names of roles with commas between them."""

    name = "roles"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Role, ...]:
        """Each once, as they are listed; `none` is none. Fails for an unknown one."""
        if isinstance(value, tuple):
            return value
        known: dict[str, Role] = {role: role for role in get_args(Role)}
        if value == "none":
            return ()
        found = [part.strip() for part in value.split(",")]
        for name in found:
            if name not in known:
                self.fail(f"{name!r} is no role: {', '.join(known)}", param, ctx)
        return tuple(known[name] for name in dict.fromkeys(found))


def roles_option(default: tuple[Role, ...] | None) -> Callable[[Any], Any]:
    """What the process does, and whose keys it uses; None: that it must be said."""
    return click.option(
        "--roles",
        type=Roles(),
        default=default and ",".join(default),
        show_default=True,
        help="What to work at: backup, restore, prune, with commas; or none.",
    )


def speaker(clock: Clock, log: str, *, err: bool = False) -> Callable[[str], None]:
    """Says an event on one line."""

    def say(words: str) -> None:
        at = f"{clock.now():%Y-%m-%dT%H:%M:%SZ}"
        line = json.dumps({"at": at, "event": words}) if log == "json" else f"{at} {words}"
        click.echo(line, err=err)

    return say
