"""A database made by an enemy: what its code tries while it is restored and examined."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from pg_kit import ENGINE, Make, drop, give, silent, take, url_of

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.model import Fingerprint, RestoreOptions, Source
from verify.examine.registry import open_examiner
from verify.ports import Assertion, Questions

pytestmark = pytest.mark.postgres

# A sequence is not rolled back: that it was used tells that code ran with rights on it.
# `climbs` tries every way to the session's own role, and tells whether one led there.
ENEMY = """
    SET ROLE %ROLE%;
    CREATE SEQUENCE fired;
    CREATE FUNCTION climbs() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
      BEGIN PERFORM set_config('transaction_read_only', 'off', false);
        EXCEPTION WHEN OTHERS THEN END;
      BEGIN PERFORM set_config('role', 'none', false); EXCEPTION WHEN OTHERS THEN END;
      BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN END;
      BEGIN EXECUTE 'SET SESSION AUTHORIZATION DEFAULT'; EXCEPTION WHEN OTHERS THEN END;
      BEGIN EXECUTE 'SET ROLE ' || session_user; EXCEPTION WHEN OTHERS THEN END;
      BEGIN PERFORM pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid());
        EXCEPTION WHEN OTHERS THEN END;
      BEGIN EXECUTE 'COPY (SELECT 1) TO PROGRAM ''true'''; RETURN true;
        EXCEPTION WHEN OTHERS THEN END;
      BEGIN PERFORM nextval('public.fired'); EXCEPTION WHEN OTHERS THEN END;
      RETURN (SELECT rolsuper FROM pg_catalog.pg_roles
               WHERE rolname OPERATOR(pg_catalog.=) current_user);
    END $$;
    CREATE FUNCTION harmless(v text) RETURNS boolean IMMUTABLE LANGUAGE sql
      AS 'SELECT true';
    CREATE TABLE t (id int PRIMARY KEY, v text, CONSTRAINT c CHECK (harmless(v)));
    CREATE INDEX ON t (harmless(v));
    INSERT INTO t VALUES (1, 'a');
    CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql
      AS 'BEGIN PERFORM pg_catalog.nextval(''public.fired''); END';
    RESET ROLE; CREATE SCHEMA evil;
    CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql
      AS 'SELECT nextval(''public.fired'')::text';
    CREATE FUNCTION evil.eq(name, name) RETURNS boolean LANGUAGE sql
      AS 'SELECT nextval(''public.fired'') > 0';
    CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.eq);
"""
CLIMBING = """
    CREATE OR REPLACE FUNCTION harmless(v text) RETURNS boolean IMMUTABLE LANGUAGE sql
      AS 'SELECT NOT public.climbs()';
"""
ARMED = """
    CREATE EVENT TRIGGER e1 ON ddl_command_start EXECUTE FUNCTION on_ddl();
    ALTER EVENT TRIGGER e1 ENABLE ALWAYS;
    CREATE EVENT TRIGGER e2 ON sql_drop EXECUTE FUNCTION on_ddl();
    ALTER EVENT TRIGGER e2 ENABLE REPLICA;
    SELECT setval('fired', 1, false);
