"""The scratch places that the settings ask for, by engine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from backups.errors import EnvironmentLacks
from backups.model import Secret, Source
from backups.ports import Clock
from backups.proving import Place
from backups.settings import ScratchSettings
from verify.ports import Ground, Need, Scratch
from verify.scratch.configured import ConfiguredServer, Sources
from verify.scratch.folders import PrivateFolders
from verify.scratch.mysql import MARIADB_CLUSTER, MYSQL_CLUSTER
from verify.scratch.private import Limits, PrivateServers


class ByEngine:
    """Each engine's own kind of place; adapter of `verify.ports.Scratch`."""

    def __init__(self, kinds: Mapping[str, Scratch]) -> None:
        self.kinds = kinds

    def acquire(self, need: Need) -> Ground:
        """See the port."""
        if need.engine not in self.kinds:
            raise EnvironmentLacks(f"there is no scratch place for {need.engine[:80]!r}")
        return self.kinds[need.engine].acquire(need)

    def sweep(self, now: datetime) -> list[Place]:
        """See the port."""
        return [place for kind in self.kinds.values() for place in kind.sweep(now)]


def open_scratch(
    settings: ScratchSettings,
    clock: Clock,
    sources: Sources,
    resolve_password: Callable[[str], Secret],
) -> Scratch:
    """A place of one's own for each copy; for PostgreSQL a server, or the one that the
    settings name, which none of `sources` may live on. Raises ConfigError, ToolError."""
    directory = Path(settings.directory or tempfile.gettempdir()).resolve()
    folders = PrivateFolders(directory, settings.region, settings.disk_mb, clock)
    limits = Limits(settings.memory_mb, settings.disk_mb)
    mysqls = {
        kind.family.engine: PrivateServers(directory, settings.region, limits, clock, kind)
        for kind in (MARIADB_CLUSTER, MYSQL_CLUSTER)
    }
    postgresql: Scratch
    if settings.url is not None:
        password = resolve_password(settings.password) if settings.password else None
        server = Source(settings.url, password)
        postgresql = ConfiguredServer(server, sources, directory, settings.region, clock)
    else:
        postgresql = PrivateServers(directory, settings.region, limits, clock)
    return ByEngine({"postgresql": postgresql, "sqlite": folders, **mysqls})
