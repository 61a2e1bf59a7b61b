"""What a copy needs of a PostgreSQL server, asked before anything is restored."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection

from backups.errors import EnvironmentLacks
from verify.ports import Need
from verify.scratch import preload

ENGINE = "postgresql"
_ROOM = 2
"""A database is at most so many times as large as its dump's plain bytes, with its indexes
and the log of loading them. ASSUMED."""
_LEAST = 512 << 20
"""Bytes that an empty server and its log may take."""


def major(need: Need) -> int:
    """Of the server that the backup was made from. Raises EnvironmentLacks."""
    found = re.match(r"\d+", need.fingerprint.server_version)
    if need.engine != ENGINE or found is None:
        raise EnvironmentLacks(
            f"there is no scratch place for {need.engine} {need.fingerprint.server_version}"
        )
    return int(found[0])


def room(need: Need) -> int:
    """Bytes of disk that a copy may take."""
    return _ROOM * need.plain_bytes + _LEAST


def require_room(need: Need, folder: Path, limit: int | None) -> None:
    """Raises EnvironmentLacks when the disk, or what is allowed of it, is too small."""
    wanted, free = room(need), shutil.disk_usage(folder).free
    if limit is not None and wanted > limit:
        raise EnvironmentLacks(
            f"the copy may need {_mib(wanted)} MiB of disk; scratch may use {_mib(limit)}",
            hint="Raise disk_mb under `scratch` in the settings.",
        )
    if wanted > free:
        raise EnvironmentLacks(
            f"the copy may need {_mib(wanted)} MiB of disk; {_mib(free)} are free",
            hint="Name a larger folder in the settings: scratch: directory.",
        )


def require(connection: Connection[Any], need: Need) -> None:
    """Raises EnvironmentLacks that names all the server lacks: extensions, locales."""
    lacking = [
        *_extensions(connection, need),
        *_preloaded(connection, need),
        *_locales(connection, need),
    ]
    if lacking:
        raise EnvironmentLacks(
            f"the scratch server lacks {', '.join(words for words, _ in lacking)}",
            hint="; ".join(dict.fromkeys(hint for _, hint in lacking)),
        )


def _extensions(connection: Connection[Any], need: Need) -> list[tuple[str, str]]:
    query = "SELECT name FROM pg_available_extensions"
    present = {row[0] for row in connection.execute(query)}
    packages = f"Install it where that server runs, e.g. postgresql-{major(need)}-"
    return [
        (f"the extension {name!r} ({version})", f"{packages}{name}")
        for name, version in sorted(need.fingerprint.extensions.items())
        if name not in present
    ]


def _preloaded(connection: Connection[Any], need: Need) -> list[tuple[str, str]]:
    """Libraries that it must have been started with; one whose extension isn't even there is
    told by that."""
    query = "SELECT name FROM pg_available_extensions WHERE name = ANY (%s)"
    rows = connection.execute(query, (list(need.fingerprint.extensions),))
    (loaded,) = connection.execute("SHOW shared_preload_libraries").fetchone() or ("",)
    return preload.lacking([row[0] for row in rows], loaded)


def _locales(connection: Connection[Any], need: Need) -> list[tuple[str, str]]:
    """Those of the C library that it can't set; others come with the server itself."""
    settings = need.fingerprint.settings
    names = {settings[key] for key in ("collate", "ctype") if settings.get(key)}
    lacking = []
    for name in sorted(names):
        try:
            connection.execute("SELECT set_config('lc_monetary', %s, true)", (name,))
        except psycopg.errors.InvalidParameterValue:
            hint = f"Add {name} to /etc/locale.gen where it runs, then run locale-gen"
            lacking.append((f"the locale {name!r}", hint))
    return lacking


def _mib(size: int) -> int:
    return -(-size // (1 << 20))
