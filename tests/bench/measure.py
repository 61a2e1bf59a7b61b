"""What a pipeline of processes costs: wall time, CPU, memory, the largest file it writes."""

from __future__ import annotations

# ruff: noqa: TID251  (a benchmark reads the time)
import os
import resource
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    wall: float
    """Seconds from the first process's start to the last one's end."""
    cpu: float
    """CPU seconds of all processes of the pipeline, user and system."""
    server_cpu: float
    """CPU seconds of the database server meanwhile."""
    peak_mib: float
    """The largest sum of PSS over the process tree, as sampled; PSS counts a shared page
    once, where RSS would count it in every process."""
    file_mib: float
    """The largest regular file that a process of the tree had open for writing."""
    output: str
    """What the last process wrote to stdout."""


def measured(
    pipeline: Sequence[Sequence[str | Path]],
    environment: Mapping[str, str],
    server_cpu: Callable[[], float],
) -> Cost:
    """Run processes joined by pipes; raises CalledProcessError when one of them fails."""
    server_before, cpu_before = server_cpu(), children_cpu()
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as output:
        started = time.monotonic()
        for position, argv in enumerate(pipeline):
            last = position == len(pipeline) - 1
            processes.append(
                subprocess.Popen(
                    [str(part) for part in argv],
                    env=dict(environment),
                    stdin=processes[-1].stdout if processes else subprocess.DEVNULL,
                    stdout=output if last else subprocess.PIPE,
                    stderr=errors,
                )
            )
            if position:
                before = processes[-2].stdout
                assert before is not None
                before.close()  # so that a process whose reader dies is told
        with sampled([process.pid for process in processes]) as peaks:
            statuses = [process.wait() for process in processes]
        wall = time.monotonic() - started
        errors.seek(0)
        output.seek(0)
        said = output.read().decode()
        for argv, status in zip(pipeline, statuses, strict=True):
            if status:
                raise subprocess.CalledProcessError(status, argv, said, errors.read().decode())
    return Cost(
        wall,
        children_cpu() - cpu_before,
        server_cpu() - server_before,
        peaks["memory"] / MIB,
        peaks["file"] / MIB,
        said,
    )


def children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def server_cpu_of(postmaster: int) -> Callable[[], float]:
    """CPU seconds of a PostgreSQL server so far: living processes and those it waited for."""

    def total() -> float:
        ticks = 0
        for pid in tree([postmaster]):
            fields = stat_fields(pid)
            ticks += sum(int(n) for n in fields[11:13])
            if pid == postmaster:
                ticks += sum(int(n) for n in fields[13:15])
        return ticks / TICKS

    return total


@contextmanager
def sampled(roots: list[int], interval: float = 0.05) -> Iterator[dict[str, int]]:
    """Peaks over the process tree while the context lasts, in bytes; what a database server
    takes is not in it."""
    peaks = {"memory": 0, "file": 0}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(interval):
            pids = tree(roots)
            ours = (pid for pid in pids if name_of(pid) != "postgres")
            peaks["memory"] = max(peaks["memory"], sum(map(pss, ours)))
            peaks["file"] = max([peaks["file"], *map(largest_file, pids)])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        over.set()
        watcher.join()


def tree(roots: list[int]) -> list[int]:
    """The processes and all that descend from them."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat_fields(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, todo = [], list(roots)
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def stat_fields(pid: int) -> list[str]:
    """Fields of proc(5) stat from the third on; none when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def largest_file(pid: int) -> int:
    largest = 0
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            found = os.stat(f"/proc/{pid}/fd/{fd}")
            if stat.S_ISREG(found.st_mode) and found.st_size > largest:
                flags = Path(f"/proc/{pid}/fdinfo/{fd}").read_text().split()[3]
                if int(flags, 8) & os.O_ACCMODE:
                    largest = found.st_size
    except OSError:  # the process or the descriptor is gone
        pass
    return largest
