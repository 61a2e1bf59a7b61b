"""Databases of real products, filled with random rows: the whole life of each.

Their schemas are not part of the project. BACKUPS_TEST_PRODUCTS names a folder with one file of
SQL for each product, `NAME.sql`, as its own installation or `pg_dump --schema-only` makes it;
`tests/fidelity/make_products.py` fills such a folder from package registries.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import command_kit
import psycopg
import pytest
from fidelity.catalogs import everything
from pg_kit import assert_same, name_of, plain, url_of
from products_kit import fill
from psycopg import sql

from backups.entropy import SystemEntropy

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = [pytest.mark.postgres, pytest.mark.full]
FOLDER = os.environ.get("BACKUPS_TEST_PRODUCTS", "")
SCHEMAS = sorted(Path(FOLDER).glob("*.sql")) if FOLDER else []
MANY = 300
"""Tables that a product's database has at least."""


@pytest.fixture(params=[path.stem for path in SCHEMAS] or ["none"])
def product(
    request: pytest.FixtureRequest, pg15_url: str, make_database: Callable[..., str]
) -> str:
    """URL of its database, filled."""
    if not SCHEMAS:
        pytest.skip("databases of real products are not at hand")
    url = make_database(pg15_url)
    script = Path(FOLDER) / f"{request.param}.sql"
    subprocess.run(["psql", "-X", "-q", "-d", url, "-f", str(script)], capture_output=True,
                   check=True)  # fmt: skip
    filled = fill(url, seed=19)
    print(
        f"{request.param}: {filled.tables} tables, {filled.rows} rows of"
        f" {len(filled.types)} types; {filled.given_up} rows given up; without rows:"
        f" {len(filled.empty)}"
    )
    assert filled.tables > MANY
    assert len(filled.empty) < filled.tables / 4, filled.empty
    return url


@pytest.fixture
def fresh(pg15_url: str) -> Iterator[Callable[[str], str]]:
    """URLs of databases that do not exist yet; dropped afterwards, with all beside them."""
    made: list[str] = []

    def url(name: str) -> str:
        made.append(f"{name}_{SystemEntropy().bytes(5).hex()}")
        return url_of(pg15_url, made[-1])

    yield url
    drop_beside(pg15_url, made)


def drop_beside(server: str, names: list[str]) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        for (name,) in connection.execute("select datname from pg_database").fetchall():
            if any(name.startswith(each) for each in names):
                drop = sql.SQL("drop database {} with (force)")
                connection.execute(drop.format(sql.Identifier(name)))


def same(source: str, copy: str) -> None:
    """By pg_dump of both sides, and by the catalogs and rows of both."""
    assert_same(plain(source, 15), plain(copy, 15))
    assert_same(sorted(everything(source)), sorted(everything(copy)))


def counted(url: str, table: sql.Composable) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(sql.SQL("select count(*) from {}").format(table)).fetchone()
    assert row is not None
    return int(row[0])


def tables_of(url: str) -> list[tuple[str, str, int]]:
    """Schema, name and rows of those that have some and whose rows are nobody's keys."""
    with psycopg.connect(url) as connection:
        names = connection.execute(
            "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid ="
            " relnamespace where relkind = 'r' and not relispartition and nspname not in"
            " ('pg_catalog', 'information_schema') and not exists (select from pg_constraint"
            " where confrelid = c.oid) and exists (select from pg_index where indrelid = c.oid"
            " and indisprimary) and not exists (select from pg_depend d where d.objid = c.oid"
            " and d.deptype = 'e') order by 1, 2"
        ).fetchall()
    found = [(s, t, counted(url, sql.Identifier(s, t))) for s, t in names]
    return [each for each in found if each[2] > 0]


@pytest.mark.timeout(1500)
def test_the_whole_life(
    house: House, product: str, fresh: Callable[[str], str], tmp_path: Path, pg15_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(command_kit, "TIMEOUT", 600)
    with house.proving(tmp_path, product):
        ran = house.must("run", "live", "--json").json
        copy = fresh("restored")
        restored = house.must("restore", "live", "--to", copy, "--json").json
        assert restored["equal"] is True
        same(product, copy)

        tested = house.must("verify", "run", "live", "--json").json
        assert tested["verdict"] == "PASSED", tested

        schema, name, rows = tables_of(product)[0]
        part = fresh("part")
        only = ("restore", "live", "--only", f"{schema}.{name}", "--to", part, "--json")
        done = house.must(*only).json
        assert (done["rows"], done["equal"]) == (rows, True)
        assert counted(part, sql.Identifier(schema, name)) == rows

        recipe(house, product, fresh, tmp_path)
        recovered(house, product, fresh, tmp_path)
        replaced_and_undone(house, product, ran["backup_id"], pg15_url)


def replaced_and_undone(house: House, url: str, backup: str, server: str) -> None:
    """The live database loses rows, gets them back, and loses them again."""
    schema, name, rows = tables_of(url)[-1]
    table = sql.Identifier(schema, name)
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("delete from {}").format(table))
    plan: dict[str, Any] = house.must("replace", "plan", backup, "--json").json
    start = ("replace", "start", plan["replacement_id"], "--confirm", name_of(url), "--json")
    assert house.must(*start).json["state"] == "replaced"
    assert counted(url, table) == rows
    house.must("replace", "undo", plan["replacement_id"])
    assert counted(url, table) == 0
    house.must("replace", "drop", plan["replacement_id"], "--anyway")
    drop_beside(server, [f"{name_of(url)}_"])


def recipe(house: House, url: str, fresh: Callable[[str], str], folder: Path) -> None:
    """Stock tools, word for word."""
    text = house.must("show", "live", "--recipe").out
    copy = fresh("by_recipe")
    place = folder / "elsewhere"
    place.mkdir()
    shutil.copy(house.customer_identity, place / "identity.txt")
    shutil.copy(house.home / "keys" / "verify.pem", place / "verify-key.pem")
    connection = psycopg.conninfo.conninfo_to_dict(copy)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text.replace("$DATABASE-restored", name_of(copy))],
        cwd=place, check=False, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "PGHOST": str(connection["host"]),
             "PGPORT": str(connection["port"]), "PGUSER": str(connection["user"])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    same(url, copy)


def recovered(house: House, url: str, fresh: Callable[[str], str], folder: Path) -> None:
    """With the store, the identity and the verify key alone."""
    verify_key = folder / "verify.pem"
    shutil.copy(house.home / "keys" / "verify.pem", verify_key)
    aside = house.home.rename(folder / "aside")
    copy = fresh("recovered")
    house.must(
        "recover", "--store", f"file://{folder / 'store'}", "--identity",
        str(house.customer_identity), "--verify-key", str(verify_key), "--to", copy,
    )  # fmt: skip
    same(url, copy)
    shutil.rmtree(house.home, ignore_errors=True)
    aside.rename(house.home)
