"""Backup and restore against the pipelines that one would write by hand.

    eval "$(localstack/up postgres)"; python tests/bench/data_path.py --mib 1300 --rounds 3

Baselines and ours run in turn, on the same data, server and S3 endpoint (a light one, over
TLS, whose own cost is in nobody's figures). Trust the ratios rather than the seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from measure import MIB, Cost, measured, server_cpu_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
AWS = ROOT / "localstack" / ".cache" / "awscli" / "bin" / "aws"
SOURCE, TARGET = "bench_source", "bench_target"

PIPE, TUNED, OURS = "(a) pg_dump -Fc, age, aws", "(a2) pg_dump -Z0, zstd, age, aws", "ours"

TARGETS = {
    ("backup", "wall", PIPE): 0.25,
    ("backup", "wall", TUNED): 0.95,
    ("restore", "wall", TUNED): 1.0,
}
"""What ours may take as a share of a baseline's, at full size."""
ROWS = {
    "mixed": {"events": 1900, "documents": 420, "measures": 900},
    "narrow": {"events": 1400, "documents": 420, "measures": 3600},
}
"""Rows per MiB of each table. `mixed`: jsonb and text in most rows, some 330 bytes a row;
`narrow`: two rows of three hold numbers only, some 190 bytes a row."""
PEAKS = {"backup": 250.0, "restore": 400.0}
"""Most MiB of the process tree, whatever the size."""


@dataclass(frozen=True)
class Row:
    job: str
    what: str
    cost: Cost
    stored_mib: float


@dataclass(frozen=True)
class Bench:
    """The places and keys that all pipelines share."""

    server: str
    folder: Path
    endpoint: str
    environment: dict[str, str]
    recipient: str
    identity: Path
    server_cpu: Callable[[], float]

    def database(self, name: str) -> str:
        return urlsplit(self.server)._replace(path=f"/{name}").geturl()

    def aws(self, *words: str) -> list[str | Path]:
        return [AWS, "--endpoint-url", self.endpoint, "s3", "cp", "--only-show-errors", *words]

    def stored(self) -> float:
        files = (self.folder / "objects").iterdir()
        return sum(file.stat().st_size for file in files) / MIB

    def run(self, *pipeline: list[str | Path]) -> Cost:
        return measured(pipeline, self.environment, self.server_cpu)

    def backups(self, *words: str) -> list[str | Path]:
        command = Path(sys.executable).with_name("backups")
        return [command, "--home", self.folder / "home", *words]


# --- the pipelines --------------------------------------------------------------------


def pipe_backup(bench: Bench) -> Cost:
    return bench.run(
        ["pg_dump", "-Fc", bench.database(SOURCE)],
        ["age", "-r", bench.recipient],
        bench.aws("-", "s3://bench/pipe.age"),
    )


def tuned_backup(bench: Bench) -> Cost:
    return bench.run(
        ["pg_dump", "-Fc", "-Z0", bench.database(SOURCE)],
        ["zstd", "-3", "-q"],
        ["age", "-r", bench.recipient],
        bench.aws("-", "s3://bench/tuned.age"),
    )


def our_backup(bench: Bench) -> Cost:
    return bench.run(bench.backups("run", "bench", "--json"))


def pipe_restore(bench: Bench) -> Cost:
    return bench.run(
        bench.aws("s3://bench/pipe.age", "-"),
        ["age", "-d", "-i", bench.identity],
        ["pg_restore", "--exit-on-error", "-d", bench.database(TARGET)],
    )


def tuned_restore(bench: Bench) -> Cost:
    return bench.run(
        bench.aws("s3://bench/tuned.age", "-"),
        ["age", "-d", "-i", bench.identity],
        ["zstd", "-d", "-q"],
        ["pg_restore", "--exit-on-error", "-d", bench.database(TARGET)],
    )


def our_restore(bench: Bench) -> Cost:
    return bench.run(
        bench.backups("restore", "bench", "--to", bench.database(TARGET), "--json")
    )


def fingerprint_alone(bench: Bench) -> Cost:
    return bench.run(
        ["pg_dump", "-Fc", "-Z0", bench.database(SOURCE)],
        [sys.executable, HERE / "fingerprint.py"],
    )


BACKUPS = {PIPE: pipe_backup, TUNED: tuned_backup, OURS: our_backup}
RESTORES = {PIPE: pipe_restore, TUNED: tuned_restore, OURS: our_restore}


def run_all(bench: Bench, rounds: int, slow: bool) -> Iterator[Row]:
    for job, pipelines in (("backup", BACKUPS), ("restore", RESTORES)):
        for _ in range(rounds):
            for what, pipeline in pipelines.items():
                if what == PIPE and not slow:
                    continue
                if job == "restore":
                    fresh(bench, TARGET, create=what != OURS)  # ours makes it
                before = bench.stored()
                cost = pipeline(bench)
                yield Row(job, what, cost, bench.stored() - before)
    fresh(bench, TARGET, create=False)
    yield Row("fingerprint", "by itself, over pg_dump -Z0", fingerprint_alone(bench), 0.0)


# --- the set-up -----------------------------------------------------------------------


