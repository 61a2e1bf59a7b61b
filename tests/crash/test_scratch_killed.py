"""Killed at every step, no scratch place survives a sweep: nothing runs, nothing lies there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg
import pytest
from scratch_kit import (
    CLOCK,
    EMPTY,
    ground_of,
    in_database,
    need,
    private,
    short_folder,
    traces,
)

from backups.engines.registry import open_engine
from backups.entropy import SystemEntropy
from backups.model import RestoreOptions, Source
from verify.scratch.boundary import Boundary, choose_user
from verify.scratch.configured import MARKING, ConfiguredServer
from verify.scratch.private import PrivateServers
from verify.scratch.processes import inside

pytestmark = pytest.mark.postgres

EXPECTED = replace(EMPTY, roles=("stranger",))

STEPS = [
    "call write",  # of the mark
    "return write",
    "return _lay_out",
    "call make",  # of the cluster
    "after 0.15 s",  # inside initdb
    "after 0.3 s",
    "return make",
    "return start",
    "return await_ready",
    "call require",
    "return acquire",
    "call end",  # of its processes, when it is destroyed
    "call _remove",
    "return _remove",
]


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def servers(folder: Path, kind: Any = None) -> PrivateServers:
    found = private(folder)
    if kind:
        found._strongest = Boundary(kind, *choose_user())
    return found


def killed(step: str, work: Callable[[], None]) -> None:
    """Does `work` in a process that is killed at `step`."""
    event, name = step.split()[:2]

    def profile(frame: FrameType, what: str, _: object) -> None:
        inside = "/verify/scratch/" in frame.f_code.co_filename
        if inside and what == event and frame.f_code.co_name == name:
            os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        try:
            if event == "after":
                signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the kernel's end of it
                signal.setitimer(signal.ITIMER_REAL, float(name))
            else:
                sys.setprofile(profile)
            work()
        finally:
            os._exit(3)  # it was not killed
    status = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(status) in (-signal.SIGKILL, -signal.SIGALRM), step


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        *((None, step) for step in STEPS),
        ("unshare", "after 0.2 s"),
        ("unshare", "return acquire"),
        ("plain", "after 0.2 s"),
        ("plain", "return acquire"),
    ],
)
def test_a_private_server_is_swept(kind: str | None, step: str, folder: Path) -> None:
    scratch = servers(folder, kind)
    killed(step, lambda: print(scratch.acquire(need(EXPECTED)).destroy()))
    if kind != "plain" and step in ("return await_ready", "return acquire"):
        until = CLOCK.monotonic() + 20
        while inside(folder) and CLOCK.monotonic() < until:  # the kernel ends all of it
            CLOCK.sleep(0.01)
        assert not inside(folder)
    swept = scratch.sweep(CLOCK.now())
    assert traces(folder) == []
    begun = step != "call write" and (not step.startswith("after") or swept)  # or not yet
    assert len(swept) == bool(begun)
    assert all(place.destroyed_at for place in swept)


def test_a_scratch_database_is_swept(folder: Path) -> None:
    """With the roles that came with it, though its deadline is far."""
    with short_folder() as other, ground_of(private(other), need()) as operators:
        admin_url = in_database(operators.target, "postgres")
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute(MARKING)
            archive = subprocess.run(
                ["pg_dump", "-Fc", "-Z0", admin_url], check=True, capture_output=True
            ).stdout
            before = contents(admin)
            scratch = ConfiguredServer(Source(admin_url), tuple, folder, "", CLOCK)

            def restore() -> None:
                ground = scratch.acquire(need(EXPECTED))
                engine = open_engine("postgresql", CLOCK, SystemEntropy())
                with engine.restore(ground.target, RestoreOptions()) as restoration:
                    restoration.load(EXPECTED, lambda _: iter([archive]), kill_at_indexes)

            def kill_at_indexes(doing: str, *_: object) -> None:
                if doing.startswith("building indexes"):  # the copy is there by then
                    os.kill(os.getpid(), signal.SIGKILL)

            killed("in restoring", restore)
            assert len(contents(admin)) == len(before) + 2  # the copy, and a role
            [swept] = scratch.sweep(CLOCK.now())
            assert swept.destroyed_at
            assert contents(admin) == before
            assert not list(scratch._home.glob("*.json"))


def contents(admin: psycopg.Connection[Any]) -> set[str]:
    query = "SELECT datname FROM pg_database UNION ALL SELECT rolname FROM pg_roles"
    return {row[0] for row in admin.execute(query)}
