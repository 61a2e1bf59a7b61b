"""What `serve` does beside backups, by one call of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backups.entropy import SystemEntropy
from backups.format.age import Identity

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = pytest.mark.postgres


def chores(house: House) -> dict[str, str | None]:
    """Name to error, as the catalog has it."""
    with closing(sqlite3.connect(house.home / "catalog.sqlite3")) as catalog:
        return dict(catalog.execute("select name, error from chores where ended_at not null"))


def test_once_does_every_chore(
    house: House, tmp_path: Path, pg15_url: str, make_database: Callable[..., str]
) -> None:
    store, own = tmp_path / "store", tmp_path / "own"
    store.mkdir()
    own.mkdir()
    operator = Identity.generate(SystemEntropy())
    (house.home / "settings.yaml").write_text(
        f"catalog_store: file://{own}\ncatalog_recipients: ['{operator.recipient}']\n"
    )
    house.declare(f"file://{store}", shop=make_database(pg15_url, sql="create table t (x int)"))
    house.must("run", "shop")
    house.must("serve", "--once", "--json")
    assert set(chores(house)) >= {"prune", "scrub", "heads", "catalog"}
    assert set(chores(house).values()) == {None}
    assert list((store / "v1" / "audit").glob("*.head"))
    assert any(path.is_file() for path in own.rglob("*"))
    actions = [row["action"] for row in house.must("audit", "list", "--json").json]
    assert "store.scrubbed" in actions
    assert "catalog.backed_up" in actions
    # Not due again: nothing of it is done a second time.
    before = actions.count("store.scrubbed")
    said = house.must("serve", "--once", "--log", "json")
    assert all(set(json.loads(line)) == {"at", "event"} for line in said.out.splitlines())
    again = [row["action"] for row in house.must("audit", "list", "--json").json]
    assert again.count("store.scrubbed") == before


def test_a_chore_that_fails_is_on_record_and_the_others_are_done(
    house: House, tmp_path: Path, pg15_url: str, make_database: Callable[..., str]
) -> None:
    store = tmp_path / "store"
    house.declare(f"file://{store}", shop=make_database(pg15_url))
    said = house.call("serve", "--once")
    assert said.code != 0
    recorded = chores(house)
    assert "was not published" in (recorded["heads"] or "")
    assert recorded["catalog"] is None
