"""The environment that gives a client tool's session the settings it is to have."""

from __future__ import annotations

from collections.abc import Mapping

from backups.engines.postgres import pins
from backups.engines.postgres.sessions import Facts
from backups.errors import EngineError


def of_tool(facts: Facts, wanted: Mapping[str, str], options: str) -> dict[str, str]:
    """Variables of libpq for these settings, PGOPTIONS always among them; `options` (`-c
    name=value`) outrank `wanted`.

    Where a pooler passes no options on, what libpq can say otherwise is said so. Raises
    EngineError when something else is not as it must be: a tool can't set it itself.
    """
    asked = pins.parsed(options)
    later = {name: value for name, value in pins.LATER.items() if name in facts.natural}
    settings = {**pins.at(facts.rung, wanted), **later, **asked}
    # As the tools find it by themselves, whatever ALTER DATABASE says.
    encoding = {"PGCLIENTENCODING": facts.encoding} if facts.encoding else {}
    if facts.holds:
        return {**encoding, "PGOPTIONS": pins.options(settings)}
    settings = {**wanted, **later, **asked}
    said = {
        pins.BY_ENVIRONMENT[name]: value
        for name, value in settings.items()
        if name in pins.BY_ENVIRONMENT
    }
    left = {
        name: value
        for name, value in settings.items()
        if name not in pins.BY_ENVIRONMENT and name not in pins.OPTIONAL
        and (name in asked or name not in pins.BY_THE_TOOLS)
    }  # fmt: skip
    wrong = sorted(name for name, value in left.items() if facts.natural.get(name) != value)
    wrong = [name for name in wrong if name in facts.natural or name in asked]
    if wrong:
        raise EngineError(
            "the connection pooler passes no options on, and these settings of the database, "
            f"the role or the server can't be overruled for a client tool: {', '.join(wrong)}",
            hint="Name the PostgreSQL server's own host and port, or undo the settings: "
            "ALTER DATABASE d RESET name, ALTER ROLE r RESET name.",
        )
    return {**encoding, **said, "PGOPTIONS": ""}
