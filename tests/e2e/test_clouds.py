"""Sakila through each cloud, and a backup in one restored from its copy in another."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from providers.access import Access
from providers.registry import open_store

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = [pytest.mark.postgres, pytest.mark.s3]
CLOUDS = ("s3_store", "gcs_store", "azure_store")


@pytest.fixture
def sakila(pg15_url: str, make_database: Callable[..., str], sample_data: Path) -> str:
    url = make_database(pg15_url)
    for part in ("schema", "data"):
        script = sample_data / f"sakila-postgresql-{part}.sql"
        subprocess.run(
            ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", str(script)],
            check=True,
            capture_output=True,
        )
    return url


def rented(url: str) -> tuple[int, ...]:
    with psycopg.connect(url) as connection:
        query = "select count(*), sum(customer_id), min(rental_id) from rental"
        return connection.execute(query).fetchone() or ()


def lose_a_segment(url: str) -> None:
    entropy, clock = SystemEntropy(), SystemClock()
    store = open_store(url, clock=clock, entropy=entropy, access=Access("pruner"))
    with closing(store):
        first = next(info for info in store.list("v1/") if info.key.endswith(".age"))
        store.delete(first.key, version_id=first.version_id)


@pytest.mark.parametrize(
    ("first", "second"), list(zip(CLOUDS, CLOUDS[1:] + CLOUDS[:1], strict=True))
)
def test_there_and_back_and_from_the_copy_elsewhere(
    first: str,
    second: str,
    house: House,
    sakila: str,
    pg15_url: str,
    make_database: Callable[..., str],
    request: pytest.FixtureRequest,
) -> None:
    stores = [request.getfixturevalue(name) for name in (first, second)]
    house.declare(stores, sakila=sakila)
    ran = house.must("run", "sakila", "--json").json
    assert ran["stores"] == stores
    copy = make_database(pg15_url)
    said = house.must("restore", "sakila", "--to", copy)
    assert "is of no use" not in said.err
    assert rented(copy) == rented(sakila)
    lose_a_segment(stores[0])
    copy = make_database(pg15_url)
    said = house.must("restore", "sakila", "--to", copy)
    assert f"the copy in {stores[0]} is of no use" in said.err
    assert rented(copy) == rented(sakila)
    recovered = house.must(
        "recover", "--store", stores[1], "--identity", str(house.customer_identity),
        "--verify-key", str(house.home / "keys" / "verify.pem"),
        "--to", make_database(pg15_url), "--json",
    )  # fmt: skip
    assert recovered.json["equal"] is True
