"""The ways a backup comes back other than whole into a new database: a part, a file, a look."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from test_main_job import documented

from backups.engines.postgres.tools import choose
from backups.entropy import SystemEntropy

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = pytest.mark.postgres

SHOP = """
create schema crm;
create table crm.customer (id serial primary key, name text);
create table orders (id int primary key, customer int references crm.customer);
insert into crm.customer (name) select 'c' || g from generate_series(1, 30) g;
insert into orders select g, g from generate_series(1, 20) g;
"""


@pytest.fixture
def shop(
    house: House, pg15_url: str, make_database: Callable[..., str], tmp_path: Path
) -> House:
    store = tmp_path / "store"
    store.mkdir()
    house.declare(f"file://{store}", shop=make_database(pg15_url, sql=SHOP))
    house.must("run", "shop")
    return house


@pytest.fixture
def fresh(pg15_url: str) -> Iterator[str]:
    """The URL of a database that does not exist yet; dropped afterwards."""
    name = "way_" + SystemEntropy().bytes(6).hex()
    head, _, query = pg15_url.partition("?")
    yield f"{head.rsplit('/', 1)[0]}/{name}?{query}"
    with psycopg.connect(pg15_url, autocommit=True) as connection:
        drop = sql.SQL("drop database if exists {} with (force)")
        connection.execute(drop.format(sql.Identifier(name)))


def counted(url: str, table: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(f"select count(*) from {table}").fetchone()  # type: ignore[arg-type]
    assert row is not None
    return int(row[0])


def test_one_table(shop: House, fresh: str) -> None:
    wrong = shop.call("restore", "shop", "--only", "customer", "--to", fresh)
    assert wrong.code == 11
    assert "crm.customer" in wrong.err
    done = shop.must("restore", "shop", "--only", "public.orders", "--to", fresh, "--json").json
    assert (done["tables"], done["rows"], done["equal"]) == (1, 20, True)
    assert any("fk constraint" in note for note in done["notes"])
    assert counted(fresh, "orders") == 20
    with psycopg.connect(fresh) as connection, pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("select from crm.customer")


def test_plain_sql_and_the_archive(shop: House, fresh: str, pg15_url: str) -> None:
    made = shop.path / "out"
    made.mkdir()
    for kind in ("sql", "dump"):
        path = made / f"it's here.{kind}"
        done = shop.must("restore", "shop", "--to", f"file:{path}", "--json").json
        assert (done["rows"], done["equal"]) == (50, True)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        again = shop.call("restore", "shop", "--to", f"file:{path}")
        assert (again.code, "exists already" in again.err) == (45, True)
    part = made / "part.sql"
    shop.must("restore", "shop", "--only", "crm", "--to", f"file:{part}")
    assert "orders" not in part.read_text()

    psql = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d"]
    with psycopg.connect(pg15_url, autocommit=True) as connection:
        name = sql.Identifier(fresh.partition("?")[0].rpartition("/")[2])
        for path in (made / "it's here.sql", made / "it's here.dump", part):
            connection.execute(sql.SQL("create database {}").format(name))
            restore = [choose(15).path("pg_restore"), "--exit-on-error", "-d", fresh, str(path)]
            argv = restore if path.suffix == ".dump" else [*psql, fresh, "-f", str(path)]
            subprocess.run(argv, check=True, capture_output=True)
            assert counted(fresh, "crm.customer") == 30
            connection.execute(sql.SQL("drop database {}").format(name))


def test_files_that_are_refused_leave_nothing(shop: House, tmp_path: Path) -> None:
    made = tmp_path / "out"
    made.mkdir()
    for target, words in {
        "shop.zip": ".dump: pg_dump's archive",
        "nowhere/shop.sql": "no file can be made",
    }.items():
        refused = shop.call("restore", "shop", "--to", f"file:{made / target}")
        assert (refused.code, words in refused.err) == (45, True), refused.err
    part = shop.call("restore", "shop", "--only", "crm", "--to", f"file:{made / 'a.dump'}")
    assert part.code == 45
    data = max((tmp_path / "store").rglob("*.age"), key=lambda path: path.stat().st_size)
    whole = data.read_bytes()
    data.chmod(0o600)
    data.write_bytes(whole[:-40] + bytes(40))
    damaged = shop.call("restore", "shop", "--to", f"file:{made / 'shop.sql'}")
    assert damaged.code == 31, damaged.err
    assert os.listdir(made) == []


def test_a_dry_run_says_what_lacks_and_how_long_it_took(shop: House, fresh: str) -> None:
    target = shop.must("restore", "shop", "--dry-run", "--to", fresh, "--json").json
    assert set(target) == documented("restore --dry-run --json")
    assert (target["last_seconds"], target["lacks"]) == (None, [])
    shop.must("restore", "shop", "--to", fresh)
    taken = shop.call("restore", "shop", "--dry-run", "--to", fresh)
    assert taken.code == 45, "it would be refused, and says so now"
    other = fresh.replace("way_", "way2_")
    said = shop.must("restore", "shop", "--dry-run", "--to", other)
    assert "the last restore of this database took" in said.out
