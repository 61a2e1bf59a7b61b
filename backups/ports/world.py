"""What everything else is given: time, chance, secrets, streams, progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Protocol

Progress = Callable[[str, int, int | None], None]
"""Called with (what is being done, amount so far, total or None); amounts are bytes."""


Blocks = Iterator[bytes]
"""A stream, in pieces of any size. It ends when its source ended well, and raises if not."""


class Clock(Protocol):
    def now(self) -> datetime:
        """The present instant, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class Entropy(Protocol):
    def bytes(self, count: int) -> bytes:
        """`count` bytes fit for keys."""


class Vault(Protocol):
    def __call__(self, name: str, what: str, /) -> str:
        """The secret that it keeps under `name`; `what` is its use, for errors.

        Raises ConfigError when there is none, StoreUnavailable when that can't be told."""
