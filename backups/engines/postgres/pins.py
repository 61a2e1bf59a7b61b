"""What every session of ours and of our tools has in force, whatever the server, the database
or the role says: `ALTER DATABASE d SET datestyle = 'SQL, DMY'` must not change what we read.

Settings that stand in the startup packet outrank those of the database, the role and the
server's file. Sources: PostgreSQL manual, "Server Configuration", 20.1.3 and 20.11;
src/backend/utils/init/postinit.c, process_startup_options (an option that the role may not set,
or that the server doesn't know, ends the login before a login trigger runs); pg_dump.c,
setup_connection.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from enum import Enum

_COMMON = {
    # A database's own path may lead to functions and operators of its users, which would then
    # run with our rights (as pg_dump does since CVE-2018-1058).
    "search_path": "",
    "role": "none",
    "local_preload_libraries": "",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "row_security": "off",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "xmloption": "content",
    "lc_monetary": "C",
}
LOADING: Mapping[str, str] = _COMMON
"""Of sessions that load a copy. Time zone and date style are the copy's own there: its
materialized views and constraints are computed by them, as in the source."""
READING: Mapping[str, str] = {
    **_COMMON,
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    # Of a database that was never analyzed the server expects the worst: compiling a query of
    # its catalogs takes seconds, and running it a tenth of one.
    "jit": "off",
}
"""Of all other sessions: the same text of the same value on any server."""

LATER = {"idle_session_timeout": "0", "transaction_timeout": "0"}
"""Since PostgreSQL 14 and 17: an older server refuses a login that names them."""

PRELOADS = {
    "session_preload_libraries": "",
    "lc_messages": "C",
    "zero_damaged_pages": "off",
    "ignore_checksum_failure": "off",
    "session_replication_role": "origin",
}
"""Only a superuser may set them."""
EVENTS = {"event_triggers": "off"}
"""Since PostgreSQL 17, for whom may set it: a login trigger would write into the source."""

BY_THE_TOOLS = frozenset(
    {"search_path", "statement_timeout", "lock_timeout", "row_security", "extra_float_digits",
     "idle_in_transaction_session_timeout", "DateStyle", "IntervalStyle"}
)  # fmt: skip
"""pg_dump sets them itself, and pg_restore those that matter to it."""
OPTIONAL = frozenset(
    {"synchronous_commit", "maintenance_work_mem", "synchronize_seqscans", "jit"}
)
"""Without them a tool is slower or its rows come in another order; nothing is wrong."""
BY_ENVIRONMENT = {"TimeZone": "PGTZ", "DateStyle": "PGDATESTYLE"}
"""What libpq says in a way that every pooler takes."""


class Rung(Enum):
    """How much of it a login may say at its start, most first."""

    ALL = "all"
    """A superuser, PostgreSQL 17 and later."""
    NO_EVENTS = "a superuser's, without event triggers"
    """A superuser, PostgreSQL 16 and older."""
    EVENTS = "a user's, and event triggers"
    """Somebody who was granted SET on that parameter."""
    USER = "a user's"
    NOTHING = "nothing"
    """A pooler that takes no options."""


_REFUSED = frozenset({"42501", "42704", "08P01", "0A000", "22023"})


def below(rung: Rung, state: str | None) -> Rung | None:
    """What to try next when a login ended with that SQLSTATE; None: options weren't why.

    42704: the server doesn't know one, 42501: the role may not set one, 08P01 and 0A000: a
    pooler's words. The superuser's options stand first, so the first error tells which.
    """
    if state not in _REFUSED or rung is Rung.NOTHING:
        return None
    if state not in ("42501", "42704"):
        return Rung.NOTHING
    if rung is Rung.ALL:
        return Rung.NO_EVENTS if state == "42704" else Rung.EVENTS
    return None if rung is Rung.USER else Rung.USER


def at(rung: Rung, pins: Mapping[str, str]) -> dict[str, str]:
    """The settings that a login on that rung says at its start."""
    if rung is Rung.NOTHING:
        return {}
    superusers = PRELOADS if rung in (Rung.ALL, Rung.NO_EVENTS) else {}
    events = EVENTS if rung in (Rung.ALL, Rung.EVENTS) else {}
    return {**superusers, **events, **pins}


def options(settings: Mapping[str, str]) -> str:
    """As libpq's `options`: whitespace and backslashes of values behind a backslash."""
    return " ".join(f"-c {name}={_escaped(value)}" for name, value in settings.items())


def parsed(text: str) -> dict[str, str]:
    """The settings of such a text; the last of a name counts, as on the server.

    Raises ValueError for any other option than `-c name=value`.
    """
    words = shlex.shlex(text, posix=True)
    words.whitespace_split, words.commenters, words.quotes = True, "", ""
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        said = (
            rest.pop(0) if word == "-c" and rest else word.removeprefix("-c").removeprefix("--")
        )
        name, equals, value = said.partition("=")
        if not equals or not word.startswith(("-c", "--")):
            raise ValueError("an option that is not -c name=value")
        found[name] = value
    return found


def _escaped(value: str) -> str:
    return "".join(f"\\{char}" if char.isspace() or char == "\\" else char for char in value)
