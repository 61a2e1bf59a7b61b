"""One run per database on this machine: an advisory lock that dies with its process."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backups.errors import Busy


@contextmanager
def exclusive(folder: Path, database: str) -> Iterator[None]:
    """Hold `database` until the block ends. Raises Busy when another process holds it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / f"{database}.lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"a run of {database} is under way already") from None
        yield
