"""Our sessions and tools read the same whatever the server, the database or the role has set,
and tell what is wrong in whatever language the server speaks."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from pg_kit import ENGINE, Make, Taken, drop, give, name_of, take, url_of
from pg_own_kit import german_server, own_server

from backups.engines.postgres import sessions
from backups.engines.postgres.claim import held
from backups.engines.postgres.remove import claim_name
from backups.engines.postgres.server import connected, login
from backups.engines.postgres.sessions import not_pinned
from backups.entropy import SystemEntropy
from backups.errors import AccessDenied, EngineError, Unreachable
from backups.model import Source

ROWS = """
    CREATE TABLE t(id int PRIMARY KEY, n text, b bytea, i interval, d date, at timestamptz,
                   m money, f float8, a text[], j jsonb);
    INSERT INTO t VALUES
      (1, 'Zoé', '\\x00ff', '1 day -2 hours', '0044-03-15 BC', '2001-02-03 04:05:06.789+00',
       '1234.56'::numeric::money, 1.0/3, '{NULL,"NULL"}', '{"k": 1e400}'),
      (2, '日本', '', '-1 mons +3 days -04:00:00', 'infinity', '-infinity',
       '-0.5'::numeric::money, 'NaN', '{}', 'null');
    CREATE VIEW v AS SELECT id, n FROM t
     WHERE d <> '2001-02-03' AND m <> '12.5'::numeric::money;
    CREATE INDEX ON t(at);
"""
HOSTILE = {
    "datestyle": "'SQL, DMY'",
    "intervalstyle": "'iso_8601'",
    "timezone": "'<+0530>-05:30'",
    "bytea_output": "'escape'",
    "extra_float_digits": "-5",
    "standard_conforming_strings": "off",
    "quote_all_identifiers": "on",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "xmloption": "document",
    "default_transaction_isolation": "'serializable'",
    "default_transaction_read_only": "on",
    "statement_timeout": "'1ms'",
    "idle_in_transaction_session_timeout": "'1ms'",
    "search_path": """'$user', 'public', 'Weird, "Schema'""",
}


def tools(major: int = 15) -> Path:
    return Path(os.environ[f"BACKUPS_TEST_PG_{major}_BIN"])


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[arg-type]


def rows_of(url: str) -> list[tuple[str]]:
    """By a session that sets all of it itself, not by ours."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC';"
            "SET bytea_output = 'hex'; SET extra_float_digits = 3; SET lc_monetary = 'C';"
            "SET statement_timeout = 0; SET search_path = public; SET client_encoding = 'UTF8'"
        )
        return connection.execute("SELECT t::text FROM t ORDER BY id").fetchall()


@pytest.fixture
def copy(pg15_url: str) -> Iterator[str]:
    name = "copy_" + SystemEntropy().bytes(6).hex()
    yield url_of(pg15_url, name)
    drop(pg15_url, name)


def alter(url: str, what: str, settings: dict[str, str]) -> None:
    run(url, *(f"ALTER {what} SET {name} = {value}" for name, value in settings.items()))


def content(taken: Taken) -> object:
    """What a setting must not change."""
    return taken[1].tables, taken[1].objects, taken[1].sequences


@pytest.mark.parametrize("level", ["database", "role"])
def test_settings_of_a_database_or_role_change_nothing_that_we_read(
    level: str, make_database: Make, pg15_url: str, copy: str
) -> None:
    source = make_database(pg15_url, sql=ROWS)
    name = name_of(source)
    before = content(take(source))
    if level == "role":
        run(source, f"CREATE ROLE {name} SUPERUSER LOGIN")
    try:
        alter(source, f"{level} {name}", HOSTILE)
        as_whom = source.replace("://postgres@", f"://{name}@") if level == "role" else source
        taken = take(as_whom)
        assert content(taken) == before
        assert give(taken, copy) == []
        assert rows_of(copy) == rows_of(source)
    finally:
        if level == "role":
            run(pg15_url, f"DROP ROLE {name}")


