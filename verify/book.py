"""What a restore test has found so far: its checks and times, and when it must stop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from backups.errors import BackupsError
from backups.ports import Clock
from backups.proving import Check, Phase


class Over(Exception):
    """No error: nothing further can be found out, and why stands in the book."""


@dataclass(slots=True)
class Book:
    """One restore test's findings, in the order of finding."""

    clock: Clock
    checks: list[Check] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)

    def add(
        self, name: str, passed: bool | None, expected: str, actual: str, subject: str = ""
    ) -> None:
        """One check."""
        self.checks.append(Check(name, passed, expected, actual, subject))

    def extend(self, checks: Iterable[Check]) -> None:
        """Several, each as soon as it is known."""
        for check in checks:
            self.checks.append(check)

    def settle(self, name: str, expected: str, error: BackupsError, *, failed: bool) -> Over:
        """What ended it; to be raised."""
        self.add(name, False if failed else None, expected, str(error))
        return Over()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Timed, however it ends."""
        began = self.clock.monotonic()
        try:
            yield
        finally:
            took = self.clock.monotonic() - began
            self.phases.append(Phase(name, round(1000 * took)))

    @contextmanager
    def proving(
        self, name: str, expected: str, *failures: type[BackupsError]
    ) -> Iterator[None]:
        """A failure of these kinds fails the check; any other leaves it unknown."""
        try:
            yield
        except BackupsError as error:
            raise self.settle(
                name, expected, error, failed=isinstance(error, failures)
            ) from error

    def seconds(self, *names: str) -> float:
        """Of these phases together."""
        return sum(phase.seconds for phase in self.phases if phase.name in names)

    def has(self, name: str) -> bool:
        """Whether that check was made."""
        return any(check.name == name for check in self.checks)
