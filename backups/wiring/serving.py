"""`serve` and `worker`, put together. No identity is read here: what needs one reads it in a
process of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from backups.errors import ConfigError
from backups.model import Secret
from backups.ports import Queue, Role
from backups.schedule.jobs import released
from backups.settings import load_settings
from backups.wiring.app import App
from backups.wiring.chores import due_chores
from backups.wiring.holding import leading, still_leading
from backups.wiring.placing import catalog_place
from backups.wiring.working import PRELOAD, fleet, limits, mourn, patience, room, work

if TYPE_CHECKING:
    from backups.schedule.leader import Leader
    from backups.schedule.serve import Ports

WORK: tuple[Role, ...] = ("backup", "restore", "prune")
"""What `serve` does itself, when nothing else is said."""


@contextmanager
def serving(
    app: App, say: Callable[[str], None], roles: Collection[Role] = WORK, *, alone: bool = False
) -> Iterator[Ports]:
    """What deciding needs, and working through these roles; what was started is ended with
    the block. `alone`: with a queue of its own, whoever else works. Raises ConfigError."""
    from backups.schedule.leader import Leader, LeaderPorts
    from backups.schedule.scheduler import Scheduler

    shared = app.shared and not alone
    settings = load_settings(app.home)
    with closing(queue_of(app) if shared else embedded(app)) as queue:
        at_once = limits(settings, shared=shared)
        leader = Leader(
            LeaderPorts(
                clock=app.clock,
                scheduler=Scheduler(partial(fleet, app), app.agenda, at_once),
                queue=queue,
                others=partial(_others, app),
                lead=partial(leading, app),
                renew=partial(still_leading, app),
                lost_after=settings.lost_seconds,
                say=say,
            )
        )
        with _at(app, queue, leader, roles, say) as ports:
            yield ports


@contextmanager
def working(app: App, say: Callable[[str], None], roles: Collection[Role]) -> Iterator[Ports]:
    """What working alone needs. Raises ConfigError when there is nobody to share with."""
    if not app.shared:
        raise ConfigError(
            "a worker takes its work from a catalog that machines share; this home's is a file",
            hint="`backups serve` does all the work of one machine. For several, move the "
            "catalog to PostgreSQL: `backups catalog move --to URL`.",
        )
    with closing(queue_of(app)) as queue, _at(app, queue, None, roles, say) as ports:
        yield ports


@contextmanager
def _at(
    app: App,
    queue: Queue,
    leader: Leader | None,
    roles: Collection[Role],
    say: Callable[[str], None],
) -> Iterator[Ports]:
    try:
        from backups.schedule.serve import Ports
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"`backups serve` needs the package {error.name}",
            hint="Install it with: pip install 'bloomneo-backups[serve]'",
        ) from None
    from backups.schedule.attempts import Attempts
    from backups.schedule.worker import Worker

    settings = load_settings(app.home)
    attempts = Attempts(
        partial(work, app.home.path, tuple(roles), app.clock),
        app.clock,
        patience(settings),
        partial(mourn, app),
        PRELOAD,
    )
    with queue.seat() as seat, attempts:
        worker = Worker(
            clock=app.clock,
            seat=seat,
            attempts=attempts,
            room=room(settings, roles),
            drain_for=timedelta(minutes=settings.drain_minutes),
            beat_every=settings.lost_seconds / 6,
            say=say,
        )
        yield Ports(app.clock, leader, worker, say)


def embedded(app: App) -> Queue:
    """The queue of this process alone."""
    from backups.queue.embedded import EmbeddedQueue

    return EmbeddedQueue(app.clock, load_settings(app.home).lost_seconds)


def queue_of(app: App) -> Queue:
    """The queue that machines share. Raises ConfigError, CatalogError."""
    place = catalog_place(app.home)
    if isinstance(place, Path):
        raise ConfigError(
            "machines share no queue here: the catalog is a file of this home",
            hint="Move it to PostgreSQL: `backups catalog move --to URL`.",
        )
    try:
        from backups.queue.shared import SharedQueue
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a queue that machines share needs the package {error.name}",
            hint="Install it with: pip install 'bloomneo-backups[workers]'",
        ) from None
    plain = place.set(drivername="postgresql").render_as_string(hide_password=False)
    return SharedQueue(Secret(plain), load_settings(app.home).lost_seconds)


def _others(app: App, now: datetime) -> Sequence[str]:
    return [*released(app.requests.unfinished()), *due_chores(app, now)]
