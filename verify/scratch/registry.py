"""The scratch place that the settings ask for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from backups.model import Secret, Source
from backups.ports import Clock
from backups.settings import ScratchSettings
from verify.ports import Scratch
from verify.scratch.configured import ConfiguredServer, Sources
from verify.scratch.private import Limits, PrivateServers


def open_scratch(
    settings: ScratchSettings,
    clock: Clock,
    sources: Sources,
    resolve_password: Callable[[str], Secret],
) -> Scratch:
    """A server of one's own for each copy, or the server that the settings name, which none
    of `sources` may live on. Raises ConfigError, ToolError."""
    directory = Path(settings.directory or tempfile.gettempdir()).resolve()
    if settings.url is not None:
        password = resolve_password(settings.password) if settings.password else None
        server = Source(settings.url, password)
        return ConfiguredServer(server, sources, directory, settings.region, clock)
    limits = Limits(settings.memory_mb, settings.disk_mb)
    return PrivateServers(directory, settings.region, limits, clock)
