"""What the rows of tables differ in, on real servers: keys of every kind, and none."""

from __future__ import annotations

import psycopg
import pytest
from pg_kit import Make

from backups.engines.postgres import changes
from backups.engines.postgres.server import Login, login
from backups.model import Source

pytestmark = pytest.mark.postgres

BOTH = """
create schema "odd schema";
create table pair (a text, b int, v text, at timestamptz, primary key (a, b));
create table "odd schema"."od""d" ("the key" text primary key, v text);
create table bare (v int);
create table dated (id uuid primary key, born date, ends timestamp);
create domain positive as int check (value > 0);
create table domained (id positive primary key);
insert into pair select 'k' || g, g, 'v', '2026-01-01'::timestamptz + g * interval '1 day'
    from generate_series(1, 20) g;
insert into "odd schema"."od""d" values ('ä', 'x'), ('Z', 'x'), ('a', 'x'), ('gone', 'x');
insert into bare values (1), (1), (2);
create table rekeyed (a int primary key, b int unique not null);
insert into rekeyed values (1, 10), (2, 20);
create table ancient (id int primary key, born date, at timestamptz, till timestamp);
insert into ancient values (1, '0044-03-15 BC', '0044-03-15 BC', 'infinity'),
    (2, '-infinity', '-infinity', 'infinity');
create table wider (id int primary key, a text);
insert into wider values (1, 'x');
insert into domained values (1), (2);
"""
NOW = """
delete from pair where b = 3;
update pair set v = 'other' where b in (4, 5);
insert into pair values ('new', 1, null, '2026-02-03 04:05+00'), ('far', 1, null, '9999-01-01');
update "odd schema"."od""d" set v = 'y' where "the key" = 'ä';
delete from "odd schema"."od""d" where "the key" = 'gone';
insert into domained values (3);
insert into bare values (1), (3);
delete from bare where v = 2;
alter table rekeyed drop constraint rekeyed_pkey, add primary key (b);
update rekeyed set a = 3 where a = 2;
update ancient set till = '1999-01-01', born = 'infinity' where id = 1;
alter table wider add n int;
update wider set a = 'y';
"""
TABLES = [("public", "pair"), ("odd schema", 'od"d'), ("public", "bare"), ("public", "dated"),
          ("public", "domained"), ("public", "rekeyed"), ("public", "ancient"),
          ("public", "wider"), ("public", "gone")]  # fmt: skip


@pytest.fixture(params=["pg15_url", "pg16_url", "pg18_url"])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def test_keys_of_every_kind(
    server: str, make_database: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = login(Source(make_database(server, sql=BOTH + NOW)))
    then = login(Source(make_database(server, sql=BOTH)))
    pair, odd, bare, dated, domained, rekeyed, ancient, wider, gone = map(
        str, changes.changes(now, then, TABLES)
    )
    assert pair == (
        "public.pair: 1 come back ((k3,3)); 2 are lost ((far,1), (new,1)); "
        "2 change ((k4,4), (k5,5)); newest now 2026-02-03 04:05 UTC, then 2026-01-21 00:00 UTC"
    ), "what lies ahead is no row's age"
    assert odd == 'odd schema.od"d: 1 come back (gone); 1 change (ä)'
    all_values = "rows are told apart by all their values"
    assert bare == (f"public.bare: 1 come back; 2 are lost; no primary key: {all_values}"), (
        "the third 1 and the 3 for the 2"
    )
    assert rekeyed == (
        f"public.rekeyed: 1 come back; 1 are lost; its primary key is another: {all_values}"
    )
    assert ancient == (
        "public.ancient: 1 change (1); newest now 1999-01-01 00:00 UTC, then none"
    ), "years that Python has not, and infinity, are read by the server"
    assert wider == "public.wider: 1 change (1); columns there only now: n"
    assert gone.endswith("it is there no more, or is no plain table")
    assert dated == "public.dated: rows differ"
    assert domained == "public.domained: 1 are lost (3)"
    monkeypatch.setattr(changes, "MAX_ROWS", 5)
    (large,) = changes.changes(now, then, TABLES[:1])
    assert "more than 5 rows" in str(large)


def in_encoding(server: str, url: str, encoding: str, statements: str) -> Login:
    """The database of that URL made anew in another encoding, in the order of bytes."""
    name = url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'drop database "{name}"')  # type: ignore[arg-type]
        connection.execute(
            f"create database \"{name}\" encoding {encoding} lc_collate 'C' lc_ctype 'C'"
            " template template0"  # type: ignore[arg-type]
        )
    with psycopg.connect(url, client_encoding="utf8") as connection:
        connection.execute(statements)  # type: ignore[arg-type]
    return login(Source(url))


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP", "KOI8R", "SQL_ASCII"])
def test_keys_in_every_order_of_bytes(
    pg15_url: str, make_database: Make, encoding: str
) -> None:
    """Keys are merged by one order on both sides, whatever the bytes of the encoding are."""
    letters = {"LATIN1": "aÿé~", "EUC_JP": "日本a語", "KOI8R": "ЯбАzъ"}.get(encoding, "")  # noqa: RUF001
    sql = "create table t (k text primary key, v int);"
    if not letters:
        sql += "insert into t select chr(g), g from generate_series(128, 160) g;"
        sql += "insert into t values ('a', 1), (E'\\\\', 2), ('_', 3);"
    for letter in letters:
        sql += f"insert into t select '{letter}' || g, g from generate_series(1, 9) g;"
    other = f"{sql} update t set v = 0 where v = 2"
    now, then = (
        in_encoding(pg15_url, make_database(pg15_url), encoding, each) for each in (other, sql)
    )
    (found,) = changes.changes(now, then, [("public", "t")])
    assert (found.comes, found.goes, found.changes) == (0, 0, max(1, len(letters)))
