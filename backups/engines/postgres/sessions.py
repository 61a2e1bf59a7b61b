"""Opening a session in which all that matters is pinned: see `pins`.

The login itself says as much as it may: what stands at a login's start is in force before any
statement and any login trigger. Whoever may say less (no superuser, an older server, a pooler
that takes no options) says it after, and it is read back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.types.string import TextLoader

from backups.engines.postgres import pins, pooler, probe
from backups.engines.postgres.failures import of_login
from backups.engines.postgres.pins import Rung
from backups.errors import EngineError

_VALUES = """
    SELECT name, pg_catalog.current_setting(name, true), pg_catalog.pg_backend_pid()
      FROM pg_catalog.unnest(%s::pg_catalog.text[]) name"""
_SET = """
    SELECT pg_catalog.set_config(key, value, false)
      FROM pg_catalog.json_each_text(%s::pg_catalog.json)"""

_MONEY = "SELECT (-1234.5)::pg_catalog.numeric::pg_catalog.money::pg_catalog.text"
_FIRES = """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_event_trigger
                    WHERE evtevent = 'login' AND evtenabled IN ('O', 'A'))
       AND pg_catalog.current_setting('event_triggers', true) = 'on'"""
_HIDDEN = """
    SELECT name FROM pg_catalog.pg_settings
     WHERE name IN ('zero_damaged_pages', 'ignore_checksum_failure') AND setting = 'on'"""
_AS_TEXT = ("date", "time", "timetz", "timestamp", "timestamptz", "interval")
"""Never read by the driver: Python has no date of before Christ, no infinity, no 24:00."""

_accepted: dict[tuple[str | None, ...], Rung] = {}
"""By server and user, what the last login may say: so that not each begins with a refusal."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a session learned, for other sessions and for tools at the same database."""

    rung: Rung
    pooled: bool
    """Something stands between us and the server, and keeps sessions apart."""
    natural: Mapping[str, str]
    """Values in force after the login, before anything was set in the session."""
    holds: bool
    """Whether all that the login said is in force."""
    encoding: str
    """The database's; empty: not known."""


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A connection, with what was learned when it was opened."""

    facts: Facts


def opened(
    parameters: Mapping[str, str], wanted: Mapping[str, str], known: Facts | None
) -> Session:
    """A session in autocommit mode with the settings `wanted` in force.

    Raises Unreachable, AccessDenied; EngineError behind a pooler that shares sessions, or
    where a setting can't be pinned.
    """
    session, rung = _logged_in(parameters, wanted, known.rung if known else None)
    try:
        for kind in _AS_TEXT:
            session.adapters.register_loader(kind, TextLoader)
        every = {**wanted, **pins.LATER}
        natural, pid = _values(session, [*every, *pins.EVENTS])
        # A pooler tells the client, at the login, a process id of its own.
        pooled = pid != session.info.backend_pid
        if pooled and not (known and known.pooled):
            pooler.require_session_mode(
                session, lambda: _logged_in(parameters, wanted, rung)[0]
            )
        wrong = _wrong(natural, every)
        money = session.execute(_MONEY).fetchone() if "lc_monetary" in wrong else None
        if wrong:
            session.execute(_SET, (json.dumps(wrong),))
            _require(_wrong(_values(session, list(wrong))[0], wrong))
        if money == ("-$1,234.50",):
            natural["lc_monetary"] = wrong["lc_monetary"]  # of another name, and the same
        encoding = session.info.parameter_status("server_encoding") or ""
        holds = rung is not Rung.NOTHING and not (wrong.keys() - pins.LATER.keys())
        session.facts = Facts(rung, pooled, natural, holds, encoding)
    except BaseException:
        session.close()
        raise
    return session


def not_pinned(session: psycopg.Connection[Any]) -> tuple[str, ...]:
    """What we would have otherwise and may not set, in words without names: where a login of
    ours runs code of the database's users, or damaged pages are read as empty ones."""
    found = []
    if session.execute(_FIRES).fetchone() == (True,):
        found.append(
            "an event trigger runs at each login of ours and may write into the database: as a "
            "superuser, GRANT SET ON PARAMETER event_triggers TO the backup user"
        )
    for (name,) in session.execute(_HIDDEN).fetchall():
        found.append(f"{name} is on for the backup user: damaged pages are read as if sound")
    return tuple(found)


def _logged_in(
    parameters: Mapping[str, str], wanted: Mapping[str, str], known: Rung | None
) -> tuple[Session, Rung]:
    key = tuple(parameters.get(name) for name in ("host", "hostaddr", "port", "user"))
    rung = known or _accepted.get(key, Rung.ALL)
    while True:
        said = pins.options(pins.at(rung, wanted))
        options = f"{parameters.get('options', '')} {said}".strip()
        conninfo = make_conninfo("", **{**parameters, "options": options})
        try:
            session = Session.connect(conninfo, autocommit=True, prepare_threshold=None)
        except psycopg.OperationalError as error:
            in_time = not isinstance(error, psycopg.errors.ConnectionTimeout)
            state = probe.state(conninfo) if in_time else None
            lower = pins.below(rung, state)
            if lower is None:
                raise of_login(error, state) from None
            rung = lower
        else:
            if rung is not Rung.NOTHING:  # a pooler may be another one by then
                _accepted[key] = rung
            return session, rung


def _values(session: Session, names: list[str]) -> tuple[dict[str, str], int]:
    """Of those that this server knows, and the process id of the backend that said so."""
    found = session.execute(_VALUES, (names,)).fetchall()
    return {name: value for name, value, _ in found if value is not None}, found[0][2]


def _wrong(values: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """What is to be set: known to the server, and not as wanted."""
    return {name: value for name, value in wanted.items() if values.get(name, value) != value}


def _require(wrong: Mapping[str, str]) -> None:
    if wrong:
        raise EngineError(
            f"the session's settings can't be pinned: {', '.join(sorted(wrong))}",
            hint="Something between here and the server changes settings: name the server's "
            "own host and port.",
        )
