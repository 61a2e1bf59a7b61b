"""Fidelity: PostgreSQL's own regression database, each kind of object, each kind of value."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from pg_kit import ENGINE, Make, create, drop, dropped, give, take, url_of
from psycopg import sql

from backups.engines.postgres.tools import choose
from backups.entropy import SystemEntropy
from backups.format.fingerprint import differences
from backups.model import Source

pytestmark = pytest.mark.postgres

KINDS = (
    ("create schema app", "drop schema app"),
    ("create type mood as enum ('sad', 'ok')", "drop type mood"),
    ("create type whole as (a int, b text)", "alter type whole add attribute c int"),
    ("create type span as range (subtype = float8)", "drop type span"),
    ("create domain even as int constraint halves check (value % 2 = 0)",
     "alter domain even drop constraint halves"),
    ("create collation plainly from \"C\"", "drop collation plainly"),
    ("create sequence numbers start 7", "drop sequence numbers"),
    ("create sequence moved", "select setval('moved', 5)"),
    ("create function f(int) returns int language sql as 'select 1'",
     "create or replace function f(int) returns int language sql as 'select 2'"),
    ("create procedure p() language sql as 'select 1'", "drop procedure p"),
    ("create aggregate total (int) (sfunc = int4pl, stype = int)",
     "drop aggregate total (int)"),
    ("create operator === (leftarg = int, rightarg = int, function = int4eq)",
     "drop operator === (int, int)"),
    ("create operator class other_ops for type int using btree as operator 1 <, operator 2 <=,"
     " operator 3 =, operator 4 >=, operator 5 >, function 1 btint4cmp(int, int)",
     "drop operator class other_ops using btree"),
    ("create operator family many using btree", "drop operator family many using btree"),
    ("create function of_even(even) returns text language sql as 'select ''x'''; create type"
     " wrapped as (v int); create function of_int(int) returns wrapped language sql as"
     " 'select row($1)::wrapped'; create cast (int as wrapped) with function of_int(int)",
     "drop cast (int as wrapped)"),
    ("create text search dictionary words (template = simple, stopwords = 'english')",
     "drop text search dictionary words"),
    ("create text search configuration ts (copy = simple)",
     "alter text search configuration ts drop mapping for word"),
    ("create table t (id int generated always as identity primary key, n int not null"
     " default 3, g int generated always as (n * 2) stored, s text collate \"C\", u int unique,"
     " constraint positive check (n > 0)) with (fillfactor = 70)",
     "alter table t alter n drop default"),
    ("create index partial on t (lower(s)) include (n) where n > 1", "drop index partial"),
    ("create statistics st (dependencies) on n, u from t", "drop statistics st"),
    ("comment on column t.n is 'of n'", "comment on column t.n is null"),
    ("alter table t alter s set storage external", "alter table t alter s set storage main"),
    ("alter table t replica identity full", "alter table t replica identity default"),
    ("alter table t cluster on t_pkey", "alter table t set without cluster"),
    ("alter table t add constraint apart exclude using btree (n with =)",
     "alter table t drop constraint apart"),
    ("create function tr() returns trigger language plpgsql as 'begin return new; end'", ""),
    ("create trigger noted before insert on t for each row execute function tr()",
     "alter table t disable trigger noted"),
    ("create rule quiet as on delete to t do instead nothing", "drop rule quiet on t"),
    ("create table refers (t int, constraint to_t foreign key (t) references t"
     " deferrable initially deferred)",
     "alter table refers alter constraint to_t not deferrable"),
    ("create table parent (a int, b int constraint own check (b > 0) no inherit);"
     " create table child () inherits (parent)", "alter table child no inherit parent"),
    ("create table parts (id int, at date) partition by range (at); create table parts_1"
     " partition of parts for values from ('2026-01-01') to ('2027-01-01')",
     "alter table parts detach partition parts_1"),
    ("create table kept_rows (v text); insert into kept_rows values ('a'), ('a')",
     "delete from kept_rows where ctid = '(0,1)'"),
    ("create unlogged table quick (v int)", "alter table quick set logged"),
    ("create view seen with (security_barrier) as select id, n from t",
     "alter view seen reset (security_barrier)"),
    ("create materialized view kept as select 1 as one", "drop materialized view kept"),
    ("create table private (v int); alter table private enable row level security",
     "alter table private disable row level security"),
    ("create policy own on private using (v > 1)", "drop policy own on private"),
    ("create publication pub for table refers", "drop publication pub"),
    ("create foreign data wrapper dummy", ""),
    ("create server far foreign data wrapper dummy options (host 'x')",
     "alter server far options (set host 'y')"),
    ("create foreign table elsewhere (v int) server far", "drop foreign table elsewhere"),
    ("create user mapping for public server far", "drop user mapping for public server far"),
    ("create function ev() returns event_trigger language plpgsql as 'begin null; end'", ""),
    ("create event trigger et on ddl_command_start execute function ev()",
     "drop event trigger et"),
    ("create extension if not exists plpgsql; create transform for int language plpgsql"
     " (from sql with function prsd_lextype(internal))",
     "drop transform for int language plpgsql"),
    ("create access method heap2 type table handler heap_tableam_handler",
     "drop access method heap2"),
    ("alter default privileges grant select on tables to public",
     "alter default privileges revoke select on tables from public"),
    ("grant select (n) on t to public", "revoke select (n) on t from public"),
    ("select lo_from_bytea(77, 'x')", "select lo_put(77, 0, 'y')"),
    ("comment on large object 77 is 'words'", "comment on large object 77 is null"),
    ("create conversion conv for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8",
     "drop conversion conv"),
)  # fmt: skip
"""How one is made, and the smallest change to it; an empty change: the next one needs it."""

VALUES = """
create table v (id int primary key, i2 smallint, i8 bigint, f4 real, f8 double precision,
    n numeric, m money, t text, c char(4), b bytea, d date, at timestamp, tz timestamptz,
    hour timetz, span interval, j json, jb jsonb, bits bit varying, a text[], net inet);
