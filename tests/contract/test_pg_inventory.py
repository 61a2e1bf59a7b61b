"""What a backup does not carry is named: the source's catalogs against the archive."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from pg_kit import ENGINE, RICH, Make, drop, name_of, take
from psycopg.conninfo import conninfo_to_dict

from backups.engines.postgres.complaints import remarks
from backups.engines.postgres.tools import choose
from backups.engines.process import started
from backups.entropy import SystemEntropy
from backups.model import Fingerprint, Source

pytestmark = pytest.mark.postgres

EVERY = (Path(__file__).parent.parent / "fixtures" / "every_kind.sql").read_text()
CONTRIB = """
adminpack amcheck autoinc bloom btree_gin btree_gist citext cube dblink dict_int dict_xsyn
earthdistance file_fdw fuzzystrmatch hstore insert_username intagg intarray isn lo ltree
moddatetime old_snapshot pageinspect pg_buffercache pg_freespacemap pg_prewarm
pg_stat_statements pg_surgery pg_trgm pg_visibility pg_walinspect pgcrypto pgrowlocks
pgstattuple postgres_fdw refint seg sslinfo tablefunc tcn tsm_system_rows tsm_system_time
unaccent uuid-ossp xml2
"""


def as_role(url: str, role: str) -> str:
    return url.replace("://postgres@", f"://{quote(role)}@")


def said(url: str) -> tuple[Fingerprint, tuple[str, ...]]:
    """The fingerprint, and the warnings that go into the manifest in clear."""
    with ENGINE.dump(Source(url)) as dump:
        for _, blocks in dump.artifacts():
            for _ in blocks:
                pass
        return dump.finish(), dump.preflight.warnings


@pytest.mark.parametrize("server", ["pg15_url", "pg16_url", "pg18_url"])
@pytest.mark.parametrize("sql", [RICH, EVERY], ids=["rich", "every kind"])
def test_nothing_is_missing_of_what_pg_dump_carries(
    server: str, sql: str, request: pytest.FixtureRequest, make_database: Make
) -> None:
    fingerprint, warnings = said(make_database(request.getfixturevalue(server), sql=sql))
    assert fingerprint.not_backed_up == ()
    assert not [line for line in fingerprint.not_compared if "rows of table" in line]
    assert not [line for line in warnings if "not backed up" in line]


def test_extensions_as_their_scripts_make_them_are_not_missing(
    pg15_url: str, make_database: Make
) -> None:
    made = "".join(f'CREATE EXTENSION "{name}";' for name in CONTRIB.split())
    artifacts, fingerprint = take(make_database(pg15_url, sql=made))
    assert fingerprint.not_backed_up == ()
    assert fingerprint.not_compared == ()
    assert "members" not in artifacts


def test_extensions_that_were_updated_are_not_missing(
    pg15_url: str, make_database: Make
) -> None:
    """Their members were made in several transactions, none of them by hand."""
    url = make_database(pg15_url)
    with psycopg.connect(url, autocommit=True) as connection:
        oldest = connection.execute(
            "SELECT DISTINCT ON (name) name, version FROM pg_available_extension_versions v"
            " WHERE name = ANY (%s) ORDER BY name, string_to_array(version, '.')::int[]",
            (CONTRIB.split(),),
        ).fetchall()
        for name, version in oldest:
            made = f"CREATE EXTENSION IF NOT EXISTS \"{name}\" VERSION '{version}' CASCADE"
            connection.execute(made)
        for name, _ in oldest:
            connection.execute(f'ALTER EXTENSION "{name}" UPDATE')
    artifacts, fingerprint = take(url)
    assert fingerprint.not_backed_up == ()
    assert "members" not in artifacts


# Each is lost by pg_dump without a word; the name is how the server itself calls it.
LOST = [
    (
        "COMMENT ON TYPE hstore IS 'ours'",
        "comment on type public.hstore: it is not as the extension hstore makes it",
        "1 comment",
    ),
    (
        "ALTER TABLE us_lex ADD note text",
        "column note of table public.us_lex: it is not as the extension",
        "1 column",
    ),
    (
        "CREATE TYPE mood AS ENUM ('a'); ALTER EXTENSION hstore ADD TYPE mood",
        "type public.mood: it was added to the extension hstore by hand",
        "1 type",
    ),
    (
        "CREATE SEQUENCE s; ALTER EXTENSION hstore ADD SEQUENCE s",
        "sequence public.s: it was added to the extension hstore by hand",
        "1 sequence",
    ),
    (
        "CREATE AGGREGATE agg(int) (sfunc = int4pl, stype = int);"
        "ALTER EXTENSION hstore ADD AGGREGATE agg(int)",
        "aggregate public.agg(integer): it was added to the extension",
        "1 function",
    ),
    (
        "CREATE SCHEMA s; ALTER EXTENSION hstore ADD SCHEMA s",
        "schema s: it was added to the extension hstore by hand",
        "1 schema",
    ),
    (
        "CREATE OPERATOR pg_catalog.### (leftarg = int, rightarg = int, function = int4pl)",
        "operator pg_catalog.###(integer,integer): pg_dump does not carry it",
        "1 operator",
    ),
    (
        "CREATE DOMAIN pg_catalog.small AS int CHECK (value < 9)",
        "type pg_catalog.small: pg_dump does not carry it",
        "1 type",
    ),
    (
        "ALTER OPERATOR FAMILY integer_ops USING btree ADD FUNCTION 1 (int4, numeric)"
        " other(int4, numeric)",
        "function of access method function 1 (integer, numeric) of"
        " pg_catalog.integer_ops USING btree: pg_dump does not carry it",
        "1 member of an operator family",
    ),
]


@pytest.mark.parametrize(("sql", "sentence", "kind"), LOST)
def test_what_nobody_carries_is_named(
    sql: str, sentence: str, kind: str, pg15_url: str, make_database: Make
) -> None:
    before = (
        "CREATE EXTENSION hstore; CREATE EXTENSION address_standardizer_data_us;"
        "CREATE FUNCTION other(int, numeric) RETURNS int IMMUTABLE"
        " LANGUAGE sql AS 'SELECT 1'"
    )
    url = make_database(pg15_url, sql=before)
    with psycopg.connect(url) as connection:
        connection.execute(sql)  # type: ignore[call-overload]
    fingerprint, warnings = said(url)
    (line,) = fingerprint.not_backed_up
    assert line.startswith(sentence)
    assert f"not backed up: {kind} (names are in `backups show --contents`)" in warnings


MEMBERS = """
CREATE EXTENSION hstore;
CREATE EXTENSION unaccent;
CREATE EXTENSION address_standardizer_data_us;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload text NOT NULL,
  at timestamptz DEFAULT now(), m money, CHECK (payload <> ''), twice int
  GENERATED ALWAYS AS (length(payload) * 2) STORED);
