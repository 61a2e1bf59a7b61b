"""Restore tests on real servers: what is whole passes, whatever is not is rejected by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from test_main_job import documented

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = pytest.mark.postgres


def checks(found: dict[str, Any]) -> dict[str, bool | None]:
    return {check["name"]: check["passed"] for check in found["checks"]}


def test_what_is_whole_passes_and_every_control_is_rejected(
    house: House, s3_store: str, source: str
) -> None:
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
