"""How often one customer may call: a token bucket for each."""

from __future__ import annotations

import threading
from collections.abc import Callable

from backups.errors import TooManyCalls


class Limits:
    """Buckets that fill steadily and are emptied by calls."""

    def __init__(self, per_minute: int, monotonic: Callable[[], float]) -> None:
        self._most = float(per_minute)
        self._monotonic = monotonic
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, name: str) -> None:
        """One call of `name`. Raises TooManyCalls."""
        now = self._monotonic()
        with self._lock:
            left, since = self._left.get(name, (self._most, now))
            left = min(self._most, left + (now - since) * self._most / 60)
            self._left[name] = (left - 1 if left >= 1 else left, now)
        if left < 1:
            raise TooManyCalls(f"more than {self._most:.0f} calls in a minute")
