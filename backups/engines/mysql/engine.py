"""MariaDB and MySQL behind `ports.Engine`."""

from __future__ import annotations

from contextlib import AbstractContextManager

from backups.engines.beside import on_the_same_server
from backups.engines.mysql import dump, restore
from backups.model import Fingerprint, Preflight, RestoreOptions, Source
from backups.ports import Clock, Dump, Entropy, Restoration


class MysqlEngine:
    """Adapter of `ports.Engine`; the server's own clock dates its snapshots. Which of the two
    it is, a URL says."""

    def __init__(self, _clock: Clock, _entropy: Entropy) -> None: ...

    def preflight(self, source: Source) -> Preflight:
        """Raises Unreachable, AccessDenied, ToolError."""
        return dump.look(source)

    def dump(self, source: Source) -> AbstractContextManager[Dump]:
        """One run of the vendor's dump tool in one transaction."""
        return dump.open_dump(source)

    def fingerprint(self, source: Source) -> Fingerprint:
        """By a dump that is read and thrown away."""
        return dump.fingerprint(source)

    def beside(self, source: Source, name: str) -> Source:
        """Of the same server."""
        return on_the_same_server(source, name)

    def restore(
        self, target: Source, options: RestoreOptions
    ) -> AbstractContextManager[Restoration]:
        """Into a new database."""
        return restore.open_restore(target, options)
