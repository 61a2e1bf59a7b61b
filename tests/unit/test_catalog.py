"""The catalog's promises: versions, states, isolation, and errors of our own only."""

import itertools
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa

from backups.catalog import migrations, tables
from backups.catalog import open as opening
from backups.catalog.open import connect, open_catalog
from backups.catalog.sql import write
from backups.catalog.store import SqlCatalog
from backups.errors import Busy, CatalogError, NotFound
from backups.model import (
    Backup,
    Copy,
    Destination,
    Finding,
    Operation,
    Plan,
    Policy,
    Run,
    Scrub,
)

T0 = datetime(2026, 11, 20, 3, 0, 0, 123456, tzinfo=UTC)

POLICY = Policy(
    customer="acme",
    database="acme-main",
    version=0,
    plan=Plan("max", 90),
    engine="postgresql",
    source_url="postgresql://backup@db.acme.internal/main",
    password_ref="env:ACME",
    stores=(Destination("s3://acme-backups/bloomneo"),),
    recipients=("age1one", "age1two"),
)


def run(id_: str = "run-1", at: datetime = T0, database: str = "acme-main") -> Run:
    return Run(id_, "acme", database, 1, "running", at)


def backup(id_: str = "run-1", at: datetime = T0, database: str = "acme-main") -> Backup:
    return Backup(
        id=id_,
        customer="acme",
        database=database,
        engine="postgresql",
        created_at=at,
        expires_at=at + timedelta(days=90),
        plain_bytes=1 << 42,
        stored_bytes=1 << 40,
        store_url="s3://acme-backups/bloomneo",
        manifest_sha256="ab" * 32,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite3"


@pytest.fixture
def catalog(path: Path) -> Iterator[SqlCatalog]:
    catalog = open_catalog(path)
    catalog.save_policy(POLICY)
    yield catalog
    catalog.close()


# --- opening


def test_the_file_and_its_journals_are_private(catalog: SqlCatalog, path: Path) -> None:
    files = sorted(path.parent.iterdir())
    assert [file.name.removeprefix("catalog.sqlite3") for file in files] == ["", "-shm", "-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_what_was_written_is_there_after_opening_again(catalog: SqlCatalog, path: Path) -> None:
    catalog.start_run(run())
    catalog.close()
    catalog.close()
    again = open_catalog(str(path))
    assert again.runs() == [run()]
    assert again.policies() == [replace(POLICY, version=1)]
    again.close()


def test_the_migrations_make_the_tables(catalog: SqlCatalog, path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    import backups.catalog.request_table  # noqa: F401

    folder = Path(opening.__file__).parent / "migrations"
    config = Config()
    config.set_main_option("script_location", str(folder))
    assert ScriptDirectory.from_config(config).get_current_head() == tables.HEAD

    by_migration = opening.connect(path)
    by_tables = sa.create_engine("sqlite://")
    tables.metadata.create_all(by_tables)
    with by_migration.connect() as one, by_tables.connect() as other:
        assert compare_metadata(MigrationContext.configure(one), tables.metadata) == []
        for table in tables.metadata.tables:
            found, wanted = sa.inspect(one), sa.inspect(other)
            for look in ("get_check_constraints", "get_foreign_keys", "get_pk_constraint"):
                assert getattr(found, look)(table) == getattr(wanted, look)(table)
    by_migration.dispose()


def test_a_migration_happens_whole_or_not_at_all(path: Path) -> None:
    engine = opening.connect(path)

    def migrate_and_fail() -> None:
        with write(engine) as connection:
            opening._upgrade(connection)
            assert sa.inspect(connection).get_table_names()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        migrate_and_fail()
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == []
    engine.dispose()


def test_an_up_to_date_catalog_opens_without_alembic(catalog: SqlCatalog, path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from backups.catalog.open import open_catalog; "
        f"open_catalog(Path({str(path)!r})).close(); print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.split() == [b"False"]


def test_processes_that_create_it_at_once_agree(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from backups.catalog.open import open_catalog; "
        f"print(open_catalog(Path({str(path)!r})).runs())"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [racer.communicate()[0].strip() for racer in racers] == [b"[]"] * 3


def test_a_newer_releases_catalog_is_left_alone(catalog: SqlCatalog, path: Path) -> None:
    engine = opening.connect(path)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0999'"))
    engine.dispose()
    with pytest.raises(CatalogError, match="newer release"):
        open_catalog(path)


def test_other_databases_and_files_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite3"
    engine = sa.create_engine(f"sqlite:///{other}")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE notes (id)"))
    engine.dispose()
    with pytest.raises(CatalogError, match="no catalog"):
        open_catalog(other)

    text = tmp_path / "text"
    text.write_text("this is no database, " * 100)
    for where in (
        text,
        tmp_path,
        tmp_path / "missing" / "catalog",
        "mysql-nonsense://x:secret@y",
    ):
        with pytest.raises(CatalogError) as caught:
            open_catalog(where)
        assert "secret" not in str(caught.value)


def test_a_catalog_held_too_long_is_busy(
    catalog: SqlCatalog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "WAIT", 0.05)
    impatient = open_catalog(path)
    holder = opening.connect(path)
    with holder.execution_options(write=True).begin():
        assert impatient.runs() == []  # readers are not stopped by a writer
        with pytest.raises(Busy):
            impatient.start_run(run())
    impatient.start_run(run())
    impatient.close()
    holder.dispose()


# --- policies


def test_a_policy_gets_a_version_only_when_it_differs(catalog: SqlCatalog) -> None:
    assert catalog.save_policy(POLICY).version == 1
    assert catalog.save_policy(replace(POLICY, version=7)).version == 1
    edited = replace(POLICY, plan=Plan("pro", 30))
    assert catalog.save_policy(edited) == replace(edited, version=2)
    assert catalog.save_policy(POLICY).version == 3  # back again is an edit too
    assert catalog.policy("acme-main") == replace(POLICY, version=3)
    assert catalog.same_rule(catalog.policy("acme-main"), POLICY)
    assert not catalog.same_rule(catalog.policy("acme-main"), edited)
    assert not catalog.same_rule(None, POLICY)
    assert catalog.policy("acme-main", 2) == replace(edited, version=2)
    with pytest.raises(NotFound):
        catalog.policy("acme-main", 4)
    with pytest.raises(NotFound):
        catalog.policy("acme'; DROP TABLE policies --")


def test_policies_are_the_newest_of_each_by_customer(catalog: SqlCatalog) -> None:
    catalog.save_policy(replace(POLICY, customer="zeta", database="a-first"))
    catalog.save_policy(replace(POLICY, database="acme-aux"))
    catalog.save_policy(replace(POLICY, engine="mysql"))
    found = [(p.customer, p.database, p.version) for p in catalog.policies()]
    assert found == [("acme", "acme-aux", 1), ("acme", "acme-main", 2), ("zeta", "a-first", 1)]


def test_a_database_never_passes_to_another_customer(catalog: SqlCatalog) -> None:
    with pytest.raises(CatalogError, match="belongs to customer acme"):
        catalog.save_policy(replace(POLICY, customer="evil"))
    with pytest.raises(CatalogError, match="belongs to customer acme"):
        catalog.add_backup(replace(backup(), customer="evil"))
    with pytest.raises(CatalogError):
        catalog.start_run(replace(run(), customer="evil"))
    with pytest.raises(CatalogError):
        catalog.start_operation(replace(OPERATION, customer="evil"))
    catalog.start_run(run())
    catalog.prepare_run("run-1", b"manifest")
    with pytest.raises(CatalogError):
        catalog.commit_run(replace(backup(), customer="evil"), T0)
    assert catalog.backups() == []


def test_threads_that_edit_at_once_make_distinct_versions(catalog: SqlCatalog) -> None:
    versions: list[int] = []

    def edit(number: int) -> None:
        edited = replace(POLICY, plan=Plan("own", number))
        versions.append(catalog.save_policy(edited).version)

    threads = [threading.Thread(target=edit, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(2, 10))


# --- runs


def test_a_run_to_its_backup(catalog: SqlCatalog) -> None:
    catalog.start_run(run())
    assert catalog.unfinished_runs("acme-main") == [run()]
    catalog.prepare_run("run-1", b"manifest")
    (prepared,) = catalog.unfinished_runs("acme-main")
    assert (prepared.state, prepared.envelope) == ("prepared", b"manifest")
    assert catalog.backups() == []

    ended = T0 + timedelta(seconds=90, microseconds=5)
    catalog.commit_run(backup(), ended)
    listed = replace(backup(), seconds=90.000005)
    assert catalog.backup("run-1") == listed
    assert catalog.backups("acme-main") == [listed]
    assert catalog.unfinished_runs("acme-main") == []
    assert catalog.runs() == [replace(run(), state="committed", ended_at=ended)]

    catalog.commit_run(backup(), ended + timedelta(hours=1))  # whoever repeats it is late
    assert catalog.runs()[0].ended_at == ended
    assert catalog.backups() == [listed]


def test_a_run_ends_once(catalog: SqlCatalog) -> None:
    def start(id_: str) -> None:
        catalog.start_run(run(id_))

    def prepare(id_: str) -> None:
        catalog.prepare_run(id_, b"manifest")

    def commit(id_: str) -> None:
        catalog.commit_run(backup(id_), T0)

    def fail(id_: str) -> None:
        catalog.end_run(id_, "failed", T0, "no answer")

    allowed = {
        (start,), (start, prepare), (start, fail), (start, prepare, commit),
        (start, prepare, fail), (start, prepare, commit, commit),
    }  # fmt: skip
    for length in (1, 2, 3, 4):
        for number, steps in enumerate(
            itertools.product((start, prepare, commit, fail), repeat=length)
        ):
            if steps[:-1] and steps[:-1] not in allowed:
                continue
            id_ = f"run-{length}-{number}"
            for step in steps[:-1]:
                step(id_)
            before = catalog.runs(limit=1000)
            if steps in allowed:
                steps[-1](id_)
                continue
            with pytest.raises((CatalogError, NotFound)):
                steps[-1](id_)
            assert catalog.runs(limit=1000) == before


def test_a_run_ends_without_a_backup_as_failed_or_interrupted_only(catalog: SqlCatalog) -> None:
    catalog.start_run(run())
    with pytest.raises(CatalogError):
        catalog.end_run("run-1", "committed", T0, "")
    catalog.end_run("run-1", "interrupted", T0, "killed: \udcff \0 'quoted'")
    (ended,) = catalog.runs()
    assert ended.error == "killed: \\udcff \\x00 'quoted'"
    with pytest.raises(NotFound):
        catalog.end_run("run-2", "failed", T0, "")
    with pytest.raises(NotFound):
        catalog.prepare_run("run-2", b"")


def test_a_run_belongs_to_a_policy_that_is_known(catalog: SqlCatalog) -> None:
    with pytest.raises(CatalogError):
        catalog.start_run(replace(run(), policy_version=2))
    with pytest.raises(CatalogError):
        catalog.start_run(run(database="unknown"))
    catalog.start_run(run())
    with pytest.raises(CatalogError):
        catalog.start_run(run())


def test_the_database_itself_refuses_states_that_make_no_sense(catalog: SqlCatalog) -> None:
    wrong = [
        replace(run(), state="asleep"),
        replace(run(), state="committed"),
        replace(run(), ended_at=T0),
        replace(run(), envelope=b"manifest"),
        replace(run(), state="prepared"),
    ]
    for one in wrong:
        with pytest.raises(CatalogError):
            catalog.start_run(one)
    with pytest.raises(CatalogError):
        catalog.start_operation(replace(OPERATION, state="done"))
    with pytest.raises(CatalogError):
        catalog.add_backup(replace(backup(), stored_bytes=-1))
    with pytest.raises(CatalogError):
        catalog.start_run(replace(run(), started_at=T0.replace(tzinfo=None)))
    assert catalog.runs() == []


def test_newest_first_and_limited(catalog: SqlCatalog) -> None:
    catalog.save_policy(replace(POLICY, database="acme-aux"))
    at = [T0 + timedelta(microseconds=n) for n in (0, 10, 9, 1000000)]
    for n, instant in enumerate(at):
        catalog.start_run(run(f"r{n}", instant))
        catalog.add_backup(backup(f"r{n}", instant))
    catalog.start_run(run("aux", T0 + timedelta(days=1), database="acme-aux"))
    assert [r.id for r in catalog.runs()] == ["aux", "r3", "r1", "r2", "r0"]
    assert [r.id for r in catalog.runs("acme-main", limit=2)] == ["r3", "r1"]
    assert [r.id for r in catalog.unfinished_runs("acme-main")] == ["r0", "r2", "r1", "r3"]
    assert [b.id for b in catalog.backups()] == ["r3", "r1", "r2", "r0"]
    assert catalog.backups("acme-aux") == []


# --- backups found in buckets


def test_a_copy_is_listed_beside_its_backup(path: Path) -> None:
    catalog = open_catalog(path)
    catalog.add_backup(backup())
    # Its manifest there may be the same, byte for byte, or name other versions.
    for url, digest in (("s3://same", "ab" * 32), ("gs://other", "cd" * 32)):
        found = replace(backup(), store_url=url, manifest_sha256=digest)
        assert catalog.add_backup(found)
        assert not catalog.add_backup(found)
        assert not catalog.add_copy(Copy("run-1", url, digest))
    assert catalog.add_copy(Copy("run-1", "az://third/copy", "ef" * 32))
    assert catalog.copies("run-1") == [
        Copy("run-1", "az://third/copy", "ef" * 32),
        Copy("run-1", "gs://other", "cd" * 32),
        Copy("run-1", "s3://same", "ab" * 32),
    ]
    assert catalog.backups() == [backup()]
    with pytest.raises(CatalogError, match="another manifest"):
        catalog.add_backup(replace(backup(), store_url="s3://same", manifest_sha256="00" * 32))
    with pytest.raises(NotFound):
        catalog.add_copy(Copy("nothing", "s3://same", "00" * 32))
    with pytest.raises(CatalogError, match="another backup"):
        catalog.add_backup(replace(backup(), store_url="s3://new", plain_bytes=1))
    catalog.close()


def test_a_healed_store_holds_another_manifest_from_then_on(path: Path) -> None:
    catalog = open_catalog(path)
    catalog.add_backup(backup())
    catalog.add_copy(Copy("run-1", "s3://same", "cd" * 32))
    for url in (backup().store_url, "s3://same"):
        assert catalog.add_copy(Copy("run-1", url, "99" * 32))
        assert not catalog.add_copy(Copy("run-1", url, "99" * 32))
    assert catalog.copies("run-1") == [Copy("run-1", "s3://same", "99" * 32)]
    assert catalog.backup("run-1").manifest_sha256 == "99" * 32
    catalog.close()


def test_a_rule_of_one_store_is_migrated(path: Path) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import text

    engine = connect(path)
    rule = (
        '{"customer":"acme","database":"acme-main","version":1,"plan":{"name":"max",'
        '"retention_days":90},"engine":"postgresql","source_url":"postgresql://'
        'backup@db.acme.internal/main","password_ref":"env:ACME","store_url":'
        '"s3://acme-backups/bloomneo","recipients":["age1one","age1two"]}'
    )
    with engine.execution_options(write=True).begin() as connection:
        config = Config(attributes={"connection": connection})
        folder = Path(migrations.__file__).parent
        config.set_main_option("script_location", str(folder))
        command.upgrade(config, "0001")
        connection.execute(text("INSERT INTO databases VALUES ('acme-main', 'acme')"))
        connection.execute(
            text("INSERT INTO policies VALUES ('acme-main', 1, 'acme', :rule)"), {"rule": rule}
        )
    engine.dispose()
    catalog = open_catalog(path)
    assert catalog.policy("acme-main") == replace(POLICY, version=1)
    catalog.close()


# --- what was found out


def test_scrubs_are_kept_newest_first(path: Path) -> None:
    catalog = open_catalog(path)
    findings = (Finding("orphan", "v1/x/y/00000.age", "no manifest names it", 17),)
    first = Scrub("s1", "acme", "s3://a", T0, T0 + timedelta(seconds=3), 9, 2, 100, findings)
    second = replace(first, id="s2", customer="else", started_at=T0 + timedelta(1), findings=())
    catalog.add_scrub(first)
    catalog.add_scrub(second)
    assert catalog.scrubs() == [second, first]
    assert catalog.scrubs("acme") == [first]
    assert catalog.scrubs(limit=1) == [second]
    catalog.close()


def test_the_newest_proof_of_a_recipient_counts(path: Path) -> None:
    catalog = open_catalog(path)
    assert catalog.proven_recipients("acme") == {}
    for days in (0, 1):
        catalog.prove_recipient("acme", "age1one", T0 + timedelta(days))
    catalog.prove_recipient("else", "age1two", T0)
    assert catalog.proven_recipients("acme") == {"age1one": T0 + timedelta(1)}
    catalog.close()


# --- backups found anew


def test_a_backup_is_listed_without_policy_or_run(path: Path) -> None:
    catalog = open_catalog(path)
    assert catalog.add_backup(backup())
    assert not catalog.add_backup(backup())
    assert catalog.backups() == [backup()]
    with pytest.raises(CatalogError, match="another backup"):
        catalog.add_backup(replace(backup(), manifest_sha256="cd" * 32))
    with pytest.raises(NotFound):
        catalog.backup("none")
    catalog.close()


def test_a_prepared_run_commits_what_a_rebuild_has_listed(catalog: SqlCatalog) -> None:
    catalog.start_run(run())
    catalog.prepare_run("run-1", b"manifest")
    assert catalog.add_backup(backup())
    with pytest.raises(CatalogError, match="another backup"):
        catalog.commit_run(replace(backup(), manifest_sha256="cd" * 32), T0)
    assert [r.state for r in catalog.unfinished_runs("acme-main")] == ["prepared"]
    catalog.commit_run(backup(), T0 + timedelta(seconds=2))
    assert catalog.backups() == [replace(backup(), seconds=2.0)]
    assert not catalog.add_backup(backup())


# --- operations

OPERATION = Operation(
    "op-1", "acme", "acme-main", "run-1", "postgresql://db/copy", "running", T0
)


def test_an_operation_ends_once(catalog: SqlCatalog) -> None:
    catalog.start_operation(OPERATION)
    with pytest.raises(CatalogError):
        catalog.start_operation(OPERATION)
    assert catalog.operations("acme-main") == [OPERATION]
    with pytest.raises(CatalogError):
        catalog.end_operation("op-1", "running", T0, None)
    catalog.end_operation("op-1", "done", T0, None)
    with pytest.raises(CatalogError, match="op-1 is done"):
        catalog.end_operation("op-1", "failed", T0, "late")
    with pytest.raises(NotFound):
        catalog.end_operation("op-2", "done", T0, None)
    assert catalog.operations() == [replace(OPERATION, state="done", ended_at=T0)]
    assert catalog.operations("other") == []


def test_instants_come_back_in_utc(catalog: SqlCatalog) -> None:
    local = T0.astimezone(timezone(timedelta(hours=5, minutes=45)))
    catalog.start_run(run(at=local))
    found = catalog.runs()[0].started_at
    assert found == local
    assert found.tzinfo is UTC


def test_errors_do_not_repeat_values(catalog: SqlCatalog) -> None:
    catalog.start_run(run())
    with pytest.raises(CatalogError) as caught:
        catalog.start_run(replace(run(), error="hunter2"))
    assert "hunter2" not in str(caught.value)
