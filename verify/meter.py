"""What a restore test costs whoever pays for the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from providers.observe import Call


@dataclass(slots=True)
class Meter:
    """Counts the calls that `providers.observe` tells; from several threads about right."""

    requests: int = 0
    read_bytes: int = 0

    def __call__(self, call: Call) -> None:
        """One call that ended."""
        if call.name == "read":
            self.read_bytes += call.size
        else:
            self.requests += 1
