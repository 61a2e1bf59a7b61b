"""Rows that depend on other rows, rows that go elsewhere, rows that nobody can load again.

What is expected comes from the servers: psql's answers, pg_dump of both sides.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from pg_kit import ENGINE, Make, Taken, assert_same, drop, plain, silent, take, url_of

from backups.entropy import SystemEntropy
from backups.errors import EnvironmentLacks
from backups.format.fingerprint import differences
from backups.model import RestoreOptions, Source, Written

pytestmark = pytest.mark.postgres


@pytest.fixture
def fresh(pg15_url: str) -> Iterator[str]:
    """URL of a database that does not exist; dropped afterwards."""
    name = "copy_" + SystemEntropy().bytes(6).hex()
    yield url_of(pg15_url, name)
    drop(pg15_url, name)


def give(taken: Taken, url: str, jobs: int = 3) -> tuple[Written, list[str]]:
    """Restore and publish; what was told, and the differences to what is expected."""
    artifacts, expected = taken
    with ENGINE.restore(Source(url), RestoreOptions(jobs=jobs)) as restoration:
        written = restoration.load(expected, lambda name: iter(artifacts[name]), silent)
        found = [str(x) for x in differences(written.expected, restoration.fingerprint())]
        restoration.publish()
    return written, found


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def same(one: str, other: str, query: str) -> list[tuple[object, ...]]:
    found = rows(one, query)
    assert rows(other, query) == found
    return found


KNOWN = """
    CREATE TABLE a_dict (code text PRIMARY KEY, pad text);
    INSERT INTO a_dict SELECT 'c' || i, repeat('x', 60) FROM generate_series(1, 60000) i;
    CREATE FUNCTION known(c text) RETURNS boolean LANGUAGE sql STABLE
        AS $$ SELECT EXISTS (SELECT FROM public.a_dict WHERE code = c) $$;"""
DEPENDENT = {
    "a check": "CREATE TABLE b (id int PRIMARY KEY, code text CHECK (known(code)));",
    "a domain": """CREATE DOMAIN dom AS text CHECK (known(VALUE));
        CREATE TABLE b (id int PRIMARY KEY, code dom);""",
    "an array of a domain in a composite": """CREATE DOMAIN dom AS text CHECK (known(VALUE));
        CREATE TYPE pair AS (n int, codes dom[]);
        CREATE TABLE b (id int PRIMARY KEY, code pair);""",
    "a generated column": """CREATE FUNCTION need(c text) RETURNS text LANGUAGE plpgsql
            IMMUTABLE AS $$ BEGIN IF NOT public.known(c) THEN RAISE 'unknown'; END IF;
            RETURN c; END $$;
        CREATE TABLE b (id int PRIMARY KEY, code text,
            twin text GENERATED ALWAYS AS (need(code)) STORED);""",
    "an operator": """CREATE FUNCTION pair_known(a text, b text) RETURNS boolean LANGUAGE sql
            AS $$ SELECT public.known(a) AND public.known(b) $$;
        CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = pair_known);
        CREATE TABLE b (id int PRIMARY KEY, code text CHECK (code === code));""",
    "a partition's key": """CREATE FUNCTION place(c text) RETURNS int LANGUAGE sql IMMUTABLE
            AS $$ SELECT count(*)::int FROM public.a_dict WHERE code = c $$;
        CREATE TABLE b (id int, code text) PARTITION BY LIST (place(code));
        CREATE TABLE b1 PARTITION OF b FOR VALUES IN (1);""",
}


@pytest.mark.parametrize("kind", DEPENDENT)
def test_rows_wait_for_those_that_their_checks_read(
    kind: str, pg15_url: str, make_database: Make, fresh: str
) -> None:
    value = "row(i, ARRAY['c' || i])::pair" if "composite" in kind else "'c' || i"
    fill = f"""SET search_path = public;
        INSERT INTO b (id, code) SELECT i, {value} FROM generate_series(59951, 60000) i"""
    source = make_database(pg15_url, sql=KNOWN + DEPENDENT[kind] + fill)
    taken = take(source)
    written, found = give(taken, fresh)
    assert (written.exceptions, found) == ((), [])
    assert same(source, fresh, "SELECT count(*), min(id) FROM b") == [(50, 59951)]


def test_a_table_that_comes_before_what_it_reads(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    """pg_restore alone can't: the archive is read twice, and the check is valid again."""
    source = make_database(
        pg15_url,
        sql="""CREATE FUNCTION known(c int) RETURNS boolean LANGUAGE plpgsql
            AS $$ BEGIN RETURN EXISTS (SELECT FROM public.z_dict WHERE code = c); END $$;
        CREATE TABLE a_data (id int PRIMARY KEY, code int CONSTRAINT ok CHECK (known(code)));
        CREATE TABLE z_dict (code int PRIMARY KEY);
        INSERT INTO z_dict SELECT generate_series(1, 50);
        INSERT INTO a_data SELECT i, i FROM generate_series(1, 50) i""",
    )
    written, found = give(take(source), fresh)
    assert (written.exceptions, found) == ((), [])
    assert same(source, fresh, "SELECT count(*), sum(code) FROM a_data") == [(50, 1275)]
    assert_same(plain(source, 15), plain(fresh, 15))


