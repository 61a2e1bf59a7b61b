"""Holding something against every other process.

Three ways. `held` and `leased` are leases: who is not heard of is taken over from, and is
fenced by the epoch if it wakes up. `alone` is a lock that dies with its process and is never
taken over: for what must not be done twice, such as giving a database another's name.

On one machine a lock on a file tells who is alive, so that a lease needs no time to be taken
over. Among machines that lock is only a sign: whoever holds one is alive, or frozen.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta

from backups.errors import BackupsError, Busy
from backups.ids import lease_name
from backups.locks import exclusive, shared
from backups.settings import load_settings
from backups.wiring.app import App

SCHEDULE = ".schedule"
"""No database is called so."""


@contextmanager
def held(app: App, database: str) -> Iterator[int]:
    """Hold `database` until the block ends; gives the epoch. Raises Busy."""
    with leased(app, lease_name(database), database, "a run") as epoch:
        yield epoch


@contextmanager
def leased(app: App, name: str, lock: str, by: str) -> Iterator[int]:
    """Hold a lease, renewed until the block ends; gives the epoch. Raises Busy."""
    with ExitStack() as stack:
        epoch = _acquire(app, name, _sign(app, stack, lock, by))
        over = threading.Event()
        keeper = threading.Thread(
            target=_keep, args=(app, name, epoch, over), name="lease", daemon=True
        )
        keeper.start()
        try:
            yield epoch
        finally:
            over.set()
            keeper.join()
            app.leases.release(name, epoch)


@contextmanager
def alone(app: App, name: str, by: str) -> Iterator[None]:
    """Be the only one at `name`, on all machines. Raises Busy: another does `by`."""
    with exclusive(app.home.locks, name, by), app.among_machines(name, by, False):
        yield


@contextmanager
def together(app: App, name: str, by: str) -> Iterator[None]:
    """Keep those away who want to be `alone` at it. Raises Busy: one is, and does `by`."""
    with shared(app.home.locks, name, by), app.among_machines(name, by, True):
        yield


@contextmanager
def leading(app: App) -> Iterator[int]:
    """Be the one scheduler until the block ends; gives the epoch, which `still_leading`
    renews. Raises Busy."""
    with ExitStack() as stack:
        epoch = _acquire(app, SCHEDULE, _sign(app, stack, SCHEDULE, "a run"))
        try:
            yield epoch
        finally:
            app.leases.release(SCHEDULE, epoch)


def still_leading(app: App, epoch: int) -> None:
    """Raises Busy when another scheduler has taken over."""
    app.leases.renew(SCHEDULE, epoch, app.clock.now(), _length(app))


def _sign(app: App, stack: ExitStack, lock: str, by: str) -> bool:
    """Show that we live, by a lock on a file. False: whoever shows it is not known to live,
    which only many machines can leave at that. Raises Busy."""
    try:
        stack.enter_context(exclusive(app.home.locks, lock, by))
    except Busy:
        if not app.shared:
            raise
        return False
    return True


def _length(app: App) -> timedelta:
    """Of a lease: after it a machine that was lost with its process is taken over from."""
    return timedelta(seconds=2 * load_settings(app.home).lost_seconds)


def _acquire(app: App, name: str, signed: bool) -> int:
    # Whoever held this lease with this very lock is dead: we hold the lock now.
    place = app.home.locks.stat()
    node = f"{socket.gethostname()} {place.st_dev}:{place.st_ino} "
    holder = f"{node}{os.getpid()}" if signed else f"without a lock, {node}{os.getpid()}"
    dead = node if signed else ""
    return app.leases.acquire(name, holder, app.clock.now(), _length(app), dead=dead)


def _keep(app: App, name: str, epoch: int, over: threading.Event) -> None:
    """Renew until the run is over; a lease that was lost is not taken back."""
    length = _length(app)
    while not over.wait(length.total_seconds() / 4):
        with suppress(BackupsError):  # out of reach for now, or lost: then in vain for ever
            app.leases.renew(name, epoch, app.clock.now(), length)
