"""An empty PostgreSQL server inside a boundary: its programs, its settings, its start."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO
from urllib.parse import urlencode

from backups.engines.postgres.server import connected, login
from backups.engines.postgres.tools import folders
from backups.engines.sandbox import outside_usr
from backups.errors import EnvironmentLacks, RestoreFailed, ToolError, Unreachable
from backups.model import Source
from backups.ports import Clock
from verify.ports import Need
from verify.scratch import needs, preload
from verify.scratch.boundary import ENVIRONMENT, Boundary, Room

SUPERUSER = "postgres"
"""As on most sources: event triggers and the like can be owned by a superuser only."""
DATABASE = "scratch"
"""The name that a copy gets."""
SOCKET = ".s.PGSQL.5432"
_START = 60.0
"""Seconds that a server may take to start."""

_SETTINGS: Mapping[str, str] = {
    # Nobody but us may reach it; what can be reached from it is the boundary's.
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    # It is thrown away, so nothing needs to survive a crash.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "autovacuum": "off",
    "maintenance_work_mem": "256MB",
    "shared_buffers": "256MB",
    # Leaves nothing outside its folder.
    "dynamic_shared_memory_type": "mmap",
    # Restored code must not act by itself. Triggers and constraints stay as they are: they
    # are what is compared, and an archive makes them after its rows.
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "local_preload_libraries": "",
    "max_logical_replication_workers": "0",
    "archive_mode": "off",
    "archive_command": "",
    "ssl": "off",
    # Statements and rows of customers are in no log.
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "fatal",
    "log_min_error_statement": "panic",
    "log_statement": "none",
}
_SINCE_17 = {"event_triggers": "off"}


@dataclass(frozen=True, slots=True)
class Programs:
    """A server's programs of one release."""

    folder: Path
    major: int

    def needed(self) -> tuple[Path, ...]:
        """Folders outside /usr that must be seen for them to run."""
        return outside_usr(self.folder)

    def libraries(self) -> tuple[Path, ...]:
        """Where modules of the server may lie: as PostgreSQL's own build, and as Debian's."""
        lib = self.folder.parent / "lib"
        return lib, lib / "postgresql"

    def has(self, extension: str) -> bool:
        """Whether the files of an extension lie with them."""
        share = self.folder.parent / "share"
        debian = Path(*self.folder.parts[:-4]) / f"share/postgresql/{self.major}"
        places = (share, share / "postgresql", debian)
        return any((place / f"extension/{extension}.control").exists() for place in places)


def programs(major: int) -> Programs:
    """Those of a server of exactly this major version, the first that can check its pages
    before one that can't. Raises EnvironmentLacks."""
    fitting = [
        found for folder in folders() if (found := _look(folder)) and found.major == major
    ]
    for found in sorted(fitting, key=lambda each: not each.has("amcheck")):
        return found
    raise EnvironmentLacks(
        f"no PostgreSQL {major} server can be started here",
        hint=f"Install the package postgresql-{major}, or set BACKUPS_PG_BIN to the folder "
        "with its initdb, postgres and client tools.",
    )


@cache
def _look(folder: Path) -> Programs | None:
    # Not where a link to it lies: it looks for its other files from where it is.
    folder = (folder / "postgres").resolve().parent
    if not all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
        return None
    try:
        said = subprocess.run(
            [folder / "postgres", "--version"],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=True,
        ).stdout.decode("ascii", "replace")
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.match(r"postgres \(PostgreSQL\) (\d+)", said)
    return Programs(folder, int(found[1])) if found else None


def make(found: Programs, boundary: Boundary, room: Room, data: Path) -> None:
    """An empty cluster with checksums. Raises ToolError.

    Its own encoding says nothing about the copy's, which is made from `template0`."""
    argv: Sequence[str | Path] = [
        *(found.folder / "initdb", "-D", data, "--username", SUPERUSER, "--auth", "trust"),
        *("--encoding", "UTF8", "--locale", "C", "--data-checksums", "--no-sync"),
    ]
    once(f"initdb of PostgreSQL {found.major}", argv, boundary, room)


def start(
    found: Programs,
    boundary: Boundary,
    room: Room,
    data: Path,
    socket: Path,
    log: IO[bytes],
    preloaded: Mapping[str, str],
) -> subprocess.Popen[bytes]:
    """The server's outermost process; `log` is what it complains into, and `preloaded` what
    extensions of the copy want of it."""
    settings = {
        **_SETTINGS,
        **preloaded,
        **(_SINCE_17 if found.major >= 17 else {}),
        "unix_socket_directories": str(socket),
    }
    argv: Sequence[str | Path] = [
        *(found.folder / "postgres", "-D", data),
        # What is said here, ALTER SYSTEM can't change.
        *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
    ]
    return serving(argv, boundary, room, log)


def once(what: str, argv: Sequence[str | Path], boundary: Boundary, room: Room) -> None:
    """Run a program inside, to its end. Raises ToolError."""
    try:
        done = subprocess.run(
            boundary.argv(argv, room),
            cwd=room.folder,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_START,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"{what} did not end: {error}") from None
    if done.returncode:
        raise ToolError(
            f"{what} failed: {_last(done.stderr or done.stdout)}",
            hint=f"The user {boundary.user.name} must be able to run it.",
        )


def serving(
    argv: Sequence[str | Path], boundary: Boundary, room: Room, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a program inside, and leave it running."""
    return subprocess.Popen(
        boundary.argv(argv, room),
        cwd=room.folder,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # not told of what is typed at our terminal
    )


def awaited(
    process: subprocess.Popen[bytes], ask: Callable[[], str], log: Path, clock: Clock
) -> str:
    """What the server answers, as soon as it does. Raises RestoreFailed when it doesn't."""
    until = clock.monotonic() + _START
    while process.poll() is None and clock.monotonic() < until:
        try:
            return ask()
        except Unreachable:
            clock.sleep(0.02)
    raise RestoreFailed(
        f"the scratch server did not start: {_last(log.read_bytes())}",
        hint="Nothing of it is left.",
    )


class PostgresCluster:
    """Adapter of `verify.scratch.private.Cluster`."""

    socket = SOCKET

    def find(self, need: Need) -> Programs:
        """See the port."""
        return programs(needs.major(need))

    def make(self, found: Programs, boundary: Boundary, room: Room, data: Path) -> None:
        """See the port."""
        make(found, boundary, room, data)

    def start(
        self,
        found: Programs,
        boundary: Boundary,
        room: Room,
        data: Path,
        socket: Path,
        log: IO[bytes],
        need: Need,
    ) -> subprocess.Popen[bytes]:
        """See the port."""
        wanted = need.fingerprint.extensions
        preloaded = preload.settings(wanted, found.libraries(), DATABASE)
        return start(found, boundary, room, data, socket, log, preloaded)

    def source(self, socket: Path, user: str, database: str = "") -> Source:
        """See the port."""
        query = urlencode({"host": str(socket), "port": "5432", "requirepeer": user})
        return Source(f"postgresql://{SUPERUSER}@/{database or 'postgres'}?{query}")

    def await_ready(
        self, process: subprocess.Popen[bytes], first: Source, log: Path, clock: Clock
    ) -> str:
        """See the port."""

        def version() -> str:
            with connected(login(first)) as connection:
                return connection.info.parameter_status("server_version") or ""

        return awaited(process, version, log, clock)

    def require(self, first: Source, need: Need) -> None:
        """See the port."""
        with connected(login(first)) as connection:
            needs.require(connection, need)


def _last(said: bytes) -> str:
    """It holds no row: there was none yet."""
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"
