"""A database, encrypted, into a customer's bucket and back: by the command line alone."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

ROOT = Path(__file__).parent.parent.parent
MakeDatabase = Callable[..., str]
pytestmark = [pytest.mark.postgres, pytest.mark.s3]


@pytest.fixture
def name_of_copy(pg15_url: str, make_database: MakeDatabase) -> Callable[[str], str]:
    """URL of a database that does not exist yet and is dropped after the test."""

    def name(name: str) -> str:
        url = make_database(pg15_url, name)
        with psycopg.connect(pg15_url, autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {}").format(sql.Identifier(name)))
        return url

    return name


def plain_dump(url: str) -> str:
    """pg_dump's own words for a database, without what must differ between two of them."""
    done = subprocess.run(["pg_dump", "-d", url], capture_output=True, text=True, check=True)
    return "\n".join(
        line
        for line in done.stdout.splitlines()
        if not line.startswith(("--", r"\restrict", r"\unrestrict"))
    )


def same_in_any_order(one: str, other: str) -> bool:
    """Rows may have moved within their table; everything else stands where it stood."""
    return sorted(one.splitlines()) == sorted(other.splitlines())


def documented(call: str) -> set[str]:
    """The JSON fields that the command line's reference promises for a call."""
    text = (ROOT / "backups" / "cli" / "README.md").read_text()
    (row,) = (
        line for line in text.splitlines() if line.startswith("| ") and f"`{call}`" in line
    )
    return set(re.findall(r"`(\w+)`", row.split("|")[2]))


def test_there_and_back(
    house: House, s3_store: str, source: str, name_of_copy: Callable[[str], str]
) -> None:
    house.declare(s3_store, shop=source)
    before = plain_dump(source)
    ran = house.must("run", "shop", "--json").json
    assert ran["state"] == "committed"
    assert set(ran) == documented("run --json")
    assert 0 < ran["stored_bytes"] < ran["bytes"]
    (listed,) = house.must("list", "shop", "--json").json
    assert listed["backup_id"] == ran["backup_id"]
    assert set(listed) == documented("list --json")
    (row,) = house.must("status", "acme", "--json").json
    assert set(row) == documented("status --json")
    copy = name_of_copy("there_and_back")
    restored = house.must("restore", "shop", "--to", copy, "--json").json
    assert restored["equal"] is True
    assert set(restored) == documented("restore --json")
    assert restored["tables"] > 0
    assert same_in_any_order(before, plain_dump(copy))
    assert house.must("check", ran["backup_id"]).out.startswith("backup")


def test_recover_with_store_identity_and_verify_key_alone(
    house: House, s3_store: str, source: str, name_of_copy: Callable[[str], str], tmp_path: Path
) -> None:
    house.declare(s3_store, shop=source)
    house.must("run", "shop")
    verify_key = tmp_path / "verify.pem"
    shutil.copy(house.home / "keys" / "verify.pem", verify_key)
    shutil.rmtree(house.home)
    copy = name_of_copy("recovered")
    house.must(
        "recover", "--store", s3_store, "--identity", str(house.customer_identity),
        "--verify-key", str(verify_key), "--to", copy,
    )  # fmt: skip
    assert same_in_any_order(plain_dump(source), plain_dump(copy))


def test_the_catalog_comes_back_from_the_bucket(
    house: House, s3_store: str, pg15_url: str, make_database: MakeDatabase
) -> None:
    house.declare(s3_store, shop=make_database(pg15_url, sql="create table t (a int)"))
    for _ in range(3):
        house.must("run", "shop")
    listed = house.must("list", "--json").json
    for file in house.home.glob("catalog.sqlite3*"):
        file.unlink()
    refused = house.call("list", "--json")
    assert refused.code == 13  # an empty list would say that there are no backups
    assert "backups catalog rebuild" in refused.err
    (rebuilt,) = house.must("catalog", "rebuild", "--store", s3_store, "--json").json
    assert (rebuilt["found"], rebuilt["added"], rebuilt["unreadable"]) == (3, 3, [])
    assert house.must("list", "--json").json == listed


def test_an_unbelievable_manifest_is_named_not_listed(
    house: House, s3_store: str, bucket: str, s3_client: Any, pg15_url: str,
    make_database: MakeDatabase,
) -> None:  # fmt: skip
    house.declare(s3_store, shop=make_database(pg15_url, sql="create table t (a int)"))
    first, second = (house.must("run", "shop", "--json").json["backup_id"] for _ in range(2))
    key = f"bloomneo/v1/shop/{first}/manifest.dsse.json"
    body = s3_client.get_object(Bucket=bucket, Key=key)["Body"].read()
    s3_client.put_object(Bucket=bucket, Key=key, Body=body.replace(b"payload", b"Payload"))
    for file in house.home.glob("catalog.sqlite3*"):
        file.unlink()
    said = house.call("catalog", "rebuild", "--store", s3_store)
    assert said.code == 30
    assert key.removeprefix("bloomneo/") in said.out
    assert [row["backup_id"] for row in house.must("list", "--json").json] == [second]


def test_stock_tools_follow_the_printed_recipe(
    house: House, source: str, name_of_copy: Callable[[str], str], tmp_path: Path
) -> None:
    """Word for word: the script is run as it was printed, with nothing of ours on the path."""
    store = tmp_path / "bucket"
    store.mkdir()
    house.declare(f"file://{store}", shop=source)
    house.must("run", "shop")
    recipe = house.must("show", "shop", "--recipe").out
    copy = name_of_copy("shop-restored")  # what the recipe calls it
    place = tmp_path / "elsewhere"
    place.mkdir()
    shutil.copy(house.customer_identity, place / "identity.txt")
    shutil.copy(house.home / "keys" / "verify.pem", place / "verify-key.pem")
    shutil.rmtree(house.home)
    connection = psycopg.conninfo.conninfo_to_dict(copy)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", recipe],
        cwd=place,
        check=False,
        capture_output=True,
        text=True,
        env={
            "PATH": "/usr/bin:/bin",
            "PGHOST": str(connection["host"]),
            "PGPORT": str(connection["port"]),
            "PGUSER": str(connection["user"]),
        },
    )
    assert done.returncode == 0, done.stderr
    assert same_in_any_order(plain_dump(source), plain_dump(copy))
    assert (store / "README.txt").read_text().strip()
