"""Holding a database, or the schedule itself, against every other process.

On this machine a lock that dies with its process says who is alive; among machines, and for
the catalog's own order of things, a lease does.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from backups.errors import BackupsError
from backups.ids import lease_name
from backups.locks import exclusive
from backups.wiring.app import App

LEASE = timedelta(minutes=2)
"""After which a machine that was lost with its process is taken over from."""
SCHEDULE = ".schedule"
"""No database is called so."""


@contextmanager
def held(app: App, database: str) -> Iterator[int]:
    """Hold `database` until the block ends; gives the epoch. Raises Busy."""
    name = lease_name(database)
    with exclusive(app.home.locks, database):
        epoch = _acquire(app, name)
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
def leading(app: App) -> Iterator[int]:
    """Be the one scheduler until the block ends; gives the epoch, which `still_leading`
    renews. Raises Busy."""
    with exclusive(app.home.locks, SCHEDULE):
        epoch = _acquire(app, SCHEDULE)
        try:
            yield epoch
        finally:
            app.leases.release(SCHEDULE, epoch)


def still_leading(app: App, epoch: int) -> None:
    """Raises Busy when another scheduler has taken over."""
    app.leases.renew(SCHEDULE, epoch, app.clock.now(), LEASE)


def _acquire(app: App, name: str) -> int:
    # Whoever held this lease with these very locks is dead: we hold the lock now.
    place = app.home.locks.stat()
    node = f"{socket.gethostname()} {place.st_dev}:{place.st_ino} "
    holder = f"{node}{os.getpid()}"
    return app.leases.acquire(name, holder, app.clock.now(), LEASE, dead=node)


def _keep(app: App, name: str, epoch: int, over: threading.Event) -> None:
    """Renew until the run is over; a lease that was lost is not taken back."""
    while not over.wait(LEASE.total_seconds() / 4):
        with suppress(BackupsError):  # out of reach for now, or lost: then in vain for ever
            app.leases.renew(name, epoch, app.clock.now(), LEASE)
