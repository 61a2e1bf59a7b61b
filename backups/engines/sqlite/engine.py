"""SQLite behind `ports.Engine`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from urllib.parse import quote

from backups.engines.sqlite import dump, restore
from backups.engines.sqlite.files import path_of
from backups.model import Fingerprint, Preflight, RestoreOptions, Source
from backups.ports import Clock, Dump, Entropy, Restoration


class SqliteEngine:
    """Adapter of `ports.Engine`: a database is a file, `sqlite:///folder/database.db`."""

    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self._clock = clock
        self._entropy = entropy

    def preflight(self, source: Source) -> Preflight:
        """Raises Unreachable, AccessDenied, DumpFailed, ToolError, EnvironmentLacks."""
        return dump.look(source)

    def dump(self, source: Source) -> AbstractContextManager[Dump]:
        """One copy by the online backup API."""
        return dump.open_dump(source, self._clock, self._entropy)

    def fingerprint(self, source: Source) -> Fingerprint:
        """Of a copy that is thrown away."""
        with dump.open_dump(source, self._clock, self._entropy) as copy:
            for _, blocks in copy.artifacts():
                for _ in blocks:
                    pass
            return copy.finish()

    def beside(self, source: Source, name: str) -> Source:
        """In the same folder, with the same ending."""
        path = path_of(source)
        return Source(f"sqlite://{quote(str(path.with_name(name + path.suffix)))}")

    def restore(
        self, target: Source, options: RestoreOptions
    ) -> AbstractContextManager[Restoration]:
        """Into a new file."""
        return restore.open_restore(target, options, self._entropy)
