"""One machine's catalog becomes the one of many by one command that loses nothing, and back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backups import wiring
from backups.catalog import moving
from backups.catalog.open import open_catalog
from backups.catalog.sql import read
from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import BackupsError, Busy, CatalogError
from backups.format.age import Identity
from backups.wiring import placing

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = pytest.mark.postgres

LISTS = (
    ["list"], ["audit", "list"], ["hold", "list", "--all"], ["status"], ["due"],
    ["replace", "list"], ["audit", "verify"],
)  # fmt: skip


@pytest.fixture
def shop(house: House, tmp_path: Path) -> House:
    store, file = tmp_path / "bucket", tmp_path / "shop.db"
    store.mkdir()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create table t as select 1 a")
        connection.commit()
    house.declare(f"file://{store}", shop=f"sqlite://{file}")
    backup = house.must("run", "shop", "--json").json["backup_id"]
    house.must("hold", "add", backup, "--reason", "asked for", "--name", "ann")
    house.must("restore", backup, "--to", f"sqlite://{tmp_path}/copy.db")
    return house


@pytest.fixture
def empty(pg15_url: str, make_database: Callable[..., str]) -> str:
    return make_database(pg15_url)


def said(house: House, *, without_last: int = 0) -> list[object]:
    found = []
    for call in LISTS:
        words = house.must(*call, "--json").json
        if call[0] == "audit" and call[1] == "list":
            words = words[without_last:] if without_last else words
        if call[0] == "audit" and call[1] == "verify":
            words = (words["records"] - without_last, words["problems"])
        found.append(words)
    return found


def test_there_and_back(shop: House, empty: str) -> None:
    before = said(shop)
    rows = shop.must("catalog", "move", "--to", empty, "--json").json["rows"]
    assert rows > 10
    assert said(shop, without_last=1) == before
    assert not (shop.home / "catalog.sqlite3").exists()

    shop.must("run", "shop")
    assert len(shop.must("list", "--json").json) == 2
    before = said(shop)

    shop.must("catalog", "move", "--to", "file")
    assert "\ncatalog_url" not in (shop.home / "settings.yaml").read_text()
    assert said(shop, without_last=1) == before
    shop.must("run", "shop")
    assert len(shop.must("list", "--json").json) == 3


def test_what_was_left_behind_takes_nothing(shop: House, empty: str) -> None:
    with wiring.opened(shop.home) as app:
        shop.must("catalog", "move", "--to", empty)
        with pytest.raises(CatalogError, match="moved away"):  # one that was open all the time
            app.audit.note("test", None, "test")
    old = shop.home / "catalog.sqlite3.moved"
    with (
        closing(open_catalog(old)) as catalog,
        pytest.raises(CatalogError, match="moved away"),
    ):
        catalog.prove_recipient("acme", "age1", SystemClock().now())


@pytest.mark.parametrize("at", ["move_rows", "_rewrite", "rename"])
def test_killed_it_is_done_again(
    shop: House, empty: str, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Before anything, between the rows and the settings, and after those."""
    before = said(shop)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if at == "move_rows":
            patch.setattr(moving, "_close", killed)  # written there, not closed here
        elif at == "_rewrite":
            patch.setattr(placing, "_rewrite", killed)
        else:
            patch.setattr(Path, "rename", killed)
        with wiring.opened(shop.home) as app, pytest.raises(KeyboardInterrupt):
            wiring.move_catalog(app, empty, None, app.clock.now())
    if at == "rename":
        shop.must("list")  # the settings lead there already
    else:
        shop.must("catalog", "move", "--to", empty)
    assert said(shop, without_last=1) == before


def test_not_over_another_one(shop: House, empty: str) -> None:
    with closing(open_catalog(empty)) as other:
        other.prove_recipient("birch", "age1", SystemClock().now())
    told = shop.call("catalog", "move", "--to", empty)
    assert told.code == 13
    assert "another catalog is there" in told.err
    shop.must("run", "shop")


def test_not_while_somebody_works(shop: House, empty: str) -> None:
    with wiring.opened(shop.home) as app:
        app.leases.acquire(".schedule", "serve", app.clock.now(), timedelta(minutes=2))
        with pytest.raises(Busy, match="schedule"):
            wiring.move_catalog(app, empty, None, app.clock.now())
    assert shop.call("catalog", "move", "--to", empty).code == 12


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://db/catalog", "is a PostgreSQL database"),
        ("postgresql://db", "is a PostgreSQL database"),
        ("postgresql://backups:hunter2@db/catalog", "must not hold a password"),
        ("postgresql://db/catalog?password=hunter2", "must not hold a password"),
        ("file", "there already"),
    ],
)
def test_bad_places_are_refused(shop: House, url: str, reason: str) -> None:
    told = shop.call("catalog", "move", "--to", url)
    assert told.code == 10
    assert reason in told.err
    assert "hunter2" not in told.err
    assert shop.call("catalog", "move", "--to", "postgresql://nowhere.invalid/c").code == 13
    shop.must("run", "shop")


def test_a_shared_catalog_is_kept_safe_and_brought_back(
    shop: House, empty: str, tmp_path: Path, make_database: Callable[..., str], pg15_url: str
) -> None:
    identity = Identity.generate(SystemEntropy())
    key = tmp_path / "operator.txt"
    key.touch(mode=0o600)
    key.write_text(identity.reveal() + "\n")
    ours = tmp_path / "ours"
    ours.mkdir()
    shop.must("catalog", "move", "--to", empty)
    store = f"file://{ours}"
    shop.must("catalog", "backup", "--store", store, "--recipient", str(identity.recipient))
    before = shop.must("list", "--json").json

    settings = shop.home / "settings.yaml"
    settings.write_text(settings.read_text().replace(empty, make_database(pg15_url)))
    told = shop.call("list")
    assert told.code == 13
    assert "is gone" in told.err
    shop.must("catalog", "restore", "--store", store, "--identity", str(key))
    assert shop.must("list", "--json").json == before
    with wiring.opened(shop.home) as app:
        assert app.reconciliation.unread(["file:///x"])  # it does not know what was done since


def test_every_table_travels(shop: House, empty: str) -> None:
    """By the database's own list of them, not by ours."""
    with wiring.opened(shop.home) as app, read(app.catalog._engine) as connection:  # type: ignore[attr-defined]
        from sqlalchemy import inspect

        there = set(inspect(connection).get_table_names())
    assert {table.name for table in moving.ALL} == there - {"alembic_version"}


def test_a_failure_in_the_middle_leaves_both_as_they_were(
    shop: House, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise CatalogError("out of reach")

    with monkeypatch.context() as patch:
        patch.setattr(moving, "_continues", fails)
        patch.setattr(moving, "append", fails)
        with wiring.opened(shop.home) as app, pytest.raises(BackupsError):
            wiring.move_catalog(app, empty, None, app.clock.now())
    shop.must("run", "shop")
    shop.must("catalog", "move", "--to", empty)
    assert len(shop.must("list", "--json").json) == 2
