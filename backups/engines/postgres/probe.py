"""Why a server refused a login: its SQLSTATE, which libpq keeps to itself.

libpq gives the failed login's text only, in the server's language. Its trace of the protocol
has the error's fields: the login is tried once more, with the trace going into memory.
Sources: PostgreSQL manual, "Message Formats" (ErrorResponse), and libpq's PQtrace.
"""

from __future__ import annotations

import os
import re
import select

from psycopg import pq

PATIENCE_S = 10.0
"""Given to the server for each of its answers."""

_STATE = re.compile(rb'^B\t\d+\tErrorResponse\t.*? C "([0-9A-Z]{5})"', re.MULTILINE)


def state(conninfo: str) -> str | None:
    """The SQLSTATE with which the server ends a login; of several servers the last one's.

    None: no server refused anything. It gave no answer, or the login succeeds by now.
    """
    kept = os.memfd_create("login")  # a login's messages: nobody else can open it
    try:
        _try(conninfo, kept)
        said = os.pread(kept, os.fstat(kept).st_size, 0)
    finally:
        os.close(kept)
    found = _STATE.findall(said)
    return found[-1].decode() if found else None


def _try(conninfo: str, trace: int) -> None:
    connection = pq.PGconn.connect_start(conninfo.encode())
    try:
        if connection.status == pq.ConnStatus.BAD:
            return
        connection.trace(trace)
        connection.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS)
        _wait(connection)
        connection.untrace()
    finally:
        connection.finish()


def _wait(connection: pq.abc.PGconn) -> None:
    while True:
        step = connection.connect_poll()
        if step not in (pq.PollingStatus.READING, pq.PollingStatus.WRITING):
            return
        ready = select.poll()
        reading = step == pq.PollingStatus.READING
        ready.register(connection.socket, select.POLLIN if reading else select.POLLOUT)
        if not ready.poll(PATIENCE_S * 1000):
            return
