"""What psycopg raises, as one of our errors: by SQLSTATE, never by words, for a server may
speak any language. Source: PostgreSQL manual, Appendix A, "Error Codes"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from backups.errors import (
    AccessDenied,
    BackupsError,
    EngineError,
    EnvironmentLacks,
    Unreachable,
)

_QUOTES = '"\u00ab\u00bb\u201c\u201d\u201e\u2018\u2019\u201a\u300a\u300c\u300e'
_VALUE = re.compile(rf": ?[{_QUOTES}]|=\(")
"""Where a message begins to quote what was in a row, in whatever language."""
OF_ROWS = ("22", "P0")
"""Classes whose messages may hold values of rows, or what a customer's code raises."""
_LATER = ("55P03", "55006", "40001", "40P01")
"""A lock, an object in use, a deadlock: the same may succeed later."""


@contextmanager
def translated() -> Iterator[None]:
    """psycopg's errors as ours, with the server's primary message only."""
    try:
        yield
    except psycopg.Error as error:
        raise ours(error) from None


def ours(error: psycopg.Error) -> BackupsError:
    """An error in a session that was open."""
    state = error.sqlstate or ""
    said = words(error)
    if state == "42501" or state.startswith("28"):
        return AccessDenied(f"the database refused: {said}")
    if state[:2] in ("58", "0A") or state == "22023":
        return EnvironmentLacks(f"the server cannot do what is asked: {said}")
    if state in _LATER:
        return Unreachable(f"the database server could not do it now: {said}")
    if state[:2] in ("08", "57", "53"):
        return Unreachable(f"the database server stopped answering: {said}")
    return EngineError(f"the database reported: {said}") if state else _of_ours(error)


def _of_ours(error: psycopg.Error) -> BackupsError:
    """Without a SQLSTATE: no server said it."""
    if isinstance(error, psycopg.OperationalError):
        return Unreachable(f"the database server stopped answering: {words(error)}")
    return EngineError(
        f"this program did not understand what the database gave ({type(error).__name__})",
        hint="This is a fault of the program, not of the database: report it with these words.",
    )


def of_login(error: psycopg.Error, state: str | None) -> BackupsError:
    """A login that failed; `state` is the SQLSTATE that the server ended it with, if it did."""
    said = _first_line(str(error))
    if state is None:
        attempted = getattr(error, "pgconn", None)
        if attempted is not None and attempted.needs_password:
            return AccessDenied(f"the database server asks for a password: {said}")
        return Unreachable(f"the database server gave no answer: {said}")
    if state[:2] in ("08", "53", "55", "57", "58", "XX"):
        return Unreachable(f"the database server takes no login now: {said}")
    return AccessDenied(f"the database server refused the login: {said}")


def words(error: psycopg.Error) -> str:
    """The server's message without what it quotes of rows; the condition's name where the
    message may be of rows altogether."""
    if (error.sqlstate or "")[:2] in OF_ROWS:
        return _named(error)
    return without_values(error.diag.message_primary or _first_line(str(error)))


def without_values(message: str) -> str:
    """A server's message up to where it quotes what was in a row."""
    return _VALUE.split(message, maxsplit=1)[0]


def _named(error: psycopg.Error) -> str:
    """`numeric value out of range` for NumericValueOutOfRange."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()


def _first_line(text: str) -> str:
    """libpq's first line; it names host, user and database, never a password."""
    line = text.strip().split("\n")[0]
    return line.removeprefix("connection failed: ") or "the connection was lost"
