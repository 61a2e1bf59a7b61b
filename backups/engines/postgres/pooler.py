"""Whether what stands between us and the server leaves a session its own backend.

A connection pooler may give each transaction another of the server's processes. It then keeps
neither a session's settings nor a snapshot for other sessions, and what we would set stays with
the sessions of others. The behaviour is tried, not the product's name: pgbouncer in session
mode works. Source: pgbouncer's manual, "SQL feature map for pooling modes".
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from typing import Any

import psycopg
from psycopg import Connection

from backups.errors import EngineError

ROUNDS = 3
_PID = "SELECT pg_catalog.pg_backend_pid()"
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_HINT = (
    "Name the PostgreSQL server's own host and port, or a pool in session mode "
    "(pgbouncer: pool_mode = session) of at least five connections."
)


def require_session_mode(
    first: Connection[Any], another: Callable[[], Connection[Any]]
) -> None:
    """Raises EngineError where `first`, which is idle, does not keep its backend while a second
    session is in a transaction. Nothing is set or written."""
    mine = _pid(first)
    with closing(another()) as second:
        for _ in range(ROUNDS):
            if not _is_kept(first, mine, second):
                raise EngineError(
                    "the URL leads to a connection pooler that gives a session's server to "
                    "others between transactions; a consistent dump needs sessions of its own",
                    hint=_HINT,
                )


def require_shared_snapshots(
    connection: Connection[Any], second: AbstractContextManager[Connection[Any]]
) -> None:
    """Raises EngineError where a snapshot of `connection`, which is idle, is unknown to the
    `second` session: then the URL leads to several servers, by turns."""
    connection.execute(_BEGIN)
    row = connection.execute("SELECT pg_catalog.pg_export_snapshot()").fetchone()
    name = str(row[0]) if row else ""
    try:
        with second as other:
            other.execute(_BEGIN)
            other.execute(
                psycopg.sql.SQL("SET TRANSACTION SNAPSHOT {}").format(psycopg.sql.Literal(name))
            )
            other.execute("ROLLBACK")
    except EngineError as error:
        raise EngineError(
            f"sessions of this URL do not share a snapshot, as several servers' would: {error}",
            hint=_HINT,
        ) from None
    connection.execute("ROLLBACK")


def _is_kept(first: Connection[Any], mine: int, second: Connection[Any]) -> bool:
    try:
        second.execute("BEGIN")
        theirs = _pid(second)
        # Asked only where it is not ours: a pool of one connection would wait for itself.
        kept = theirs != mine and _pid(first) == mine
        second.execute("ROLLBACK")
    except psycopg.Error as error:
        raise EngineError(
            "the URL leads to a connection pooler that gave no second session, or takes no "
            f"transactions: {error.diag.message_primary or 'the connection was lost'}",
            hint=_HINT,
        ) from None
    return kept


def _pid(connection: Connection[Any]) -> int:
    row = connection.execute(_PID).fetchone()
    return int(row[0]) if row else 0
