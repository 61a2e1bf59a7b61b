"""Two customers, each with a database, backups, a restore test, a plan, an operation and a
report; the API on a real socket; tokens as a dashboard makes them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
import uvicorn
import yaml
from prune_kit import SetClock

from backups import wiring
from backups.api.app import create
from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.format.age import Identity
from backups.proving import Pick
from backups.wiring import App, proving, replacing, reporting, requests
from backups.wiring.serving_api import DRAIN_SECONDS, house
from verify.report.month import Month

SECRET = "the dashboard's own secret, of enough bytes"
OLD_SECRET = "the secret that is just being changed, still good"
ISSUER, OPERATORS = "https://app.example.com", "https://ops.example.com"
AUDIENCE = "backups"
ALL = ["viewer", "restorer", "restore_approver", "auditor"]
CUSTOMERS = {"acme": "shop", "birch": "birds"}
CLOCK = SystemClock()


def quiet(*_: object) -> None: ...


def token(
    customer: str | None = "acme",
    *,
    subject: str = "ann",
    roles: list[str] | None = None,
    secret: Any = SECRET,
    algorithm: str = "HS256",
    issued: timedelta = timedelta(0),
    lives: timedelta = timedelta(minutes=5),
    headers: dict[str, Any] | None = None,
    **changed: Any,
) -> str:
    now = CLOCK.now() + issued
    claims: dict[str, Any] = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + lives,
        "roles": ALL if roles is None else roles,
    }  # fmt: skip
    if customer is not None:
        claims["customer"] = customer
    claims.update(changed)
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, secret, algorithm=algorithm, headers=headers)


@dataclass
class Town:
    home: Path
    app: App
    base: str
    urls: dict[str, str]
    ids: dict[str, dict[str, str]] = field(default_factory=dict)
    """By customer: database, backup, test, report, operation, replacement."""

    def client(self, *args: Any, **options: Any) -> httpx.Client:
        bearer = token(*args, **options)
        return httpx.Client(
            base_url=self.base, headers={"Authorization": f"Bearer {bearer}"}, timeout=30
        )

    def work(self) -> None:
        """What `serve` does with what was asked for."""
        requests.work_all(self.app)

    def rows(self, name: str) -> int:
        with psycopg.connect(self.urls[name]) as connection:
            found = connection.execute("select count(*) from t").fetchone()
        assert found is not None
        return int(found[0])

    def execute(self, name: str, statement: str) -> None:
        with psycopg.connect(self.urls[name]) as connection:
            connection.execute(statement)  # type: ignore[arg-type]


def settings(folder: str) -> dict[str, Any]:
    return {
        "scratch": {"directory": folder},
        "api": {
            "issuers": [
                {"issuer": ISSUER, "audience": AUDIENCE, "algorithm": "HS256",
                 "secrets": ["env:DASHBOARD_SECRET", "env:DASHBOARD_OLD_SECRET"]},
                {"issuer": OPERATORS, "audience": AUDIENCE, "algorithm": "HS256",
                 "secrets": ["env:OPERATORS_SECRET"], "operator": True},
            ]
        },
    }  # fmt: skip


def declare(home: Path, folder: Path, urls: dict[str, str]) -> None:
    identity = Identity.generate(SystemEntropy())
    fleet = {
        "customers": [
            {
                "id": customer, "plan": "pro",
                "stores": [{"url": f"file://{folder / customer}"}],
                "recipients": [str(identity.recipient)],
                "databases": [{"id": name, "engine": "postgresql", "url": urls[name]}],
            }
            for customer, name in CUSTOMERS.items()
        ]
    }  # fmt: skip
    for customer in CUSTOMERS:
        (folder / customer).mkdir()
    path = folder / "fleet.yaml"
    path.write_text(yaml.safe_dump(fleet))
    import command_kit

    done = command_kit.call(["--home", str(home), "apply", str(path)])
    assert done.returncode == 0, done.stderr
    for name in urls:
        assert command_kit.call(["--home", str(home), "run", name]).returncode == 0


def fill(town: Town) -> None:
    """Something of every kind for each customer."""
    app = town.app
    months = SetClock(Month(CLOCK.now().year, CLOCK.now().month).end + timedelta(days=1))
    for customer, name in CUSTOMERS.items():
        entry = app.catalog.backups(name)[0]
        drill = proving.drill_one(app, entry, Pick("person"), quiet)
        plan = replacing.plan(app, entry, "somebody", quiet, quiet)
        asked = requests.ask(
            app, customer, name, "cancel", "somebody", f"key of {customer}", replacement=plan.id
        )
        month = Month(CLOCK.now().year, CLOCK.now().month)
        report = reporting.publish(replace(app, clock=months), month, customer, quiet)
        town.ids[customer] = {
            "database": name, "backup": entry.id, "test": drill.id, "report": report.id,
            "operation": asked.id, "replacement": plan.id, "name": "report.html",
        }  # fmt: skip


@contextmanager
def served(app: App) -> Iterator[str]:
    """The API on a socket; yields its URL."""
    config = uvicorn.Config(
        create(house(app)), port=0, log_level="critical", lifespan="off",
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = CLOCK.monotonic() + 20
        while not server.started and CLOCK.monotonic() < until:
            CLOCK.sleep(0.01)
        (port,) = {s.getsockname()[1] for each in server.servers for s in each.sockets}
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def opened(home: Path) -> Any:
    return wiring.opened(home)


def as_text(value: Any) -> str:
    return json.dumps(value)


def days_from_now(count: int) -> datetime:
    return CLOCK.now() + timedelta(days=count)
