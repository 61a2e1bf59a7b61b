"""Leases and what the schedule reads, on the real catalog and on the one that simulations use:
the same answers from both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from schedule_kit import HOUR, MINUTE, POLICY, MemoryCatalog

from backups.catalog.agenda import SqlAgenda
from backups.catalog.leases import SqlLeases
from backups.catalog.open import open_catalog
from backups.errors import Busy, CatalogError
from backups.ids import lease_name
from backups.model import Backup, History, Policy, Run

T0 = datetime(2026, 11, 23, 3, tzinfo=UTC)


class Sql:
    """The real ones, as one object of the simulation's shape."""

    def __init__(self, path: Path) -> None:
        self.catalog = open_catalog(path)
        self.parts = (self.catalog, SqlAgenda(self.catalog), SqlLeases(self.catalog))

    def declare(self, policies: list[Policy]) -> None:
        self.catalog.save_policies(policies)

    def __getattr__(self, name: str) -> Any:
        return next(getattr(part, name) for part in self.parts if hasattr(part, name))


@pytest.fixture(params=["memory", "sqlite"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryCatalog()
        return
    real = Sql(tmp_path / "catalog.sqlite3")
    yield real
    real.catalog.close()


def run(id_: str, at: datetime = T0, epoch: int | None = None) -> Run:
    return Run(id_, "acme", "shop", 1, "running", at, slot=at.date(), epoch=epoch)


def backup(id_: str, at: datetime) -> Backup:
    return Backup(
        id_, "acme", "shop", "postgresql", at, at + timedelta(days=30), 1, 1, "s3://acme",
        "0" * 64,
    )  # fmt: skip


def test_a_lease_has_one_holder(catalog: Any) -> None:
    assert catalog.acquire("x", "a", T0, MINUTE) == 1
    with pytest.raises(Busy):
        catalog.acquire("x", "b", T0 + MINUTE / 2, MINUTE)
    assert catalog.acquire("y", "b", T0, MINUTE) == 1
    catalog.renew("x", 1, T0 + MINUTE / 2, MINUTE)
    with pytest.raises(Busy):
        catalog.acquire("x", "b", T0 + MINUTE, MINUTE)
    assert catalog.acquire("x", "b", T0 + 2 * MINUTE, MINUTE) == 2
    with pytest.raises(Busy):
        catalog.renew("x", 1, T0 + 2 * MINUTE, MINUTE)
    catalog.release("x", 1)  # too late: it is another's
    with pytest.raises(Busy):
        catalog.acquire("x", "c", T0 + 2 * MINUTE, MINUTE)
    catalog.release("x", 2)
    with pytest.raises(Busy):
        catalog.renew("x", 2, T0 + 2 * MINUTE, MINUTE)
    assert catalog.acquire("x", "c", T0 + 2 * MINUTE, MINUTE) == 3


def test_who_is_known_to_be_dead_holds_nothing(catalog: Any) -> None:
    catalog.acquire("x", "host-1 77", T0, MINUTE)
    with pytest.raises(Busy):
        catalog.acquire("x", "host-2 5", T0, MINUTE, dead="host-2 ")
    assert catalog.acquire("x", "host-1 78", T0, MINUTE, dead="host-1 ") == 2


def test_no_lease_outlives_a_clock_that_was_wrong(catalog: Any) -> None:
    future = T0 + timedelta(days=3650)
    catalog.acquire("x", "a", future, HOUR)
    assert catalog.acquire("x", "b", T0, MINUTE) == 2
    catalog.acquire("y", "a", T0, timedelta(days=9))
    assert catalog.acquire("y", "b", T0 + HOUR, MINUTE) == 2, "none is longer than an hour"


def test_history_tells_days_apart_from_attempts(catalog: Any) -> None:
    catalog.declare([POLICY])
    assert catalog.histories(T0 - HOUR) == {}
    catalog.start_run(run("r1"))
    assert catalog.histories(T0 - HOUR) == {}, "one under way is neither"
    catalog.prepare_run("r1", b"x")
    catalog.commit_run(backup("r1", T0 + MINUTE), T0 + 5 * MINUTE)
    catalog.start_run(run("r2", T0 + HOUR))
    catalog.end_run("r2", "failed", T0 + 2 * HOUR, "no")
    catalog.start_run(run("r3", T0 + 3 * HOUR))
    catalog.end_run("r3", "interrupted", T0 + 4 * HOUR, "no")
    expected = History((T0 + MINUTE,), (T0 + 2 * HOUR,), (T0 + 3 * HOUR,))
    assert catalog.histories(T0 - HOUR) == {"shop": expected}
    assert catalog.histories(T0 - HOUR, "shop") == {"shop": expected}
    assert catalog.histories(T0 - HOUR, "other") == {}
    assert catalog.histories(T0 + 2 * HOUR) == {"shop": History((), (), (T0 + 3 * HOUR,))} or (
        catalog.histories(T0 + 2 * HOUR)
        == {"shop": History((), (T0 + 2 * HOUR,), (T0 + 3 * HOUR,))}
    )


def test_the_revision_changes_with_the_fleet(catalog: Any) -> None:
    seen = [catalog.revision()]
    catalog.declare([POLICY])
    seen.append(catalog.revision())
    catalog.declare([replace(POLICY, window="02:00-03:00 UTC")])
    seen.append(catalog.revision())
    assert len(set(seen)) == 3
    assert catalog.revision() == seen[-1]


def test_who_was_fenced_off_neither_starts_nor_commits(catalog: Any) -> None:
    catalog.declare([POLICY])
    name = lease_name("shop")
    first = catalog.acquire(name, "a", T0, MINUTE)
    catalog.start_run(run("r1", epoch=first))
    second = catalog.acquire(name, "b", T0 + HOUR, MINUTE)
    with pytest.raises(Busy):
        catalog.start_run(run("r2", epoch=first))
    catalog.end_run("r1", "interrupted", T0 + HOUR, "the process ended during the run")
    with pytest.raises(CatalogError):
        catalog.prepare_run("r1", b"late")
    catalog.start_run(run("r3", T0 + HOUR, epoch=second))
    (left,) = catalog.unfinished_runs("shop")
    assert (left.id, left.epoch, left.slot) == ("r3", second, date(2026, 11, 23))


def test_a_prepared_run_is_carried_through_by_either(catalog: Any) -> None:
    catalog.declare([POLICY])
    catalog.start_run(run("r1", epoch=1))
    catalog.prepare_run("r1", b"x")
    catalog.commit_run(backup("r1", T0), T0 + HOUR)
    catalog.commit_run(backup("r1", T0), T0 + 2 * HOUR)
    assert catalog.histories(T0 - HOUR) == {"shop": History((T0,), ())}
    assert catalog.unfinished_runs("shop") == []
