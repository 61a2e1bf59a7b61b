"""Prune and hold as an operator calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import command_kit
import pytest
from prune_kit import DAY, Shop

from backups import wiring


class Operator:
    """A shop with seven days of backups, two of them over, and the command line."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self.shop = shop
        self.folder = folder
        self.ids = shop.daily(6)

    def call(self, *argv: str, code: int = 0) -> str:
        done = command_kit.call(["--home", str(self.shop.home), *argv])
        assert done.returncode == code, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def json(self, *argv: str) -> Any:
        return json.loads(self.call(*argv, "--json"))


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    folder = tmp_path / "store"
    folder.mkdir()
    shop = Shop(tmp_path / "home", (f"file://{folder}",)).start()
    (shop.home / "settings.yaml").write_text("prune_grace_days: 0\n")
    return Operator(shop, folder)


def test_hold_and_prune(operator: Operator) -> None:
    old, held = operator.ids[:2]
    words = ("--reason", "case 47", "--name", "Ann Lee")
    (hold,) = operator.json("hold", "add", held, *words)
    assert set(hold) == {
        "hold_id", "backup_id", "customer", "database", "reason", "name", "placed_at",
        "until", "released_by", "released_at",
    }  # fmt: skip
    assert operator.json("hold", "list") == [hold]
    assert "Ann Lee" in operator.call("hold", "list", "shop")

    planned = operator.json("prune", "--dry-run")
    assert set(planned) == {"dry_run", "databases"}
    (database,) = planned["databases"]
    assert set(database) == {"customer", "database", "frozen", "left", "backups", "steps"}
    decisions = {each["backup_id"]: each for each in database["backups"]}
    assert set(decisions[old]) == {
        "backup_id", "created_at", "expires_at", "decision", "reason", "words", "when",
    }  # fmt: skip
    assert (decisions[old]["decision"], decisions[old]["reason"]) == ("delete", "expired")
    assert (decisions[held]["decision"], decisions[held]["reason"]) == ("keep", "hold")
    assert decisions[held]["words"] == "under hold: Ann Lee: case 47"
    table = operator.call("prune", "--dry-run")
    assert "promised until" in table
    assert "nothing was changed" in table

    marked = operator.json("prune")
    assert [d["reason"] for d in marked["databases"][0]["backups"]] == [
        d["reason"] for d in database["backups"]
    ]
    (step,) = marked["databases"][0]["steps"]
    assert set(step) == {"backup_id", "store", "did", "words", "until"}
    assert (step["backup_id"], step["did"]) == (old, "marked")
    (told,) = (
        each for each in operator.json("audit", "list") if each["action"] == "backup.marked"
    )
    assert (told["subject"], told["details"]["until"]) == (
        old,
        step["until"].replace("Z", "+00:00"),
    )
    assert old in operator.call("list")  # a mark alone unlists nothing
    assert f"{old}: removed" in operator.call("prune", "shop")
    assert old not in operator.call("list")
    operator.call("show", old, code=11)
    operator.call("restore", old, "--to", "postgresql://nobody@localhost/x", code=11)
    assert not (operator.folder / "v1" / "shop" / old / "manifest.dsse.json").exists()

    (over,) = operator.json("hold", "remove", held, "--name", "Bob Ray")
    assert (over["hold_id"], over["released_by"]) == (hold["hold_id"], "Bob Ray")
    assert operator.json("hold", "list") == []
    assert operator.json("hold", "list", "--all") == [over]
    operator.call("hold", "remove", held, "--name", "Bob Ray", code=11)
    operator.call("prune")
    assert f"{held}: removed" in operator.call("prune")


def test_what_was_not_done_ends_with_an_error(operator: Operator) -> None:
    (operator.folder / "v1" / "shop" / operator.ids[3] / "manifest.dsse.json").unlink()
    assert "frozen" in operator.call("prune", "--dry-run")
    assert "nothing was deleted of shop" in operator.call("prune", code=1)
    operator.call("prune", "nothing-like-it", code=11)
    past = ("--until", "2020-01-01", "--reason", "x", "--name", "x")
    operator.call("hold", "add", "shop", *past, code=2)
    operator.call("hold", "add", "no-such", "--reason", "x", "--name", "x", code=11)


def test_a_rebuilt_catalog_holds_what_was_held(operator: Operator) -> None:
    operator.call("hold", "add", operator.ids[0], "--reason", "case 47", "--name", "Ann Lee")
    before = operator.json("hold", "list")
    for file in operator.shop.home.glob("catalog.sqlite3*"):
        file.unlink()
    url = operator.shop.stores[0]
    (rebuilt,) = operator.json("catalog", "rebuild", "--store", url)
    assert (rebuilt["found"], rebuilt["holds"]) == (7, 1)
    assert operator.json("hold", "list") == before
    operator.shop.declare(operator.shop.plan)
    (database,) = operator.json("prune", "--dry-run")["databases"]
    assert database["backups"][-1]["reason"] == "hold"


def test_a_wrong_clock_is_said(operator: Operator) -> None:
    """The records reach into the future: the clock went back."""
    operator.shop.clock.time += 2 * DAY
    operator.shop.take(operator.shop.clock.now())
    assert "the clock says" in operator.call("prune", code=1)


def test_nothing_goes_before_a_lost_catalog_was_rebuilt(operator: Operator) -> None:
    for file in operator.shop.home.glob("catalog.sqlite3*"):
        file.unlink()
    with wiring.opened(operator.shop.home, anew=True):
        pass
    operator.shop.declare(operator.shop.plan)
    operator.shop.daily(6)  # enough that some may go, as far as this catalog knows
    assert "catalog rebuild" in operator.call("prune", code=1)
    operator.call("catalog", "rebuild")
    assert "marked" in operator.call("prune")
