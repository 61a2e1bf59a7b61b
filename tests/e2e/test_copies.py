"""A second copy: made beside the first, taken when that is of no use, healed when missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = [pytest.mark.postgres, pytest.mark.s3]
ROWS = "create table t as select g, md5(g::text) from generate_series(1, 2000) g"


@pytest.fixture
def shop(pg15_url: str, make_database: Callable[..., str]) -> str:
    return make_database(pg15_url, sql=ROWS)


@pytest.fixture
def copy_url(pg15_url: str, make_database: Callable[..., str]) -> str:
    """An empty database, which a restore may fill."""
    return make_database(pg15_url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "second"
    folder.mkdir()
    return folder


@pytest.fixture
def both(house: House, s3_store: str, folder: Path, shop: str) -> dict[str, Any]:
    """What `run` said of a backup that lies in a bucket and in a folder."""
    house.declare([s3_store, f"file://{folder}"], shop=shop)
    said: dict[str, Any] = house.must("run", "shop", "--json").json
    assert said["stores"] == [s3_store, f"file://{folder}"]
    return said


def objects(folder: Path) -> dict[str, bytes]:
    found = (path for path in (folder / "v1").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def rows(url: str) -> int:
    with psycopg.connect(url) as connection:
        (count,) = connection.execute("select count(*) from t").fetchone() or (0,)
        return int(count)


def test_both_are_whole_and_complete(house: House, both: dict[str, Any], folder: Path) -> None:
    (listed,) = house.must("list", "--json").json
    assert (listed["stores"], listed["complete"]) == (2, True)
    checked = house.must("check", both["backup_id"], "--json").json
    assert checked["stores"] == both["stores"]
    assert checked["objects"] == 2 * (len(objects(folder)) - 1)  # the manifest is none
    assert "nothing to copy" in house.must("copy", "shop").out
    recipes = house.must("show", "shop").out
    assert all(f"With {url}, an identity" in recipes for url in both["stores"])


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "manifest"])
def test_a_restore_takes_the_copy_that_is_whole(
    damage: str,
    house: House,
    both: dict[str, Any],
    s3_client: Any,
    bucket: str,
    copy_url: str,
    folder: Path,
    pg15_url: str,
    make_database: Callable[..., str],
) -> None:
    wanted = "manifest.dsse.json" if damage == "manifest" else "00000.age"
    page = s3_client.list_objects_v2(Bucket=bucket)["Contents"]
    (key,) = (entry["Key"] for entry in page if entry["Key"].endswith(wanted))
    data = s3_client.get_object(Bucket=bucket, Key=key)["Body"].read()
    s3_client.delete_object(Bucket=bucket, Key=key)
    if damage == "cut":
        s3_client.put_object(Bucket=bucket, Key=key, Body=data[:-1])
    if damage == "flipped":  # only reading it tells: the restore begins anew
        s3_client.put_object(Bucket=bucket, Key=key, Body=data[:-1] + bytes([data[-1] ^ 1]))
    said = house.must("restore", "shop", "--to", copy_url)
    assert f"the copy in {both['stores'][0]} is of no use: " in said.err
    assert wanted in said.err
    assert rows(copy_url) == 2000
    # Where no copy is whole, the nearest one's fault is what is said.
    for path in (folder / "v1").rglob("*.age"):
        path.unlink()
    said = house.call("restore", "shop", "--to", make_database(pg15_url))
    assert said.code in (24, 31)
    assert said.err.count("is of no use") == 2
    assert wanted in said.err.splitlines()[-2]


def test_a_store_out_of_reach_leaves_the_backup_and_is_healed_later(
    house: House, s3_store: str, folder: Path, shop: str, copy_url: str
) -> None:
    folder.rmdir()
    house.declare([s3_store, f"file://{folder}"], shop=shop)
    said = house.call("run", "shop")
    assert said.code == 23
    assert str(folder) in said.err
    (listed,) = house.must("list", "--json").json
    assert (listed["stores"], listed["complete"]) == (1, False)
    house.must("restore", "shop", "--to", copy_url)
    folder.mkdir()
    (copied,) = house.must("copy", "shop", "--json").json
    assert copied == {"backup_id": listed["backup_id"], "store": f"file://{folder}"}
    assert house.must("list", "--json").json[0]["complete"] is True
    house.must("check", "shop")


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_missing_from_a_store_is_healed_from_the_other(
    which: int,
    house: House,
    both: dict[str, Any],
    s3_client: Any,
    bucket: str,
    folder: Path,
    copy_url: str,
) -> None:
    if which:
        for path in sorted((folder / "v1").rglob("*"))[::3]:
            if path.is_file():
                path.unlink()
    else:
        s3_client.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        for entry in s3_client.list_objects_v2(Bucket=bucket)["Contents"]:
            s3_client.delete_object(Bucket=bucket, Key=entry["Key"])
    assert house.call("check", "shop").code == 24
    (healed,) = house.must("copy", "shop", "--json").json
    assert healed["store"] == both["stores"][which]
    house.must("check", "shop")
    assert house.must("list", "--json").json[0]["stores"] == 2
    assert house.must("copy", "shop", "--json").json == []
    assert "is of no use" not in house.must("restore", "shop", "--to", copy_url).err


def test_nothing_heals_the_only_copy(
    house: House, s3_store: str, shop: str, s3_client: Any, bucket: str
) -> None:
    house.declare(s3_store, shop=shop)
    house.must("run", "shop")
    for entry in s3_client.list_objects_v2(Bucket=bucket)["Contents"]:
        s3_client.delete_object(Bucket=bucket, Key=entry["Key"])
    said = house.call("copy", "shop")
    assert said.code == 24
    assert "no other store" in said.err


def test_a_store_declared_later_gets_every_kept_backup(
    house: House, s3_store: str, folder: Path, shop: str
) -> None:
    house.declare(s3_store, shop=shop)
    for _ in range(2):
        house.must("run", "shop")
    house.declare([s3_store, f"file://{folder}"], shop=shop)
    assert [row["complete"] for row in house.must("list", "--json").json] == [False, False]
    assert len(house.must("copy", "shop", "--all", "--json").json) == 2
    assert [row["complete"] for row in house.must("list", "--json").json] == [True, True]


def test_copies_are_found_again_without_a_catalog(
    house: House, both: dict[str, Any], folder: Path, copy_url: str, tmp_path: Path
) -> None:
    for file in house.home.glob("catalog.sqlite3*"):
        file.unlink()
    for url in both["stores"]:
        house.must("catalog", "rebuild", "--store", url)
    assert house.must("list", "--json").json[0]["stores"] == 2
    house.must("apply", str(house.path / "fleet.yaml"))
    assert house.must("list", "--json").json[0]["complete"] is True
    recovered = house.must(
        "recover", "--store", f"file://{folder}", "--identity", str(house.customer_identity),
        "--verify-key", str(house.home / "keys" / "verify.pem"), "--to", copy_url, "--json",
    )  # fmt: skip
    assert recovered.json["backup_id"] == both["backup_id"]
    assert rows(copy_url) == 2000


def test_other_bytes_in_the_way_are_never_taken_for_a_copy(
    house: House, both: dict[str, Any], s3_store: str, tmp_path: Path
) -> None:
    third = tmp_path / "third"
    first = third / "v1" / "shop" / both["backup_id"] / "00000.age"
    first.parent.mkdir(parents=True)
    first.write_bytes(b"not ours")
    house.path.joinpath("fleet.yaml").write_text(
        house.path.joinpath("fleet.yaml").read_text().replace("/second", "/third")
    )
    house.must("apply", str(house.path / "fleet.yaml"))
    said = house.call("copy", "shop")
    assert said.code == 31
    assert "00000.age" in said.err
    assert first.read_bytes() == b"not ours"
    assert house.must("list", "--json").json[0]["stores"] == 2
