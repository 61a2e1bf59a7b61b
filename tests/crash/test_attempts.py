"""Worker processes that work, fail, hang, die, and outlive their scheduler."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from schedule_kit import POLICY, MemoryCatalog

from backups.clock import SystemClock
from backups.errors import BackupsError, CatalogError
from backups.ports import Progress
from backups.queue.embedded import EmbeddedQueue
from backups.schedule import attempts as module
from backups.schedule import serve
from backups.schedule.attempts import Attempts, Outcome, Patience
from backups.schedule.choose import Limits
from backups.schedule.leader import Leader, LeaderPorts
from backups.schedule.scheduler import Scheduler
from backups.schedule.worker import Worker

CLOCK = SystemClock()
LONG = timedelta(hours=2)
SHORT = timedelta(minutes=30)
HERE = Path(__file__)


def works(database: str, progress: Progress) -> Outcome:
    progress("dumping", 1, None)
    return Outcome(f"{Path(database).name} is done", taken=CLOCK.now())


def hangs(database: str, progress: Progress) -> Outcome:
    try:
        Path(database).touch()
        threading.Event().wait(60)
    except BackupsError as error:
        return Outcome(f"failed: {error}", failed=CLOCK.now())
    return Outcome("it was not ended")


def goes_on(database: str, progress: Progress) -> Outcome:
    try:
        Path(database).touch()
        while True:
            threading.Event().wait(0.02)
            progress("dumping", 1, None)
    except BackupsError as error:
        return Outcome(f"failed: {error}", failed=CLOCK.now())


def is_deaf(database: str, progress: Progress) -> Outcome:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
    Path(database).touch()
    threading.Event().wait(60)
    return Outcome("it was not ended")


def dies(database: str, progress: Progress) -> Outcome:
    os.kill(os.getpid(), signal.SIGKILL)
    return Outcome("it lives")


def breaks(database: str, progress: Progress) -> Outcome:
    raise RuntimeError("a fault of the program")


def mourned(database: str, _began: datetime, words: str) -> Outcome:
    return Outcome(f"mourned: {words}", failed=CLOCK.now())


@dataclass(frozen=True)
class Hurry(SystemClock):
    """An hour ahead from when the worker says by a file that it is at work."""

    file: Path

    def monotonic(self) -> float:
        return super().monotonic() + 3600 * self.file.exists()


def outcome(
    folder: Path,
    work: Callable[[str, Progress], Outcome],
    stall: timedelta = LONG,
    longest: timedelta = LONG,
) -> Outcome:
    name = str(folder / "shop")
    with Attempts(work, Hurry(folder / "shop"), Patience(stall, longest), mourned) as workers:
        workers.start(name)
        while len(workers):
            for database, found in workers.wait(0.1):
                assert database == name
                return found
    raise AssertionError("it came to no outcome")


def test_one_that_works(tmp_path: Path) -> None:
    found = outcome(tmp_path, works)
    assert found.words == "shop is done"
    assert found.taken


def test_without_progress_it_is_ended(tmp_path: Path) -> None:
    assert "no progress" in outcome(tmp_path, hangs, stall=SHORT).words


def test_progress_does_not_help_for_ever(tmp_path: Path) -> None:
    assert "too long" in outcome(tmp_path, goes_on, longest=SHORT).words


def test_who_does_not_hear_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", timedelta(milliseconds=100))
    assert outcome(tmp_path, is_deaf, stall=SHORT).words == (
        "mourned: it made no progress for too long (signal 9)"
    )


def test_one_that_dies_is_mourned(tmp_path: Path) -> None:
    assert outcome(tmp_path, dies).words == "mourned: its process died (signal 9)"


def test_one_that_breaks_is_mourned(tmp_path: Path) -> None:
    assert outcome(tmp_path, breaks).words == "mourned: its process died"


def test_a_stop_ends_all_and_leaving_ends_what_is_left(tmp_path: Path) -> None:
    with Attempts(hangs, CLOCK, Patience(LONG, LONG), mourned) as workers:
        names = [str(tmp_path / name) for name in "ab"]
        for name in names:
            workers.start(name)
        workers.stop()
        ended = []
        while len(workers):
            ended += workers.wait(0.1)
    assert sorted(name for name, _ in ended) == names
    with Attempts(hangs, CLOCK, Patience(LONG, LONG), mourned) as workers:
        workers.start(str(tmp_path / "c"))
    assert len(workers) == 0


class Noon(SystemClock):
    """A time of day at which the backup is due."""

    def now(self) -> datetime:
        return super().now().replace(hour=12)


class Reluctant(MemoryCatalog):
    """Out of reach after the first look at it."""

    looked = 0

    def revision(self) -> str:
        self.looked += 1
        if self.looked > 1:
            raise CatalogError("the catalog is out of reach")
        return super().revision()


def test_serving_outlives_a_catalog_out_of_reach() -> None:
    catalog, said = Reluctant(), list[str]()
    catalog.declare([POLICY])
    with (
        Attempts(works, CLOCK, Patience(LONG, LONG), mourned) as workers,
        closing(serve.Stop()) as stop,
    ):

        def say(words: str) -> None:
            said.append(words)
            if words.startswith("warning"):
                stop.ask()

        queue = EmbeddedQueue(CLOCK, 60)
        leader = Leader(
            LeaderPorts(
                clock=Noon(),
                scheduler=Scheduler(catalog.policies, catalog, Limits(1, 1, 1)),
                queue=queue,
                others=lambda _: [],
                lead=lambda: nullcontext(1),
                renew=lambda _: None,
                lost_after=60,
                say=say,
            )
        )
        with queue.seat() as seat:
            worker = Worker(Noon(), seat, workers, {"backup": 1}, LONG, 10, say)
            serve.serve(serve.Ports(Noon(), leader, worker, say), stop)
    assert said[-3:] == [
        "shop: shop is done", "warning: the catalog is out of reach", "stopped",
    ]  # fmt: skip


ORPHAN = """
import sys
sys.path[:0] = {folders!r}
from test_attempts import *

def tells(database, progress):
    try:
        print(os.getpid(), flush=True)
        threading.Event().wait(60)
    finally:
        print("ended", flush=True)

if __name__ == "__main__":
    workers = Attempts(tells, CLOCK, Patience(LONG, LONG), mourned)
    workers.start("shop")
    while True:
        workers.wait(1.0)
"""


def test_a_worker_does_not_outlive_its_scheduler(tmp_path: Path) -> None:
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN.format(folders=list(map(str, HERE.parents[:2]))))
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        assert int(parent.stdout.readline()) != parent.pid
        parent.kill()
        assert parent.stdout.readline() == "ended\n"
        assert parent.stdout.read() == "", "every process of it is gone"