"""


@pytest.fixture
def fresh(pg15_url: str) -> Iterator[str]:
    """URL of a database that does not exist; dropped afterwards, with what holds it."""
    name = "copy_" + SystemEntropy().bytes(6).hex()
    yield url_of(pg15_url, name)
    if name in named(pg15_url, name):
        unsubscribe(url_of(pg15_url, name))
    drop(pg15_url, name)


@pytest.fixture
def enemy(pg15_url: str) -> Iterator[str]:
    """SQL of a database whose owner is no superuser, and means harm."""
    role = "enemy_" + SystemEntropy().bytes(6).hex()
    with psycopg.connect(pg15_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} NOLOGIN")
        yield f"GRANT CREATE ON SCHEMA public TO {role};" + ENEMY.replace("%ROLE%", role)
        connection.execute(f"DROP ROLE {role}")


def named(server: str, start: str) -> list[str]:
    """Databases whose name begins so."""
    with psycopg.connect(server) as connection:
        found = connection.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall()
    return [name for (name,) in found if name.startswith(start)]


def unsubscribe(url: str) -> None:
    with psycopg.connect(url, autocommit=True, options="-c search_path=") as connection:
        for (name,) in connection.execute(
            "SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
            " WHERE datname = current_database()"
        ).fetchall():
            connection.execute(f"ALTER SUBSCRIPTION {name} DISABLE")
            connection.execute(f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE)")
            connection.execute(f"DROP SUBSCRIPTION {name}")


def fired(url: str) -> bool:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT is_called FROM public.fired").fetchone()
    return row == (True,)


def test_code_of_the_copy_has_no_power_while_it_is_examined(
    pg15_url: str, enemy: str, make_database: Make
) -> None:
    url = make_database(pg15_url, sql=enemy + CLIMBING + ARMED)
    name = url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(pg15_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET search_path = evil, pg_catalog, public")
        connection.execute(f"ALTER DATABASE {name} SET standard_conforming_strings = off")
    settings = {"set search_path": "evil, pg_catalog, public"}
    expected = Fingerprint("postgresql", "15.1", settings, {}, (), (), (), ())
    asked = Questions(
        [
            Assertion("climbs", "SELECT NOT public.climbs()"),
            Assertion("quoted", "SELECT '\\' = E'\\\\'"),
        ]
    )
    checks = list(
        open_examiner("postgresql", SystemClock()).examine(Source(url), expected, asked)
    )
    assert [check for check in checks if check.passed is not True] == []
    assert not fired(url)
    # The traps are real: who steps on one sees it.
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE x ()")
        assert fired(url)
        with pytest.raises(psycopg.errors.AdminShutdown):  # a superuser may end a session
            connection.execute("SELECT public.climbs()")


def test_nothing_of_a_restored_database_acts_by_itself(
    pg15_url: str, enemy: str, make_database: Make, fresh: str
) -> None:
    """Event triggers come last; a subscription is off, without a slot or a connection; a
    foreign server is asked nothing; a database's search path misleads nobody."""
    away = "host=127.0.0.1 port=1 dbname=x"
    source = make_database(
        pg15_url,
        sql=enemy
        + "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
        + "CREATE FOREIGN TABLE far (v int) SERVER s;"
        + f"CREATE SUBSCRIPTION sub CONNECTION '{away}' PUBLICATION p WITH (connect = false);"
        + ARMED,
    )
    name = source.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(pg15_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET search_path = evil, pg_catalog, public")
    try:
        taken = take(source)
        assert not fired(source)
        with pytest.raises(ZeroDivisionError):
            fail(fresh, taken)
        assert (
            named(pg15_url, fresh.partition("?")[0].rpartition("/")[2]) == []
        )  # also a copy with a subscription is removed
        assert [words for words in give(taken, fresh) if "fired" not in words] == []
    finally:
        unsubscribe(source)
    with psycopg.connect(fresh, autocommit=True, options="-c search_path=") as connection:
        states = connection.execute(
            "SELECT subenabled FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
            " WHERE datname = current_database()"
        ).fetchall()
        workers = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'logical replication'"
            " AND datname = current_database()"
        ).fetchone()
    assert states == [(False,)]
    assert workers == (0,)
    found = open_examiner("postgresql", SystemClock()).examine(
        Source(fresh), taken[1], Questions()
    )
    assert [check for check in found if check.passed is not True] == []


def fail(url: str, taken: tuple[dict[str, list[bytes]], Fingerprint]) -> None:
    artifacts, expected = taken
    with ENGINE.restore(Source(url), RestoreOptions()) as restoration:
        restoration.load(expected, lambda name: iter(artifacts[name]), silent)
        raise ZeroDivisionError
