"""A worker that only answers calls: what is asked of it is done by another one, and it holds
none of its keys."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import yaml
from api_kit import AUDIENCE, ISSUER, SECRET, token
from machines_kit import catalog_server, until

from backups import wiring

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]


@pytest.fixture
def shop(house: House, tmp_path: Path) -> Iterator[House]:
    """Its catalog in a PostgreSQL, one backup, a dashboard whose tokens are believed."""
    store, file = tmp_path / "bucket", tmp_path / "shop.db"
    store.mkdir()
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript("create table t(a); insert into t values (1), (2)")
    house.declare(f"file://{store}", shop=f"sqlite://{file}")
    house.must("run", "shop")
    issuer = {"issuer": ISSUER, "audience": AUDIENCE, "algorithm": "HS256"}
    issuers = [{**issuer, "secrets": ["env:DASHBOARD_SECRET"]}]
    (house.home / "settings.yaml").write_text(yaml.safe_dump({"api": {"issuers": issuers}}))
    with catalog_server() as server:
        house.must("catalog", "move", "--to", server.url)
        yield house


@contextmanager
def worker(home: Path, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """`backups worker`; it ends well when it is told to."""
    env = {**os.environ, "DASHBOARD_SECRET": SECRET}
    command = [sys.executable, "-m", "backups.cli", "--home", str(home), "worker", *argv]
    with subprocess.Popen(command, env=env) as process:
        try:
            yield process
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_calls_are_answered_by_a_worker_of_their_own(shop: House, tmp_path: Path) -> None:
    api = tmp_path / "api"
    shop.must("--home", str(api), "init", "--like", str(shop.home), "--roles", "api")
    assert {file.name for file in (api / "keys").iterdir()} == {"enrolment.key", "verify.pem"}
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with (
        worker(api, "--roles", "api", "--port", str(port)),
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as dashboard,
    ):

        def answers() -> bool:
            with suppress(httpx.TransportError):
                return dashboard.get("/v1/databases").status_code == 401
            return False

        until(answers, "the API", 30)
        dashboard.headers["authorization"] = f"Bearer {token()}"
        (entry,) = dashboard.get("/v1/databases").json()["items"]
        assert entry["id"] == "shop"
        with wiring.opened(api, roles=("api",)) as app:
            assert app.requests.unfinished() == []
