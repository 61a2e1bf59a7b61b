"""The demonstration's steps; `localstack/demo` prepares what they need."""

from __future__ import annotations

# ruff: noqa: TID251  (a demonstration reads the time)
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import psycopg
from botocore.config import Config
from rich.console import Console

from backups.entropy import SystemEntropy
from backups.format.age import Identity

HERE = Path(__file__).resolve().parent
BUCKET = "acme-backups"
console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Places:
    """Where the demonstration's servers and files are."""

    server: str
    tools: Path
    endpoint: str
    folder: Path

    def database(self, name: str) -> str:
        return urlsplit(self.server)._replace(path=f"/{name}").geturl()

    @property
    def identity(self) -> Path:
        return self.folder / "acme.identity"


def main() -> int:
    started = time.monotonic()
    timings: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="backups-demo-") as folder:
        server, tools = postgres()
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{tools}:{os.environ['PATH']}"
        os.environ["BACKUPS_HOME"] = f"{folder}/home"
        places = Places(server, tools, os.environ["BACKUPS_TEST_S3_ENDPOINT"], Path(folder))

        with step("A customer's database: a small shop", timings):
            make_shop(places)
        with step("A home for the orchestrator, and the fleet it looks after", timings):
            enrol(places)
        with step("Back up: one snapshot, compressed, encrypted, signed", timings):
            backups("run", "shop")
        with step("What lies in the customer's bucket", timings):
            show_bucket(places)
        with step("The accident", timings):
            drop_table(places)
        with step("Which backups are there?", timings):
            backups("list")
        with step("Restore into a new database, beside the damaged one", timings):
            backups("restore", "shop", "--to", places.database("shop_restored"))
        with step("Damaged and restored, side by side", timings):
            compare(places)
        with step("What is in it, and how to recover it without this program", timings):
            backups("show", "shop")

    console.rule("[bold]How long it took")
    for title, seconds in timings:
        console.print(f"{seconds:7.1f} s  {title}")
    console.print(f"{time.monotonic() - started:7.1f} s  [bold]all of it[/]")
    return 0


# --- the steps ------------------------------------------------------------------------


def make_shop(places: Places) -> None:
    with psycopg.connect(places.server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")
    url = places.database("shop")
    psql = [places.tools / "psql", "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1"]
    load = [*psql, "--single-transaction", "--file", HERE / "sample.sql", url]
    subprocess.run(load, check=True, stdout=subprocess.DEVNULL)
    with psycopg.connect(url) as connection:
        (version,) = row(connection, "SHOW server_version")
        (size,) = row(connection, "SELECT pg_size_pretty(pg_database_size('shop'))")
        (rows,) = row(connection, "SELECT sum(n_live_tup) FROM pg_stat_user_tables")
    console.print(
        f"{rows:,} rows, {size}, PostgreSQL {version}: foreign keys, jsonb, a partitioned "
        "table,\nviews, a sequence, an enum, functions, a trigger, two large objects"
    )


def enrol(places: Places) -> None:
    client = s3(places)
    client.create_bucket(Bucket=BUCKET)
    identity = Identity.generate(SystemEntropy())
    places.identity.touch(mode=0o600)
    places.identity.write_text(identity.reveal() + "\n")
    fleet = places.folder / "fleet.yaml"
    fleet.write_text(f"""\
plans:
  pro: {{retention_days: 30}}
customers:
  - id: acme
    plan: pro
    stores:
      - url: s3://{BUCKET}/bloomneo?region=us-east-1&endpoint={places.endpoint}
    recipients: [{identity.recipient}]
    databases:
      - id: shop
        engine: postgresql
        url: {places.database("shop")}
""")
    backups("init")
    console.print(f"\n{fleet.read_text()}", markup=False, style="dim")
    backups("apply", str(fleet))


def show_bucket(places: Places) -> None:
    client = s3(places)
    for item in client.list_objects_v2(Bucket=BUCKET)["Contents"]:
        console.print(f"{item['Size']:>12,}  {item['Key']}", markup=False)
        if item["Key"].endswith(".age"):
            segment = item["Key"]
    head = client.get_object(Bucket=BUCKET, Key=segment, Range="bytes=0-20")["Body"].read()
    console.print(f"A segment begins with {head!r}: only an identity opens it.")


def drop_table(places: Places) -> None:
    statement = "DROP TABLE shop.payments"
    console.print(f"[bold red]{statement};[/]")
    with psycopg.connect(places.database("shop")) as connection:
        connection.execute(statement)


def compare(places: Places) -> None:
    tables = ("shop.customers", "shop.products", "shop.orders", "shop.order_lines")
    for table in (*tables, "shop.payments", "audit.changes"):
        counts = [rows_of(places.database(name), table) for name in ("shop", "shop_restored")]
        console.print(f"{table:<18}", *(f"{count:>10}" for count in counts))
    console.print(
        "Every table's rows and content hash, and the schema, were compared with the\n"
        "fingerprint taken in the dump's own snapshot: [bold green]equal[/]. "
        "Else the copy would not have its name."
    )


# --- helpers --------------------------------------------------------------------------


@contextmanager
def step(title: str, timings: list[tuple[str, float]]) -> Iterator[None]:
    console.print()
    console.rule(f"[bold]{len(timings) + 1}. {title}", align="left")
    started = time.monotonic()
    yield
    timings.append((title, time.monotonic() - started))
    console.print(f"[dim]{timings[-1][1]:.1f} s[/]")


def backups(*words: str) -> None:
    """Run the command as a person would."""
    console.print(f"[bold cyan]$ backups {shlex.join(words)}[/]")
    done = subprocess.run(["backups", *words], check=False)
    if done.returncode:
        sys.exit(f"backups {words[0]} failed with exit code {done.returncode}")


def postgres() -> tuple[str, Path]:
    """URL and tools of the server that was started."""
    name = next(key for key in os.environ if re.fullmatch(r"BACKUPS_TEST_PG_\d+", key))
    return os.environ[name], Path(os.environ[f"{name}_BIN"])


def s3(places: Places) -> Any:
    path_style = Config(s3={"addressing_style": "path"})
    return boto3.client("s3", endpoint_url=places.endpoint, config=path_style)


def row(connection: psycopg.Connection[Any], query: str) -> tuple[Any, ...]:
    found = connection.execute(query).fetchone()
    assert found is not None
    return found


def rows_of(url: str, table: str) -> str:
    with psycopg.connect(url) as connection:
        if row(connection, f"SELECT to_regclass('{table}') IS NULL")[0]:
            return "gone"
        return f"{row(connection, f'SELECT count(*) FROM {table}')[0]:,}"


if __name__ == "__main__":
    sys.exit(main())
