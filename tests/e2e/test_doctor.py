"""`backups doctor` finds what is wrong, and changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]


def looked(house: House, code: int = 0, **env: str) -> dict[tuple[str, str], str]:
    said = house.call("doctor", "--json", env=env)
    assert said.code == code, said.out + said.err
    found: list[dict[str, Any]] = said.json
    return {(each["what"], each["state"]): each["words"] for each in found}


def test_a_fresh_home_is_good(house: House) -> None:
    found = looked(house)
    assert ("home", "good") in found
    assert not [what for what, state in found if state == "bad"]
    assert found["keys", "warning"] == "the restore identity is a plain file"
    assert "not backed up" in house.must("doctor").out


@pytest.mark.parametrize("name", ["restore-identity.txt", "signing.pem", "."])
def test_keys_that_others_may_read(house: House, name: str) -> None:
    (house.home / "keys" / name).chmod(0o755)
    found = looked(house, 1)
    assert "others may reach" in found["home", "bad"]


def test_tools_that_are_missing(house: House, tmp_path: Path) -> None:
    house.declare(f"file://{tmp_path}", shop="postgresql://backup@db.internal/shop")
    assert "no client tools" in looked(house, 1, BACKUPS_PG_BIN="/nowhere")["tools", "bad"]


def test_a_run_of_the_future(house: House, tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create table t(a)")
    house.declare(f"file://{tmp_path}", shop=f"sqlite://{file}")
    house.must("run", "shop")
    with closing(sqlite3.connect(house.home / "catalog.sqlite3")) as catalog:
        catalog.execute("update runs set started_at = '2999' || substr(started_at, 5)")
        catalog.commit()
    assert "future" in looked(house, 1)["clock", "bad"]


@pytest.mark.postgres
def test_a_shared_catalog(
    house: House, pg15_url: str, make_database: Callable[..., str]
) -> None:
    house.must("catalog", "move", "--to", make_database(pg15_url))
    found = looked(house)
    assert "shared" in found["catalog", "good"]
    assert found["queue", "good"] == "0 jobs wait, 0 run"
