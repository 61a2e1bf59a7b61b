"""PostgreSQL behind `ports.Engine`."""

from __future__ import annotations

from contextlib import AbstractContextManager

from backups.engines.beside import on_the_same_server
from backups.engines.postgres import dump, pooler, preflight, restore, server, to_file, tools
from backups.model import Fingerprint, Preflight, RestoreOptions, Source
from backups.ports import Clock, Dump, Entropy, Restoration


class PostgresEngine:
    """Adapter of `ports.Engine`; `entropy` names the temporary databases of restores.

    The server's own clock dates its snapshots.
    """

    def __init__(self, _clock: Clock, entropy: Entropy) -> None:
        self._entropy = entropy

    def preflight(self, source: Source) -> Preflight:
        """Raises Unreachable, AccessDenied, ToolError; EngineError behind a pooler."""
        with server.connected(server.login(source)) as connection:
            pooler.require_shared_snapshots(connection, server.connected(server.login(source)))
            return preflight.look(connection, tools.choose(preflight.major(connection)))

    def dump(self, source: Source) -> AbstractContextManager[Dump]:
        """One exported snapshot, one pg_dump in it, and an inventory of what it shows."""
        return dump.open_dump(server.login(source), whole=True)

    def fingerprint(self, source: Source) -> Fingerprint:
        """By a dump that is read and thrown away."""
        return dump.fingerprint(server.login(source))

    def beside(self, source: Source, name: str) -> Source:
        """Of the same server."""
        return on_the_same_server(source, name)

    def restore(
        self, target: Source, options: RestoreOptions
    ) -> AbstractContextManager[Restoration]:
        """Into a new database beside the target, renamed when it is published; where the
        target is the URL of a file, into that."""
        if target.url.startswith("file:"):
            return to_file.open_file(target, options)
        return restore.open_restore(target, options, self._entropy)
