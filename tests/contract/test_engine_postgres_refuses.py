"""What the PostgreSQL engine does not do, and how it says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from pg_kit import (
    ENGINE,
    Make,
    databases,
    drop,
    dropped,
    give,
    name_of,
    silent,
    take,
    url_of,
)

from backups.engines.postgres.server import login
from backups.entropy import SystemEntropy
from backups.errors import (
    AccessDenied,
    BackupsError,
    EnvironmentLacks,
    TargetRefused,
    ToolError,
    Unreachable,
)
from backups.model import RestoreOptions, Secret, Source

pytestmark = pytest.mark.postgres


@pytest.fixture
def fresh(pg15_url: str) -> Iterator[str]:
    """Name of a database that does not exist; dropped afterwards."""
    yield from dropped(pg15_url)


def test_a_target_that_is_not_empty_is_refused(pg15_url: str, make_database: Make) -> None:
    source = make_database(pg15_url, sql="CREATE TYPE t AS ENUM ()")
    with (
        pytest.raises(TargetRefused, match="not empty"),
        ENGINE.restore(Source(source), RestoreOptions()),
    ):
        pytest.fail("it was accepted")


def test_an_empty_target_is_used_unless_somebody_is_there(
    pg15_url: str, make_database: Make
) -> None:
    taken = take(make_database(pg15_url, sql="CREATE TABLE t AS SELECT 1 AS v"))
    target = make_database(pg15_url)
    with psycopg.connect(target), pytest.raises(TargetRefused, match="connected"):
        give(taken, target)
    before = databases(pg15_url, name_of(target))
    assert give(taken, target) == []
    assert databases(pg15_url, name_of(target)) == before
    with psycopg.connect(target) as connection:
        assert connection.execute("SELECT v FROM t").fetchone() == (1,)


def test_a_name_taken_meanwhile_is_refused(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    artifacts, fingerprint = take(make_database(pg15_url, sql="CREATE TABLE t()"))
    with ENGINE.restore(Source(url_of(pg15_url, fresh)), RestoreOptions()) as restoration:
        restoration.load(fingerprint, lambda name: iter(artifacts[name]), silent)
        make_database(pg15_url, fresh, sql="CREATE TABLE theirs()")
        with pytest.raises(TargetRefused):
            restoration.publish()
    with psycopg.connect(url_of(pg15_url, fresh)) as connection:
        assert connection.execute("SELECT count(*) FROM theirs").fetchone() == (0,)
    assert not [name for name in databases(pg15_url, fresh) if "_restoring_" in name]


def test_what_a_dead_restore_left_is_dropped_by_the_next(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    taken = take(make_database(pg15_url, sql="CREATE TABLE t()"))
    artifacts, fingerprint = taken
    left = f"{fresh}_restoring_0a1b2c3d"
    make_database(pg15_url, left, sql="CREATE TABLE half()")
    make_database(pg15_url, f"other{left}")
    with ENGINE.restore(Source(url_of(pg15_url, fresh)), RestoreOptions()) as at_work:
        at_work.load(fingerprint, lambda name: iter(artifacts[name]), silent)
        (ours,) = databases(pg15_url, fresh)
        assert ours != left
        assert give(taken, url_of(pg15_url, fresh)) == []
        assert databases(pg15_url, fresh) == {ours, fresh}, "one that is at work keeps its own"
    assert databases(pg15_url, fresh) == {fresh}
    assert databases(pg15_url, f"other{fresh}") == {f"other{left}"}


def test_an_older_client_is_refused(pg16_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKUPS_PG_BIN", "/usr/lib/postgresql/15/bin")
    with pytest.raises(ToolError, match="client tools of version 16") as caught:
        ENGINE.preflight(Source(pg16_url))
    assert "postgresql-client-16" in caught.value.hint


def test_what_the_server_lacks_is_named(
    pg15_url: str, pg16_url: str, make_database: Make
) -> None:
    source = make_database(pg15_url, sql="CREATE EXTENSION orafce")
    taken = take(source)
    for name in dropped(pg16_url):
        with pytest.raises(EnvironmentLacks, match='extension "orafce" is not available'):
            give(taken, url_of(pg16_url, name))
        assert not [item for item in databases(pg16_url, name) if "_restoring_" in item]


def test_rights_that_are_missing_are_counted(pg15_url: str, make_database: Make) -> None:
    role = "reader_" + SystemEntropy().bytes(4).hex()
    source = make_database(
        pg15_url,
        sql=f"CREATE ROLE {role} LOGIN; CREATE TABLE a(); CREATE TABLE b(); CREATE SEQUENCE s",
    )
    try:
        as_role = source.replace("://postgres@", f"://{role}@")
        with pytest.raises(AccessDenied, match="may not read 3 of") as caught:
            ENGINE.preflight(Source(as_role))
        assert "pg_read_all_data" in caught.value.hint
        with psycopg.connect(source, autocommit=True) as connection:
            connection.execute(f"GRANT pg_read_all_data TO {role}")
            take(as_role)
            connection.execute("ALTER TABLE a ENABLE ROW LEVEL SECURITY")
        with pytest.raises(AccessDenied, match="hide rows of 1 tables") as caught:
            ENGINE.preflight(Source(as_role))
        assert "BYPASSRLS" in caught.value.hint
    finally:
        with psycopg.connect(pg15_url, autocommit=True) as connection:
            connection.execute(f"DROP ROLE {role}")


def test_a_user_who_is_no_superuser_restores_what_is_theirs(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    role = "maker_" + SystemEntropy().bytes(4).hex()
    with psycopg.connect(pg15_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN CREATEDB CREATEROLE")
    try:
        source = make_database(pg15_url)
        with psycopg.connect(pg15_url, autocommit=True) as connection:
            name = login(Source(source)).database
            connection.execute(f"ALTER DATABASE {name} OWNER TO {role}")
        as_role = source.replace("://postgres@", f"://{role}@")
        with psycopg.connect(as_role) as connection:
            connection.execute("CREATE TABLE t AS SELECT 1 AS v; CREATE EXTENSION citext")
        copy = url_of(pg15_url, fresh).replace("://postgres@", f"://{role}@")
        assert give(take(as_role), copy) == []
    finally:
        drop(pg15_url, name)
        drop(pg15_url, fresh)
        with psycopg.connect(pg15_url, autocommit=True) as connection:
            connection.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda url: "postgresql://u@127.0.0.1:1/x", Unreachable, "refused"),
        (lambda url: url.replace("postgres@", "nobody_here@"), AccessDenied, "nobody_here"),
        (lambda url: url_of(url, "no such"), AccessDenied, "no such"),
    ],
)
def test_a_login_that_fails_is_one_clear_error(
    change: Callable[[str], str], error: type[BackupsError], words: str, pg15_url: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        ENGINE.preflight(Source(change(pg15_url), Secret("hunter2")))
    assert "hunter2" not in str(caught.value)
