"""Servers made for one copy each, on this machine; adapter of `verify.ports.Scratch`.

<directory>/backups-scratch-<uid>/<id>.json    the mark, first and last
<directory>/backups-scratch-<uid>/<id>/        passwd, log; nobody else's
                                      data/    the cluster
                                      s/       its socket
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Protocol

from backups.engines.sandbox import outside_usr
from backups.errors import ToolError
from backups.ids import check_id
from backups.model import Confine, Source
from backups.ports import Clock
from backups.proving import Place
from verify.ports import Need
from verify.scratch import cluster, marks, needs, processes
from verify.scratch.boundary import Boundary, Room, passwd, strongest
from verify.scratch.cluster import DATABASE, Programs
from verify.scratch.marks import Mark

KIND = "private server"
_SOCKET_PATH = 107
"""Bytes of a socket's path that the kernel takes; see unix(7)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server may use."""

    memory_mb: int | None = None
    """Address space of each of its processes."""
    disk_mb: int | None = None
    """What a copy may be expected to take, and the length of any one file."""


class PrivateGround:
    """One server and its folder; adapter of `verify.ports.Ground`."""

    def __init__(
        self,
        home: Path,
        place: Place,
        target: Source,
        process: subprocess.Popen[bytes],
        clock: Clock,
    ) -> None:
        self.place = place
        self.target = target
        self._home = home
        self._process = process
        self._clock = clock

    def destroy(self) -> Place:
        """See the port."""
        if self.place.destroyed_at is None:
            self.place = _destroy(self._home, self.place, self._clock, self._process)
        return self.place


class Cluster(Protocol):
    """How servers of one engine are made and started."""

    @property
    def socket(self) -> str:
        """Its name, in a folder."""

    def find(self, need: Need) -> Programs:
        """Those of a server that fits. Raises EnvironmentLacks."""

    def make(self, found: Programs, boundary: Boundary, room: Room, data: Path) -> None:
        """An empty one. Raises ToolError."""

    def start(
        self,
        found: Programs,
        boundary: Boundary,
        room: Room,
        data: Path,
        socket: Path,
        log: IO[bytes],
        need: Need,
        /,
    ) -> subprocess.Popen[bytes]:
        """The server's outermost process; `log` is what it complains into."""

    def source(self, socket: Path, user: str, database: str = "") -> Source:
        """A database of it, or the one that is always there; `user` is whom it runs as."""

    def await_ready(
        self, process: subprocess.Popen[bytes], first: Source, log: Path, clock: Clock
    ) -> str:
        """The server's version, as soon as it answers. Raises RestoreFailed."""

    def require(self, first: Source, need: Need) -> None:
        """Raises EnvironmentLacks that names all the server lacks."""


