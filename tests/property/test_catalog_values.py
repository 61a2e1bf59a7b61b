"""Whatever a record may hold comes out of the catalog as it went in, and in order."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backups.catalog.open import open_catalog
from backups.catalog.store import SqlCatalog
from backups.model import Destination, Operation, Plan, Policy

# Far enough from the ends of the calendar that any zone can say them.
zones = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
LOW, HIGH = datetime(1, 1, 3), datetime(9999, 12, 29)  # noqa: DTZ001
instants = st.datetimes(LOW, HIGH, timezones=zones)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
counter = iter(range(10**9))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlCatalog]:
    path: Path = tmp_path_factory.mktemp("catalog")
    catalog = open_catalog(path / "catalog.sqlite3")
    yield catalog
    catalog.close()


def policy(database: str, url: str, recipients: list[str]) -> Policy:
    return Policy(
        customer="acme",
        database=database,
        version=1,
        plan=Plan("pro", 30),
        engine="postgresql",
        source_url=url,
        password_ref=None,
        stores=(Destination(url), Destination(url, url, None, url)),
        recipients=tuple(recipients),
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(url=words, recipients=st.lists(words, max_size=3))
def test_policies(catalog: SqlCatalog, url: str, recipients: list[str]) -> None:
    wanted = policy(f"policy-{next(counter)}", url, recipients)
    assert catalog.save_policy(wanted) == wanted
    assert catalog.policy(wanted.database) == wanted


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(instants, words), max_size=6))
def test_instants_and_words(catalog: SqlCatalog, drawn: list[tuple[datetime, str]]) -> None:
    database = f"operation-{next(counter)}"
    catalog.save_policy(policy(database, "url", []))
    operations = [
        Operation(f"{database}-{n}", "acme", database, "b", target, "running", instant)
        for n, (instant, target) in enumerate(drawn)
    ]
    for operation in operations:
        catalog.start_operation(operation)
    newest_first = sorted(operations, key=lambda o: (o.started_at, o.id), reverse=True)
    found = catalog.operations(database)
    assert found == newest_first
    assert all(operation.started_at.tzinfo is UTC for operation in found)
