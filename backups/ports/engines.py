"""Database engines: reading one, and making a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from backups.model import (
    Fingerprint,
    Preflight,
    RestoreOptions,
    Snapshot,
    Source,
    Written,
)
from backups.ports.world import Blocks, Progress


class Dump(Protocol):
    """One consistent copy of a database being read."""

    snapshot: Snapshot
    preflight: Preflight

    def artifacts(self) -> Iterator[tuple[str, Blocks]]:
        """Name and stream of each artifact; a stream is read to its end before the next.

        A stream ends only after its process exited 0 and its end was checked; else it
        raises DumpFailed, Unreachable or AccessDenied."""

    def finish(self) -> Fingerprint:
        """What the snapshot contained. Raises DumpFailed unless every stream ended well."""


class Restoration(Protocol):
    """A copy being made beside its target; leaving the context unpublished removes it."""

    def lacks(self, expected: Fingerprint) -> tuple[str, ...]:
        """What the target lacks for it, in words; a look, nothing is made."""

    def load(
        self, expected: Fingerprint, artifact: Callable[[str], Blocks], progress: Progress
    ) -> Written:
        """Write all artifacts, or the part that the options ask for. Raises RestoreFailed,
        EnvironmentLacks; NotFound when there is no such part."""

    def fingerprint(self) -> Fingerprint:
        """What the copy contains now, published or not."""

    def definitions(self, kind: str, schema: str, name: str, /) -> tuple[str, str] | None:
        """The text of one object's definition in the source and in the copy, after
        `fingerprint`; empty where it is missing. None: the engine keeps no such texts."""

    def publish(self) -> None:
        """Give the copy its final name. Raises TargetRefused when that is taken by now."""


class Engine(Protocol):
    """One kind of database server. Raises EngineError's kinds only."""

    def preflight(self, source: Source) -> Preflight:
        """Look before reading: versions, rights, size. Raises what would stop a dump."""

    def dump(self, source: Source) -> AbstractContextManager[Dump]:
        """Open one consistent snapshot; leaving the context ends every process."""

    def fingerprint(self, source: Source) -> Fingerprint:
        """What the database contains now, by the same rules as a dump's."""

    def beside(self, source: Source, name: str) -> Source:
        """Where a database of that name would lie next to another; nothing is looked at."""

    def restore(
        self, target: Source, options: RestoreOptions
    ) -> AbstractContextManager[Restoration]:
        """Prepare a copy beside `target`. Raises TargetRefused when it is not empty."""
