"""Restore tests on real servers: what is whole passes, whatever is not is rejected by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sample_kit import ROOT, load
from scratch_kit import short_folder
from test_main_job import documented

from backups import wiring
from backups.clock import SystemClock
from backups.wiring import proving
from verify.controls import CONTROLS
from verify.meddle.registry import meddlings

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

MakeDatabase = Callable[..., str]
pytestmark = pytest.mark.postgres


@pytest.fixture
def house(house: House) -> Iterator[House]:
    """What other tests left of their dead is not swept here."""
    with short_folder() as folder:
        (house.home / "settings.yaml").write_text(f"scratch: {{directory: {folder}}}\n")
        yield house


def checks(found: dict[str, Any]) -> dict[str, bool | None]:
    return {check["name"]: check["passed"] for check in found["checks"]}


def test_what_is_whole_passes(house: House, s3_store: str, source: str) -> None:
    house.declare(s3_store, shop=source)
    house.must("run", "shop")
    said = house.call("verify", "run", "shop", "--json")
    assert said.code == 0, said.err + said.out
    found = said.json
    assert set(found) == documented("verify run --json")
    assert (found["verdict"], found["level"]) == ("PASSED", 12)  # no self-test yet
    assert found["scratch"]["destroyed_at"]
    assert found["read_bytes"] > 0
    assert house.must("list", "--json").json[0]["verdict"] == "PASSED"
    (listed,) = house.must("verify", "list", "--json").json
    assert listed == found
    assert "proven: 1 of 1 databases passed" in house.must("status").out


@pytest.mark.timeout(400)
def test_every_damaged_copy_is_rejected_by_its_check(
    house: House, tmp_path: Path, pg15_url: str, make_database: MakeDatabase
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    url = make_database(pg15_url)
    load(url, ROOT / "localstack" / "sample.sql")
    house.declare(f"file://{store}", shop=url)
    house.must("run", "shop")
    said = house.call("verify", "self-test", "shop", "--json")
    found = said.json
    assert said.code == 0, [t for t in found["trials"] if not t["caught"]]
    assert set(found) == documented("verify self-test --json")
    made = {trial["name"] for trial in found["trials"]}
    assert made >= set(CONTROLS) - {"forged end"} | set(meddlings("postgresql")) | {"undamaged"}
    assert found["caught"] == len(found["trials"])

    cold = house.must("verify", "run", "shop", "--cold", "--json").json
    assert (cold["kind"], cold["verdict"]) == ("cold start", "PASSED")
    # Now both are known to this month's tests.
    best = house.must("verify", "run", "shop", "--json").json
    assert (best["verdict"], best["level"]) == ("PASSED", 15)
    actions = [row["action"] for row in house.must("audit", "list", "--json").json]
    assert {"drill.recorded", "self-test.recorded", "identity.used"} <= set(actions)


def test_what_is_damaged_fails_and_counts_for_nothing(
    house: House, tmp_path: Path, pg15_url: str, make_database: MakeDatabase
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    house.declare(f"file://{store}", shop=make_database(pg15_url, sql="create table t (a int)"))
    house.must("run", "shop")
    segments = sorted((store / "v1" / "shop").rglob("*.age"))
    data = bytearray(segments[0].read_bytes())
    data[-20] ^= 1
    segments[0].chmod(0o600)
    segments[0].write_bytes(data)
    said = house.call("verify", "run", "shop", "--json")
    assert said.code == 50
    assert said.json["verdict"] == "FAILED"
    assert checks(said.json)["downloaded"] is False
    assert house.must("list", "--json").json[0]["verdict"] == "FAILED"
    assert house.must("verify", "sweep", "--json").json == []
    (drill,) = house.must("verify", "list", "--json").json
    opinion = ("--name", "Ann", "--failed", "--words", "so do I say")
    house.must("verify", "opinion", drill["drill_id"], *opinion)


def test_serve_makes_what_is_due(
    house: House, tmp_path: Path, pg15_url: str, make_database: MakeDatabase
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    house.declare(f"file://{store}", shop=make_database(pg15_url, sql="create table t (a int)"))
    house.must("run", "shop")
    (due,) = house.must("verify", "due", "--json").json
    assert set(due) == documented("verify due --json")
    with wiring.opened(house.home, Until(due["until"])) as app:
        done = proving.drill_all_due(app, app.clock.now() + timedelta(hours=1), lambda *_: None)
    assert done == "1 PASSED"
    with wiring.opened(house.home, Until(due["until"])) as app:
        assert proving.due_drills(app) == []


class Until(SystemClock):
    """The last hour of a period: whatever its lot, everything is due."""

    def __init__(self, end: str) -> None:
        self._now = datetime.fromisoformat(end) - timedelta(hours=1)

    def now(self) -> datetime:
        return self._now
