"""A customer who leaves takes everything along; one who asks for erasure is erased, in time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = pytest.mark.postgres


def now_in(house: House, state: str) -> None:
    path = house.path / "fleet.yaml"
    fleet = yaml.safe_load(path.read_text())
    fleet["customers"][0]["state"] = state
    path.write_text(yaml.safe_dump(fleet))
    house.must("apply", str(path))


@pytest.fixture
def shop(
    house: House, tmp_path: Path, pg15_url: str, make_database: Callable[..., str]
) -> House:
    store = tmp_path / "store"
    store.mkdir()
    house.declare(f"file://{store}", shop=make_database(pg15_url, sql="create table t (x int)"))
    house.must("run", "shop")
    return house


def test_offboarding(shop: House, tmp_path: Path) -> None:
    out = tmp_path / "handover"
    refused = shop.call("offboard", "acme", "--out", str(out))
    assert refused.code == 10
    assert "state: leaving" in refused.err
    now_in(shop, "leaving")
    done = shop.must("offboard", "acme", "--out", str(out), "--json").json
    assert (done["backups"], len(done["last"])) == (2, 1)
    listed = json.loads((out / "backups.json").read_text())
    assert all((out / each["manifest"]).is_file() for each in listed)
    assert "age" in (out / "README.txt").read_text()
    assert "PUBLIC KEY" in (out / "verify.pem").read_text()
    assert "left" in shop.must("status").out
    assert shop.call("run", "shop").code == 10
    # What they have is still theirs: nothing of it goes, everything comes back.
    (plan,) = shop.must("prune", "--dry-run", "--json").json["databases"]
    assert {each["decision"] for each in plan["backups"]} == {"keep"}
    shop.must("check", done["last"][0])
    actions = [row["action"] for row in shop.must("audit", "list", "--json").json]
    assert "customer.left" in actions
    now_in(shop, "active")
    shop.must("run", "shop")


def test_erasure(shop: House, tmp_path: Path) -> None:
    (backup,) = shop.must("list", "--json").json
    assert shop.call("erase", "acme", "--confirm", "acme").code == 10
    now_in(shop, "erased")
    assert shop.call("erase", "acme").code == 2
    dry = shop.must("erase", "acme", "--dry-run", "--json").json
    assert [row["backup_id"] for row in dry["backups"]] == [backup["backup_id"]]
    assert list((tmp_path / "store").rglob("*.age"))

    shop.must("hold", "add", backup["backup_id"], "--reason", "court", "--name", "Ann")
    waits = shop.call("erase", "acme", "--confirm", "acme", "--json")
    assert waits.code == 26
    assert [step["did"] for step in waits.json["steps"]] == ["held"]
    shop.must("hold", "remove", backup["backup_id"], "--name", "Ann")

    done = shop.must("erase", "acme", "--confirm", "acme", "--json").json
    assert done["left"] == 0
    assert done["steps"][-1]["did"] == "removed"
    assert not list((tmp_path / "store").rglob("*.age"))
    assert shop.must("list", "--json").json == []
    actions = [row["action"] for row in shop.must("audit", "list", "--json").json]
    assert "customer.erased" in actions