def test_settings_of_a_server_change_nothing_that_we_read(
    make_database: Make, pg15_url: str, copy: str
) -> None:
    before = content(take(make_database(pg15_url, sql=ROWS)))
    kept = {k: v for k, v in HOSTILE.items() if "'" not in v or k == "intervalstyle"}
    with own_server(tools(), *(f"{k}={v.strip(chr(39))}" for k, v in kept.items())) as server:
        rest = {k: v for k, v in HOSTILE.items() if k not in kept}
        alter(f"{server}&options=-cdefault_transaction_read_only%3Doff", "SYSTEM", rest)
        run(server, "SELECT pg_reload_conf()")
        quiet = "&options=" + "%20".join(
            f"-c{k}%3D{v}" for k, v in (
                ("default_transaction_read_only", "off"), ("statement_timeout", "0"),
                ("datestyle", "ISO"), ("transform_null_equals", "off"), ("array_nulls", "on"),
                ("standard_conforming_strings", "on"), ("intervalstyle", "postgres"),
            )
        )  # fmt: skip
        run(server + quiet, "CREATE DATABASE d TEMPLATE template0")
        source = url_of(server, "d")
        run(source + quiet, *ROWS.split(";\n"))
        taken = take(source)
        assert content(taken) == before
        assert give(taken, copy) == []
        assert give(taken, url_of(server, "copy")) == []


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "UTF8"])
def test_a_clients_encoding_of_the_database_is_not_the_archives(
    encoding: str, make_database: Make, pg15_url: str, copy: str
) -> None:
    source = make_database(pg15_url, sql=ROWS)
    run(source, f"ALTER DATABASE {name_of(source)} SET client_encoding = '{encoding}'")
    taken = take(source)
    assert give(taken, copy) == []
    assert rows_of(copy) == rows_of(source)


def test_a_role_to_act_as_and_a_library_that_is_missing_are_not_taken_over(
    make_database: Make, pg15_url: str, copy: str
) -> None:
    source = make_database(pg15_url, sql=ROWS)
    name = name_of(source)
    run(source, f"CREATE ROLE {name} NOLOGIN", f"ALTER DATABASE {name} SET role = '{name}'")
    libraries = f"ALTER DATABASE {name} SET session_preload_libraries = 'no_such_library'"
    run(f"{source}&options=-crole%3Dnone", libraries)
    try:
        with pytest.raises(psycopg.OperationalError, match="no_such_library"):
            run(source, "SELECT 1")
        with connected(login(Source(source))) as session:
            assert session.execute("SELECT current_user::text").fetchone() == ("postgres",)
        assert give(take(source), copy) == []
    finally:
        drop(pg15_url, name)
        run(pg15_url, f"DROP ROLE {name}")


