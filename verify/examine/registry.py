"""Which engines can examine a copy, by the name that a fleet file uses."""

from __future__ import annotations

from importlib import import_module

from backups.errors import ConfigError
from backups.ports import Clock
from verify.ports import Examiner

_EXAMINERS = {
    "postgresql": "verify.examine.postgres:PostgresExaminer",
    "mariadb": "verify.examine.mysql:MysqlExaminer",
    "mysql": "verify.examine.mysql:MysqlExaminer",
    "sqlite": "verify.examine.sqlite:SqliteExaminer",
}


def open_examiner(engine: str, clock: Clock) -> Examiner:
    """The examiner of that engine. Raises ConfigError when there is none."""
    if engine not in _EXAMINERS:
        raise ConfigError(
            f"no copies of {engine[:80]!r} can be examined",
            hint=f"Engines: {', '.join(sorted(_EXAMINERS))}.",
        )
    module, _, factory = _EXAMINERS[engine].partition(":")
    examiner: Examiner = getattr(import_module(module), factory)(clock)
    return examiner
