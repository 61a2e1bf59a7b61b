"""The audit chain by the command line: every change is in it; a rewritten one is found out."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = [pytest.mark.postgres, pytest.mark.s3]


@pytest.fixture
def busy(
    house: House, s3_store: str, pg15_url: str, make_database: Callable[..., str]
) -> House:
    """A home in which something was done, and whose head was published."""
    house.declare(s3_store, shop=make_database(pg15_url, sql="create table t as select 1"))
    house.must("run", "shop")
    house.must("check", "shop")
    house.must("restore", "shop", "--to", make_database(pg15_url))
    assert house.must("audit", "publish", "--json").json == [
        {"store": s3_store, "outcome": "published", "error": None}
    ]
    return house


def tamper(house: House, *statements: str) -> None:
    with closing(sqlite3.connect(house.home / "catalog.sqlite3")) as catalog, catalog:
        for statement in statements:
            catalog.execute(statement)


def unguarded(*statements: str) -> tuple[str, ...]:
    return ("drop trigger audit_no_update", "drop trigger audit_no_delete", *statements)


def test_every_change_and_use_of_a_key_is_recorded(busy: House) -> None:
    records: list[dict[str, Any]] = busy.must("audit", "list", "--json").json[::-1]
    assert [record["action"] for record in records] == [
        "policy.saved",
        "run.started", "run.prepared", "backup.committed",
        "identity.used",
        "restore.started", "identity.used", "restore.done",
    ]  # fmt: skip
    assert {record["customer"] for record in records} == {"acme"}
    assert [record["sequence"] for record in records] == list(range(1, len(records) + 1))
    assert busy.must("audit", "list", "--customer", "else", "--json").json == []
    verified = busy.must("audit", "verify", "--json").json
    assert (verified["records"], verified["heads"]) == (len(records), 1)
    assert "today's is there already" in busy.must("audit", "publish").out


def test_the_table_refuses_to_be_rewritten(busy: House) -> None:
    for statement in ("update audit set actor = 'nobody'", "delete from audit"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            tamper(busy, statement)


def test_a_failed_run_is_recorded_with_its_reason(house: House, s3_store: str) -> None:
    house.declare(s3_store, shop="postgresql://nobody@127.0.0.1:1/none")
    house.call("run", "shop")
    record = house.must("audit", "list", "--json").json[0]
    assert record["action"] == "run.failed"
    assert record["details"]["error"]


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (
            ("update audit set actor = 'nobody' where sequence = 2",),
            "record 3 or the one before",
        ),
        (("delete from audit where sequence = 2",), "record 2 is gone"),
        # The last records can be cut or changed without breaking the chain itself: the head in
        # the customer's bucket is what remembers them.
        (("delete from audit where sequence > 4",), "records were cut off"),
        (("update audit set actor = 'nobody' where sequence = 8",), "record 8 or an earlier"),
    ],
)
def test_a_rewritten_chain_is_found_out(
    busy: House, statements: tuple[str, ...], words: str
) -> None:
    tamper(busy, *unguarded(*statements))
    said = busy.call("audit", "verify")
    assert said.code == 31
    assert words in said.out + said.err


def test_a_head_that_somebody_else_signed_is_a_problem(
    busy: House, s3_client: Any, bucket: str
) -> None:
    (key,) = (
        entry["Key"]
        for entry in s3_client.list_objects_v2(Bucket=bucket)["Contents"]
        if entry["Key"].endswith(".head")
    )
    s3_client.put_object(Bucket=bucket, Key=key, Body=b"{}")
    said = busy.call("audit", "verify", "--json")
    assert said.code == 31
    assert key.removeprefix("bloomneo/") in said.json["problems"][0]["problem"]
