"""What a restore keeps of a PostgreSQL database where a copy is not made by one pg_restore.

Expected values come from the source's server: its catalogs, its rows, its own pg_dump.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from pg_kit import (
    ENGINE,
    Make,
    assert_same,
    create,
    databases,
    drop,
    dropped,
    name_of,
    plain,
    silent,
    take,
    url_of,
)
from server_kit import unique

from backups.engines.postgres.remove import UNFINISHED
from backups.errors import BackupsError, EnvironmentLacks
from backups.format.fingerprint import differences
from backups.model import RestoreOptions, Source, Written

pytestmark = pytest.mark.postgres


@pytest.fixture
def fresh(pg15_url: str) -> Iterator[str]:
    yield from dropped(pg15_url)


def ask(url: str, query: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]


def say(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[arg-type]


def bring(source: str, target: str, options: RestoreOptions | None = None) -> Written:
    """Restore, compare and publish; the comparison must find nothing."""
    artifacts, expected = take(source)
    with ENGINE.restore(Source(target), options or RestoreOptions()) as restoration:
        written = restoration.load(expected, lambda name: iter(artifacts[name]), silent)
        found = restoration.fingerprint()
        assert [str(each) for each in differences(written.expected, found)] == []
        restoration.publish()
    return written


def set_up(server: str, make: Make, settings: str, *statements: str) -> str:
    """A database whose own settings are made before its objects; `{d}` is its name."""
    url = make(server)
    say(url, *settings.replace("{d}", name_of(url)).split(";"))
    say(url, *statements)
    return url


# --- settings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "statements", "query"),
    [
        (
            "ALTER DATABASE {d} SET timezone = 'Asia/Tokyo'",
            (
                "CREATE TABLE ev (ts timestamptz)",
                "INSERT INTO ev VALUES ('2026-01-01 20:00+00'), ('2026-01-01 02:00+00')",
                "CREATE MATERIALIZED VIEW days AS SELECT ts::date::text AS d FROM ev",
            ),
            "SELECT d FROM days ORDER BY d",
        ),
        (
            "ALTER DATABASE {d} SET app.tenant = 'acme'",
            ("CREATE MATERIALIZED VIEW mine AS SELECT current_setting('app.tenant') AS t",),
            "SELECT t FROM mine",
        ),
        (
            "ALTER DATABASE {d} SET timezone = 'Asia/Tokyo'",
            (
                "CREATE TABLE ev (ts timestamptz CHECK (extract(hour FROM ts) = 16))",
                "INSERT INTO ev VALUES ('2026-01-01 16:00+09')",
            ),
            "SELECT ts FROM ev",
        ),
        (
            "ALTER DATABASE {d} SET search_path = other, public",
            (
                "CREATE SCHEMA other",
                "CREATE TABLE other.one (v int)",
                "INSERT INTO other.one VALUES (7)",
                "CREATE FUNCTION public.v() RETURNS int LANGUAGE sql STABLE"
                " AS 'SELECT v FROM one'",
                "CREATE MATERIALIZED VIEW public.m AS SELECT public.v() AS v",
            ),
            "SELECT v FROM m",
        ),
        (
            "ALTER DATABASE {d} SET search_path = other, public",
            (
                "CREATE SCHEMA other",
                "CREATE TABLE other.known (v int)",
                "INSERT INTO other.known VALUES (7)",
                "CREATE FUNCTION public.ok(i int) RETURNS bool LANGUAGE sql STABLE"
                " AS 'SELECT EXISTS (SELECT FROM known WHERE v = i)'",
                "CREATE TABLE public.t (v int CHECK (public.ok(v)))",
                "INSERT INTO public.t VALUES (7), (7)",
            ),
            "SELECT v FROM t",
        ),
    ],
    ids=["days", "tenant", "hours", "path", "check"],
)
def test_rows_are_made_under_the_settings_of_the_source(
    pg15_url: str,
    make_database: Make,
    fresh: str,
    settings: str,
    statements: tuple[str, ...],
    query: str,
) -> None:
    source = set_up(pg15_url, make_database, settings, *statements)
    written = bring(source, url_of(pg15_url, fresh))
    assert ask(url_of(pg15_url, fresh), query) == ask(source, query)
    assert written.exceptions == ()


def test_the_database_itself_comes_back(pg15_url: str, make_database: Make, fresh: str) -> None:
    role = unique("app_")
    say(pg15_url, f"CREATE ROLE {role}")
    source = set_up(
        pg15_url,
        make_database,
        "COMMENT ON DATABASE {d} IS 'the shop, owner: finance';"
        "ALTER DATABASE {d} CONNECTION LIMIT 7;"
        "ALTER DATABASE {d} SET search_path = '$user', 'public', 'Weird, \"Schema';"
        "ALTER DATABASE {d} SET default_transaction_read_only = on;"
        "ALTER DATABASE {d} SET session_preload_libraries = 'auto_explain';"
        f"ALTER ROLE {role} IN DATABASE {{d}} SET statement_timeout = '30s';"
        f"ALTER DATABASE {{d}} OWNER TO {role};"
        f"ALTER DATABASE {{d}} SET role = '{role}'",
    )
    try:
        bring(source, url_of(pg15_url, fresh))
        query = (
            "SELECT d.datconnlimit, shobj_description(d.oid, 'pg_database'), a.rolname,"
            " ARRAY(SELECT r.rolname || ':' || s.setconfig::text FROM pg_db_role_setting s"
            "  LEFT JOIN pg_roles r ON r.oid = s.setrole WHERE s.setdatabase = d.oid"
            "  AND s.setrole <> 0),"
            " (SELECT array_agg(c ORDER BY c) FROM pg_db_role_setting s, unnest(s.setconfig) c"
            "  WHERE s.setdatabase = d.oid AND s.setrole = 0)"
            " FROM pg_database d JOIN pg_roles a ON a.oid = d.datdba WHERE d.datname = '{}'"
        )
        there, here = name_of(source), fresh
        assert ask(pg15_url, query.format(here)) == ask(pg15_url, query.format(there))
    finally:
        drop(pg15_url, fresh)
        drop(pg15_url, name_of(source))
        say(pg15_url, f"DROP ROLE {role}")


# --- what can't be made ---------------------------------------------------------------


def test_one_failing_object_does_not_lose_the_rest(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    source = make_database(
        pg15_url,
        sql="CREATE TABLE cust (id int PRIMARY KEY); CREATE TABLE ord (id int, cust int"
        " REFERENCES cust); INSERT INTO cust VALUES (1); INSERT INTO ord VALUES (1, 1);"
        "SET session_replication_role = replica; INSERT INTO ord VALUES (2, 99);"
        "RESET session_replication_role; CREATE TABLE cfg (v int); INSERT INTO cfg VALUES (2);"
        "CREATE MATERIALIZED VIEW tenth AS SELECT 10 / v AS q FROM cfg; UPDATE cfg SET v = 0;"
        "CREATE TABLE many (id int); INSERT INTO many SELECT generate_series(1, 1000);"
        "CREATE INDEX many_id ON many (id)",
    )
    written = bring(source, url_of(pg15_url, fresh))
    copy = url_of(pg15_url, fresh)
    assert ask(copy, "SELECT count(*) FROM many") == [(1000,)]
    assert ask(copy, "SELECT id, cust FROM ord ORDER BY id") == [(1, 1), (2, 99)]
    assert ask(copy, "SELECT convalidated FROM pg_constraint WHERE contype = 'f'") == [(False,)]
    assert ask(copy, "SELECT count(*) FROM pg_indexes WHERE indexname = 'many_id'") == [(1,)]
    told = {each.subject: each for each in written.exceptions}
    assert set(told) == {
        "fk constraint public.ord ord_cust_fkey",
        "materialized view data public.tenth",
    }
    assert all(each.at_source for each in written.exceptions)
    assert "99" not in str(written.exceptions)  # no row is quoted


def test_a_broken_unique_index_is_named_and_its_rows_are_there(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    source = make_database(
        pg15_url,
        sql="CREATE TABLE u (id int PRIMARY KEY, v text); INSERT INTO u VALUES (1,'a')",
    )
    say(source, "UPDATE pg_index SET indisready = false WHERE indexrelid = 'u_pkey'::regclass")
    say(source, "INSERT INTO u VALUES (1, 'dup')")
    say(source, "UPDATE pg_index SET indisready = true WHERE indexrelid = 'u_pkey'::regclass")
    written = bring(source, url_of(pg15_url, fresh))
    assert [each.subject for each in written.exceptions] == ["constraint public.u u_pkey"]
    rows = ask(url_of(pg15_url, fresh), "SELECT v FROM u ORDER BY v")
    assert rows == [("a",), ("dup",)]


def test_a_view_of_rows_under_forced_policies_is_filled(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    role = unique("shop_")
    say(pg15_url, f"CREATE ROLE {role}")
    source = make_database(pg15_url, sql=f"GRANT ALL ON SCHEMA public TO {role}")
    say(
        source,
        f"SET ROLE {role}; CREATE TABLE item (id int); INSERT INTO item VALUES (1), (2);"
        "ALTER TABLE item ENABLE ROW LEVEL SECURITY; ALTER TABLE item FORCE ROW LEVEL SECURITY;"
        "CREATE POLICY p ON item USING (id > 1);"
        "CREATE MATERIALIZED VIEW mv AS SELECT id FROM item; REFRESH MATERIALIZED VIEW mv",
    )
    try:
        written = bring(source, url_of(pg15_url, fresh))
        assert ask(url_of(pg15_url, fresh), "SELECT id FROM mv") == ask(
            source, "SELECT id FROM mv"
        )
        assert written.exceptions == ()
    finally:
        drop(pg15_url, fresh)
        drop(pg15_url, name_of(source))
        say(pg15_url, f"DROP ROLE {role}")


# --- versions -------------------------------------------------------------------------


def test_an_extension_has_the_version_that_it_had(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    source = make_database(
        pg15_url,
        sql="CREATE EXTENSION pg_trgm VERSION '1.5'; CREATE TABLE t (n text);"
        "CREATE INDEX ON t USING gin (n gin_trgm_ops)",
    )
    query = "SELECT extname, extversion FROM pg_extension ORDER BY 1"
    bring(source, url_of(pg15_url, fresh))
    assert ask(url_of(pg15_url, fresh), query) == ask(source, query)


VIEWS = """
    CREATE TABLE a (x int, y int, g int GENERATED ALWAYS AS (x + 1) STORED);
    CREATE VIEW v1 AS SELECT (SELECT NULL) AS n, x FROM a;
    CREATE VIEW v2 AS WITH c AS (SELECT (SELECT NULL) AS n, x FROM a) SELECT * FROM c;
    CREATE VIEW v3 AS SELECT x FROM a WHERE x IN (1, 2) AND (y BETWEEN 1 AND 5);
    CREATE FUNCTION f(i int) RETURNS int LANGUAGE sql
        BEGIN ATOMIC SELECT i + (SELECT count(*) FROM a)::int; END;
    CREATE RULE r AS ON UPDATE TO a WHERE new.x IN (7, 8) DO ALSO SELECT (SELECT NULL) AS n;
    CREATE POLICY p ON a USING (x = ANY (ARRAY[1, 2]) AND y IN (SELECT 1));
    INSERT INTO a (x, y) VALUES (1, 2);