def test_checks_that_the_sources_rows_break_are_kept_and_named(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    source = make_database(
        pg15_url,
        sql="""CREATE TABLE a_lim (m int); INSERT INTO a_lim VALUES (100);
        CREATE FUNCTION low(c int) RETURNS boolean LANGUAGE sql
            AS $$ SELECT c < m FROM public.a_lim $$;
        CREATE DOMAIN small AS int CONSTRAINT tiny CHECK (low(VALUE));
        CREATE TABLE t (id int PRIMARY KEY, c int CONSTRAINT is_low CHECK (low(c)),
            CONSTRAINT pos CHECK (c > 0));
        COMMENT ON CONSTRAINT pos ON t IS 'kept'; COMMENT ON CONSTRAINT is_low ON t IS 'too';
        CREATE TABLE d (id int, v small);
        CREATE TABLE up (id int, c int CONSTRAINT up_low CHECK (low(c)));
        CREATE TABLE down () INHERITS (up);
        INSERT INTO t SELECT i, i FROM generate_series(1, 99) i;
        INSERT INTO d VALUES (1, 50); INSERT INTO down VALUES (1, 60);
        UPDATE a_lim SET m = 10""",
    )
    written, found = give(take(source), fresh)
    assert found == []
    named = {each.subject: each.at_source for each in written.exceptions}
    assert named == {
        "check constraint is_low of public.t": True,
        "check constraint tiny of domain public.small": True,
        "check constraint up_low of public.up": True,
        "check constraint up_low of public.down": True,
    }
    assert same(source, fresh, "SELECT count(*), sum(c) FROM t") == [(99, 4950)]
    assert same(source, fresh, "SELECT * FROM d, down") == [(1, 50, 1, 60)]
    valid = """SELECT conname, convalidated FROM pg_constraint
        WHERE contype = 'c' AND connamespace = 'public'::regnamespace ORDER BY 1, oid"""
    assert [row for row in rows(fresh, valid) if row[1]] == [("pos", True)]
    comments = """SELECT conname, obj_description(oid, 'pg_constraint') FROM pg_constraint
        WHERE conrelid = 't'::regclass ORDER BY 1"""
    assert ("pos", "kept") in same(source, fresh, comments)
    with psycopg.connect(fresh) as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("INSERT INTO t VALUES (1000, 1000)")


def test_rows_that_no_server_takes_are_named_and_the_rest_is_there(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    """A trigger's or type's code that fails: none of the table's rows, all of the others'."""
    source = make_database(
        pg15_url,
        sql="""CREATE TABLE flag (on_ bool); INSERT INTO flag VALUES (false);
        CREATE FUNCTION boom(c int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
            IF (SELECT on_ FROM public.flag) THEN RAISE 'the secret is %', c; END IF;
            RETURN c; END $$;
        CREATE TABLE t (c int, g int GENERATED ALWAYS AS (boom(c)) STORED);
        CREATE TABLE u AS SELECT generate_series(1, 1000) i;
        INSERT INTO t SELECT generate_series(7654321, 7654330); UPDATE flag SET on_ = true""",
    )
    written, found = give(take(source), fresh)
    assert found == []
    [told] = written.exceptions
    assert (told.subject, told.at_source) == ("rows of public.t", False)
    assert "765432" not in told.reason
    assert "secret" not in told.reason
    assert rows(fresh, "SELECT count(*) FROM t") == [(0,)]
    assert same(source, fresh, "SELECT count(*) FROM u") == [(1000,)]


def test_a_role_that_a_value_names_is_the_servers_lack(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    role = "named_" + SystemEntropy().bytes(4).hex()
    source = make_database(
        pg15_url,
        sql=f"""CREATE ROLE {role}; CREATE TABLE r (who regrole);
            INSERT INTO r VALUES ('{role}')""",
    )
    taken = take(source)
    with psycopg.connect(source) as connection:
        connection.execute(f"DROP TABLE r; DROP ROLE {role}")
    with pytest.raises(EnvironmentLacks, match=role):
        give(taken, fresh)


ENUMS = """
    CREATE TYPE e AS ENUM ('a', 'b', 'c', 'd', 'e', 'f');
    CREATE TABLE p (k {key}, v text) PARTITION BY HASH (k);
    CREATE TABLE p0 PARTITION OF p FOR VALUES WITH (MODULUS 3, REMAINDER 0);
    CREATE TABLE p1 (v text, k {key});
    ALTER TABLE p ATTACH PARTITION p1 FOR VALUES WITH (MODULUS 3, REMAINDER 1);
    CREATE TABLE p2 PARTITION OF p FOR VALUES WITH (MODULUS 3, REMAINDER 2)
        PARTITION BY LIST (v);
    CREATE TABLE p20 PARTITION OF p2 DEFAULT;
    INSERT INTO p SELECT {value}, g::text FROM generate_series(1, 500) g,
        unnest(enum_range(NULL::e)) x;"""
KEYS = {"an enum": ("e", "x"), "an array of enums": ("e[]", "ARRAY[x]")}


@pytest.mark.parametrize("server", ["pg15_url", "pg16_url", "pg18_url"])
@pytest.mark.parametrize("kind", KEYS)
def test_rows_of_a_hash_of_enums_find_their_partition(
    kind: str, server: str, request: pytest.FixtureRequest, make_database: Make
) -> None:
    at = request.getfixturevalue(server)
    key, value = KEYS[kind]
    source = make_database(at, sql=ENUMS.format(key=key, value=value))
    taken = take(source)
    for _ in range(2):  # oids differ each time
        copy = url_of(at, "copy_" + SystemEntropy().bytes(6).hex())
        try:
            written, found = give(taken, copy)
            assert (written.exceptions, found) == ((), [])
            query = "SELECT k::text, count(*), sum(v::int) FROM p GROUP BY 1 ORDER BY 1"
            assert len(same(source, copy, query)) == 6
        finally:
            drop(at, copy.partition("?")[0].rsplit("/", 1)[1])


def test_a_row_that_went_from_a_tree_is_missed(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    artifacts, expected = take(make_database(pg15_url, sql=ENUMS.format(key="e", value="x")))
    with ENGINE.restore(Source(fresh), RestoreOptions()) as restoration:
        written = restoration.load(expected, lambda name: iter(artifacts[name]), silent)
        copy = restoration._place.copy.database
        with psycopg.connect(url_of(pg15_url, copy)) as connection:
            connection.execute("UPDATE p SET v = '0' WHERE v = '17' AND k = 'a'")
        found = differences(written.expected, restoration.fingerprint())
    assert [item.check for item in found] == ["content"]


def test_what_the_database_sets_is_in_force_while_rows_are_checked(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    source = make_database(pg15_url)
    name = source.partition("?")[0].rsplit("/", 1)[1]
    with psycopg.connect(source, autocommit=True) as connection:
        for value in (
            "timezone = 'Asia/Tokyo'", "datestyle = 'SQL, DMY'", "client_encoding = 'LATIN1'",
            "intervalstyle = 'sql_standard'", "lc_monetary = 'C.UTF-8'",
            "extra_float_digits = -3", "app.tenant = 'x'", "bytea_output = escape",
        ):  # fmt: skip
            connection.execute(f"ALTER DATABASE {name} SET {value}")
    with psycopg.connect(source, autocommit=True, client_encoding="UTF8") as connection:
        connection.execute("""
            CREATE TABLE ev (id int PRIMARY KEY, ts timestamptz, i interval, m money, f float8,
                b bytea, n text, CHECK (extract(hour FROM ts) BETWEEN 9 AND 17),
                CHECK (current_setting('app.tenant') = 'x'));
            INSERT INTO ev VALUES
                (1, '2026-02-01 10:00+09', '-1 day +02:03', 12.5, 0.1 + 0.2, '\\x00ff', 'Zoé'),
                (2, '2026-02-01 16:00+09', '1 year -2 mons', -1, 1e-300, '', E'\\\\.')""")
    written, found = give(take(source), fresh)
    assert (written.exceptions, found) == ((), [])
    query = (
        "SELECT id, ts, i, m::numeric, f = 0.1::float8 + 0.2::float8, b, n FROM ev ORDER BY 1"
    )
    with (
        psycopg.connect(source, client_encoding="UTF8") as one,
        psycopg.connect(fresh, client_encoding="UTF8") as other,
    ):
        for each in (one, other):
            each.execute("SET DateStyle = ISO; SET IntervalStyle = postgres")
        assert one.execute(query).fetchall() == other.execute(query).fetchall()


EXTENSIONS = {
    "periods": """CREATE EXTENSION periods CASCADE;
        CREATE TABLE s (id int PRIMARY KEY, d_from date NOT NULL, d_to date NOT NULL);
        SELECT periods.add_period('s', 'p', 'd_from', 'd_to');
        INSERT INTO s VALUES (1, '2026-01-01', '2026-02-01');
        SELECT periods.add_system_time_period('s');
        SELECT periods.add_system_versioning('s');""",
    "postgis_topology": """CREATE EXTENSION postgis_topology CASCADE;
        SELECT topology.createtopology('town', 4326);
        CREATE TABLE public.lots (id int);
        SELECT topology.addtopogeometrycolumn('town', 'public', 'lots', 'topo', 'POLYGON');
        INSERT INTO spatial_ref_sys (srid, auth_name, auth_srid, srtext, proj4text)
            SELECT 990001, 'ours', 1, srtext, proj4text FROM spatial_ref_sys WHERE srid = 4326;
        CREATE TABLE places (g geometry CHECK (ST_IsValid(g)),
            m geometry CHECK (ST_SRID(ST_Transform(g, 990001)) = 990001));
        INSERT INTO places SELECT ST_SetSRID(ST_MakePoint(i, i), 4326)
            FROM generate_series(1, 80) i;""",
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(each, marks=[pytest.mark.full] if each == "postgis_topology" else [])
        for each in EXTENSIONS
    ],
)
def test_tables_of_extensions_with_checks_and_triggers_of_their_own(
    name: str, pg15_url: str, make_database: Make, fresh: str
) -> None:
    source = make_database(pg15_url, sql=EXTENSIONS[name])
    taken = take(source)
    for _ in range(3):
        written, found = give(taken, fresh)
        assert (written.exceptions, found) == ((), [])
        assert_same(plain(source, 15), plain(fresh, 15))
        drop(pg15_url, fresh.partition("?")[0].rsplit("/", 1)[1])
