"""The catalog is not precious: lost, it is missed; it comes back from the operator's store or
from the customers', and nothing is deleted before it knows what lies there."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backups import wiring
from backups.entropy import SystemEntropy
from backups.format.age import Identity

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = pytest.mark.postgres


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """The operator's own store."""
    folder = tmp_path / "ours"
    folder.mkdir()
    return folder


@pytest.fixture
def operator(tmp_path: Path) -> tuple[str, Path]:
    """Recipient and identity file."""
    identity = Identity.generate(SystemEntropy())
    path = tmp_path / "operator.txt"
    path.touch(mode=0o600)
    path.write_text(identity.reveal() + "\n")
    return str(identity.recipient), path


@pytest.fixture
def shop(
    house: House, tmp_path: Path, pg15_url: str, make_database: Callable[..., str]
) -> House:
    store = tmp_path / "bucket"
    store.mkdir()
    house.declare(f"file://{store}", shop=make_database(pg15_url, sql="create table t ()"))
    house.must("run", "shop")
    return house


def lose(house: House) -> None:
    for file in house.home.glob("catalog.sqlite3*"):
        file.unlink()


def test_a_lost_catalog_is_missed(shop: House) -> None:
    lose(shop)
    for call in (["status"], ["run", "shop"], ["apply", f"{shop.path}/fleet.yaml"]):
        said = shop.call(*call)
        assert said.code == 13, said.err
        assert "is gone" in said.err
        assert "catalog restore" in said.err
        assert "catalog rebuild" in said.err
        assert not (shop.home / "catalog.sqlite3").exists()
        (shop.home / "catalog.sqlite3").touch()  # an empty one is none, either
        assert shop.call("list").code == 13
        (shop.home / "catalog.sqlite3").unlink()


def test_made_anew_it_is_in_doubt_until_it_has_read_its_stores(
    shop: House, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/bucket"
    lose(shop)
    said = shop.call("catalog", "rebuild")
    assert said.code == 10, said.err  # whose stores, nobody knows
    with wiring.opened(shop.home) as app:
        assert app.reconciliation.unread([url]) == [url]
    shop.must("apply", str(shop.path / "fleet.yaml"))
    (row,) = shop.must("catalog", "rebuild", "--json").json
    assert row["added"] == 1
    with wiring.opened(shop.home) as app:
        assert app.reconciliation.unread([url, "file:///other"]) == ["file:///other"]
        actions = [record.action for record in app.audit.records()]
    assert "catalog.doubted" in actions
    assert "catalog.reconciled" in actions
    assert len(shop.must("list", "--json").json) == 1


def test_stored_and_brought_back(
    shop: House, ours: Path, operator: tuple[str, Path], tmp_path: Path
) -> None:
    recipient, identity = operator
    url = f"file://{ours}"
    said = shop.must("catalog", "backup", "--store", url, "--recipient", recipient, "--json")
    assert said.json["bytes"] > 10_000
    before = shop.must("list", "--json").json
    assert before
    for file in ours.rglob("*"):  # nothing of any customer in the clear
        assert b"acme" not in (file.read_bytes() if file.is_file() else b"")

    there = shop.call("catalog", "restore", "--store", url, "--identity", str(identity))
    assert there.code == 13
    assert "not overwritten" in there.err

    lose(shop)
    # What a crash leaves beside it must not be written into the one that comes back.
    (shop.home / "catalog.sqlite3-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(5000))
    shop.must("catalog", "restore", "--store", url, "--identity", str(identity))
    assert shop.must("list", "--json").json == before
    shop.must("audit", "verify")
    with wiring.opened(shop.home) as app:
        theirs = f"file://{tmp_path}/bucket"
        assert app.reconciliation.unread([theirs]) == [theirs]
    shop.must("catalog", "rebuild")
    with wiring.opened(shop.home) as app:
        assert app.reconciliation.unread([theirs]) == []
    shop.must("run", "shop")
    leftovers = {file.name for file in shop.home.iterdir()}
    assert not leftovers & {"catalog.snapshot", "catalog.coming"}


def test_what_comes_back_is_the_newest_that_is_signed(
    shop: House, ours: Path, operator: tuple[str, Path], customer_key: Path
) -> None:
    recipient, identity = operator
    url = f"file://{ours}"
    (shop.home / "settings.yaml").write_text(f"catalog_recipients: [{recipient}]\n")
    names = [
        shop.must("catalog", "backup", "--store", url, "--json").json["name"] for _ in range(2)
    ]
    restore = ("catalog", "restore", "--store", url, "--identity")
    lose(shop)
    assert shop.call(*restore, str(customer_key)).code == 33  # a customer's key opens nothing
    assert not (shop.home / "catalog.sqlite3").exists()

    piece = ours / "catalog" / names[1] / "00000.age"
    good = piece.read_bytes()
    piece.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    damaged = shop.call(*restore, str(identity))
    assert damaged.code == 31
    assert names[1] in damaged.err
    assert not (shop.home / "catalog.sqlite3").exists()

    # Another's label is passed over and named; an older one of ours is taken.
    label = ours / "catalog" / names[1] / "label.dsse.json"
    shutil.copy(ours / "catalog" / names[0] / "label.dsse.json", label)
    said = shop.must(*restore, str(identity), "--json")
    assert said.json["name"] == names[0]
    assert f"not believed: catalog/{names[1]}/label.dsse.json" in said.err


@pytest.fixture
def customer_key(house: House) -> Path:
    return house.customer_identity


def test_stock_tools_read_it(shop: House, ours: Path, operator: tuple[str, Path]) -> None:
    recipient, identity = operator
    shop.must("catalog", "backup", "--store", f"file://{ours}", "--recipient", recipient)
    (piece,) = ours.rglob("*.age")
    file = ours / "plain.sqlite3"
    script = 'age -d -i "$1" "$2" | zstd -dc > "$3"'
    subprocess.run(["bash", "-c", script, "-", identity, piece, file], check=True)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("select count(*) from backups").fetchone() == (1,)


def test_a_customers_store_is_not_taken(shop: House, operator: tuple[str, Path]) -> None:
    recipient, _ = operator
    url = f"file://{shop.path}/bucket/catalog"
    said = shop.call("catalog", "backup", "--store", url, "--recipient", recipient)
    assert said.code == 10
    assert "acme" in said.err
    nobody = shop.call("catalog", "backup", "--store", f"file://{shop.path}")
    assert nobody.code == 10
    assert "catalog_recipients" in nobody.err
