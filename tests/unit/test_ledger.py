"""Holds and deletions in the catalog, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backups.catalog.ledger import SqlLedger
from backups.catalog.open import open_catalog
from backups.catalog.store import SqlCatalog
from backups.errors import CatalogError, NotFound
from backups.keeping import Chronicle, Deletion, Hold, Release
from backups.model import Backup, Copy, Destination, Plan, Policy, Run

T0 = datetime(2026, 11, 20, 3, 0, 0, 123456, tzinfo=UTC)
DAY = timedelta(days=1)
POLICY = Policy(
    "acme", "shop", 0, Plan("max", 90), "postgresql", "postgresql://db/shop", None,
    (Destination("s3://one"),), ("age1one",),
)  # fmt: skip
HOLD = Hold("h1", "acme", "shop", "b1", "case 47", "Ann Lee", T0)
DELETION = Deletion("b1", "acme", "shop", "expired", "its window ended", T0 + DAY)
RELEASE = Release("h1", "acme", "shop", "b1", "Bob Ray", T0 + DAY)


def backup(id_: str, at: datetime = T0, database: str = "shop") -> Backup:
    end = at + 90 * DAY
    return Backup(id_, "acme", database, "postgresql", at, end, 1, 1, "s3://one", "ab" * 32)


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlCatalog]:
    where: str | Path = tmp_path / "catalog.sqlite3"
    if request.param == "postgresql":
        make: Callable[..., str] = request.getfixturevalue("make_database")
        where = make(request.getfixturevalue("pg15_url"))
    catalog = open_catalog(where)
    catalog.save_policy(POLICY)
    catalog.add_backup(backup("b1"))
    catalog.add_backup(backup("b2", T0 + DAY))
    yield catalog
    catalog.close()


@pytest.fixture
def ledger(catalog: SqlCatalog) -> SqlLedger:
    return SqlLedger(catalog)


def test_a_hold_and_its_end(ledger: SqlLedger) -> None:
    assert ledger.add_hold(HOLD)
    assert not ledger.add_hold(HOLD)
    assert ledger.holds() == ledger.holds("shop") == [(HOLD, None)]
    assert ledger.holds("other") == []
    assert ledger.release_hold(RELEASE)
    assert not ledger.release_hold(replace(RELEASE, name="Eve"))
    assert ledger.holds() == [(HOLD, RELEASE)]
    with pytest.raises(CatalogError):
        ledger.add_hold(replace(HOLD, reason="another"))
    with pytest.raises(NotFound):
        ledger.release_hold(replace(RELEASE, hold="h2"))
    with pytest.raises(NotFound):
        ledger.add_hold(replace(HOLD, id="h2", backup="b9"))
    with pytest.raises(NotFound):
        ledger.add_hold(replace(HOLD, id="h2", database="other"))


def test_what_is_held_is_not_deleted_and_what_is_deleted_not_held(ledger: SqlLedger) -> None:
    ledger.add_hold(HOLD)
    assert not ledger.delete_backup(DELETION)
    assert ledger.deletions("shop") == []
    ledger.release_hold(RELEASE)
    assert ledger.delete_backup(DELETION)
    assert ledger.delete_backup(replace(DELETION, reason="again"))
    assert ledger.deletions("shop") == [DELETION]
    with pytest.raises(NotFound):
        ledger.add_hold(replace(HOLD, id="h2"))
    with pytest.raises(NotFound):
        ledger.delete_backup(replace(DELETION, backup="b9"))


def test_a_hold_that_ended_by_itself_holds_no_more(ledger: SqlLedger) -> None:
    ledger.add_hold(replace(HOLD, until=T0 + DAY))
    assert not ledger.delete_backup(replace(DELETION, deleted_at=T0))
    assert ledger.delete_backup(DELETION)


def test_the_deleted_are_listed_no_more_and_never_anew(
    catalog: SqlCatalog, ledger: SqlLedger
) -> None:
    catalog.add_copy(Copy("b1", "s3://two", "cd" * 32))
    assert ledger.stores("shop") == ["s3://one", "s3://two"]
    ledger.delete_backup(DELETION)
    assert [entry.id for entry in catalog.backups()] == ["b2"]
    with pytest.raises(NotFound):
        catalog.backup("b1")
    assert not catalog.add_backup(backup("b1"))  # a rebuild
    assert [entry.id for entry in catalog.backups("shop")] == ["b2"]
    assert ledger.stores("shop") == ["s3://one", "s3://two"]
    ledger.finish_deletion("b1", T0 + 2 * DAY)
    ledger.finish_deletion("b1", T0 + 3 * DAY)
    assert ledger.deletions("shop") == [replace(DELETION, removed_at=T0 + 2 * DAY)]
    assert ledger.stores("shop") == ["s3://one"]


def test_the_plans_and_when_they_were_first_followed(
    catalog: SqlCatalog, ledger: SqlLedger
) -> None:
    small = Plan("pro", 30, keep_weekly=4)
    catalog.save_policy(replace(POLICY, plan=small))
    for number, version in enumerate([1, 1, 2]):
        at = T0 + number * DAY
        catalog.start_run(Run(f"r{number}", "acme", "shop", version, "running", at))
        catalog.end_run(f"r{number}", "failed", at, "no")
    assert ledger.plans("shop") == [(POLICY.plan, T0), (small, T0 + 2 * DAY)]
    assert ledger.plans("other") == []


def test_what_the_records_say_of_time(catalog: SqlCatalog, ledger: SqlLedger) -> None:
    assert ledger.chronicle(T0 + DAY) == Chronicle(T0 + DAY, T0 + DAY, T0)
    assert ledger.chronicle(T0) == Chronicle(T0 + DAY, T0, None)
    later = T0 + 9 * DAY
    catalog.start_run(Run("r", "acme", "shop", 1, "running", later))
    assert ledger.chronicle(T0 + 2 * DAY) == Chronicle(later, later, T0 + DAY)
    assert ledger.chronicle(T0 + 10 * DAY) == Chronicle(later, None, later)