"""


@pytest.mark.parametrize("major", ["15", "16", "18"])
def test_text_that_changes_on_its_way_is_no_difference(
    pg15_url: str, make_database: Make, major: str, request: pytest.FixtureRequest
) -> None:
    server = str(request.getfixturevalue(f"pg{major}_url"))
    source = make_database(pg15_url, sql=VIEWS)
    name = unique("copy_")
    try:
        bring(source, url_of(server, name))
        query = (
            "SELECT n, x FROM v1 UNION ALL SELECT n, x FROM v2 UNION ALL SELECT '', x FROM v3"
        )
        assert ask(url_of(server, name), query) == ask(source, query)
    finally:
        drop(server, name)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE OR REPLACE VIEW v3 AS SELECT x + 1 AS x FROM a",
        "DROP VIEW v1",
        "CREATE VIEW more AS SELECT 1 AS one",
    ],
)
def test_a_definition_that_was_changed_is_one_and_shown_as_two_texts(
    pg15_url: str, make_database: Make, fresh: str, change: str
) -> None:
    source = make_database(pg15_url, sql=VIEWS)
    artifacts, expected = take(source)
    with ENGINE.restore(Source(url_of(pg15_url, fresh)), RestoreOptions()) as restoration:
        written = restoration.load(expected, lambda name: iter(artifacts[name]), silent)
        (copy,) = (n for n in databases(pg15_url, fresh) if "restoring" in n)
        say(url_of(pg15_url, copy), change)
        found = differences(written.expected, restoration.fingerprint())
        assert len(found) == 1
        assert found[0].item is not None
        texts = restoration.definitions(*found[0].item)
        assert texts is not None
        assert texts[0] != texts[1]
        assert any("SELECT" in text for text in texts)


def test_what_people_gave_to_an_extension_comes_back(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    source = make_database(
        pg15_url,
        sql="CREATE EXTENSION hstore; CREATE TABLE q (id bigint PRIMARY KEY, payload text);"
        "INSERT INTO q SELECT i, 'job ' || i FROM generate_series(1, 1000) i;"
        "ALTER EXTENSION hstore ADD TABLE q; CREATE EXTENSION unaccent;"
        "CREATE TABLE p (name text); INSERT INTO p VALUES ('Zo\u00e9');"
        "CREATE FUNCTION pg_catalog.acme_round(n numeric) RETURNS numeric IMMUTABLE"
        " LANGUAGE sql AS 'SELECT round(n, 2)'",
    )
    say(source, "ALTER FUNCTION unaccent(text) IMMUTABLE")
    say(source, "CREATE INDEX p_name ON p (unaccent(name))")
    written = bring(source, url_of(pg15_url, fresh))
    assert written.exceptions == ()
    for query in (
        "SELECT count(*), sum(id), md5(string_agg(payload, ',' ORDER BY id)) FROM q",
        "SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid"
        " WHERE d.objid = 'q'::regclass AND d.deptype = 'e'",
        "SELECT indexdef FROM pg_indexes WHERE tablename IN ('p', 'q') ORDER BY 1",
        "SELECT pg_catalog.acme_round(1.005)",
    ):
        assert ask(url_of(pg15_url, fresh), query) == ask(source, query)


# --- who owns what --------------------------------------------------------------------


@contextmanager
def administrator(server: str) -> Iterator[tuple[str, str]]:
    """A role as hosted databases give it: it makes roles and databases, and is no superuser."""
    name = unique("rds_")
    say(server, f"CREATE ROLE {name} LOGIN CREATEDB CREATEROLE PASSWORD 'x'")
    try:
        yield name, server.replace("postgres@", f"{name}@")
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            rows = connection.execute(
                "SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = %s", (name,)
            ).fetchall()
        for database in (*(row[0] for row in rows), *databases(server, "owned_")):
            drop(server, database)
        roles = ask(
            server,
            "SELECT rolname FROM pg_roles WHERE oid IN (SELECT m.roleid FROM pg_auth_members m"
            f" JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = '{name}')"
            " AND rolname !~ '^pg_'",
        )
        for (role,) in roles:
            say(server, f"REVOKE {role} FROM {name}")
        say(server, f"DROP ROLE {name}")


def members(server: str, role: str) -> list[Any]:
    return ask(
        server,
        "SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
        f" JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = '{role}'"
        " AND coalesce((to_jsonb(m)->>'set_option')::bool, true) ORDER BY 1",
    )


OWNED = """
    GRANT ALL ON SCHEMA public TO {app};
    SET ROLE {app};
    CREATE TABLE item (id serial PRIMARY KEY, name text);
    INSERT INTO item (name) VALUES ('a'), ('b');
    GRANT SELECT ON item TO {reader};
    CREATE VIEW v AS SELECT name FROM item;
    RESET ROLE;
    ALTER DATABASE {d} OWNER TO {app};
