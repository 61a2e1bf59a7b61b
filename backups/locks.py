"""Who may work on a database, on this machine: advisory locks that die with their process."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backups.errors import Busy


@contextmanager
def exclusive(folder: Path, database: str, by: str = "a run") -> Iterator[None]:
    """Hold `database` until the block ends. Raises Busy when another process holds it; `by`
    names what that one then does."""
    with _held(folder, database, fcntl.LOCK_EX, by):
        yield


@contextmanager
def shared(folder: Path, database: str, by: str) -> Iterator[None]:
    """Keep those away who want it for themselves. Raises Busy when one has it."""
    with _held(folder, database, fcntl.LOCK_SH, by):
        yield


@contextmanager
def _held(folder: Path, database: str, kind: int, by: str) -> Iterator[None]:
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / f"{database}.lock").open("a") as handle:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            name = database.partition(".")[0]
            raise Busy(f"{by} of {name} is under way already") from None
        yield
