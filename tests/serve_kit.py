"""`serve` as a process of its own, everything of it real but the clock: that one stands still
until the test sets it, so that days go by in seconds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from backups import wiring
from backups.clock import SystemClock

HERE = Path(__file__).parent
TICK = 0.05
"""Seconds of the machine's own time."""


@dataclass(frozen=True)
class FileClock(SystemClock):
    """Shows the time that stands in a file, to the server and to its workers alike; waits as
    the machine does."""

    path: Path

    def set(self, at: datetime) -> None:
        draft = self.path.with_suffix(".new")
        draft.write_text(at.isoformat())
        draft.replace(self.path)

    def now(self) -> datetime:
        return datetime.fromisoformat(self.path.read_text())

    def monotonic(self) -> float:
        return self.now().timestamp()


def main(home: str, clock: str) -> None:
    """What the command does, by another clock, with a word at every tick."""
    from backups.schedule import serve
    from backups.wiring import chores
    from backups.wiring.serving import serving

    serve.TICK = TICK  # type: ignore[assignment]  # the package takes it as it is
    serve.HEARTBEAT = timedelta(0)
    slow = {"reports", "self-test", "posture"}  # days are about backups: these have their own
    chores.CHORES = tuple(chore for chore in chores.CHORES if chore.name not in slow)
    with wiring.opened(home, FileClock(Path(clock))) as app:

        def say(words: str) -> None:
            print(app.clock.now().isoformat(), words, flush=True)

        with serving(app, say) as ports, serve.stop_signals() as stop:
            serve.serve(ports, stop)


class Server:
    """One instance, the leader of its process group."""

    def __init__(self, home: Path, clock: FileClock) -> None:
        self.clock = clock
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import serve_kit, sys; serve_kit.main(*sys.argv[1:])",
             str(home), str(clock.path)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, env={**os.environ, "PYTHONPATH": str(HERE)},
        )  # fmt: skip

    def until(self, words: str) -> None:
        """Hear it say so, from now on."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.said.append(line)
            if words in line:
                return
        raise AssertionError(f"it ended without {words!r}:\n{''.join(self.said[-40:])}")

    def settle(self) -> None:
        """Hear that nothing runs or waits any more, at the time that it is."""
        for _ in range(2):  # the first may have begun before the clock was set
            self.until(f"{self.clock.now().isoformat()} alive: 0 running, 0 waiting")

    def live(self, until: datetime, step: timedelta) -> None:
        """Time goes by, in steps at each of which all that is due is done."""
        while (now := self.clock.now()) < until:
            self.clock.set(min(now + step, until))
            self.settle()

    def kill(self) -> None:
        """kill -9 of the server alone; its workers are to notice."""
        self.process.kill()
        self._closed()

    def kill_all(self) -> None:
        """kill -9 of all its processes at once, as when a machine is lost."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._closed()

    def end(self) -> int:
        """Its exit code, once it came to its end."""
        self._closed()
        return self.process.returncode

    def _closed(self) -> None:
        if self.process.stdout and not self.process.stdout.closed:
            self.said += self.process.stdout  # to the end: nothing of it lives any more
            self.process.stdout.close()
        self.process.wait()
