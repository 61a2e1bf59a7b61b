"""What the tests of the PostgreSQL engine share."""

from __future__ import annotations

import difflib
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from backups.clock import SystemClock
from backups.engines.postgres.canonical import canonical
from backups.engines.postgres.tools import choose
from backups.engines.registry import open_engine
from backups.entropy import SystemEntropy
from backups.format.fingerprint import differences
from backups.model import Fingerprint, RestoreOptions, Source

ENGINE = open_engine("postgresql", SystemClock(), SystemEntropy())
RICH = (Path(__file__).parent / "contract" / "rich.sql").read_text()
EVIL = [
    "dbname=template1 host=evil.invalid",
    "postgresql://evil.invalid/x?sslmode=disable",
    'it\'s "quoted" \\ back',
    "line\nbreak\t--; DROP",
    "größe \N{SNOWMAN} %41",
    "../../etc/passwd",
    "x" * 63,
    "ü" * 31,
]

Make = Callable[..., str]
Taken = tuple[dict[str, list[bytes]], Fingerprint]


def silent(what: str, done: int, total: int | None) -> None:
    """No progress to show."""


def url_of(server: str, name: str) -> str:
    head, _, query = server.partition("?")
    return f"{head.rsplit('/', 1)[0]}/{quote(name, safe='')}" + (f"?{query}" if query else "")


def take(url: str) -> Taken:
    with ENGINE.dump(Source(url)) as dump:
        return {name: list(blocks) for name, blocks in dump.artifacts()}, dump.finish()


def give(taken: Taken, url: str, *, jobs: int = 2, create_roles: bool = True) -> list[str]:
    """Restore and publish; returns the differences, in words."""
    artifacts, expected = taken
    options = RestoreOptions(jobs=jobs, create_roles=create_roles)
    with ENGINE.restore(Source(url), options) as restoration:
        written = restoration.load(expected, lambda name: iter(artifacts[name]), silent)
        found = [str(item) for item in differences(written.expected, restoration.fingerprint())]
        restoration.publish()
    return found + [f"{each.subject}: {each.reason}" for each in written.exceptions]


def plain(url: str, major: int) -> list[str]:
    """pg_dump's own text, without what differs in any two runs; lines sorted."""
    said = subprocess.run(
        [choose(major).path("pg_dump"), "--dbname", url], capture_output=True, check=True
    ).stdout.decode()
    lines = [
        canonical(line)
        for line in said.split("\n")
        if not re.match(r"--|\\(un)?restrict|SELECT pg_catalog.setval", line)
    ]
    return sorted(lines)


def assert_same(text: list[str], copied: list[str]) -> None:
    changed = "\n".join(difflib.unified_diff(text, copied, lineterm="", n=0))
    assert changed == "", changed


def databases(server: str, of: str) -> set[str]:
    """Those whose name begins so: others work on the same server at the same time."""
    with psycopg.connect(server) as connection:
        names = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
    return {name for name in names if name.startswith(of)}


def name_of(url: str) -> str:
    return str(conninfo_to_dict(url)["dbname"])


def create(server: str, url: str, more: str = "") -> None:
    """An empty database of that URL; `more` of CREATE DATABASE's words."""
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0 " + more)  # type: ignore[arg-type]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement.format(sql.Identifier(name_of(url))))


def dropped(server: str) -> Iterator[str]:
    name = "copy_" + SystemEntropy().bytes(6).hex()
    yield name
    drop(server, name)


def drop(server: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        connection.execute(statement.format(sql.Identifier(name)))


def children() -> list[int]:
    """Process ids of our own children that run another program: tests may have helpers."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            program = stat.with_name("exe").readlink()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and program != Path("/proc/self/exe").readlink():
            found.append(int(stat.parent.name))
    return found
