"""The only place that makes randomness."""

from __future__ import annotations

import os


class SystemEntropy:
    """The kernel's generator; adapter of `ports.Entropy`."""

    def bytes(self, count: int) -> bytes:
        """`count` bytes fit for keys."""
        return os.urandom(count)