insert into v values
    (1, -32768, -9223372036854775808, 'NaN', 'NaN', 'NaN', '-92233720368547758.08', '', '',
     '\\x00', '4713-01-01 BC', '4713-01-01 00:00:00 BC', '-infinity', '00:00:00+15:59',
     '-178000000 years', '{"b": 1, "a": 2, "b": 3}', '{"b": 1, "a": 2}', '', '{}', '::1'),
    (2, 32767, 9223372036854775807, 'infinity', '-infinity', 'Infinity', '92233720368547758.07',
     E'\\\\.\\n\\t\\r\\\\N', 'a', '\\x00ff5c0a', 'infinity', '294276-12-31 23:59:59.999999',
     '2026-03-29 02:30:00 Europe/Berlin', '24:00:00-15:59', '1 mon -1 day 0.000001 sec',
     '  [1e400]', '[1e400]', '101', '{NULL,"NULL",""}', '10.0.0.0/8'),
    (3, null, null, '1e-45', '5e-324', '1e-16383', null, null, null, '', '-infinity', null,
     null, null, null, 'null', 'null', null, null, null),
    (4, 0, 0, '-0', '-0', '0.00', 0, 'NULL', 'NULL', 'x', '0001-01-01', 'infinity', 'infinity',
     '00:00', '0', '""', '""', '0', '{{1,2},{3,4}}', '0.0.0.0/0');
"""
TEXTS = {
    "UTF8": b"caf\xc3\xa9 \xe2\x98\x83 \xf0\x9f\x98\x80",
    "LATIN1": b"caf\xe9 \x80\x9f\xff",
    "WIN1252": b"\x80 \x93words\x94",
    "EUC_JP": b"\xc6\xfc\xcb\xdc",
    "SQL_ASCII": b"\xff\xfe caf\xe9 \xc3\xa9 \xc3",  # bytes, whatever they mean
}
"""Encoding of a database, and bytes that it takes."""


@pytest.fixture(
    params=["pg15_url", pytest.param("pg16_url", marks=pytest.mark.full), "pg18_url"]
)
def server(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def source(server: str) -> Iterator[str]:
    """Where no database is yet."""
    name = "kinds_" + SystemEntropy().bytes(6).hex()
    yield url_of(server, name)
    drop(server, name)


@pytest.fixture
def copy(server: str) -> Iterator[str]:
    for name in dropped(server):
        yield url_of(server, name)


def vendors_dump(url: str) -> list[bytes]:
    """pg_dump's own text, but for what differs in any two runs; lines sorted."""
    with psycopg.connect(url) as connection:
        major = connection.info.server_version // 10000
    said = subprocess.run(
        [choose(major).path("pg_dump"), "--dbname", url], capture_output=True, check=True
    ).stdout
    noise = re.compile(rb"--|\\(un)?restrict")
    return sorted(line for line in said.split(b"\n") if not noise.match(line))


def test_each_kind_of_object_comes_back_and_is_missed_when_it_changes(
    server: str, source: str, copy: str
) -> None:
    create(server, source)
    with psycopg.connect(source, autocommit=True) as connection:
        for made, _ in KINDS:
            connection.execute(made)  # type: ignore[call-overload]
    taken = take(source)
    assert give(taken, copy) == []
    assert vendors_dump(copy) == vendors_dump(source)
    before = ENGINE.fingerprint(Source(copy))
    with psycopg.connect(copy, autocommit=True) as connection:
        for _, change in KINDS:
            if change:
                connection.execute(change)  # type: ignore[call-overload]
                after = ENGINE.fingerprint(Source(copy))
                assert differences(before, after), change
                before = after