@contextmanager
def prepared(server: str, mib: int, rows: str = "mixed") -> Iterator[Bench]:
    """A source database, an S3 endpoint, keys and a fleet; all gone in the end."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        sink = subprocess.Popen(
            [sys.executable, HERE / "sink.py", folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert sink.stdin is not None
        assert sink.stdout is not None
        try:
            endpoint, authority = sink.stdout.readline().split()
            environment = {
                **os.environ,
                "AWS_CA_BUNDLE": authority,
                "AWS_ACCESS_KEY_ID": "bench",
                "AWS_SECRET_ACCESS_KEY": "bench",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
            }
            identity = folder / "identity"
            subprocess.run(["age-keygen", "-o", identity], check=True, capture_output=True)
            recipient = subprocess.check_output(["age-keygen", "-y", identity], text=True)
            bench = Bench(
                server, folder, endpoint, environment, recipient.strip(), identity,
                server_cpu_of(postmaster(server)),
            )  # fmt: skip
            fresh(bench, SOURCE, create=True)
            sql = (HERE / "data.sql").read_text().replace("{mib}", str(mib))
            for table_name, count in ROWS[rows].items():
                sql = sql.replace(f"{{{table_name}}}", str(count))
            psql = ["psql", "-q", "--set", "ON_ERROR_STOP=1", bench.database(SOURCE)]
            subprocess.run(psql, input=sql, text=True, check=True)
            enrol(bench)
            yield bench
            fresh(bench, SOURCE, create=False)
        finally:
            sink.stdin.close()
            sink.wait()


def enrol(bench: Bench) -> None:
    fleet = {
        "plans": {"pro": {"retention_days": 30}},
        "customers": [
            {
                "id": "bench",
                "plan": "pro",
                "stores": [{"url": f"s3://bench/ours?endpoint={bench.endpoint}"}],
                "recipients": [bench.recipient],
                "databases": [
                    {"id": "bench", "engine": "postgresql", "url": bench.database(SOURCE)}
                ],
            }
        ],
    }
    path = bench.folder / "fleet.yaml"
    path.write_text(json.dumps(fleet))  # JSON is YAML
    for words in (["init"], ["apply", str(path)]):
        subprocess.run(
            bench.backups(*words), env=bench.environment, check=True, stdout=subprocess.DEVNULL
        )


def fresh(bench: Bench, name: str, *, create: bool) -> None:
    with psycopg.connect(bench.server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute("CHECKPOINT")
        if create:
            connection.execute(f"CREATE DATABASE {name}")


def postmaster(server: str) -> int:
    with psycopg.connect(server) as connection:
        row = connection.execute("SELECT current_setting('data_directory')").fetchone()
    assert row is not None
    return int((Path(row[0]) / "postmaster.pid").read_text().split()[0])


# --- the result -----------------------------------------------------------------------


def median(rows: list[Row], job: str, what: str, figure: str) -> float | None:
    found = [getattr(row.cost, figure) for row in rows if (row.job, row.what) == (job, what)]
    return statistics.median(found) if found else None


def table(rows: list[Row]) -> str:
    head = ["", "wall s", "CPU s", "server CPU s", "peak MiB", "largest file MiB", "stored MiB"]
    lines = []
    for job, what in dict.fromkeys((row.job, row.what) for row in rows):
        figures = ("wall", "cpu", "server_cpu", "peak_mib", "file_mib")
        stored = [row.stored_mib for row in rows if (row.job, row.what) == (job, what)]
        values = [median(rows, job, what, figure) for figure in figures]
        cells = [f"{value:.2f}" for value in [*values, statistics.median(stored)]]
        lines.append([f"{job}: {what}", *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * 7, *lines])


def verdicts(rows: list[Row]) -> list[tuple[str, float, float]]:
    """What is asked, what was measured, and the most it may be."""
    found = []
    for (job, figure, baseline), most in TARGETS.items():
        ours, theirs = (median(rows, job, what, figure) for what in (OURS, baseline))
        if ours is not None and theirs:
            found.append((f"{job}: {figure} as a share of {baseline}", ours / theirs, most))
    for job, most in PEAKS.items():
        found.append((f"{job}: peak MiB", median(rows, job, OURS, "peak_mib") or 0, most))
    return found


def share(rows: list[Row]) -> str:
    """Of our backup's CPU time, server included, how much the fingerprint is."""
    (alone,) = (json.loads(row.cost.output) for row in rows if row.job == "fingerprint")
    whole = sum(median(rows, "backup", OURS, figure) or 0 for figure in ("cpu", "server_cpu"))
    cpu = alone["fingerprint_cpu_seconds"]
    return (
        f"fingerprint: {cpu} CPU s for {alone['rows']:,} rows, {cpu / whole:.0%} of the backup"
    )


def told(rows: list[Row]) -> str:
    """What our own runs say about themselves, timings among it."""
    said = [json.loads(row.cost.output) for row in rows if row.what == OURS]
    return "\n".join(json.dumps(one) for one in said)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mib", type=int, default=1300, help="size of the data as COPY text")
    parser.add_argument("--rows", choices=ROWS, default="mixed")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--no-slow", action="store_true", help="leave out the zlib baseline")
    parser.add_argument("--server", default=os.environ.get("BACKUPS_TEST_PG_15"))
    args = parser.parse_args()
    if not args.server:
        parser.error('name a --server, or eval "$(localstack/up postgres)" first')
    for tool in ("pg_dump", "age", "zstd", AWS):
        if not shutil.which(tool):
            parser.error(f"{tool} is missing: run localstack/setup bench")
    rows: list[Row] = []
    with prepared(args.server, args.mib, args.rows) as bench:
        for row in run_all(bench, args.rounds, not args.no_slow):
            rows.append(row)
            print(f"{row.job}: {row.what}: {row.cost.wall:.2f} s", file=sys.stderr, flush=True)
    print(table(rows))
    for what, found, most in verdicts(rows):
        print(f"{'ok  ' if found <= most else 'MISS'} {what}: {found:.3g} (at most {most:g})")
    print(share(rows))
    print(told(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
