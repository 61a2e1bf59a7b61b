"""What the tests of scratch places share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.ids import uuid7
from backups.model import Fingerprint, Source
from verify.ports import Ground, Need, Scratch
from verify.scratch.private import Limits, PrivateServers

CLOCK = SystemClock()
SETTINGS = {
    "encoding": "UTF8",
    "collate": "C.UTF-8",
    "ctype": "C.UTF-8",
    "locale provider": "libc",
    "owner": "postgres",
    "public schema": "present",
    "rights": "[]",
}
EMPTY = Fingerprint("postgresql", "15.1", SETTINGS, {}, (), (), (), ())


@contextmanager
def short_folder() -> Iterator[Path]:
    """pytest's own are too long for a socket, and closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="scr-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def need(expected: Fingerprint = EMPTY, *, size: int = 1 << 20, minutes: float = 10) -> Need:
    now = CLOCK.now()
    return Need(
        id=uuid7(now, SystemEntropy().bytes(10)),
        customer="acme",
        engine="postgresql",
        fingerprint=expected,
        plain_bytes=size,
        deadline=now + timedelta(minutes=minutes),
    )


def private(folder: Path, limits: Limits | None = None) -> PrivateServers:
    return PrivateServers(folder, "eu-test-1", limits or Limits(), CLOCK)


@contextmanager
def ground_of(scratch: Scratch, wanted: Need) -> Iterator[Ground]:
    ground = scratch.acquire(wanted)
    try:
        yield ground
    finally:
        ground.destroy()


def in_database(target: Source, name: str) -> str:
    return target.url.replace("/scratch?", f"/{name}?")


def server_folder(target: Source) -> Path:
    """Of a private server: what holds its data and its socket."""
    return Path(parse_qs(urlsplit(target.url).query)["host"][0]).parent


def traces(folder: Path) -> list[str]:
    """All that tells of a scratch server: files below the folder, processes that name it."""
    found = [str(path) for path in folder.glob("backups-scratch-*/*")]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            said = (entry / "cmdline").read_bytes() + os.readlink(entry / "cwd").encode()
        except OSError:
            continue
        if os.fsencode(folder) in said and int(entry.name) != os.getpid():
            found.append(f"{entry.name} {said[:60]!r}")
    return found
