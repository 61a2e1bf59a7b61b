"""The command line as a process of its own, forked from one that has read the program already:
all of it is real but for the second that Python takes to import it. With `--full` that too."""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import backups
import providers
import verify

TIMEOUT = 240
"""Seconds that one call may take."""
LIBRARIES = (
    "alembic.command", "azure.identity", "azure.storage.blob", "boto3", "google.cloud.storage",
    "psycopg", "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg",
)  # fmt: skip


forked = True
"""Set by conftest.py."""


def call(argv: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    """What `backups ARGV` printed and ended with. Raises subprocess.TimeoutExpired."""
    if not forked:
        return subprocess.run(
            [sys.executable, "-m", "backups.cli", *argv],
            capture_output=True, text=True, check=False, timeout=TIMEOUT,
            env={**os.environ, **env},
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        out.touch()
        err.touch()
        process = _FORKS.Process(target=_run, args=(argv, {**os.environ, **env}, out, err))
        process.start()
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(argv, TIMEOUT, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(
            argv, process.exitcode, out.read_text(), err.read_text()
        )


def fork(work: Callable[..., None], *args: str) -> int | None:
    """How a process that did `work` ended: its exit code, or minus a signal's number."""
    process = _FORKS.Process(target=work, args=args)
    process.start()
    process.join(TIMEOUT)
    return process.exitcode


def _run(argv: list[str], env: dict[str, str], out: Path, err: Path) -> None:
    os.environ.clear()
    os.environ.update(env)
    for path, descriptor in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = ["backups", *argv]
    from backups.cli import main

    main()


def _ours() -> Iterator[str]:
    for package in (backups, providers, verify):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "migrations" not in module.name and not module.name.endswith("__main__"):
                yield module.name


_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([*LIBRARIES, *_ours(), "sdk_preload"])
