"""What keeps restored code in: an unprivileged user, and namespaces of the kernel.

Nothing here is trusted because it was asked for: the strongest kind that this machine really
runs is found by trying, and `Boundary.words` tells what that one gives and what it doesn't.
Sources: bwrap(1), unshare(1), setpriv(1), prlimit(1), timeout(1).
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backups.engines.sandbox import programs
from backups.errors import ToolError

Kind = Literal["bubblewrap", "unshare", "plain"]

USERS = ("backups-scratch", "nobody")
"""Whom root runs scratch servers as. Never `postgres`, to whom a real server may belong."""

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
"""Of everything inside; nothing of ours is handed on."""

_CONFIGURATION = ("/etc/ld.so.cache", "/etc/alternatives")
_NO_RIGHTS = ("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
_PLACES = "sees only programs, read-only, and its own directory"
_TOOLS = "client tools run inside too"
_FILES = "can read what its user may read on this machine"
_ALONE = "sees no other process"
_ENDS = "whatever runs in it ends with us"


@dataclass(frozen=True, slots=True)
class User:
    """Whom the server runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Room:
    """What one server gets."""

    folder: Path
    """Its own, and its working directory; its `passwd` is what it sees of users."""
    writable: Sequence[Path]
    """Folders that it may write to, inside its own."""
    programs: Sequence[Path]
    """Folders outside /usr that it needs to run."""
    seconds: int
    """After so many it is killed, whoever lives then."""
    file_bytes: int | None = None
    """No file may become larger."""
    memory_bytes: int | None = None
    """Address space of each of its processes."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """One way to keep a server in."""

    kind: Kind
    user: User
    switch: bool
    """We are root, and it must not be."""

    @property
    def words(self) -> tuple[str, ...]:
        """What it gives, and what it doesn't."""
        given = {
            "bubblewrap": ("no network", _PLACES, _ALONE, _ENDS, _TOOLS),
            "unshare": ("no network", _FILES, _ALONE, _ENDS),
            "plain": ("the network can be reached", _FILES, "sees other processes"),
        }[self.kind]
        whose = "unprivileged" if self.switch else "our own user"
        return (*given, f"runs as {self.user.name}, {whose}, without capabilities")

    @property
    def hides(self) -> bool:
        """Folders that the user can't enter from outside can be opened to it."""
        return self.kind == "bubblewrap"

    def argv(self, command: Sequence[str | Path], room: Room) -> list[str]:
        """`command` inside; to be started with `room.folder` as the working directory, and
        `ENVIRONMENT`."""
        inner = [*self._become(), *_limits(room), *map(str, command)]
        match self.kind:
            case "bubblewrap":
                return [*self._bubblewrap(room), *inner]
            case "unshare":
                own = [] if self.switch else ["--user", "--map-current-user"]
                return [
                    *("setpriv", "--pdeathsig=KILL", "unshare", *own, "--net", "--ipc"),
                    *("--uts", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"),
                    *inner,
                ]
            case "plain":
                return inner

    def _become(self) -> list[str]:
        # The kernel forgets a parent-death signal when the user changes: it is set after it.
        # Outside a process namespace a server is told to end, so that it frees what it shares.
        signal = "QUIT" if self.kind == "plain" else "KILL"
        said = ["setpriv", f"--pdeathsig={signal}", *(_NO_RIGHTS if self.switch else ())]
        if self.switch:
            said += [f"--reuid={self.user.uid}", f"--regid={self.user.gid}", "--clear-groups"]
        else:
            said.append("--no-new-privs")
        return said

    def _bubblewrap(self, room: Room) -> Iterator[str]:
        yield from ("bwrap", "--die-with-parent", "--unshare-ipc", "--unshare-pid")
        yield from ("--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
        if self.switch:
            # Root lays out the folders, some of which nobody else may enter, and then is left.
            yield from ("--cap-drop", "ALL", "--cap-add", "CAP_SETUID")
            yield from ("--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP")
        else:
            yield from ("--unshare-user", "--disable-userns", "--cap-drop", "ALL")
        yield from programs()
        yield from ("--proc", "/proc", "--dev", "/dev")
        # What bwrap makes by itself on the way to a mount is for its own user only.
        parents = {p for path in (room.folder, *room.programs) for p in path.parents}
        for path in (Path("/etc"), *sorted(parents - {Path("/"), Path("/usr")})):
            yield from ("--perms", "0755", "--dir", str(path))
        for each in _CONFIGURATION:
            yield from ("--ro-bind-try", each, each)
        yield from ("--ro-bind-try", str(room.folder / "passwd"), "/etc/passwd")
        for path in room.programs:
            yield from ("--ro-bind", str(path), str(path))
        yield from ("--perms", "0755", "--dir", str(room.folder))
        for path in room.writable:
            yield from ("--bind", str(path), str(path))
        yield from ("--remount-ro", "/", "--chdir", str(room.folder), "--")


def passwd(user: User) -> str:
    """The only lines of an `/etc/passwd` that a server inside needs."""
    return f"{user.name}:x:{user.uid}:{user.gid}::/:/bin/false\n"


def choose_user() -> tuple[User, bool]:
    """Whom to run as, and whether we have to change to it. Raises ToolError."""
    if os.geteuid() != 0:
        own = os.geteuid()
        try:
            name = pwd.getpwuid(own).pw_name
        except KeyError:
            raise ToolError(
                f"the user {own} has no name, and no database server runs as such a one",
                hint="Give it a line in /etc/passwd.",
            ) from None
        return User(name, own, os.getegid()), False
    for name in USERS:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(name, found.pw_uid, found.pw_gid), True
    raise ToolError(
        "there is no unprivileged user to run a scratch server as",
        hint=f"useradd --system --no-create-home {USERS[0]}",
    )


def strongest(folder: Path) -> Boundary:
    """The first kind that works here, tried in `folder`. Raises ToolError."""
    user, switch = choose_user()
    kinds: tuple[Kind, ...] = ("bubblewrap", "unshare", "plain")
    for kind in kinds:
        boundary = Boundary(kind, user, switch)
        if _works(boundary, folder):
            return boundary
    raise ToolError(
        f"nothing can be run here as the user {user.name}",
        hint="Install bubblewrap, or util-linux with setpriv and prlimit.",
    )


def _works(boundary: Boundary, folder: Path) -> bool:
    room = Room(folder, (), (), seconds=10)
    argv = boundary.argv(["id", "-u"], room)
    if not shutil.which(argv[0]):
        return False
    try:
        said = subprocess.run(
            argv,
            cwd=folder,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.stdout == f"{boundary.user.uid}\n".encode()


def _limits(room: Room) -> Iterator[str]:
    """An end in time that needs nobody alive, and what a process may use."""
    yield from ("timeout", "--foreground", "--signal=KILL", str(max(1, room.seconds)))
    yield from ("prlimit", "--core=0")
    if room.file_bytes is not None:
        yield f"--fsize={room.file_bytes}"
    if room.memory_bytes is not None:
        yield f"--as={room.memory_bytes}"
