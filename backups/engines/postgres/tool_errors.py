"""Why a client tool failed, as one of our errors.

The tools themselves and libpq speak English, as they run with LC_ALL=C; the server's messages
inside their lines may be in any language, where the role may not choose. So a SQLSTATE counts
before words (psql writes it with VERBOSITY=verbose), and where neither tells, the server is
asked whether it still takes us.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from backups.engines.postgres.failures import OF_ROWS, without_values
from backups.engines.postgres.server import Login, connected
from backups.engines.process import Child
from backups.errors import (
    AccessDenied,
    BackupsError,
    DumpFailed,
    EngineError,
    EnvironmentLacks,
    RestoreFailed,
    Unreachable,
)

_SHOWN = 3
_COMPLAINT = re.compile(
    r"^(?:\w+: (?:error|fatal): (?P<tool>.*)"
    r"|psql:.*?:\d+: (?P<server>[^:\n]+:  .*))$",
    re.MULTILINE,
)
"""A tool's own line, and psql's for what the server said: severity, two spaces, message."""
_SAID = re.compile(
    r"(?:^|: )(?P<severity>[^:\s]+):  (?:(?P<state>[0-9A-Z]{5}): )?(?P<rest>.*)$"
)
_HARMLESS = ("00", "01", "02")
"""Classes of notices and warnings."""

_GONE = (
    "server closed the connection", "connection to server", "could not connect",
    "no connection to the server", "could not receive data", "could not send data",
    "SSL connection has been closed", "SSL error",
    # Of the server, where it speaks English; and in most of its languages, as a session that
    # gets a fatal error is over:
    "terminating connection", "the database system is", "Error message from server: FATAL",
)  # fmt: skip
_DENIED = ("permission denied", "must be superuser", "row-level security", "must be owner")
_LACKING = re.compile(
    r'extension "[^"]+" is not available|extension "[^"]+" has no (installation|update)'
    r"|could not open extension control file|could not access file"
    r'|(role|tablespace|collation|language|access method) "[^"]+"( for encoding .*)? '
    r"does not exist|unrecognized configuration parameter|No space left on device"
    r"|out of memory|must be (superuser|owner|member|able)|permission denied",
)


@dataclass(frozen=True, slots=True)
class Complaint:
    """One line of a tool's, without what it quotes of rows."""

    words: str
    state: str = ""
    """The server's SQLSTATE, where the tool wrote it."""


def complaints(said: str) -> list[Complaint]:
    """The errors in what a tool of PostgreSQL wrote, in whatever language the server speaks;
    never details, context or statements: rows may be there."""
    found = []
    for match in _COMPLAINT.finditer(said):
        line = match["tool"] if match["server"] is None else match["server"]
        inside = _SAID.search(line)
        if inside is None:
            found.append(Complaint(without_values(line)))
            continue
        state = inside["state"] or ""
        if state[:2] not in _HARMLESS:
            before = line[: inside.start()]
            # A message of these classes may be of a row's value altogether.
            rest = f"error {state} in rows" if state[:2] in OF_ROWS else inside["rest"]
            text = f"{before}: {rest}" if before else rest
            found.append(Complaint(without_values(text), state))
    return found


def failure(child: Child, code: int, login: Login | None = None) -> BackupsError:
    """Why a tool that loads failed; `login` is where it was, to be asked what is wrong."""
    return _failure(child, code, login, RestoreFailed)


def dump_failure(child: Child, code: int, login: Login | None = None) -> BackupsError:
    """The same for a tool that reads."""
    return _failure(child, code, login, DumpFailed)


def _failure(
    child: Child, code: int, login: Login | None, otherwise: type[EngineError]
) -> BackupsError:
    found = complaints(child.said())[:_SHOWN]
    said = "; ".join(each.words for each in found)
    said = said or (f"signal {-code}" if code < 0 else f"exit code {code}")
    text = f"{child.name} failed: {said}"
    kind = _by_state(found, otherwise) or _by_words(said, child.said(), otherwise)
    if kind is None and login is not None:
        asked = _asked(login)
        if asked is not None:
            return type(asked)(f"{text}; then {asked}", hint=asked.hint)
    if kind is EnvironmentLacks:
        return EnvironmentLacks(f"the target server lacks something: {said}")
    return (kind or otherwise)(text)


def _by_state(found: list[Complaint], otherwise: type[EngineError]) -> type[EngineError] | None:
    for state in (each.state for each in found if each.state):
        if state[:2] in ("08", "57") or state in ("53300", "53400", "55P03", "55006"):
            return Unreachable
        if state == "42501" or state.startswith("28"):
            return AccessDenied if otherwise is DumpFailed else EnvironmentLacks
        if state[:2] in ("53", "58"):
            return Unreachable if otherwise is DumpFailed else EnvironmentLacks
    return None


def _by_words(said: str, whole: str, otherwise: type[EngineError]) -> type[EngineError] | None:
    """`whole` has details too, in which pg_dump repeats what libpq says."""
    if otherwise is RestoreFailed and _LACKING.search(said):
        return EnvironmentLacks
    if otherwise is DumpFailed and any(phrase in said for phrase in _DENIED):
        return AccessDenied
    return Unreachable if any(phrase in whole for phrase in _GONE) else None


def _asked(login: Login) -> BackupsError | None:
    """What is wrong with the server, if it does not take a session any more."""
    try:
        with connected(login):
            return None
    except (Unreachable, AccessDenied) as error:
        return error