INSERT INTO jobs (payload, at, m) SELECT E'a\\tb\\\\ ' || i, '2026-01-01'::timestamptz, i::money
  FROM generate_series(1, 1000) i;
CREATE INDEX ON jobs (at);
CREATE TRIGGER stamped BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION stamp();
ALTER TABLE jobs DISABLE TRIGGER stamped;
"""
BY_HAND = """
ALTER EXTENSION hstore ADD TABLE jobs;
CREATE FUNCTION added() RETURNS int LANGUAGE sql AS 'SELECT 7';
ALTER EXTENSION hstore ADD FUNCTION added();
CREATE FUNCTION pg_catalog.rounded(n numeric) RETURNS numeric LANGUAGE sql IMMUTABLE
  AS 'SELECT round(n, 2)';
ALTER FUNCTION unaccent(text) IMMUTABLE;
CREATE INDEX by_word ON us_lex (word);
CREATE TRIGGER watched BEFORE UPDATE ON us_lex FOR EACH ROW EXECUTE FUNCTION stamp();
"""
ASKED = (
    "SELECT count(*), sum(hashtext(j::text)) FROM jobs j",
    "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'jobs'::regclass"
    " ORDER BY 1",
    "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid IN ('jobs'::regclass,"
    " 'us_lex'::regclass) ORDER BY 1",
    "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
    "SELECT provolatile FROM pg_proc WHERE oid = 'unaccent(text)'::regprocedure",
    "SELECT added(), rounded(1.239)",
    "SELECT count(*), sum(hashtext(j::text)) FROM us_lex j",
    "SELECT pg_describe_object(classid, objid, 0) FROM pg_depend WHERE deptype = 'e'"
    " AND pg_describe_object(classid, objid, 0) ~ 'jobs|added' ORDER BY 1",
    "INSERT INTO jobs (payload) VALUES ('x') RETURNING id",
)


def answers(url: str) -> list[object]:
    with psycopg.connect(url) as connection:
        found = [connection.execute(query).fetchall() for query in ASKED]
        connection.rollback()
    return found  # type: ignore[return-value]


def test_what_extensions_do_not_make_is_carried_as_sql(
    pg15_url: str, make_database: Make, tmp_path: Path
) -> None:
    """By stock tools alone: pg_restore, then psql with the artifact `members`."""
    url = make_database(pg15_url, sql=MEMBERS)
    with psycopg.connect(url) as connection:
        connection.execute(BY_HAND)
    artifacts, fingerprint = take(url)
    assert fingerprint.not_backed_up == ()
    carried = [line for line in fingerprint.not_compared if "artifact `members`" in line]
    assert len(carried) == 6
    assert any(line.startswith("table public.jobs: it was added") for line in carried)
    copy = make_database(pg15_url)
    archive, members = tmp_path / "archive", tmp_path / "members"
    archive.write_bytes(b"".join(artifacts["archive"]))
    members.write_bytes(b"".join(artifacts["members"]))
    tools = choose(15)
    for argv in (
        [tools.path("pg_restore"), "--exit-on-error", "--dbname", copy, str(archive)],
        [tools.path("psql"), "-qX", "-v", "ON_ERROR_STOP=1", "-d", copy, "-f", str(members)],
    ):
        done = subprocess.run(argv, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
    assert answers(copy) == answers(url)


def test_rows_that_people_put_into_an_extensions_table_are_carried(
    pg15_url: str, make_database: Make
) -> None:
    url = make_database(pg15_url, sql="CREATE EXTENSION postgis_tiger_geocoder CASCADE")
    assert "members" not in take(url)[0], "its script's own rows are no loss"
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO tiger.state_lookup VALUES (999, 'Elsewhere', 'EW')")
    artifacts, fingerprint = take(url)
    assert b'\nDELETE FROM ONLY "tiger"."state_lookup";' in b"".join(artifacts["members"])
    assert b"999\tElsewhere\tEW" in b"".join(artifacts["members"])
    (line,) = [line for line in fingerprint.not_compared if "artifact" in line]
    assert line.startswith("rows of table tiger.state_lookup")


@pytest.fixture
def reader(pg15_url: str) -> Iterator[str]:
    """A role with the rights that our own hint recommends, and no more."""
    name = "reader_" + SystemEntropy().bytes(4).hex()
    with psycopg.connect(pg15_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN IN ROLE pg_read_all_data")
        yield name
        connection.execute(f"DROP ROLE {name}")


def test_what_a_role_without_power_may_not_read_is_named(
    pg15_url: str, make_database: Make, reader: str
) -> None:
    url = make_database(
        pg15_url,
        sql="CREATE EXTENSION postgres_fdw;"
        "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;"
        "CREATE USER MAPPING FOR postgres SERVER far OPTIONS (password 'very secret');"
        "CREATE USER MAPPING FOR public SERVER far OPTIONS (user 'them');"
        "CREATE TABLE t (id int)",
    )
    subscription = "sub_" + SystemEntropy().bytes(4).hex()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"CREATE SUBSCRIPTION {subscription} CONNECTION 'host=far.invalid password=secret'"
            " PUBLICATION p WITH (connect = false)"
        )
        try:
            whole, nothing = said(url)
            some, warnings = said(as_role(url, reader))
        finally:
            connection.execute(f"ALTER SUBSCRIPTION {subscription} DISABLE")
            connection.execute(f"ALTER SUBSCRIPTION {subscription} SET (slot_name = NONE)")
            connection.execute(f"DROP SUBSCRIPTION {subscription}")
    assert whole.not_backed_up == ()
    assert not [line for line in nothing if "not backed up" in line]
    assert [line.partition(":")[0] for line in some.not_backed_up] == [
        "options of the user mapping for postgres on server far",
        "options of the user mapping for public on server far",
        f"subscription {subscription}",
    ]
    assert warnings[-1] == (
        "not backed up: 2 sets of options of a user mapping, 1 subscription"
        " (names are in `backups show --contents`)"
    )
    assert "secret" not in " ".join((*some.not_backed_up, *warnings))


def test_what_belongs_to_the_database_is_in_its_settings(
    pg15_url: str, make_database: Make
) -> None:
    role = "owner_" + SystemEntropy().bytes(4).hex()
    url = make_database(pg15_url)
    name = name_of(url)
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (
            f"CREATE ROLE {role} LOGIN",
            f'ALTER ROLE {role} SET search_path = app, "Odd, one"',
            f"ALTER ROLE {role} SET work_mem = '7MB'",
            f"COMMENT ON DATABASE {name} IS 'the shop; owner: finance'",
            f"ALTER DATABASE {name} CONNECTION LIMIT 7",
            f"ALTER ROLE {role} IN DATABASE {name} SET role = 'pg_monitor'",
            f"ALTER DATABASE {name} SET session_preload_libraries = 'auto_explain'",
        ):
            connection.execute(statement)
    try:
        artifacts, fingerprint = take(url)
    finally:
        drop(pg15_url, name)
        with psycopg.connect(pg15_url, autocommit=True) as connection:
            connection.execute(f"DROP ROLE {role}")
    settings = fingerprint.settings
    assert settings["comment"] == "the shop; owner: finance"
    assert settings["connection limit"] == "7"
    assert settings[f"set role for {role}"] == "pg_monitor"
    assert settings["set session_preload_libraries"] == "auto_explain"
    sql = b"".join(artifacts["roles"]).decode()
    with psycopg.connect(pg15_url, autocommit=True) as connection:
        connection.execute(sql)  # type: ignore[call-overload]
        made = connection.execute(
            "SELECT setconfig FROM pg_db_role_setting WHERE setrole = %s::regrole", (role,)
        ).fetchall()
        connection.execute(f"DROP ROLE {role}")
    assert made == [(['search_path=app, "Odd, one"', "work_mem=7MB"],)]


PINNED = (
    "SET client_encoding = 'LATIN1'",
    "SET datestyle = 'SQL, DMY'",
    "SET lc_monetary = 'de_DE.UTF-8'",
    "SET timezone = 'Asia/Tokyo'",
    "SET intervalstyle = 'iso_8601'",
    "SET bytea_output = 'escape'",
    "SET extra_float_digits = -5",
    "SET quote_all_identifiers = on",
    "SET standard_conforming_strings = off",
    "SET xmloption = document",
    "SET default_transaction_isolation = 'serializable'",
    "SET default_transaction_read_only = on",
    "SET statement_timeout = '20s'",
    "SET idle_in_transaction_session_timeout = '3s'",
)
VALUES = r"""
CREATE TABLE t (id int PRIMARY KEY, n text DEFAULT 'a\b', m money, at timestamptz, i interval,
                b bytea, f float8, x xml, d date);
