"""Which engines there are, by the name that a fleet file uses."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from backups.errors import ConfigError
from backups.model import Source
from backups.ports import Clock, Engine, Entropy

ENGINES = {
    "postgresql": "backups.engines.postgres.engine:PostgresEngine",
    "mariadb": "backups.engines.mysql.engine:MysqlEngine",
    "mysql": "backups.engines.mysql.engine:MysqlEngine",
    "sqlite": "backups.engines.sqlite.engine:SqliteEngine",
}
"""Name to module and class; imported when used, for drivers are slow to load."""

SWAPPERS = {
    "postgresql": "backups.engines.postgres.swap:PostgresSwapper",
    "sqlite": "backups.engines.sqlite.swap:SqliteSwapper",
}
"""Those that can exchange a live database for another."""


def open_engine(name: str, clock: Clock, entropy: Entropy) -> Engine:
    """The engine of that name. Raises ConfigError when there is none."""
    if name not in ENGINES:
        raise ConfigError(
            f"no engine is called {name[:80]!r}",
            hint=f"Engines: {', '.join(sorted(ENGINES))}.",
        )
    engine: Engine = _named(ENGINES[name])(clock, entropy)
    return engine


def open_swapper(name: str, live: Source) -> Any:
    """What exchanges the live database `live`; see `run.replace.Swapper`. Raises ConfigError
    when the engine can't do that."""
    if name not in SWAPPERS:
        raise ConfigError(
            f"a live database of {name[:80]!r} can't be replaced in one step",
            hint="Restore beside it, and point the application there.",
        )
    return _named(SWAPPERS[name])(live)


def _named(place: str) -> Any:
    module, _, factory = place.partition(":")
    return getattr(import_module(module), factory)