@pytest.mark.parametrize("server", ["pg15_url", "pg16_url", "pg18_url"])
def test_who_is_no_superuser_is_pinned_as_well(
    server: str, make_database: Make, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(server)
    source = make_database(url, sql=ROWS)
    name = name_of(source)
    alter(source, f"DATABASE {name}", HOSTILE)
    options = "&options=-cdefault_transaction_read_only%3Doff%20-cstatement_timeout%3D0"
    run(source + options, f"CREATE ROLE {name} LOGIN")
    as_role = source.replace("://postgres@", f"://{name}@")
    try:
        run(source + options, f"GRANT pg_read_all_data TO {name}")
        assert content(take(as_role)) == content(take(source))
    finally:
        run(url, f"DROP ROLE {name}")


# --- login event triggers -------------------------------------------------------------

LOGGED = """
    CREATE TABLE public.log(who name, at timestamptz);
    CREATE FUNCTION public.note() RETURNS event_trigger SECURITY DEFINER LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO public.log VALUES (session_user, now()); END $$;
    CREATE TABLE t(id int PRIMARY KEY); INSERT INTO t VALUES (1);
    CREATE EVENT TRIGGER note ON login EXECUTE FUNCTION public.note();
    ALTER EVENT TRIGGER note ENABLE ALWAYS;
"""


def logged(url: str) -> int:
    """Without a login that is logged."""
    with psycopg.connect(f"{url}&options=-cevent_triggers%3Doff") as connection:
        row = connection.execute("SELECT count(*) FROM public.log").fetchone()
        return int(row[0]) if row else -1


def test_our_logins_write_no_rows_where_a_trigger_does(
    make_database: Make, pg18_url: str
) -> None:
    source = make_database(pg18_url, sql=LOGGED)
    target = url_of(pg18_url, name_of(source) + "_copy")
    run(source, "SELECT 1")
    before = logged(source)
    assert before > 0
    try:
        ENGINE.preflight(Source(source))
        assert give(take(source), target) == []
        assert logged(source) == before
        assert logged(target) == before
    finally:
        drop(f"{pg18_url}", name_of(target))


@contextmanager
def forgotten() -> Iterator[None]:
    """As a new process that knows nothing of earlier logins."""
    kept = dict(sessions._accepted)
    sessions._accepted.clear()
    yield
    sessions._accepted.update(kept)


def test_who_may_not_keep_triggers_from_running_is_told_so(
    make_database: Make, pg18_url: str
) -> None:
    source = make_database(pg18_url, sql=LOGGED)
    name = name_of(source)
    quiet = f"{source}&options=-cevent_triggers%3Doff"
    as_role = login(Source(source.replace("://postgres@", f"://{name}@")))
    run(quiet, f"CREATE ROLE {name} LOGIN")
    try:
        with connected(as_role) as session:
            assert "login" in not_pinned(session)[0]
        with connected(login(Source(source))) as session:
            assert not_pinned(session) == ()
        run(quiet, f"GRANT SET ON PARAMETER event_triggers TO {name}")
        before = logged(source)
        with forgotten(), connected(as_role) as session:
            assert not_pinned(session) == ()
        assert logged(source) == before
    finally:
        run(quiet, f"REVOKE SET ON PARAMETER event_triggers FROM {name}", f"DROP ROLE {name}")


# --- a server that speaks German ------------------------------------------------------


@pytest.fixture(scope="module")
def german() -> Iterator[str]:
    limits = ("max_connections=6", "superuser_reserved_connections=1", "max_wal_senders=0")
    with german_server(tools(), *limits) as url:
        run(url, "CREATE ROLE plain LOGIN", "CREATE ROLE other LOGIN CONNECTION LIMIT 0")
        yield url


def as_role(url: str, role: str) -> str:
    return url.replace("://postgres@", f"://{role}@")


@pytest.mark.parametrize("level", ["server", "database"])
def test_money_is_read_alike_in_every_country(
    level: str, german: str, make_database: Make, pg15_url: str
) -> None:
    money = (
        "CREATE TABLE t(id int, m money DEFAULT 7::money);"
        "INSERT INTO t VALUES (1, 123456789::money)"
    )
    other = make_database(pg15_url, sql=money)
    here, back = url_of(german, f"money_{level}"), url_of(german, f"back_{level}")
    run(german, f"CREATE DATABASE money_{level} TEMPLATE template0")
    if level == "database":
        run(german, f"ALTER DATABASE money_{level} SET lc_monetary = 'de_DE.UTF-8'")
    else:
        run(german, "ALTER SYSTEM SET lc_monetary = 'de_DE.UTF-8'", "SELECT pg_reload_conf()")
    run(f"{here}&options=-clc_monetary%3DC", money)
    with psycopg.connect(here) as connection:
        row = connection.execute("SELECT m::text FROM t").fetchone()
    assert row == ("123.456.789,00 €",)
    taken = take(here)
    assert content(taken) == content(take(other))
    assert give(taken, back) == []


def test_too_many_connections_may_be_tried_again(german: str) -> None:
    with pytest.raises(Unreachable, match="zu viele Verbindungen"):
        ENGINE.preflight(Source(as_role(german, "other")))
    taken = [psycopg.connect(german) for _ in range(6)]
    try:
        for role in ("postgres", "plain"):
            with pytest.raises(Unreachable, match="Verbindung") as caught:
                ENGINE.preflight(Source(as_role(german, role)))
            assert caught.value.retryable
    finally:
        for connection in taken:
            connection.close()


@pytest.mark.parametrize(("role", "database"), [("nobody", "postgres"), ("plain", "no such")])
def test_a_login_that_is_refused_is_not_tried_again(
    german: str, role: str, database: str
) -> None:
    with pytest.raises(AccessDenied, match="existiert nicht"):
        ENGINE.preflight(Source(as_role(url_of(german, database), role)))


def test_a_database_that_takes_nobody_may_be_tried_again(german: str) -> None:
    run(german, "CREATE DATABASE shut", "ALTER DATABASE shut ALLOW_CONNECTIONS false")
    with pytest.raises(Unreachable):
        ENGINE.preflight(Source(url_of(german, "shut")))


BIG = "CREATE TABLE big AS SELECT repeat(md5(n::text), 40) FROM generate_series(1, 40000) n"
ENDING = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE query LIKE 'COPY%' AND pid <> pg_backend_pid()"""


def test_a_tool_ended_by_the_server_may_be_tried_again(german: str) -> None:
    run(german, BIG, "GRANT SELECT ON big TO plain")

    def read() -> None:
        with ENGINE.dump(Source(as_role(german, "plain"))) as dump:
            for _, blocks in dump.artifacts():
                for _ in blocks:
                    run(german, ENDING)

    with pytest.raises(Unreachable) as caught:
        read()
    assert caught.value.retryable


# --- sessions that end, and what we do not understand ---------------------------------


def end(url: str, pid: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT pg_terminate_backend(%s, 10000)", [pid]).fetchone()
        assert row == (True,)


def test_an_idle_session_that_was_ended_has_lost_nothing(pg15_url: str) -> None:
    with connected(login(Source(pg15_url))) as session:
        session.execute("SELECT 1")
        end(pg15_url, session.info.backend_pid)
    with connected(login(Source(pg15_url)), reads=True) as session:
        session.execute("BEGIN READ ONLY")
        end(pg15_url, session.info.backend_pid)


def test_work_that_is_lost_with_a_session_is_told(pg15_url: str) -> None:
    def work(url: str) -> None:
        with connected(login(Source(url))) as session:
            session.execute("BEGIN")
            session.execute("CREATE TEMP TABLE t()")
            end(url, session.info.backend_pid)

    with pytest.raises(Unreachable):
        work(pg15_url)


def test_dates_that_python_has_not_are_read_as_text(pg15_url: str) -> None:
    values = "'0044-03-15 BC'::date, 'infinity'::timestamptz, '24:00'::time, '9 y'::interval"
    with connected(login(Source(pg15_url))) as session:
        found = session.execute(f"SELECT {values}").fetchone()
    assert found == ("0044-03-15 BC", "infinity", "24:00:00", "9 years")


def test_what_we_do_not_understand_is_our_fault_and_quotes_no_row(pg15_url: str) -> None:
    with pytest.raises(EngineError) as caught, connected(login(Source(pg15_url))) as session:
        session.execute("SELECT %s, %s", ("hunter2",))
    assert "ProgrammingError" in str(caught.value)
    assert not isinstance(caught.value, Unreachable)
    assert not caught.value.retryable
    assert "hunter2" not in str(caught.value)


# --- claims ---------------------------------------------------------------------------


def claimants(url: str, name: str) -> list[int]:
    """Process ids of the sessions that hold the name's lock."""
    statement = """
        SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted
           AND ((classid::bigint << 32) | objid::bigint) = hashtextextended(%s, 0)"""
    with psycopg.connect(url) as connection:
        return [pid for (pid,) in connection.execute(statement, [name])]


def test_a_claim_outlives_its_session(pg15_url: str) -> None:
    name = "claimed_" + SystemEntropy().bytes(6).hex()
    server = login(Source(pg15_url))
    with held(server, interval_s=0.02) as claim:
        assert claim.take(name)
        (first,) = claimants(pg15_url, name)
        end(pg15_url, first)
        wait = threading.Event()
        while not (found := claimants(pg15_url, name)):
            wait.wait(0.01)
        assert found != [first]
        claim.require()
    assert claimants(pg15_url, name) == []


def test_a_claim_that_another_took_meanwhile_is_lost(pg15_url: str) -> None:
    name = "claimed_" + SystemEntropy().bytes(6).hex()
    server = login(Source(pg15_url))
    with held(server) as claim, connected(server) as other:
        assert claim.take(name)
        assert not claim_name(other, name)
        end(pg15_url, claimants(pg15_url, name)[0])
        assert claim_name(other, name)
        with pytest.raises(Unreachable, match="took the name"):
            claim.require()
        with pytest.raises(Unreachable, match="took the name"):
            claim.require()


def test_a_claim_is_not_given_twice(pg15_url: str) -> None:
    name = "claimed_" + SystemEntropy().bytes(6).hex()
    server = login(Source(pg15_url))
    with held(server) as claim, held(server) as second:
        assert claim.take(name)
        assert not second.take(name)
