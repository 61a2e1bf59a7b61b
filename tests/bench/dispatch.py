"""What it takes to hand out a day's backups through the queue that machines share.

python tests/bench/dispatch.py [--jobs 30000] [--workers 1,2,4,8] [--released 64] [--json]

Wants BACKUPS_TEST_PG_15. One process decides: it plans a fleet of that many databases, all due,
and keeps a few of them in the queue, by the same plan and limits as `serve`. Workers are
processes that take jobs and are done with each after an injected latency; nothing is dumped.
The baseline is the latency alone: what as many places would get through if handing out cost
nothing.
"""

from __future__ import annotations

import argparse
import heapq
import json
import multiprocessing
import os
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import timedelta
from urllib.parse import urlsplit

import planning
import psycopg

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.model import Secret
from backups.queue.shared import SharedQueue
from backups.schedule.choose import Limits
from backups.schedule.jobs import job_of
from backups.schedule.plan import Plan

CLOCK = SystemClock()
PLACES = 4
"""Of each worker."""
LATENCY = 0.1
"""Seconds of each job."""
PAUSE = 0.05
"""Seconds between two looks of who decides."""
LOST_AFTER = 60.0


@dataclass(frozen=True)
class Row:
    workers: int
    jobs: int
    seconds: float
    per_second: float
    per_worker: float
    share: float
    """Of what the latency alone would allow."""
    overhead_ms: float
    """Of a place's time, for each job, beside its latency."""


def work(url: str, over: multiprocessing.synchronize.Event) -> None:
    """Take, wait, be done, until told that it is over."""
    with closing(SharedQueue(Secret(url), LOST_AFTER)) as queue, queue.seat() as seat:
        running: list[tuple[float, str]] = []
        while not over.is_set():
            while len(running) < PLACES and (job := seat.take(["backup"])) is not None:
                heapq.heappush(running, (CLOCK.monotonic() + LATENCY, job.name))
            while running and running[0][0] <= CLOCK.monotonic():
                seat.done(heapq.heappop(running)[1])
            soonest = running[0][0] - CLOCK.monotonic() if running else 0.02
            over.wait(max(0.0, min(soonest, 0.02)))


def run(url: str, jobs: int, workers: int, released: int) -> Row:
    """One day, with as many workers and as many jobs in the queue at once."""
    context = multiprocessing.get_context("spawn")
    over = context.Event()
    now = planning.BEGIN + timedelta(hours=22)
    with closing(SharedQueue(Secret(url), LOST_AFTER)) as queue:
        plan = Plan()
        plan.declare(planning.fleet(jobs), planning.BEGIN)
        plan.ask_all(now)
        limits = Limits(released, PLACES * workers, 64)
        processes = [context.Process(target=work, args=(url, over)) for _ in range(workers)]
        for process in processes:
            process.start()
        ended = 0
        began = None
        while ended < jobs:
            queue.put([job_of(item.database) for item in plan.start(limits, now)])
            open_ = queue.open()
            if began is None and "running" in open_.values():
                began = CLOCK.monotonic()  # workers have come up
            for name in plan.running:
                if name not in open_:
                    plan.ended(name, now, taken=now)
                    ended += 1
            over.wait(PAUSE)
        seconds = CLOCK.monotonic() - (began or 0.0)
        over.set()
        for process in processes:
            process.join()
    places = workers * PLACES
    alone = jobs * LATENCY / places
    return Row(
        workers, jobs, seconds, jobs / seconds, jobs / seconds / workers, alone / seconds,
        1000 * (seconds - alone) * places / jobs,
    )  # fmt: skip


def run_all(server: str, jobs: int, workers: list[int], released: int) -> list[Row]:
    """Each in a database of its own."""
    rows = []
    for count in workers:
        name = "bench_" + SystemEntropy().bytes(4).hex()
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type]
        try:
            rows.append(
                run(urlsplit(server)._replace(path=f"/{name}").geturl(), jobs, count, released)
            )
        finally:
            with psycopg.connect(server, autocommit=True) as admin:
                admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[arg-type]
    return rows


def table(rows: list[Row]) -> str:
    """For people."""
    lines = ["| workers | jobs/s | each worker | of the latency alone | ms a job beside it |",
             "|---|---|---|---|---|"]  # fmt: skip
    lines += [
        f"| {r.workers} | {r.per_second:.0f} | {r.per_worker:.1f} | {r.share:.2f} "
        f"| {r.overhead_ms:.1f} |"
        for r in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=30_000)
    parser.add_argument("--workers", default="1,2,4,8")
    parser.add_argument("--released", type=int, default=64, help="the program's own setting")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    server = os.environ["BACKUPS_TEST_PG_15"]
    rows = run_all(
        server, asked.jobs, [int(each) for each in asked.workers.split(",")], asked.released
    )
    print(json.dumps([asdict(row) for row in rows], indent=2) if asked.json else table(rows))


if __name__ == "__main__":
    main()
