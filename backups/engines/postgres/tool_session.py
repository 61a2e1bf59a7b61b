"""The environment that gives a client tool's session the settings it is to have."""

from __future__ import annotations

from collections.abc import Mapping

from backups.engines.postgres import pins
from backups.engines.postgres.sessions import Facts
from backups.errors import EngineError

SETTERS = ("pg_dump", "pg_restore")


def of_tool(
    facts: Facts, wanted: Mapping[str, str], options: str, tool: str
) -> tuple[dict[str, str], list[str]]:
    """Variables of libpq for these settings, PGOPTIONS always among them, and arguments that
    the `tool` must begin with; `options` (`-c name=value`) outrank `wanted`.

    Where a pooler passes no options on, what libpq can say otherwise is said so, and psql
    executes the rest first. Raises EngineError when another tool needs what it can't set.
    """
    later = {name: value for name, value in pins.LATER.items() if name in facts.natural}
    more = {**later, **pins.parsed(options)}
    # As the tools find it by themselves, whatever ALTER DATABASE says.
    encoding = {"PGCLIENTENCODING": facts.encoding} if facts.encoding else {}
    if facts.holds:
        said = pins.options({**pins.at(facts.rung, wanted), **more})
        return {**encoding, "PGOPTIONS": said}, []
    settings = {**wanted, **more}
    if tool == "psql":
        return {**encoding, "PGOPTIONS": ""}, [f"--command={_statements(settings)}"]
    _require_natural(facts, settings, pins.BY_THE_TOOLS if tool in SETTERS else frozenset())
    variables = {
        variable: settings[name]
        for name, variable in pins.BY_ENVIRONMENT.items()
        if name in settings
    }
    return {**encoding, **variables, "PGOPTIONS": ""}, []


def _require_natural(
    facts: Facts, settings: Mapping[str, str], set_by_tool: frozenset[str]
) -> None:
    free = set_by_tool | pins.OPTIONAL | pins.BY_ENVIRONMENT.keys()
    wrong = sorted(
        name
        for name, value in settings.items()
        if name not in free and facts.natural.get(name, value) != value
    )
    if wrong:
        raise EngineError(
            "the connection pooler passes no options on, so a client tool can't overrule these "
            f"settings of the database, the role or the server: {', '.join(wrong)}",
            hint="Name the PostgreSQL server's own host and port, or undo the settings: "
            "ALTER DATABASE d RESET name, ALTER ROLE r RESET name.",
        )


def _statements(settings: Mapping[str, str]) -> str:
    """The settings as psql may execute them; values are ours, and hold no quotes."""
    return "; ".join(
        f"SET {name} = '{value}'" if value else f"SET {name} = ''"
        for name, value in settings.items()
    )
