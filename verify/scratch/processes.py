"""What runs in a folder, and its end."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from backups.ports import Clock

PATIENCE = 10.0
"""Seconds in which the kernel takes a killed process away, on the slowest of machines."""
_KIND = 1.0
"""Seconds that a server which was told to end at once has for it."""


def inside(folder: Path) -> list[int]:
    """Processes that work in it. Whatever a server starts begins there; where it has a space
    of processes of its own, that one's first process stays there until the last is gone."""
    marks = (str(folder), f"{folder} (deleted)")
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone, or not ours to look at
            place = os.readlink(entry / "cwd")
            if place in marks or place.startswith(f"{folder}/"):
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def end(folder: Path, clock: Clock, *, gently: bool) -> list[int]:
    """End all of them; returns those that still live. Gently: first as PostgreSQL ends at
    once (SIGQUIT), so that it frees the memory that it shares outside of the folder."""
    if gently:
        _send(folder, signal.SIGQUIT)
        _await(folder, clock, _KIND)
    _send(folder, signal.SIGKILL)
    return _await(folder, clock, PATIENCE)


def _send(folder: Path, what: signal.Signals) -> None:
    for pid in inside(folder):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, what)


def _await(folder: Path, clock: Clock, seconds: float) -> list[int]:
    until = clock.monotonic() + seconds
    while (left := inside(folder)) and clock.monotonic() < until:
        clock.sleep(0.01)
        # What was being started when the others were killed.
        if seconds == PATIENCE:
            _send(folder, signal.SIGKILL)
    return left