"""


@contextmanager
def owned(server: str, make: Make) -> Iterator[tuple[str, str, str]]:
    app, reader = unique("app_"), unique("reader_")
    say(server, f"CREATE ROLE {app}", f"CREATE ROLE {reader}")
    source = make(server)
    say(source, OWNED.format(app=app, reader=reader, d=name_of(source)))
    try:
        yield source, app, reader
    finally:
        for name in (name_of(source), *databases(server, "owned_")):
            drop(server, name)
        say(server, f"DROP ROLE {app}", f"DROP ROLE {reader}")


def test_who_is_no_superuser_joins_owners_alone_and_leaves_them(
    pg15_url: str, make_database: Make
) -> None:
    with owned(pg15_url, make_database) as (source, app, _), administrator(pg15_url) as admin:
        name, server = admin
        copy = unique("owned_")
        taken, expected = take(source)
        with ENGINE.restore(Source(url_of(server, copy)), RestoreOptions()) as restoration:
            written = restoration.load(expected, lambda part: iter(taken[part]), silent)
            assert written.exceptions == ()
            assert members(pg15_url, name) == [(app,)]
            restoration.publish()
        assert members(pg15_url, name) == []
        assert_same(plain(source, 15), plain(url_of(pg15_url, copy), 15))


def test_a_restore_that_fails_leaves_no_memberships(pg15_url: str, make_database: Make) -> None:
    with owned(pg15_url, make_database) as (source, _, _), administrator(pg15_url) as admin:
        name, server = admin
        taken, expected = take(source)
        before = databases(pg15_url, "")
        cut = b"".join(taken["archive"])[:-40]
        target = Source(url_of(server, unique("owned_")))
        with (
            pytest.raises(BackupsError),
            ENGINE.restore(target, RestoreOptions()) as restoration,
        ):
            restoration.load(expected, lambda part: iter([cut]), silent)
        assert members(pg15_url, name) == []
        assert {n for n in databases(pg15_url, "owned_") if "restoring" in n} <= before


@pytest.mark.parametrize("major", ["15", "16"])
def test_one_role_owns_all_where_the_source_belongs_to_a_superuser(
    make_database: Make, major: str, request: pytest.FixtureRequest
) -> None:
    superuser = str(request.getfixturevalue(f"pg{major}_url"))
    source = make_database(
        superuser,
        sql="CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2);"
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';"
        "CREATE SCHEMA s; CREATE VIEW s.v AS SELECT id FROM t; GRANT SELECT ON t TO PUBLIC",
    )
    with administrator(superuser) as (name, server):
        copy = unique("owned_")
        with pytest.raises(EnvironmentLacks, match="superuser") as refused:
            bring(source, url_of(server, copy))
        assert "--owner" in refused.value.hint
        options = RestoreOptions(owner=name, no_privileges=True)
        bring(source, url_of(server, copy), options)
        owners = ask(
            url_of(superuser, copy),
            "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE nspname IN ('public', 's')",
        )
        assert owners == [(name,)]
        assert ask(url_of(superuser, copy), "SELECT id FROM s.v ORDER BY 1") == [(1,), (2,)]
        assert ask(
            url_of(superuser, copy), "SELECT relacl FROM pg_class WHERE relname = 't'"
        ) == [(None,)]


# --- under the final name -------------------------------------------------------------


def test_what_died_under_its_final_name_is_dropped_by_the_next_restore(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    source = make_database(pg15_url, sql="CREATE TABLE t (v int); INSERT INTO t VALUES (1)")
    create(pg15_url, url_of(pg15_url, fresh))
    say(url_of(pg15_url, fresh), "CREATE TABLE half (v int)")
    say(pg15_url, f"COMMENT ON DATABASE {fresh} IS '{UNFINISHED}'")
    bring(source, url_of(pg15_url, fresh))
    assert ask(url_of(pg15_url, fresh), "SELECT to_regclass('half'), v FROM t") == [(None, 1)]


def test_the_session_that_claims_a_copy_may_be_ended(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    source = make_database(pg15_url, sql="CREATE TABLE t (v int); INSERT INTO t VALUES (1)")
    artifacts, expected = take(source)
    with ENGINE.restore(Source(url_of(pg15_url, fresh)), RestoreOptions()) as restoration:
        written = restoration.load(expected, lambda name: iter(artifacts[name]), silent)
        ended = ask(
            pg15_url,
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a"
            " USING (pid) WHERE l.locktype = 'advisory' AND a.query ~ 'advisory'"
            f" AND hashtextextended('{_copy(pg15_url, fresh)}', 0) = "
            "(l.classid::bigint << 32) | l.objid::bigint",
        )
        assert ended == [(True,)]
        assert differences(written.expected, restoration.fingerprint()) == ()
        restoration.publish()
    assert ask(url_of(pg15_url, fresh), "SELECT v FROM t") == [(1,)]


def _copy(server: str, fresh: str) -> str:
    (name,) = (each for each in databases(server, fresh) if "restoring" in each)
    return name
