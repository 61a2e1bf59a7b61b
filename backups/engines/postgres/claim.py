"""A claim on a name that outlives its session: the session is asked now and then, and where it
was ended a new one claims the name again.

An advisory lock says that we are at work on a copy; it ends with its session (see `remove`).
Housekeeping jobs end sessions that idle for long, firewalls forget them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psycopg

from backups.engines.postgres.remove import claim_name
from backups.engines.postgres.server import Login, connected, translated
from backups.errors import BackupsError, Unreachable

INTERVAL_S = 30.0
"""Between two questions: shorter than the least that anybody calls idle."""


class Claim:
    """Names that are claimed by one session, or by its successor."""

    def __init__(self, server: Login) -> None:
        """See `held`."""
        self._server = server
        self._names: list[str] = []
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._connection = self._stack.enter_context(connected(server))
        self._lost: BackupsError | None = None

    def take(self, name: str) -> bool:
        """Claim a name as well; False: somebody else has it. Raises Unreachable."""
        with self._lock:
            self._ask()
            with translated():
                taken = claim_name(self._connection, name)
            if taken:
                self._names.append(name)
            return taken

    def require(self) -> None:
        """Raises Unreachable unless every name is claimed at this moment."""
        with self._lock:
            self._ask()

    def beat(self) -> None:
        """Ask the session, and claim anew where it was ended. What fails is not told here:
        the next beat tries again, and `require` says it."""
        with self._lock, suppress(BackupsError):
            self._ask()

    def close(self) -> None:
        """Give all names up."""
        self._stack.close()

    def _ask(self) -> None:
        if self._lost is not None:
            raise self._lost
        try:
            self._connection.execute("SELECT 1")
        except psycopg.OperationalError:
            self._again()

    def _again(self) -> None:
        self._stack.close()
        self._connection = self._stack.enter_context(connected(self._server))
        for name in self._names:
            with translated():
                taken = claim_name(self._connection, name)
            if not taken:
                self._lost = Unreachable(
                    "the session that claimed the copy was ended, and another restore took "
                    f"the name {name!r} meanwhile",
                    hint="Start the restore again. Leave sessions of the name `backups` alone: "
                    "they are at work.",
                )
                raise self._lost


@contextmanager
def held(server: Login, interval_s: float = INTERVAL_S) -> Iterator[Claim]:
    """A session to `server` that claims names until the context ends, asked every so often by
    a thread. Raises Unreachable, AccessDenied."""
    claim = Claim(server)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(interval_s):
            claim.beat()

    thread = threading.Thread(target=watch, name="claim")
    thread.start()
    try:
        yield claim
    finally:
        over.set()
        thread.join()
        claim.close()
