"""What goes wrong is said in one sentence, with what to do next, and its own exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import House, Said  # type: ignore[attr-defined]

pytestmark = pytest.mark.postgres
ABSENT = "postgresql://postgres@127.0.0.1:9/nothing?sslmode=disable"


@pytest.fixture
def declared(
    house: House, tmp_path: Path, pg15_url: str, make_database: Callable[..., str]
) -> House:
    store = tmp_path / "bucket"
    store.mkdir()
    house.declare(
        f"file://{store}",
        shop=make_database(pg15_url, sql="create table t (a int)"),
        gone=ABSENT,
    )
    return house


def assert_clear(said: Said, code: int, *words: str) -> None:
    assert said.code == code, said.err
    assert said.err.count("error: ") == 1
    assert "what next: " in said.err
    assert "Traceback" not in said.err
    for word in words:
        assert word in said.err, said.err


def test_no_home(house: House) -> None:
    house.path = house.path / "elsewhere"
    assert_clear(house.call("list"), 10, "backups init")


def test_an_existing_home_is_not_overwritten(house: House) -> None:
    key = (house.home / "keys" / "signing.pem").read_bytes()
    assert_clear(house.call("init"), 10, "home")
    assert (house.home / "keys" / "signing.pem").read_bytes() == key


@pytest.mark.parametrize("command", ["run", "list"])
def test_an_unknown_database(declared: House, command: str) -> None:
    assert_clear(declared.call(command, "shpo"), 11, "shpo")


def test_an_unknown_backup(declared: House) -> None:
    assert_clear(declared.call("show", "01a2"), 11, "01a2")


def test_a_server_that_does_not_answer(declared: House) -> None:
    assert_clear(declared.call("run", "gone"), 41)
    (row,) = (r for r in declared.must("status", "--json").json if r["database"] == "gone")
    assert row["last_run"] == "failed"
    assert row["error"]


def test_a_missing_bucket(house: House, s3_endpoint: str, pg15_url: str) -> None:
    house.declare(f"s3://no-such-bucket-here/x?endpoint={s3_endpoint}", shop=pg15_url)
    assert_clear(house.call("run", "shop"), 23, "no-such-bucket-here")
    assert house.must("list", "--json").json == []


def test_a_missing_folder(house: House, tmp_path: Path, pg15_url: str) -> None:
    house.declare(f"file://{tmp_path}/nowhere", shop=pg15_url)
    assert_clear(house.call("run", "shop"), 23, "nowhere")


def test_the_wrong_identity(declared: House, pg15_url: str, tmp_path: Path) -> None:
    from backups.entropy import SystemEntropy
    from backups.format.age import Identity

    declared.must("run", "shop")
    wrong = tmp_path / "wrong.txt"
    wrong.touch(mode=0o600)
    wrong.write_text(Identity.generate(SystemEntropy()).reveal())
    said = declared.call(
        "recover", "--store", f"file://{tmp_path}/bucket", "--identity", str(wrong),
        "--verify-key", str(declared.home / "keys" / "verify.pem"),
        "--to", pg15_url.replace("/postgres", "/never_made"),
    )  # fmt: skip
    assert_clear(said, 33)


def test_the_wrong_verify_key(declared: House, pg15_url: str, tmp_path: Path) -> None:
    from backups import wiring

    declared.must("run", "shop")
    other = wiring.init(str(tmp_path / "other"))
    said = declared.call(
        "recover", "--store", f"file://{tmp_path}/bucket",
        "--identity", str(declared.customer_identity),
        "--verify-key", str(other.verify_key),
        "--to", pg15_url.replace("/postgres", "/never_made"),
    )  # fmt: skip
    assert_clear(said, 32, "manifest.dsse.json")


def test_a_target_that_holds_data(declared: House, pg15_url: str) -> None:
    declared.must("run", "shop")
    url = next(r for r in declared.must("status", "--json").json if r["database"] == "shop")
    assert url["backups"] == 1
    from backups import wiring

    with wiring.opened(declared.home) as app:
        live = app.catalog.policy("shop").source_url
    assert_clear(declared.call("restore", "shop", "--to", live), 45)


@pytest.mark.parametrize(
    "to",
    [
        "postgresql://user:hunter2@host/db",
        "not a url",
        "mysql://host/db",
    ],
)
def test_a_target_that_is_none(declared: House, to: str) -> None:
    declared.must("run", "shop")
    said = declared.call("restore", "shop", "--to", to)
    assert said.code in (2, 10, 45), said.err
    assert "hunter2" not in said.err + said.out
    assert "Traceback" not in said.err


def test_a_bad_instant(declared: House) -> None:
    said = declared.call("restore", "shop", "--at", "yesterday", "--to", "x")
    assert said.code == 2
    assert "yesterday" in said.err


def test_two_runs_at_once(declared: House) -> None:
    from backups.locks import exclusive

    with exclusive(declared.home / "locks", "shop"):
        assert_clear(declared.call("run", "shop"), 12)
    declared.must("run", "shop")
