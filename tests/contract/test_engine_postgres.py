"""The PostgreSQL engine against real servers: out, back, and equal."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pg_kit import (
    ENGINE,
    EVIL,
    RICH,
    Make,
    assert_same,
    databases,
    drop,
    dropped,
    give,
    plain,
    take,
    url_of,
)
from psycopg import sql

from backups.engines.postgres.server import login
from backups.engines.postgres.tools import choose
from backups.entropy import SystemEntropy
from backups.errors import (
    EnvironmentLacks,
    TargetRefused,
)
from backups.model import RestoreOptions, Source

pytestmark = pytest.mark.postgres


@pytest.fixture(params=["pg15_url", "pg16_url", "pg18_url"])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def fresh(pg15_url: str) -> Iterator[str]:
    """Name of a database that does not exist; dropped afterwards."""
    yield from dropped(pg15_url)


@pytest.fixture
def roles(server: str) -> Iterator[tuple[str, str]]:
    """Two roles with names that need care; dropped after the databases are."""
    names = (
        f"own'er {SystemEntropy().bytes(3).hex()}",
        f're"ader {SystemEntropy().bytes(3).hex()}',
    )
    with psycopg.connect(server, autocommit=True) as connection:
        for name in names:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD 'hunter2'").format(
                    sql.Identifier(name)
                )
            )
        yield names
        for name in names:
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


@pytest.fixture
def rich(server: str, roles: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """URL of a database with one of everything, and a name for its copy on that server."""
    name = f"rich ' \" {SystemEntropy().bytes(3).hex()}"
    url = url_of(server, name)
    d, owner, reader = (sql.Identifier(text) for text in (name, *roles))
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(d, owner))
        for statement in (
            'ALTER DATABASE {d} SET search_path = "it\'s ""a"" schema", public',
            "ALTER DATABASE {d} SET default_transaction_read_only = on",
            "ALTER ROLE {reader} IN DATABASE {d} SET work_mem = '5MB'",
            "REVOKE CONNECT ON DATABASE {d} FROM PUBLIC",
            "GRANT CREATE, CONNECT ON DATABASE {d} TO {reader} WITH GRANT OPTION",
            "GRANT {owner} TO {reader} WITH ADMIN OPTION",
        ):
            connection.execute(sql.SQL(statement).format(d=d, owner=owner, reader=reader))
    with psycopg.connect(
        url, options="-c default_transaction_read_only=off -c search_path=public"
    ) as connection:
        connection.execute(RICH)
        for statement in (
            "ALTER TABLE plain OWNER TO {owner}",
            "GRANT SELECT (id, n), UPDATE (n) ON plain TO {reader}",
            "GRANT SELECT ON LARGE OBJECT 4242 TO {reader}",
            "GRANT EXECUTE ON FUNCTION notice() TO {reader}",
            "REVOKE ALL ON FUNCTION notice() FROM PUBLIC",
            "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON TABLES TO {reader}",
            "CREATE POLICY two ON private FOR SELECT TO {reader} USING (v < 2)",
            "COMMENT ON DATABASE {d} IS 'of the database itself'",
        ):
            connection.execute(sql.SQL(statement).format(d=d, owner=owner, reader=reader))
    copy = "copy_" + SystemEntropy().bytes(6).hex()
    yield url, url_of(server, copy)
    drop(server, name)
    drop(server, copy)


def test_everything_comes_back_equal(rich: tuple[str, str], roles: tuple[str, str]) -> None:
    source, copy = rich
    taken = take(source)
    assert give(taken, copy) == []
    with psycopg.connect(source) as connection:
        major = connection.info.server_version // 10000
    text, copied = plain(source, major), plain(copy, major)
    assert_same(text, copied)
    fingerprint = taken[1]
    assert set(roles) <= set(fingerprint.roles)
    assert fingerprint.large_objects
    assert fingerprint.large_objects.rows == 3
    assert {table.name: table.rows for table in fingerprint.tables}["plain"] == 2003
    assert len(fingerprint.not_compared) == 2


def test_properties_of_the_database_come_back(
    rich: tuple[str, str], roles: tuple[str, str]
) -> None:
    source, copy = rich
    give(take(source), copy)
    rows = []
    for url in rich:
        with psycopg.connect(url) as connection:
            rows.append(
                connection.execute(
                    "SELECT pg_get_userbyid(datdba), datcollate, encoding, (SELECT array_agg(x"
                    " ORDER BY x::text) FROM unnest(datacl) x)::text, (SELECT array_agg("
                    "setrole::text || s ORDER BY setrole, s) FROM pg_db_role_setting,"
                    " unnest(setconfig) s"
                    " WHERE setdatabase = d.oid), current_setting('search_path')"
                    " FROM pg_database d WHERE datname = current_database()"
                ).fetchone()
            )
    assert rows[0] == rows[1]
    assert source != copy


def test_the_roles_artifact_makes_roles_without_passwords(
    rich: tuple[str, str], roles: tuple[str, str], server: str
) -> None:
    artifacts, _ = take(rich[0])
    text = b"".join(artifacts["roles"])
    assert b"hunter2" not in text
    assert b"SCRAM" not in text
    with psycopg.connect(server) as connection:
        major = connection.info.server_version // 10000
        for url in rich:
            drop(server, login(Source(url)).database)
        for name in roles:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
    subprocess.run(
        [choose(major).path("psql"), "-Xq", "--set=ON_ERROR_STOP=1", "--dbname", server],
        input=text,
        check=True,
    )
    with psycopg.connect(server) as connection:
        found = connection.execute(
            "SELECT rolname, rolcreatedb FROM pg_authid"
            " WHERE rolname = ANY (%s) AND rolpassword IS NULL",
            (list(roles),),
        ).fetchall()
        member = connection.execute(
            "SELECT pg_has_role(%s, %s, 'MEMBER')", roles[::-1]
        ).fetchone()
    assert sorted(found) == sorted((name, True) for name in roles)
    assert member == (True,)


def test_missing_roles_are_made_without_login_or_refused(
    rich: tuple[str, str], roles: tuple[str, str], server: str
) -> None:
    taken = take(rich[0])
    drop(server, login(Source(rich[0])).database)
    with psycopg.connect(server) as connection:
        for name in roles:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
    target = login(Source(rich[1])).database
    before = databases(server, target)
    with pytest.raises(EnvironmentLacks, match="lacks the roles"):
        give(taken, rich[1], create_roles=False)
    assert databases(server, target) == before
    assert give(taken, rich[1]) == []
    with psycopg.connect(server) as connection:
        logins = connection.execute(
            "SELECT count(*) FROM pg_roles WHERE rolname = ANY (%s) AND NOT rolcanlogin",
            (list(roles),),
        ).fetchone()
    assert logins == (2,)


@pytest.mark.parametrize("name", EVIL, ids=range(len(EVIL)))
def test_an_evil_name_is_carried_exactly(name: str, pg15_url: str, fresh: str) -> None:
    copy = name[:50] + fresh if len(name.encode()) < 40 else fresh
    with psycopg.connect(pg15_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        with psycopg.connect(url_of(pg15_url, name)) as connection:
            connection.execute("CREATE TABLE t AS SELECT 1 AS v")
        assert give(take(url_of(pg15_url, name)), url_of(pg15_url, copy)) == []
        assert copy in databases(pg15_url, copy)
    finally:
        drop(pg15_url, name)
        drop(pg15_url, copy)


@pytest.mark.parametrize("name", ["y" * 64, "z" * 300, "ü" * 32])
def test_a_name_longer_than_the_server_takes_is_refused(name: str, pg15_url: str) -> None:
    before = databases(pg15_url, name[:20])
    with (
        pytest.raises(TargetRefused, match="63 bytes"),
        ENGINE.restore(Source(url_of(pg15_url, name)), RestoreOptions()),
    ):
        pytest.fail("it was accepted")
    assert databases(pg15_url, name[:20]) == before


def test_public_schema_that_was_dropped_stays_so(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    source = make_database(
        pg15_url, sql="DROP SCHEMA public; CREATE SCHEMA s; CREATE TABLE s.t()"
    )
    copy = url_of(pg15_url, fresh)
    assert give(take(source), copy) == []
    with psycopg.connect(copy) as connection:
        found = connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname='public'")
        assert found.fetchone() == (0,)


def test_columns_that_a_restore_orders_anew_are_equal(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    source = make_database(
        pg15_url,
        sql="CREATE TABLE parent (a int); CREATE TABLE child (c int) INHERITS (parent);"
        "ALTER TABLE parent ADD COLUMN late text; INSERT INTO child VALUES (1, 2, 'l')",
    )
    assert give(take(source), url_of(pg15_url, fresh)) == []


@pytest.mark.parametrize("sample", ["sakila", "chinook"])
def test_public_samples_come_back_equal(
    sample: str, sample_data: Path, pg15_url: str, make_database: Make, fresh: str
) -> None:
    source = make_database(pg15_url)
    psql = [choose(15).path("psql"), "-Xq", "--dbname", source]
    for file in sorted(sample_data.glob(f"{sample}-postgresql*.sql"), reverse=True):
        text = file.read_text()
        if sample == "chinook":  # it makes a database of its own and connects to it
            text = text[text.index("\\c chinook;") + len("\\c chinook;") :]
        subprocess.run(psql, input=text.encode(), check=True, capture_output=True)
    copy = url_of(pg15_url, fresh)
    taken = take(source)
    assert sum(table.rows for table in taken[1].tables) > 10_000
    assert give(taken, copy) == []
    assert_same(plain(source, 15), plain(copy, 15))


def test_a_newer_server_takes_an_older_archive(
    pg15_url: str, pg16_url: str, make_database: Make
) -> None:
    taken = take(
        make_database(pg15_url, sql="CREATE TABLE t AS SELECT generate_series(1, 9) v")
    )
    for name in dropped(pg16_url):
        found = give(taken, url_of(pg16_url, name))
        assert [item for item in found if not item.startswith("settings")] == []


def test_a_dump_shows_one_instant_while_others_write(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    source = make_database(
        pg15_url,
        sql="CREATE TABLE one AS SELECT g AS id, 100 AS v FROM generate_series(1, 50) g;"
        "CREATE TABLE two AS SELECT g AS id, 100 AS v FROM generate_series(1, 50) g;",
    )
    stop, moved = threading.Event(), threading.Semaphore(0)

    def transfer() -> None:
        with psycopg.connect(source) as connection:
            turn = 0
            while not stop.is_set():
                turn += 1
                connection.execute(
                    "UPDATE one SET v = v - %s WHERE id = %s", (turn, turn % 50 + 1)
                )
                connection.execute(
                    "UPDATE two SET v = v + %s WHERE id = %s", (turn, turn % 50 + 1)
                )
                connection.commit()
                moved.release()

    writer = threading.Thread(target=transfer)
    writer.start()
    try:
        assert moved.acquire(timeout=10)
        with ENGINE.dump(Source(source)) as dump:
            for _ in range(20):  # the snapshot is older than these
                assert moved.acquire(timeout=10)
            artifacts = {name: list(blocks) for name, blocks in dump.artifacts()}
            fingerprint = dump.finish()
    finally:
        stop.set()
        writer.join()
    copy = url_of(pg15_url, fresh)
    assert give((artifacts, fingerprint), copy) == []
    with psycopg.connect(copy) as connection:
        total = connection.execute("SELECT (SELECT sum(v) FROM one) + (SELECT sum(v) FROM two)")
        assert total.fetchone() == (10_000,)
