"""Who made a scratch place, and until when it may live: one small file for each.

It is written before anything else is made, and removed after everything else is gone, so
that whatever is left of a dead process is known by its mark.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from backups.errors import Busy, ToolError

SUFFIX = ".json"
_NEW = ".new"
_UNFINISHED = timedelta(minutes=10)
"""A mark that is still not in its place by then never will be."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Of one scratch place."""

    id: str
    deadline: datetime
    pid: int
    """Of the process that made it."""
    started: int
    """When that process began, in the kernel's ticks: a number is given to others later."""
    machine: str
    """Where that number means something."""
    kind: str
    region: str = ""
    server_version: str = ""
    boundary: tuple[str, ...] = ()
    roles: tuple[str, ...] = field(default=())
    """Made on a server that stays."""

    def over(self, now: datetime) -> bool:
        """Nobody has a claim on it: its time is up, or its process is dead."""
        dead = self.machine == _machine() and _started(self.pid) != self.started
        return dead or now >= self.deadline


def home(directory: Path) -> Path:
    """The folder of all marks and places of ours below `directory`. Raises ToolError."""
    folder = directory / f"backups-scratch-{os.geteuid()}"
    try:
        folder.mkdir(mode=0o711, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ToolError(
            f"no scratch place can be made in {directory}: {error.strerror}",
            hint="Name another folder in the settings: scratch: directory.",
        ) from None
    if found.st_uid != os.geteuid() or found.st_mode & 0o170022 != 0o040000:
        raise ToolError(
            f"{folder} is not a folder of ours alone",
            hint="Somebody else made it: look at it, and remove it.",
        )
    return folder


def write(folder: Path, place_id: str, deadline: datetime, kind: str, region: str) -> Mark:
    """Mark a new place as ours. Raises Busy when there is one of that id, ToolError."""
    pid = os.getpid()
    mark = Mark(place_id, deadline, pid, _started(pid), _machine(), kind, region)
    if _path(folder, place_id).exists():
        raise Busy(f"there is a scratch place {place_id} already")
    rewrite(folder, mark)
    return mark


def rewrite(folder: Path, mark: Mark) -> None:
    """Keep what became known. Raises ToolError."""
    path = _path(folder, mark.id)
    data = asdict(mark) | {"deadline": mark.deadline.isoformat()}
    unfinished = path.with_suffix(_NEW)
    try:
        unfinished.write_text(json.dumps(data))
        unfinished.replace(path)
    except OSError as error:
        raise ToolError(f"{path} can't be written: {error.strerror}") from None


def remove(folder: Path, place_id: str) -> None:
    """Nothing is left of it."""
    _path(folder, place_id).unlink(missing_ok=True)


def found(folder: Path) -> Iterator[Mark]:
    """All that there are."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with suppress(FileNotFoundError):  # its owner was quicker
            yield _read(path)


def tidy(folder: Path, now: datetime) -> None:
    """Remove marks whose writer died writing: nothing else had been made."""
    for path in folder.glob(f"*{_NEW}"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < (now - _UNFINISHED).timestamp():
                path.unlink()


def _read(path: Path) -> Mark:
    data: dict[str, Any] = json.loads(path.read_text())
    data["deadline"] = datetime.fromisoformat(data["deadline"])
    return Mark(**data | {name: tuple(data[name]) for name in ("boundary", "roles")})


def _path(folder: Path, place_id: str) -> Path:
    return folder / f"{place_id}{SUFFIX}"


def _started(pid: int) -> int:
    """0: there is no such process. Field 22 of proc(5)'s stat; a name may hold anything."""
    try:
        said = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return 0
    fields = said.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def _machine() -> str:
    """This boot of this machine, and its space of process numbers: containers have others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return "unknown"
