"""How long the pages and calls of the API take when there is much to list, on SQLite.

python tests/bench/api_pages.py [--backups 10000] [--json]

One database has all those backups, and a restore test for every thirtieth; nineteen others have
what a plan of ninety days keeps; the audit chain has three records for each backup. Over a
socket of this machine, each address in turn with all others.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml
from sqlalchemy import insert

sys.path.append(str(Path(__file__).parents[1]))
from api_kit import OLD_SECRET, OPERATORS, SECRET, served, settings, token

from backups import wiring
from backups.api.sessions import link
from backups.catalog import tables
from backups.catalog.audit import SqlAudit
from backups.catalog.sql import shallow
from backups.format.audit import digest
from backups.ids import uuid7
from backups.keeping import FIRST, Record
from backups.model import Backup, Destination, Plan, Policy
from backups.proving import Check, Drill, Pick
from backups.wiring import App
from backups.wiring.serving_api import session_key

MOST_MS = 200.0
KEPT = 90
PAGES = ("/", "/databases/db-0", "/databases/db-0?cursor={middle}", "/backups/{middle}")
CALLS = (
    "/v1/databases", "/v1/databases/db-0/backups?limit=200", "/v1/backups/{middle}",
    "/v1/databases/db-0/backups?cursor={middle}", "/v1/databases/db-0/tests", "/v1/events",
    "/feed.json",
)  # fmt: skip
FLEET = ("/", "/fleet")


@dataclass(frozen=True)
class Row:
    address: str
    median_ms: float
    slowest_ms: float
    bytes: int


def days(app: App, count: int) -> Iterator[datetime]:
    now = app.clock.now()
    return (now - timedelta(hours=6 * back + 1) for back in range(count))


def fill(app: App, count: int) -> str:
    """Returns the id of one in the middle."""
    plan = Plan("max", KEPT)
    names = [f"db-{n}" for n in range(20)]
    app.catalog.save_policies(
        Policy(
            "acme", name, 1, plan, "postgresql", "postgresql://server/db", None,
            (Destination("file:///tmp/acme"),), (), window="01:00-05:00 UTC",
        )
        for name in names
    )  # fmt: skip
    found = [
        Backup(
            uuid7(at, app.entropy.bytes(10)), "acme", name, "postgresql", at,
            at + timedelta(days=KEPT), 10**9, 10**8, "file:///tmp/acme", "0" * 64, 60.0,
        )
        for name in names
        for at in days(app, count if name == "db-0" else KEPT)
    ]  # fmt: skip
    assert isinstance(app.audit, SqlAudit)
    with app.audit._engine.begin() as connection:
        connection.execute(insert(tables.backups), [shallow(each) for each in found])
        connection.execute(insert(tables.audit), list(records(app, found)))
    for each in found[: count // 30]:
        app.archive.add(drill(app, each))
    return found[count // 2].id


def records(app: App, found: list[Backup]) -> Iterator[dict[str, Any]]:
    (last,) = list(app.audit.records())[-1:] or [None]
    sequence, previous = (last.sequence, digest(last)) if last else (0, FIRST)
    for each in reversed(found):
        for action in ("backup.committed", "state.looked", "copy.committed"):
            sequence += 1
            record = Record(
                sequence, each.created_at, "bench", action, each.customer, each.id, {},
                f"{sequence:064x}", previous,
            )  # fmt: skip
            previous = digest(record)
            yield {**shallow(record), "digest": previous}


def drill(app: App, backup: Backup) -> Drill:
    at = backup.created_at
    check = Check("rows", True, "40", "40", "public.t")
    return Drill(
        uuid7(at, app.entropy.bytes(10)), "acme", backup.database, backup.id, backup.store_url,
        "postgresql", 1, Pick("newest"), "drill", at, at, "PASSED", 4, "", (check,) * 20, (),
        None, at, None, 0, 10, 400, 10**6, 10**6, 20, (), "1",
    )  # fmt: skip


@contextmanager
def town(count: int) -> Iterator[tuple[App, str]]:
    for name, secret in (
        ("DASHBOARD_SECRET", SECRET),
        ("DASHBOARD_OLD_SECRET", OLD_SECRET),
        ("OPERATORS_SECRET", SECRET[::-1]),
    ):
        os.environ[name] = secret
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        wiring.init(str(home))
        found = settings(folder)
        found["api"]["per_minute"] = 10**6
        (home / "settings.yaml").write_text(yaml.safe_dump(found))
        with wiring.opened(home) as app:
            yield app, fill(app, count)


@contextmanager
def client(app: App, base: str, customer: str | None) -> Iterator[httpx.Client]:
    issuer = {} if customer else {"iss": OPERATORS, "secret": SECRET[::-1]}
    bearer = {"Authorization": f"Bearer {token(customer, **issuer)}"}
    nonce, now = app.entropy.bytes(8).hex(), app.clock.now()
    signed = link(session_key(app), customer, "ann", ["viewer", "restorer"], now, nonce)
    with httpx.Client(base_url=base, headers=bearer, timeout=60) as found:
        found.get("/enter", params={"link": signed})
        yield found


def measure(count: int, rounds: int) -> list[Row]:
    with (
        town(count) as (app, middle),
        served(app) as base,
        client(app, base, "acme") as customer,
        client(app, base, None) as operator,
    ):
        who = {"": customer, "operator ": operator}
        asked = [("", each) for each in PAGES + CALLS] + [("operator ", p) for p in FLEET]
        took: dict[str, list[float]] = {}
        sizes: dict[str, int] = {}
        for _ in range(rounds):
            for whose, address in asked:
                began = time.perf_counter()
                answer = who[whose].get(address.format(middle=middle))
                took.setdefault(whose + address, []).append(time.perf_counter() - began)
                assert answer.status_code == 200, (address, answer.text)
                sizes[whose + address] = len(answer.content)
    return [
        Row(name, 1000 * statistics.median(each), 1000 * max(each), sizes[name])
        for name, each in took.items()
    ]


def table(rows: list[Row]) -> str:
    lines = ["| address | median ms | slowest ms | KiB |", "|---|---|---|---|"]
    for row in rows:
        figures = f"{row.median_ms:.0f} | {row.slowest_ms:.0f} | {row.bytes / 1024:.0f}"
        lines.append(f"| {row.address} | {figures} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backups", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = measure(arguments.backups, arguments.rounds)
    print(json.dumps([asdict(row) for row in rows]) if arguments.json else table(rows))
    return int(max(row.median_ms for row in rows) >= MOST_MS)


if __name__ == "__main__":
    raise SystemExit(main())