class PrivateServers:
    """Makes them. A server ends with the thread that acquired it; should that one
    die while it is being started, `sweep` or its deadline ends it."""

    def __init__(
        self,
        directory: Path,
        region: str,
        limits: Limits,
        clock: Clock,
        kind: Cluster | None = None,
    ) -> None:
        """Of PostgreSQL, when no other `kind` is named."""
        self._home = marks.home(directory)
        self._cluster: Cluster = kind or cluster.PostgresCluster()
        self._region = region
        self._limits = limits
        self._clock = clock
        self._strongest: Boundary | None = None

    def acquire(self, need: Need) -> PrivateGround:
        """See the port; raises Busy too, when one of that id is there."""
        check_id(need.id, "restore test")
        folder = self._home / need.id
        socket = folder / "s"
        if len(os.fsencode(socket / self._cluster.socket)) > _SOCKET_PATH:
            raise ToolError(
                f"a socket in {socket} would have a name longer than {_SOCKET_PATH} bytes",
                hint="Name a shorter folder in the settings: scratch: directory.",
            )
        kind = self._cluster
        found = kind.find(need)
        disk = self._limits.disk_mb
        needs.require_room(need, self._home, disk << 20 if disk else None)
        boundary = self._boundary()
        mark = marks.write(self._home, need.id, need.deadline, KIND, self._region)
        mark = replace(mark, boundary=boundary.words)
        process: subprocess.Popen[bytes] | None = None
        try:
            room = self._lay_out(folder, boundary, need, found)
            kind.make(found, boundary, room, folder / "data")
            with (folder / "log").open("wb") as log:
                data = folder / "data"
                process = kind.start(found, boundary, room, data, socket, log, need)
            first = kind.source(socket, boundary.user.name)
            version = kind.await_ready(process, first, folder / "log", self._clock)
            if boundary.switch:
                os.chown(socket, 0, 0)  # nobody can put another socket into its place
                socket.chmod(0o711)  # but its tools can go to the one that is there
            kind.require(first, need)
            mark = replace(mark, server_version=version)
            marks.rewrite(self._home, mark)
        except BaseException:
            _destroy(self._home, _place(mark), self._clock, process)
            raise
        target = replace(
            kind.source(socket, boundary.user.name, DATABASE),
            confine=_confined(boundary, room, socket),
        )
        return PrivateGround(self._home, _place(mark), target, process, self._clock)

    def sweep(self, now: datetime) -> list[Place]:
        """See the port."""
        marks.tidy(self._home, now)
        return [
            _destroy(self._home, _place(mark), self._clock, None)
            for mark in list(marks.found(self._home))
            if mark.kind == KIND and mark.over(now)
        ]

    def _boundary(self) -> Boundary:
        if self._strongest is None:
            self._strongest = strongest(self._home)
        return self._strongest

    def _lay_out(self, folder: Path, boundary: Boundary, need: Need, found: Programs) -> Room:
        user = boundary.user
        # Where the boundary opens it, nobody can enter; else the server has to pass through.
        folder.mkdir(mode=0o700)
        if boundary.switch and not boundary.hides:
            folder.chmod(0o711)
        writable = (folder / "data", folder / "s")
        for path in writable:
            path.mkdir(mode=0o700)
            if boundary.switch:
                os.chown(path, user.uid, user.gid)
        (folder / "passwd").write_text(passwd(user))
        (folder / "passwd").chmod(0o644)
        left = need.deadline - self._clock.now()
        limits = self._limits
        return Room(
            folder,
            writable,
            found.needed(),
            seconds=int(left.total_seconds()),
            file_bytes=limits.disk_mb << 20 if limits.disk_mb else None,
            memory_bytes=limits.memory_mb << 20 if limits.memory_mb else None,
        )


def _confined(boundary: Boundary, room: Room, socket: Path) -> Confine | None:
    """Client tools read what an enemy may have written: they run as the server does, and see
    its socket and what they are given to read. Only a boundary that hides can open that."""
    if not boundary.hides:
        return None

    def confine(argv: Sequence[str], reads: Sequence[Path]) -> list[str]:
        for folder in reads:
            folder.chmod(0o755)
            for path in folder.iterdir():
                path.chmod(0o644)
        needed = outside_usr(Path(argv[0]).parent)
        inside = replace(room, writable=(socket,), programs=(*needed, *reads))
        return boundary.argv(argv, inside)

    return confine


def _place(mark: Mark) -> Place:
    return Place(mark.id, mark.kind, mark.region, mark.server_version, mark.boundary)


def _destroy(
    home: Path, place: Place, clock: Clock, process: subprocess.Popen[bytes] | None
) -> Place:
    """End what runs in it, remove it, and look; the mark goes last."""
    folder = home / place.id
    left = [f"process {pid}" for pid in processes.end(folder, clock, gently=True)]
    if process is not None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(processes.PATIENCE)
    if not left:
        left = _remove(folder)
    if not left:
        try:
            marks.remove(home, place.id)
        except OSError as error:
            left = [f"its mark: {error.strerror}"]
    if left:
        return replace(place, proof=tuple(f"left: {each}" for each in left))
    gone = (f"directory {place.id}", "no process in it", "no socket")
    return replace(place, destroyed_at=clock.now(), proof=tuple(f"gone: {e}" for e in gone))


def _remove(folder: Path) -> list[str]:
    """By the system's tool: a tree of any depth, never through a link."""
    if not os.path.lexists(folder):
        return []
    removed = ["rm", "-rf", "--one-file-system", "--", str(folder)]
    opened = ["chmod", "-R", "u+rwX", "--", str(folder)]
    for argv in (removed, opened, removed):
        try:
            subprocess.run(
                argv,
                env={"PATH": os.defpath, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=600,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            break
        if not os.path.lexists(folder):
            return []
    return [f"directory {folder}"]
