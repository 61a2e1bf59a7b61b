"""A home, a fleet file and the command line, as a person uses them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import command_kit
import psycopg
import pytest
import yaml
from sample_kit import ROOT, load
from scratch_kit import short_folder

from backups.entropy import SystemEntropy
from backups.format.age import Identity

MakeDatabase = Callable[..., str]


@dataclass
class Said:
    """What one call of the command line printed and ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class House:
    """One operator with one customer."""

    path: Path
    customer_identity: Path
    recipient: str

    @property
    def home(self) -> Path:
        return self.path / "home"

    def call(self, *argv: str, env: dict[str, str] | None = None) -> Said:
        """A process of its own, as an operator would start it."""
        done = command_kit.call(["--home", str(self.home), *argv], **(env or {}))
        return Said(done.returncode, done.stdout, done.stderr)

    def must(self, *argv: str) -> Said:
        said = self.call(*argv)
        assert said.code == 0, f"backups {' '.join(argv)}: {said.code}\n{said.out}\n{said.err}"
        return said

    @contextmanager
    def proving(self, folder: Path, url: str) -> Iterator[None]:
        """One database, `live`, whose store is a folder, and a place for restore tests."""
        store = folder / "store"
        store.mkdir()
        with short_folder() as scratch:
            (self.home / "settings.yaml").write_text(f"scratch: {{directory: {scratch}}}\n")
            self.declare(f"file://{store}", live=url)
            yield

    def declare(self, store: str | list[str], **databases: str) -> None:
        """`declare(store, shop=url)`: one customer `acme` with these databases; of several
        stores the first is backed up to, the others hold copies."""
        stores = [store] if isinstance(store, str) else store
        fleet = {
            "customers": [
                {
                    "id": "acme",
                    "plan": "max",
                    "stores": [{"url": url} for url in stores],
                    "recipients": [self.recipient],
                    "databases": [
                        {"id": name, "engine": url.partition(":")[0], "url": url}
                        for name, url in databases.items()
                    ],
                }
            ]
        }
        path = self.path / "fleet.yaml"
        path.write_text(yaml.safe_dump(fleet))
        self.must("apply", str(path))


@pytest.fixture
def house(tmp_path: Path) -> House:
    """An initialised home; the customer's own identity lies beside it."""
    identity = Identity.generate(SystemEntropy())
    path = tmp_path / "customer-identity.txt"
    path.touch(mode=0o600)
    path.write_text(identity.reveal() + "\n")
    house = House(tmp_path, path, str(identity.recipient))
    house.must("init")
    return house


@pytest.fixture(params=["shop", "chinook", "sakila"])
def source(request: pytest.FixtureRequest, pg15_url: str, make_database: MakeDatabase) -> str:
    url = make_database(pg15_url)
    if request.param == "shop":
        load(url, ROOT / "localstack" / "sample.sql")
        return url
    data: Path = request.getfixturevalue("sample_data")
    if request.param == "chinook":
        script = (data / "chinook-postgresql.sql").read_text(encoding="utf-8", errors="replace")
        script = re.sub(r"(?m)^(DROP DATABASE|CREATE DATABASE|\\c ).*$", "", script)
        with psycopg.connect(url) as connection:
            connection.execute(script)  # type: ignore[arg-type]
    else:
        load(
            url,
            data / "sakila-postgresql-schema.sql",
            data / "sakila-postgresql-data.sql",
        )
    return url