INSERT INTO t VALUES (1, 'Zoé 日本', 1234.56::numeric::money, '2026-02-03 04:05+00',
                      '1 day -2 hours', '\x00ff5c', 1.0/3, '<a/>', '2026-02-03');
CREATE VIEW v AS SELECT id AS "order", n || E'\\' AS n FROM t;
"""


def test_settings_of_a_database_change_nothing_in_its_backup(
    pg15_url: str, make_database: Make
) -> None:
    url = make_database(pg15_url, sql=VALUES)
    _, before = take(url)
    with psycopg.connect(pg15_url, autocommit=True) as connection:
        for setting in PINNED:
            if "de_DE" in setting and not locale_known(connection):
                continue
            connection.execute(f"ALTER DATABASE {name_of(url)} {setting}")
    _, after = take(url)
    assert after.tables == before.tables
    assert after.objects == before.objects
    assert len(after.settings) >= len(before.settings) + len(PINNED) - 1


def locale_known(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    try:
        connection.execute("SET lc_monetary = 'de_DE.UTF-8'")
    except psycopg.errors.InvalidParameterValue:
        return False
    return True


def test_rows_hashed_by_an_enum_are_loaded_through_the_root(
    pg15_url: str, make_database: Make
) -> None:
    """As pg_dump 16 and newer do by themselves."""
    url = make_database(
        pg15_url,
        sql="CREATE TYPE e AS ENUM ('a', 'b', 'c'); CREATE TABLE p (k e) PARTITION BY HASH (k);"
        "CREATE TABLE p0 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1);"
        "INSERT INTO p VALUES ('a'), ('b'), ('c')",
    )
    archive = b"".join(take(url)[0]["archive"])
    assert b"COPY public.p (k) FROM stdin" in archive
    assert b"COPY public.p0" not in archive


def test_what_pg_dump_remarks_is_on_record(pg15_url: str, make_database: Make) -> None:
    """A known remark in our words, without names; another as it is."""
    url = make_database(
        pg15_url,
        sql="CREATE TABLE a (id int PRIMARY KEY);"
        "CREATE TABLE b (id int PRIMARY KEY REFERENCES a);"
        "ALTER TABLE a ADD FOREIGN KEY (id) REFERENCES b",
    )
    argv = [choose(15).path("pg_dump"), "--data-only", "--dbname", url]
    with started(argv, {}, reads=[Path(str(conninfo_to_dict(url)["host"]))]) as child:
        list(child.blocks())
        assert child.wait() == 0
        found = remarks([*child.remarks(), "pg_dump: warning: x was not dumped", "who knows"])
    assert found.warnings == (
        "foreign keys form a circle: loading rows by hand needs them off",
        "not backed up: 1 thing that pg_dump names (see `backups show`)",
        f"pg_dump made {len(found.others)} remarks (see `backups show`)",
    )
    assert found.not_backed_up == ("pg_dump says: x was not dumped",)
    assert "circular foreign-key constraints" in found.others[0]
    assert found.others[-1] == "pg_dump says: who knows"
    assert len(found.others) >= 4
