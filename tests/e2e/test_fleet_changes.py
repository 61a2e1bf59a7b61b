"""A fleet file that changes under an operator's hands: what is said, what comes into force, and
that nothing stops or goes on in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from backups import wiring

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = pytest.mark.postgres


@pytest.fixture
def shop_url(pg15_url: str, make_database: Callable[..., str]) -> str:
    return make_database(pg15_url, sql="create table t as select 1 as a")


@pytest.fixture
def fleet(house: House, shop_url: str) -> dict[str, Any]:
    """A fleet of one database, to be changed and written again."""
    (house.path / "one").mkdir()
    return {
        "customers": [
            {
                "id": "acme",
                "plan": "pro",
                "stores": [{"url": f"file://{house.path}/one"}],
                "recipients": [house.recipient],
                "databases": [{"id": "shop", "engine": "postgresql", "url": shop_url}],
            }
        ]
    }


def written(house: House, fleet: dict[str, Any]) -> str:
    path = house.path / "fleet.yaml"
    path.write_text(json.dumps(fleet))  # which is YAML, and has no aliases
    return str(path)


def states(house: House) -> list[str]:
    return [row["state"] for row in house.must("status", "--json").json]


def test_a_difference_is_shown_and_then_in_force(house: House, fleet: dict[str, Any]) -> None:
    said = house.must("apply", written(house, fleet), "--dry-run", "--json").json
    assert said["changes"][0]["from_version"] is None
    assert {"field": "plan.retention_days", "from": None, "to": "30"} in said["changes"][0][
        "fields"
    ]
    assert house.must("status", "--json").json == []
    house.must("apply", written(house, fleet))
    house.must("run", "shop")

    (customer,) = fleet["customers"]
    customer["plan"] = "max"
    customer["databases"][0]["window"] = "01:00-05:00 Europe/Berlin"
    for dry_run in (["--dry-run"], []):
        text = house.must("apply", written(house, fleet), *dry_run).out
        assert "plan.retention_days: 30 → 90" in text
        assert "window: 01:00-05:00 Europe/Berlin" in text
        assert "kept longer, from 30 to 90 days, at once: 1 backup already there" in text
    assert "0 changed" in house.must("apply", written(house, fleet)).out
    customer["plan"] = "pro"
    (change,) = house.must("apply", written(house, fleet), "--json").json["changes"]
    assert "kept shorter, from 90 to 30 days, from the next backup on" in change["means"]
    assert "an earlier, higher plan kept longer may go from" in change["means"]


def test_one_bad_customer_and_nothing_is_in_force(house: House, fleet: dict[str, Any]) -> None:
    house.must("apply", written(house, fleet))
    (acme,) = fleet["customers"]
    # The file is sound; that the id was another customer's, only the catalog knows.
    thief = acme | {
        "id": "zeta",
        "stores": [{"url": f"file://{house.path}/two"}],
        "databases": [dict(acme["databases"][0])],
    }
    fresh = acme["databases"][0] | {"id": "fresh"}
    fleet["customers"] = [acme | {"plan": "max", "databases": [fresh]}, thief]
    said = house.call("apply", written(house, fleet))
    assert said.code == 13
    assert "belongs to customer acme" in said.err
    (row,) = house.must("status", "--json").json
    assert (row["database"], row["plan"]) == ("shop", "pro")


def test_a_database_that_is_forgotten_is_named(house: House, fleet: dict[str, Any]) -> None:
    house.must("apply", written(house, fleet))
    (customer,) = fleet["customers"]
    (shop,) = customer["databases"]
    customer["databases"] = []
    (left_out,) = house.must("apply", written(house, fleet), "--json").json["undeclared"]
    assert left_out["database"] == "shop"
    assert left_out["means"] == "declared no more: still backed up; `retired: true` stops it"
    house.must("run", "shop")

    customer["databases"] = [shop | {"retired": True}]
    said = house.must("apply", written(house, fleet)).out
    assert "shop: active → retired since" in said
    refused = house.call("run", "shop")
    assert refused.code == 10
    assert "shop is retired since" in refused.err
    assert "retired: true" in refused.err
    customer["databases"] = []
    assert "declared no more: retired since" in house.must("apply", written(house, fleet)).out


def test_states_stop_backups_and_have_a_way_back(house: House, fleet: dict[str, Any]) -> None:
    house.must("apply", written(house, fleet))
    (customer,) = fleet["customers"]
    customer |= {"state": "paused", "until": "2020-01-31", "reason": "invoice 4711"}
    house.must("apply", written(house, fleet))
    refused = house.call("run", "shop", "--anyway")
    assert refused.code == 10
    assert "invoice 4711" in refused.err
    assert "Take `state: paused` out of the fleet file" in refused.err
    (state,) = states(house)
    assert state.startswith("paused since ")
    assert "until 2020-01-31, which is over: decide" in state
    with wiring.opened(house.home) as app:
        assert app.catalog.policy("shop").paused  # the schedule leaves it be
        assert "state.changed" in [record.action for record in app.audit.records()]

    for key in ("until", "reason"):
        del customer[key]
    customer["state"] = "leaving"
    house.must("apply", written(house, fleet))
    assert house.call("run", "shop").code == 10
    house.must("run", "shop", "--anyway")
    del customer["state"]
    house.must("apply", written(house, fleet))
    assert states(house) == ["active"]
    house.must("run", "shop")


def test_a_bucket_that_moved(
    house: House,
    fleet: dict[str, Any],
    pg15_url: str,
    make_database: Callable[..., str],
) -> None:
    house.must("apply", written(house, fleet))
    first = house.must("run", "shop", "--json").json["backup_id"]
    (customer,) = fleet["customers"]
    customer["stores"] = [{"url": f"file://{house.path}/two"}]
    house.must("apply", written(house, fleet))
    gone = house.call("run", "shop")
    assert gone.code == 23
    assert "write the new URL into the fleet file" in gone.err
    (house.path / "two").mkdir()
    second = house.must("run", "shop", "--json").json
    assert second["stores"] == [f"file://{house.path}/two"]
    assert house.must("check", first, "--json").json["stores"] == [f"file://{house.path}/one"]
    target = make_database(pg15_url)
    house.must("restore", first, "--to", target)
    with psycopg.connect(target) as connection:
        assert connection.execute("select a from t").fetchone() == (1,)


def test_the_schema_needs_no_home(house: House) -> None:
    house.path = house.path / "nowhere"
    assert house.must("apply", "--schema").json["title"] == "Fleet"
