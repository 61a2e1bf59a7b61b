"""Extensions whose library a PostgreSQL server loads at its start, and how that is kept quiet.

A library that is loaded so may start processes of its own, and these may run what was restored:
pg_cron's jobs, for one. A server that loads any here may start no worker process at all, so
nothing but our own sessions acts; it builds indexes without parallel workers then.
Sources: each project's page on its installation; postmaster.c and bgworker.c for the workers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

LIBRARIES: Mapping[str, str] = {
    # These want to be the first of the list.
    "citus": "citus",
    "timescaledb": "timescaledb",
    # Without its library each of these can't be made.
    "pgaudit": "pgaudit",
    "pg_cron": "pg_cron",
    "pg_net": "pg_net",
    "pg_qualstats": "pg_qualstats",
    "pg_squeeze": "pg_squeeze",
    "pg_stat_kcache": "pg_stat_kcache",
    "pg_wait_sampling": "pg_wait_sampling",
    "set_user": "set_user",
    # These can, but their views fail.
    "pg_stat_monitor": "pg_stat_monitor",
    "pg_stat_statements": "pg_stat_statements",
}
"""Library by extension. Tried: pgaudit, pg_cron, pg_stat_statements. ASSUMED: the others."""

_VIEWS_ONLY = frozenset({"pg_stat_monitor", "pg_stat_statements"})
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "pg_cron": {"cron.max_running_jobs": "0", "cron.log_run": "off"},
    "timescaledb": {"timescaledb.telemetry_level": "off"},
}


def settings(
    extensions: Iterable[str], folders: Collection[Path], database: str
) -> dict[str, str]:
    """Of a server that shall hold `extensions` in `database`: none, where it needs no library
    of those that lie in `folders`. What lies nowhere is not named: no server would start."""
    have = set(extensions)
    found = [
        (name, library)
        for name, library in LIBRARIES.items()
        if name in have and any((folder / f"{library}.so").exists() for folder in folders)
    ]
    if not found:
        return {}
    said = {
        "shared_preload_libraries": ",".join(dict.fromkeys(library for _, library in found)),
        "max_worker_processes": "0",
    }
    for name, _ in found:
        said |= _SETTINGS.get(name, {})
        if name == "pg_cron":  # it can be made in this one database only
            said["cron.database_name"] = database
    return said


def lacking(extensions: Iterable[str], loaded: str) -> list[tuple[str, str]]:
    """Of a server that others set up, and that loads `loaded`: what can't be made there, and
    what to do about it."""
    there = {each.strip().strip('"') for each in loaded.split(",")}
    return [
        (
            f"the library of the extension {name!r}, loaded at its start",
            f"Add {LIBRARIES[name]} to its shared_preload_libraries",
        )
        for name in sorted(set(extensions) & (LIBRARIES.keys() - _VIEWS_ONLY))
        if LIBRARIES[name] not in there
    ]
