"""What it takes to plan a fleet's day, from a thousand databases to a hundred thousand.

python tests/bench/planning.py [--sizes 1000,10000,100000] [--json]

Each size is a process of its own. Measured: the plan made from nothing, as `serve` does when it
starts; then a whole day of it, a look every five seconds where something may be due, each
backup started and ended at once and its database asked again; and one choice among all of them,
as after an outage. The catalog is not in these figures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backups.model import Destination, Plan, Policy
from backups.schedule.choose import Limits
from backups.schedule.plan import Plan as FleetPlan

SIZES = (1_000, 10_000, 100_000)
BEGIN = datetime(2026, 11, 23, tzinfo=UTC)
LOOK = timedelta(seconds=5)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Sydney")


@dataclass(frozen=True)
class Row:
    databases: int
    plan_s: float
    """Making the plan from nothing."""
    day_s: float
    """All looks and all ends of one day."""
    outage_s: float
    """One choice with everything due at once."""
    peak_mib: float
    """Of the whole process, less what it took before it knew any database."""


def fleet(size: int) -> Iterator[Policy]:
    plan = Plan("pro", 30)
    for n in range(size):
        yield Policy(
            f"customer-{n // 20}", f"db-{n}", 1, plan, "postgresql",
            f"postgresql://server-{n // 10}/db", None, (Destination(f"s3://bucket-{n // 20}"),),
            (), window=f"01:00-05:00 {ZONES[n % len(ZONES)]}",
        )  # fmt: skip


def peak_mib() -> float:
    # Not getrusage: that one begins with what the process had before exec.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure(size: int) -> Row:
    before = peak_mib()
    limits = Limits(max(size // 50, 20), 2, 2)
    plan = FleetPlan()
    started = time.perf_counter()
    plan.declare(fleet(size), BEGIN)
    planned = time.perf_counter()
    taken, now = 0, BEGIN
    while now < BEGIN + timedelta(days=1):
        for item in plan.start(limits, now):
            plan.ended(item.database, now, taken=now)
            taken += 1
        after = plan.next()
        now = max(now + LOOK, after) if after and not plan.waiting else now + LOOK
    day = time.perf_counter() - planned
    assert size <= taken <= 2 * size, "everything had its backup"
    del plan
    outage = FleetPlan()
    outage.declare(fleet(size), BEGIN.replace(hour=23))
    chosen = time.perf_counter()
    assert outage.start(limits, BEGIN.replace(hour=23))
    return Row(size, planned - started, day, time.perf_counter() - chosen, peak_mib() - before)


def run_all(sizes: list[int]) -> list[Row]:
    rows = []
    for size in sizes:
        done = subprocess.run(
            [sys.executable, __file__, "--one", str(size)], capture_output=True, check=True
        )
        rows.append(Row(**json.loads(done.stdout)))
    return rows


def table(rows: list[Row]) -> str:
    lines = ["databases   plan s   day s   outage s   peak MiB   us per database"]
    lines += [
        f"{row.databases:9,} {row.plan_s:8.2f} {row.day_s:7.2f} {row.outage_s:10.3f} "
        f"{row.peak_mib:10.1f} {(row.plan_s + row.day_s) / row.databases * 1e6:17.0f}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", type=int)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(asdict(measure(options.one))))
        return
    rows = run_all([int(size) for size in options.sizes.split(",")])
    print(json.dumps([asdict(row) for row in rows]) if options.json else table(rows))


if __name__ == "__main__":
    main()
