"""How each engine's copies are meddled with, by the engine's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module

from backups.errors import ConfigError
from backups.model import Source


class NothingToChange(Exception):
    """No error: the copy has no such thing."""


@dataclass(frozen=True, slots=True)
class Meddling:
    """One change to a copy, and the check that must notice."""

    words: str
    check: str
    change: Callable[[Source], None]
    """Raises NothingToChange, EngineError."""


_MODULES = {
    "postgresql": "verify.meddle.postgres",
    "mariadb": "verify.meddle.mysql",
    "mysql": "verify.meddle.mysql",
    "sqlite": "verify.meddle.sqlite",
}


def meddlings(engine: str) -> Mapping[str, Meddling]:
    """By name. Raises ConfigError when there is no such engine."""
    if engine not in _MODULES:
        raise ConfigError(f"no copies of {engine[:80]!r} can be meddled with")
    found: Mapping[str, Meddling] = import_module(_MODULES[engine]).MEDDLINGS
    return found
