"""Folders made for one copy each, for engines whose database is a file; adapter of
`verify.ports.Scratch`.

<directory>/backups-scratch-<uid>/<id>.json    the mark, first and last
<directory>/backups-scratch-<uid>/<id>/        the copy; nobody else may enter
"""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from backups.errors import EnvironmentLacks
from backups.ids import check_id
from backups.model import Source
from backups.ports import Clock
from backups.proving import Place
from verify.ports import Need
from verify.scratch import marks, needs
from verify.scratch.marks import Mark

KIND = "private folder"
ENGINE = "sqlite"
BOUNDARY = (
    "no server runs: the restore agent's own process opens the file",
    "what the schema says is not trusted; no other file can be attached, no code loaded",
)


class FolderGround:
    """One folder; adapter of `verify.ports.Ground`."""

    def __init__(self, home: Path, place: Place, target: Source, clock: Clock) -> None:
        self.place = place
        self.target = target
        self._home = home
        self._clock = clock

    def destroy(self) -> Place:
        """See the port."""
        if self.place.destroyed_at is None:
            self.place = _destroy(self._home, self.place, self._clock)
        return self.place


class PrivateFolders:
    """Makes them."""

    def __init__(self, directory: Path, region: str, disk_mb: int | None, clock: Clock) -> None:
        self._home = marks.home(directory)
        self._region = region
        self._disk = disk_mb
        self._clock = clock

    def acquire(self, need: Need) -> FolderGround:
        """See the port."""
        check_id(need.id, "restore test")
        if need.engine != ENGINE:
            raise EnvironmentLacks(f"there is no scratch place for {need.engine}")
        theirs, ours = _version(need.fingerprint.server_version), sqlite3.sqlite_version_info
        if theirs > ours:
            raise EnvironmentLacks(
                f"SQLite is {sqlite3.sqlite_version} here, older than the backup's "
                f"{need.fingerprint.server_version}",
                hint="Run restore tests where it is as new.",
            )
        needs.require_room(need, self._home, self._disk << 20 if self._disk else None)
        mark = marks.write(self._home, need.id, need.deadline, KIND, self._region)
        mark = replace(mark, boundary=BOUNDARY, server_version=sqlite3.sqlite_version)
        marks.rewrite(self._home, mark)
        folder = self._home / need.id
        try:
            folder.mkdir(mode=0o700)
        except OSError:
            marks.remove(self._home, need.id)
            raise
        target = Source(f"sqlite://{folder}/scratch.db")
        return FolderGround(self._home, _place(mark), target, self._clock)

    def sweep(self, now: datetime) -> list[Place]:
        """See the port."""
        marks.tidy(self._home, now)
        return [
            _destroy(self._home, _place(mark), self._clock)
            for mark in list(marks.found(self._home))
            if mark.kind == KIND and mark.over(now)
        ]


def _destroy(home: Path, place: Place, clock: Clock) -> Place:
    folder = home / place.id
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        return replace(place, proof=(f"the folder of {place.id} is still there",))
    marks.remove(home, place.id)
    return replace(place, destroyed_at=clock.now(), proof=("its folder is gone",))


def _place(mark: Mark) -> Place:
    return Place(mark.id, KIND, mark.region, mark.server_version, mark.boundary)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
