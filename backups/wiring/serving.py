"""`serve`, put together. No identity is read here, nor by what it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from backups.errors import ConfigError
from backups.wiring.app import App
from backups.wiring.chores import due_chores
from backups.wiring.holding import leading, still_leading
from backups.wiring.working import PRELOAD, fleet, limits, mourn, work

if TYPE_CHECKING:
    from backups.schedule.serve import Ports


@contextmanager
def serving(app: App, say: Callable[[str], None]) -> Iterator[Ports]:
    """What serving needs; every worker is ended with the block. Raises ConfigError."""
    try:
        from backups.schedule.serve import Ports
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"`backups serve` needs the package {error.name}",
            hint="Install it with: pip install 'bloomneo-backups[serve]'",
        ) from None
    from backups.schedule.scheduler import Scheduler
    from backups.schedule.workers import Workers

    at_once, patience, drain = limits(app)
    workers = Workers(
        partial(work, app.home.path, app.clock),
        app.clock,
        patience,
        partial(mourn, app),
        PRELOAD,
    )
    with workers:
        yield Ports(
            clock=app.clock,
            scheduler=Scheduler(partial(fleet, app), app.agenda, at_once),
            chores=partial(due_chores, app),
            workers=workers,
            lead=partial(leading, app),
            renew=partial(still_leading, app),
            drain=drain,
            say=say,
        )
