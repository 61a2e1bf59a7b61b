"""A restore test against the restore that it contains.

    eval "$(localstack/up postgres)"; python tests/bench/verification.py --mib 2048

The baseline is `backups restore` of the same backup, comparison included, into the server that
`localstack/up` made. Ours is `backups verify run`, all of it: the server made, every check, the
server destroyed. Peaks are of our processes and the tools, not of PostgreSQL's servers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import dataclass

from data_path import Bench, fresh, prepared
from measure import Cost

BASELINE, OURS = "restore alone, compared", "restore test"
MOST_RATIO, MOST_PEAK = 1.5, 300.0
TARGET = "bench_target"


@dataclass(frozen=True)
class Measured:
    """Of one size."""

    mib: int
    restore: Cost
    drill: Cost

    @property
    def ratio(self) -> float:
        return self.drill.wall / self.restore.wall


def measure(bench: Bench, mib: int) -> Measured:
    bench.run(bench.backups("run", "bench", "--json"))
    fresh(bench, TARGET, create=False)
    restore = bench.run(
        bench.backups("restore", "bench", "--to", bench.database(TARGET), "--json")
    )
    fresh(bench, TARGET, create=False)
    return Measured(mib, restore, bench.run(bench.backups("verify", "run", "bench", "--json")))


def told(found: Measured) -> str:
    said = json.loads(found.drill.output)
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in said["phases"].items())
    return "\n".join(
        [
            "| | wall s | CPU s | peak MiB |",
            "|---|---|---|---|",
            *(
                f"| {name} | {cost.wall:.1f} | {cost.cpu:.1f} | {cost.peak_mib:.0f} |"
                for name, cost in ((BASELINE, found.restore), (OURS, found.drill))
            ),
            f"{said['verdict']} at level {said['level']}; {phases}",
            f"{'ok  ' if found.ratio <= MOST_RATIO else 'MISS'} {found.ratio:.2f} of the "
            f"restore alone (at most {MOST_RATIO})",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mib", type=int, default=2048, help="size of the data as COPY text")
    parser.add_argument("--server", default=os.environ.get("BACKUPS_TEST_PG_15"))
    args = parser.parse_args()
    if not args.server:
        parser.error('name a --server, or eval "$(localstack/up postgres)" first')
    if not shutil.which("age"):
        parser.error("age is missing: run localstack/setup bench")
    with prepared(args.server, args.mib) as bench:
        print(told(measure(bench, args.mib)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
