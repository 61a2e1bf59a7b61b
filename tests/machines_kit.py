"""Machines that share a catalog: each a process group of its own, with a home of its own and
the keys of its roles; and a PostgreSQL for the catalog that a test may restart."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo
from scratch_kit import short_folder

from backups.clock import SystemClock
from backups.errors import BackupsError

HERE = Path(__file__).parent
TICK = 0.2
CLOCK = SystemClock()


def main(home: str, command: str, roles: str) -> None:
    """What `serve` and `worker` do, with a quicker tick."""
    from backups import wiring
    from backups.cli.working import speaker
    from backups.schedule import plan, serve
    from backups.wiring.serving import serving, working

    plan.SOON = timedelta(seconds=5)  # type: ignore[assignment]
    serve.TICK = TICK  # type: ignore[assignment]  # the package takes it as it is
    chosen = tuple(role for role in roles.split(",") if role != "none")
    with wiring.opened(home, roles=chosen) as app:  # type: ignore[arg-type]
        how = serving if command == "serve" else working
        say = speaker(app.clock, "text")
        with how(app, say, chosen) as ports, serve.stop_signals() as stop:  # type: ignore[arg-type]
            serve.serve(ports, stop)


class Machine:
    """One `serve` or `worker` with all its processes."""

    def __init__(self, home: Path, command: str, roles: str) -> None:
        self.said: list[str] = []
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import machines_kit, sys; machines_kit.main(*sys.argv[1:])",
             str(home), command, roles],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, env={**os.environ, "PYTHONPATH": str(HERE)},
        )  # fmt: skip
        self._reader = threading.Thread(target=self._listen)
        self._reader.start()

    def _listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.said.append(line.rstrip())

    def has_said(self, words: str) -> bool:
        return any(words in line for line in list(self.said))

    def signal(self, number: signal.Signals) -> None:
        """To all its processes, as what befalls a machine does."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self._closed()

    def end(self) -> int:
        """A stop that was asked for; its exit code."""
        self.thaw()
        self.process.terminate()
        self._closed()
        return self.process.returncode

    def _closed(self) -> None:
        self.process.wait(90)
        self._reader.join()
        if self.process.stdout:
            self.process.stdout.close()


@contextmanager
def running() -> Iterator[Callable[[Path, str, str], Machine]]:
    """Starts machines; whatever is left of them ends with the block."""
    started: list[Machine] = []

    def start(home: Path, command: str, roles: str) -> Machine:
        started.append(Machine(home, command, roles))
        return started[-1]

    try:
        yield start
    finally:
        for machine in started:  # which is shown when a test fails
            print(f"--- {machine.home.name}", *machine.said[-40:], sep="\n")
        for machine in started:
            if machine.process.poll() is None:
                machine.thaw()
            machine.kill()


def past_window() -> str:
    """Hours that are over on this very day, wherever it is noon now."""
    ahead = 12 - CLOCK.now().hour
    return f"00:00-00:10 Etc/GMT{-ahead:+d}"


def until(happened: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Look again and again, also through a catalog that is out of reach for a while."""
    limit = CLOCK.monotonic() + seconds
    while True:
        with suppress(BackupsError):
            if happened():
                return
        assert CLOCK.monotonic() < limit, f"in vain waited for: {what}"
        threading.Event().wait(0.05)


class CatalogServer:
    """A PostgreSQL of its own that is stopped and started as a test asks."""

    def __init__(self, tools: Path, folder: Path) -> None:
        self.folder = folder
        self._tools = tools
        self._user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self._user:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
            folder.chmod(0o755)
        self._run("initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "--no-sync")
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.folder}&port=5432"

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c max_connections=80 -c fsync=off"
        self._run("pg_ctl", "-w", "-D", self.folder / "data", "-l", self.folder / "log",
                  "-o", options, "start")  # fmt: skip

    def stop(self, how: str = "immediate") -> None:
        self._run("pg_ctl", "-w", "-D", self.folder / "data", "-m", how, "stop")

    def cut_off(self, pids: list[int]) -> None:
        """End these sessions."""
        with psycopg.connect(make_conninfo(self.url), autocommit=True) as connection:
            for pid in pids:
                connection.execute("SELECT pg_terminate_backend(%s)", [pid])

    def _run(self, tool: str, *argv: object) -> None:
        as_user = (
            {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
            if self._user
            else {}
        )
        subprocess.run(
            [self._tools / tool, *map(str, argv)],
            check=True, stdout=subprocess.DEVNULL, cwd=self.folder,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"}, **as_user,
        )  # fmt: skip


@contextmanager
def catalog_server() -> Iterator[CatalogServer]:
    """Gone with the block."""
    with short_folder() as folder:
        server = CatalogServer(Path(os.environ["BACKUPS_TEST_PG_15_BIN"]), folder)
        try:
            yield server
        finally:
            with suppress(subprocess.CalledProcessError):
                server.stop()
            shutil.rmtree(folder / "data", ignore_errors=True)
