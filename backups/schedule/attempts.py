"""Attempts at jobs: a process for each, watched until it ends.

One is forked from a server process that was started clean, so it shares no connection, no
lock and no memory with the scheduler, and its argv holds nothing. It tells of its progress
through a pipe. What makes no progress, or takes too long, is ended: first by a signal that
becomes an error in the run, then, if that isn't heard, by SIGKILL. A worker whose scheduler is
gone ends itself, for nobody would watch it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from types import FrameType
from typing import Self

from backups.errors import BackupsError, Cancelled
from backups.ports import Clock, Progress

GRACE = timedelta(seconds=30)
"""Between the signal that ends a worker and SIGKILL."""
SAID_EVERY = 1.0
"""Seconds between two words of progress."""
_STOPPED = {
    signal.SIGTERM: Cancelled("stopped by the scheduler"),
    signal.SIGUSR1: BackupsError("ended by the scheduler: it made no progress for too long"),
    signal.SIGUSR2: BackupsError("ended by the scheduler: it took too long"),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt."""

    words: str
    taken: datetime | None = None
    """The snapshot's instant, when there is a backup now."""
    failed: datetime | None = None
    """When it failed; neither: there was nothing to do, or somebody else does it."""
    again: datetime | None = None
    """When to ask again, where that is known."""
    unfinished: bool = False
    """It came to nothing through no fault of its own, and comes again soon."""


Work = Callable[[str, Progress], Outcome]
"""Called in the worker with a database's id; can be pickled."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a worker may take."""

    stall: timedelta
    """Without any progress."""
    longest: timedelta
    """In all."""


@dataclass(slots=True)
class _Worker:
    process: ForkServerProcess
    pipe: Connection
    began: datetime
    started: float
    heard: float
    outcome: Outcome | None = None
    ending: float | None = None
    why: str = field(default="its process died")


class Attempts:
    """Those that run. Every attempt that is started comes to an outcome."""

    def __init__(
        self,
        work: Work,
        clock: Clock,
        patience: Patience,
        mourn: Callable[[str, datetime, str], Outcome],
        preload: Sequence[str] = (),
    ) -> None:
        """`mourn(database, began, words)` puts the failure of one that died on record;
        `preload` names modules that every worker needs."""
        self._work = work
        self._clock = clock
        self._patience = patience
        self._mourn = mourn
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._running: dict[str, _Worker] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing that was started goes on unwatched."""
        self.stop()
        while self._running:
            self.wait(1.0)

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, name: str) -> bool:
        return name in self._running

    def start(self, database: str) -> None:
        """One more attempt. Raises OSError when the system has no process left."""
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_in_worker,
            args=(self._work, database, theirs, self._clock),
            name=f"backup {database}",
        )
        try:
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        now = self._clock.monotonic()
        self._running[database] = _Worker(process, ours, self._clock.now(), now, now)

    def wait(self, seconds: float, *also: int) -> list[tuple[str, Outcome]]:
        """Wait until something is heard, or one of the file descriptors `also` is readable, or
        so long; returns the attempts that are over."""
        workers = self._running.values()
        handles = [worker.pipe for worker in workers if not worker.pipe.closed]
        connection.wait([*handles, *(w.process.sentinel for w in workers), *also], seconds)
        for worker in workers:
            self._listen(worker)
        over = [name for name, worker in self._running.items() if not worker.process.is_alive()]
        ended = [(name, self._bury(name, self._running.pop(name))) for name in over]
        self._lose_patience()
        return ended

    def end(self, name: str, why: str) -> None:
        """End one, as what is not wanted any more."""
        worker = self._running.get(name)
        if worker is not None and worker.ending is None:
            self._end(worker, signal.SIGTERM, why)

    def stop(self) -> None:
        """End all, at once; their runs are recorded as interrupted."""
        for worker in self._running.values():
            if worker.ending is None:
                self._end(worker, signal.SIGTERM, "stopped by the scheduler")

    def _listen(self, worker: _Worker) -> None:
        try:
            while not worker.pipe.closed and worker.pipe.poll():
                said = worker.pipe.recv()
                worker.heard = self._clock.monotonic()
                if isinstance(said, Outcome):
                    worker.outcome = said
        except (EOFError, OSError):
            worker.pipe.close()

    def _bury(self, database: str, worker: _Worker) -> Outcome:
        self._listen(worker)  # what it said last
        worker.pipe.close()
        worker.process.join()
        code = worker.process.exitcode
        worker.process.close()
        if worker.outcome is not None:
            return worker.outcome
        words = f"{worker.why} (signal {-code})" if code and code < 0 else worker.why
        return self._mourn(database, worker.began, words)

    def _lose_patience(self) -> None:
        now = self._clock.monotonic()
        for worker in self._running.values():
            if worker.ending is not None:
                if now - worker.ending > GRACE.total_seconds():
                    worker.process.kill()
            elif now - worker.heard > self._patience.stall.total_seconds():
                self._end(worker, signal.SIGUSR1, "it made no progress for too long")
            elif now - worker.started > self._patience.longest.total_seconds():
                self._end(worker, signal.SIGUSR2, "it took too long")

    def _end(self, worker: _Worker, number: signal.Signals, why: str) -> None:
        worker.ending, worker.why = self._clock.monotonic(), why
        with suppress(ProcessLookupError):
            os.kill(worker.process.pid or 0, number)


# --- in the worker --------------------------------------------------------------------


def _in_worker(work: Work, database: str, pipe: Connection, clock: Clock) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the keyboard's goes to all; we are told
    for number in _STOPPED:
        signal.signal(number, _stop)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    said = clock.monotonic()

    def progress(_step: str, _done: int, _total: int | None) -> None:
        nonlocal said
        now = clock.monotonic()
        if now - said >= SAID_EVERY:
            said = now
            _tell(pipe, None)

    _tell(pipe, work(database, progress))
    pipe.close()


def _tell(pipe: Connection, word: Outcome | None) -> None:
    with suppress(OSError):  # nobody listens: `_end_with_parent` sees to it
        pipe.send(word)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise _STOPPED[signal.Signals(number)]


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is None:
        return
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE.total_seconds())
    os._exit(1)
