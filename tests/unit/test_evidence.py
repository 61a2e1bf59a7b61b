"""Evidence is kept as it was given, never changed, and its digest is in the audit chain."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backups.catalog.audit import SqlAudit
from backups.catalog.evidence import SqlArchive
from backups.catalog.journal import Journal
from backups.catalog.open import open_catalog
from backups.catalog.store import SqlCatalog
from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import CatalogError, NotFound
from backups.proving import (
    Begun,
    Check,
    Drill,
    Evidence,
    Opinion,
    Phase,
    Pick,
    Place,
    Publication,
    SelfTest,
    Trial,
)

AT = datetime(2026, 11, 23, 9, 30, 0, 123000, tzinfo=UTC)
PICK = Pick("random", "2026-11 shop", 3)
DRILL = Drill(
    id="d1",
    customer="acme",
    database="shop",
    backup="b1",
    store_url="s3://acme/x",
    engine="postgresql",
    policy_version=2,
    pick=PICK,
    kind="drill",
    began_at=AT,
    ended_at=AT + timedelta(minutes=1),
    verdict="PASSED",
    level=12,
    reason="",
    checks=(Check("rows", True, "5 rows", "5 rows", "orders"),),
    phases=(Phase("compare", 1234),),
    place=Place("d1", "private server", "eu", "15.18", ("no network",), AT, ("gone",)),
    snapshot_at=AT,
    rto_seconds=None,
    rpo_seconds=93600,
    tables=1,
    rows=5,
    plain_bytes=1 << 40,
    read_bytes=10,
    requests=3,
    key_ids=("ab",),
    procedure="0.1.0",
)
EVERY: list[tuple[str, Evidence]] = [
    ("begun", Begun("d1", "acme", "shop", "b1", PICK, AT)),
    ("drill", DRILL),
    (
        "self-test",
        SelfTest("s1", "acme", "shop", "b1", AT, AT, (Trial("n", "d", "rows", True, "rows"),)),
    ),
    ("publication", Publication("p1", "2026-11", "", AT, "00", "11", None)),
    ("opinion", Opinion("o1", "acme", "shop", "d1", "auditor", False, "no", AT)),
]


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[SqlCatalog]:
    journal = Journal("somebody", SystemClock(), SystemEntropy())
    found = open_catalog(tmp_path / "catalog.sqlite3", journal)
    yield found
    found.close()


def test_what_was_given_comes_back(catalog: SqlCatalog) -> None:
    archive = SqlArchive(catalog)
    for _, evidence in EVERY:
        archive.add(evidence)
    assert archive.evidence() == [evidence for _, evidence in EVERY]
    for kind, evidence in EVERY:
        assert archive.one(evidence.id, kind) == evidence
        assert archive.evidence([kind]) == [evidence]
    assert archive.evidence(customer="acme") == [e for _, e in EVERY if e.customer == "acme"]
    assert archive.evidence(database="other") == []
    assert archive.evidence(["drill"], until=DRILL.ended_at) == []
    assert archive.evidence(["drill"], since=DRILL.ended_at) == [DRILL]
    with pytest.raises(NotFound):
        archive.one("d1", "self-test")
    with pytest.raises(CatalogError):
        archive.add(DRILL)


def test_its_digest_is_in_the_chain(catalog: SqlCatalog, tmp_path: Path) -> None:
    SqlArchive(catalog).add(DRILL)
    (record,) = SqlAudit(catalog).records()
    with sqlite3.connect(tmp_path / "catalog.sqlite3") as connection:
        (document,) = connection.execute("SELECT document FROM evidence").fetchone()
    assert record.action == "drill.recorded"
    assert record.details["sha256"] == hashlib.sha256(document.encode()).hexdigest()
    assert (record.details["verdict"], record.details["level"]) == ("PASSED", "12")


@pytest.mark.parametrize(
    "statement", ["UPDATE evidence SET kind = 'x'", "DELETE FROM evidence"]
)
def test_nothing_is_changed(catalog: SqlCatalog, tmp_path: Path, statement: str) -> None:
    SqlArchive(catalog).add(DRILL)
    connection = sqlite3.connect(tmp_path / "catalog.sqlite3")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()


def test_verified_is_what_passed_and_failed_none_since(catalog: SqlCatalog) -> None:
    archive = SqlArchive(catalog)
    archive.add(DRILL)
    archive.add(replace(DRILL, id="d2", backup="b2", verdict="FAILED"))
    assert archive.verified("shop") == {"b1": DRILL.ended_at}
    archive.add(replace(DRILL, id="d3", verdict="INCONCLUSIVE"))
    assert archive.verified("shop") == {"b1": DRILL.ended_at}
    archive.add(replace(DRILL, id="d4", verdict="FAILED"))
    assert archive.verified("shop") == {}
