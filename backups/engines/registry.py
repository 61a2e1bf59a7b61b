"""Which engines there are, by the name that a fleet file uses."""

from __future__ import annotations

from importlib import import_module

from backups.errors import ConfigError
from backups.ports import Clock, Engine, Entropy

ENGINES = {"postgresql": "backups.engines.postgres.engine:PostgresEngine"}
"""Name to module and class; imported when used, for drivers are slow to load."""


def open_engine(name: str, clock: Clock, entropy: Entropy) -> Engine:
    """The engine of that name. Raises ConfigError when there is none."""
    if name not in ENGINES:
        raise ConfigError(
            f"no engine is called {name[:80]!r}",
            hint=f"Engines: {', '.join(sorted(ENGINES))}.",
        )
    module, _, factory = ENGINES[name].partition(":")
    engine: Engine = getattr(import_module(module), factory)(clock, entropy)
    return engine