@pytest.mark.parametrize("encoding", TEXTS)
def test_each_kind_of_value_in_each_encoding(
    encoding: str, server: str, source: str, copy: str
) -> None:
    create(server, source, f"encoding '{encoding}' lc_collate 'C' lc_ctype 'C'")
    with psycopg.connect(source) as connection:
        connection.execute(VALUES)
        connection.execute(f"set client_encoding to {encoding}")  # type: ignore[arg-type]
        connection.execute("create table texts (t text)")
        with connection.cursor() as cursor, cursor.copy("copy texts from stdin") as rows:
            rows.write(TEXTS[encoding] + b"\n")
    assert give(take(source), copy) == []
    assert vendors_dump(copy) == vendors_dump(source)
    with psycopg.connect(copy) as connection:
        connection.execute(f"set client_encoding to {encoding}")  # type: ignore[arg-type]
        with connection.cursor() as cursor, cursor.copy("copy texts to stdout") as rows:
            assert b"".join(bytes(row) for row in rows) == TEXTS[encoding] + b"\n"
        assert connection.info.parameter_status("server_encoding") == encoding


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_regression_database(server: str, source: str, copy: str, tmp_path: Path) -> None:
    """What PostgreSQL's own tests leave behind: 230 scripts, every kind of object there is.

    Left out are what wants a library compiled from its source, the script about tablespaces,
    and, on 15, the one about casts: a server before 16 does not know that a cast needs another,
    and no pg_dump orders them. Source: PostgreSQL 16.2, src/test/regress."""
    scripts = os.environ.get("BACKUPS_TEST_REGRESS")
    if not scripts:
        pytest.skip("PostgreSQL's regression scripts are not at hand")
    try:
        run_scripts(Path(scripts), server, source, tmp_path)
        taken = take(source)
        assert len(taken[1].tables) > 200
        assert len(taken[1].objects) > 1500
        assert give(taken, copy) == []
        # Columns of a child table that came to it later stand elsewhere in any pg_dump's copy.
        lines = set(vendors_dump(source)) ^ set(vendors_dump(copy))
        moved = {b"b_star", b"c_star", b"d_star", b"e_star", b"f_star", b"renamecolumnanother",
                 b"renamecolumnchild", b"test_type_diff2_c1", b"test_type_diff2_c2",
                 b"test_type_diff_c"}  # fmt: skip
        copied = [line for line in lines if line.startswith(b"COPY ")]
        assert {line.partition(b"public.")[2].partition(b" ")[0] for line in copied} <= moved
        assert not [
            line for line in lines if line.startswith((b"CREATE ", b"ALTER ", b"GRANT "))
        ]
    finally:
        for url in (source, copy):
            with suppress(psycopg.OperationalError):  # it was not made
                forget_subscriptions(url)


def forget_subscriptions(url: str) -> None:
    """Else their database can't be dropped."""
    with psycopg.connect(url, autocommit=True) as connection:
        for (name,) in connection.execute(OURS).fetchall():
            for words in ("alter subscription {} disable",
                          "alter subscription {} set (slot_name = none)",
                          "drop subscription {}"):  # fmt: skip
                connection.execute(sql.SQL(words).format(sql.Identifier(name)))


OURS = """
    select subname from pg_subscription s join pg_database d on d.oid = s.subdbid
     where d.datname = current_database()"""


def run_scripts(scripts: Path, server: str, url: str, out: Path) -> None:
    """As pg_regress does, one after the other; what they print does not matter here."""
    create(server, url, "lc_collate 'C' lc_ctype 'C'")
    out.chmod(0o777)
    (out / "results").mkdir()
    with psycopg.connect(url) as connection:
        old = connection.info.server_version < 160000
    left_out = {"tablespace"} | ({"create_cast"} if old else set())
    schedule = (scripts / "parallel_schedule").read_text()
    environment = {
        "PATH": os.environ["PATH"],
        "PGTZ": "PST8PDT",
        "PGDATESTYLE": "Postgres, MDY",
        "PG_ABS_SRCDIR": str(scripts),
        "PG_ABS_BUILDDIR": str(out),
        "PG_LIBDIR": "/nowhere",
        "PG_DLSUFFIX": ".so",
    }
    for line in re.findall(r"(?m)^test:(.*)$", schedule):
        for name in line.split():
            if name not in left_out:
                subprocess.run(
                    ["psql", "-X", "-q", "-d", url, "-f", str(scripts / "sql" / f"{name}.sql")],
                    env=environment, capture_output=True, check=False, timeout=120,
                )  # fmt: skip


@pytest.mark.full
@pytest.mark.timeout(300)
def test_very_wide_and_very_many_tables(pg15_url: str, make_database: Make) -> None:
    """As wide as a table can be, and two thousand of them."""
    wide = ", ".join(f"c{n} smallint" for n in range(1600))
    source = make_database(pg15_url, sql=f"create table wide ({wide})")
    with psycopg.connect(source) as connection:
        connection.execute("insert into wide (c0, c1599) values (1, 2), (null, null)")
        for n in range(2000):
            connection.execute(f"create table t{n} as select {n} as n")  # type: ignore[arg-type]
    taken = take(source)
    assert len(taken[1].tables) == 2001
    for name in dropped(pg15_url):
        assert give(taken, url_of(pg15_url, name)) == []
