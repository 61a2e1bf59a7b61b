"""How each engine's copies are meddled with, by the engine's name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import TypeVar

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


Do = TypeVar("Do")
Kinds = Iterable[tuple[str, str, str, str, Do]]
"""Name, words, check, the query that finds what can be changed, and how that is done."""


def by_name(
    kinds: Kinds[Do], first: Callable[[str, Do, Source], None]
) -> Mapping[str, Meddling]:
    """`first` does it to the first thing found."""
    return MappingProxyType(
        {
            name: Meddling(words, check, partial(first, found, do))
            for name, words, check, found, do in kinds
        }
    )


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
