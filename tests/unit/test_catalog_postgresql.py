"""The same catalog on PostgreSQL: nothing in it is SQLite's alone."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from backups.catalog import open as opening
from backups.catalog import tables
from backups.catalog.open import open_catalog
from backups.catalog.store import SqlCatalog
from backups.errors import Busy, CatalogError
from backups.model import Backup, Destination, Operation, Plan, Policy, Run

pytestmark = pytest.mark.postgres

T0 = datetime(2026, 11, 20, 3, 0, 0, 123456, tzinfo=UTC)
POLICY = Policy(
    customer="acme",
    database="acme-main",
    version=1,
    plan=Plan("max", 90),
    engine="postgresql",
    source_url="postgresql://db/main",
    password_ref=None,
    stores=(Destination("s3://acme-backups"), Destination("gs://acme-copies", "w", "r", "p")),
    recipients=("age1one",),
)
RUN = Run("run-1", "acme", "acme-main", 1, "running", T0)
BACKUP = Backup(
    id="run-1",
    customer="acme",
    database="acme-main",
    engine="postgresql",
    created_at=T0,
    expires_at=T0 + timedelta(days=90),
    plain_bytes=1 << 42,
    stored_bytes=1 << 40,
    store_url="s3://acme-backups",
    manifest_sha256="ab" * 32,
)


@pytest.fixture
def url(pg15_url: str, make_database: Callable[..., str]) -> str:
    return make_database(pg15_url)


@pytest.fixture
def catalog(url: str) -> Iterator[SqlCatalog]:
    catalog = open_catalog(url)
    yield catalog
    catalog.close()


def test_from_policy_to_restore(catalog: SqlCatalog, url: str) -> None:
    assert catalog.save_policy(POLICY) == catalog.save_policy(POLICY) == POLICY
    edited = replace(POLICY, recipients=())
    assert catalog.save_policy(edited).version == 2
    assert catalog.policies() == [replace(edited, version=2)]
    with pytest.raises(CatalogError, match="belongs to customer acme"):
        catalog.save_policy(replace(POLICY, customer="evil"))
    with pytest.raises(CatalogError):
        catalog.start_run(replace(RUN, customer="evil"))
    with pytest.raises(CatalogError):
        catalog.start_run(replace(RUN, state="asleep"))

    catalog.start_run(RUN)
    catalog.prepare_run("run-1", b"\0manifest")
    assert catalog.unfinished_runs("acme-main")[0].envelope == b"\0manifest"
    assert catalog.add_backup(BACKUP)
    catalog.commit_run(BACKUP, T0 + timedelta(seconds=1.5))
    catalog.commit_run(BACKUP, T0)
    with pytest.raises(CatalogError):
        catalog.end_run("run-1", "failed", T0, "late")
    assert catalog.backups("acme-main") == [replace(BACKUP, seconds=1.5)]
    assert catalog.runs()[0].started_at == T0

    operation = Operation("op-1", "acme", "acme-main", "run-1", "db", "running", T0)
    catalog.start_operation(operation)
    catalog.end_operation("op-1", "failed", T0, "a NUL \0 and \udcff")
    assert catalog.operations()[0].error == "a NUL \\x00 and \\udcff"

    again = open_catalog(url)
    assert again.backups() == catalog.backups()
    again.close()


def test_the_migrations_make_the_tables(catalog: SqlCatalog, url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    import backups.catalog.request_table  # noqa: F401

    engine = opening.connect(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    engine.dispose()


def test_a_lock_that_cannot_be_had_is_busy(catalog: SqlCatalog, url: str) -> None:
    catalog.save_policy(POLICY)
    holder = opening.connect(url)
    options = url + ("&" if "?" in url else "?") + "options=-c%20lock_timeout%3D50"
    impatient = open_catalog(options)
    with holder.begin() as connection:
        connection.execute(sa.text("SELECT 1 FROM databases FOR UPDATE"))
        with pytest.raises(Busy):
            impatient.save_policy(POLICY)
    impatient.close()
    holder.dispose()
