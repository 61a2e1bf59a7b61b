"""Keys that are kept by somebody else: a cloud's key service, a person, another machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class KeyWrapper(Protocol):
    """Seals 32 bytes so that only who may use the wrapper's key can have them back.

    Raises KeyRefused when it does not do it, KeyServiceUnavailable when it gives no answer."""

    def wrap(self, secret: bytes, context: Mapping[str, str]) -> bytes:
        """Sealed, for this context only where the service authenticates one."""

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """The secret again. Raises KeyRefused also for another context, or for bytes that
        were not wrapped with this key."""

    def close(self) -> None:
        """Let go of connections; may be called twice."""
