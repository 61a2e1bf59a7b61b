"""A customer whose database is a file: out, back, proven, and without us."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backups import wiring
from backups.engines.registry import open_swapper
from backups.errors import TargetRefused
from backups.model import Source
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
    with house.proving(tmp_path, f"sqlite://{file}"):
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
        requests.work_all(app)
        assert app.requests.one(asked.id).state == "done"
        assert "live database's name" in app.requests.one(taken.id).error
    assert dump(file.with_name("copied.db")) == dump(file)


def count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        found: tuple[int] = connection.execute("select count(*) from orders").fetchone()
    return found[0]


@pytest.mark.parametrize("file", ["shop"], indirect=True)
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_in_place_and_undone(home: House, file: Path, journal: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"pragma journal_mode = {journal}")
    file.chmod(0o640)
    home.must("run", "live")
    whole = home.must("list", "--json").json[0]["backup_id"]
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("delete from orders where id > 50")
        connection.execute("update orders set note = 'other' where id < 3")
    plan = home.must("replace", "plan", "live", "--json").json["replacement_id"]
    seen = home.must("replace", "rehearse", plan, "--json").json["seen"]
    assert seen == [
        "main.orders: 150 come back (51, 52, 53, 54, 55, ...); 2 change (1, 2)",
    ]
    start = ("replace", "start", plan, "--confirm", "live", "--json")
    with an_application(file):
        refused = home.call(*start)
        assert refused.code == TargetRefused.exit_code
        assert "Stop the application" in refused.err
    assert count(file) == 50
    plan = home.must("replace", "plan", whole, "--json").json["replacement_id"]
    done = home.must("replace", "start", plan, "--confirm", "live", "--json").json
    assert done["state"] == "replaced"
    assert count(file) == 200
    assert file.stat().st_mode & 0o777 == 0o640
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("pragma journal_mode").fetchone() == (journal,)
    others = sorted(path.name for path in file.parent.iterdir() if path != file)
    assert others == [f"{done['aside']}.db"]
    home.must("replace", "undo", plan)
    assert count(file) == 50
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("pragma journal_mode").fetchone() == (journal,)
    home.must("replace", "drop", plan, "--anyway")
    assert [path.name for path in file.parent.iterdir()] == ["live.db"]


@contextmanager
def an_application(file: Path) -> Iterator[None]:
    """A process that has it open, and reads and writes nothing."""
    code = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1]); c.execute('select * from orders').fetchall()\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, str(file)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"open\n"
        yield
        process.communicate(b"")


def test_an_exchange_that_was_interrupted_is_told_from_one_that_took_place(
    tmp_path: Path,
) -> None:
    live, copy = tmp_path / "live.db", tmp_path / "live_new_1.db"
    for path, rows in ((live, 1), (copy, 2)):
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("create table orders (id integer primary key)")
            connection.executemany("insert into orders values (?)", [(i,) for i in range(rows)])
    swapper = open_swapper("sqlite", Source(f"sqlite://{live}"))
    before = tmp_path / "live_before_1.db"
    before.hardlink_to(live)  # it died here
    assert swapper.names() == {"live", "live_new_1"}
    swapper.swap("live_new_1", "live_before_1")
    assert swapper.names() == {"live", "live_before_1"}
    assert (count(live), count(before)) == (2, 1)
    with pytest.raises(TargetRefused):
        swapper.drop("live")
    with pytest.raises(TargetRefused):
        swapper.swap("nothing", "live_before_2")
    taken = tmp_path / "taken.db"
    taken.touch()
    copy.write_bytes(before.read_bytes())
    with pytest.raises(TargetRefused):
        swapper.swap("live_new_1", "taken")
    assert (count(live), copy.exists(), taken.stat().st_size) == (2, True, 0)
