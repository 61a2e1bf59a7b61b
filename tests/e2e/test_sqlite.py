"""A customer whose database is a file: out, back, proven, and without us."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scratch_kit import short_folder

from backups import wiring
from backups.errors import ConfigError, TargetRefused
from backups.wiring import requests
from verify.controls import CONTROLS
from verify.meddle.registry import meddlings

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

SHOP = """
create table customer (id integer primary key autoincrement, name text not null, mail text);
create table orders (id integer primary key, customer integer not null references customer,
    total real, note text);
create index orders_customer on orders (customer);
create trigger noted after update on customer begin select 1; end;
insert into customer (name, mail)
    with recursive n(i) as (select 1 union all select i + 1 from n where i < 200)
    select 'c' || i, i || '@example.com' from n;
insert into orders select id, id, id * 1.5, 'n' from customer;
"""


@pytest.fixture(params=["shop", "chinook"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "data" / "live.db"
    path.parent.mkdir()
    if request.param == "chinook":
        shutil.copy(request.getfixturevalue("sample_data") / "chinook.sqlite", path)
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("pragma journal_mode = wal")
            connection.executescript(SHOP)
    return path


@pytest.fixture
def home(house: House, file: Path, tmp_path: Path) -> Iterator[House]:
    store = tmp_path / "store"
    store.mkdir()
    with short_folder() as folder:
        (house.home / "settings.yaml").write_text(f"scratch: {{directory: {folder}}}\n")
        house.declare(f"file://{store}", live=f"sqlite://{file}")
        yield house


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def test_out_back_and_proven(home: House, file: Path, tmp_path: Path) -> None:
    home.must("run", "live")
    copy = tmp_path / "data" / "copy.db"
    done = home.must("restore", "live", "--to", f"sqlite://{copy}", "--json").json
    assert done["equal"] is True
    assert dump(copy) == dump(file)
    again = home.call("restore", "live", "--to", f"sqlite://{copy}")
    assert again.code == TargetRefused.exit_code
    table = "customer" if "customer" in "".join(dump(file)[:2]) else "Album"
    part = tmp_path / "data" / "part.db"
    one = home.must("restore", "live", "--only", table, "--to", f"sqlite://{part}", "--json")
    assert one.json["tables"] == 1
    refused = home.call("replace", "plan", "live")
    assert refused.code == ConfigError.exit_code, "declared: not in one step"

    tested = home.must("verify", "run", "live", "--json").json
    assert (tested["verdict"], tested["level"]) == ("PASSED", 12)
    assert tested["scratch"]["kind"] == "private folder"
    assert tested["scratch"]["destroyed_at"]
    shown = home.must("show", "live").out
    assert "live" in shown


def test_what_is_changed_in_a_copy_is_noticed(home: House) -> None:
    home.must("run", "live")
    said = home.call("verify", "self-test", "live", "--json")
    found = said.json
    assert said.code == 0, [t for t in found["trials"] if not t["caught"]]
    made = {trial["name"] for trial in found["trials"]}
    there = set(meddlings("sqlite")) - {"trigger dropped", "sequence reset"}
    assert made >= set(CONTROLS) - {"forged end"} | there | {"undamaged"}
    assert found["caught"] == len(found["trials"])


def test_stock_tools_bring_it_back(home: House, file: Path, tmp_path: Path) -> None:
    home.must("run", "live")
    recipe = home.must("show", "live", "--recipe").out
    place = tmp_path / "elsewhere"
    place.mkdir()
    shutil.copy(home.customer_identity, place / "identity.txt")
    shutil.copy(home.home / "keys" / "verify.pem", place / "verify-key.pem")
    shutil.rmtree(home.home)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", recipe],
        cwd=place, check=False, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert dump(place / "live-restored.db") == dump(file)


def test_asked_for_over_the_api_it_lies_beside_the_live_one(home: House, file: Path) -> None:
    home.must("run", "live")
    with wiring.opened(home.home) as app:
        backup = requests.newest_at(app, "live", None)
        asked = requests.ask(
            app, "acme", "live", "restore", "ann", "key one", backup=backup, name="copied"
        )
        taken = requests.ask(
            app, "acme", "live", "restore", "ann", "key two", backup=backup, name="live"
        )
        requests.work(app, lambda *_: None)
        assert app.requests.one(asked.id).state == "done"
        assert "live database's name" in app.requests.one(taken.id).error
    assert dump(file.with_name("copied.db")) == dump(file)
