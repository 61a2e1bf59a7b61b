"""Processes of a folder: started, awaited, found and ended by the log that they write to."""

from __future__ import annotations

# ruff: noqa: TID251  (these scripts run before the project exists)
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

now = time.monotonic
AS_ROOT = os.geteuid() == 0
WAIT = 60.0
"""Seconds that a server may take to start."""


POSTGRES = ("postgres", "ld-linux-x86-64")
"""What its processes are called: by themselves, and through a loader of their own."""


def spawn(
    command: list[str | Path], folder: Path, environment: dict[str, str], **as_user: Any
) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one; it works in the folder and logs there."""
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True, **as_user,
        )  # fmt: skip


def await_ready(what: str, folder: Path, seconds: float, ready: Callable[[], bool]) -> None:
    limit = now() + seconds
    while not ready():
        if now() > limit or not processes(folder):
            give_up(what, folder)
        time.sleep(0.02)


def give_up(what: str, folder: Path) -> NoReturn:
    log = (folder / "log").read_text(errors="replace")[-3000:]
    sys.exit(f"localstack/up: {what} did not start:\n{log}")


def processes(folder: Path) -> list[int]:
    """Ids of all processes whose stderr is a file below the folder: what `spawn` started,
    and what came of it; never a person's shell that happens to stand there."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            log = (entry / "fd" / "2").readlink()
        except OSError:  # it ended, or belongs to somebody else
            continue
        if folder in log.parents:
            found.append(int(entry.name))
    return found


def end(folder: Path) -> None:
    """End every process of the folder."""
    for pid in processes(folder):
        # PostgreSQL gives its shared memory back on SIGQUIT; its data is thrown away anyway.
        name = command_name(pid)
        send(pid, signal.SIGQUIT if name in POSTGRES else signal.SIGKILL)
    limit = now() + 5
    while (left := processes(folder)) and now() < limit:
        time.sleep(0.02)
    for pid in left:
        send(pid, signal.SIGKILL)


def command_name(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "comm").read_text().strip()
    except OSError:
        return ""


def send(pid: int, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, what)
