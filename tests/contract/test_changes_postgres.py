"""What the rows of tables differ in, on real servers: keys of every kind, and none."""

from __future__ import annotations

import pytest
from pg_kit import Make

from backups.engines.postgres import changes
from backups.engines.postgres.server import login
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
insert into bare values (1);
insert into domained values (1), (2);
"""
NOW = """
delete from pair where b = 3;
update pair set v = 'other' where b in (4, 5);
insert into pair values ('new', 1, null, '2026-02-03 04:05+00'), ('far', 1, null, '9999-01-01');
update "odd schema"."od""d" set v = 'y' where "the key" = 'ä';
delete from "odd schema"."od""d" where "the key" = 'gone';
insert into domained values (3);
"""
TABLES = [("public", "pair"), ("odd schema", 'od"d'), ("public", "bare"), ("public", "dated"),
          ("public", "domained")]  # fmt: skip


@pytest.fixture(params=["pg15_url", "pg16_url", "pg18_url"])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def test_keys_of_every_kind(
    server: str, make_database: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = login(Source(make_database(server, sql=BOTH + NOW)))
    then = login(Source(make_database(server, sql=BOTH)))
    pair, odd, bare, dated, domained = map(str, changes.changes(now, then, TABLES))
    assert pair == (
        "public.pair: 1 come back ((k3,3)); 2 are lost ((far,1), (new,1)); "
        "2 change ((k4,4), (k5,5)); newest now 2026-02-03 04:05 UTC, then 2026-01-21 00:00 UTC"
    ), "what lies ahead is no row's age"
    assert odd == 'odd schema.od"d: 1 come back (gone); 1 change (ä)'
    assert bare.endswith("it has no primary key to tell rows by")
    assert dated == "public.dated: rows differ"
    assert domained == "public.domained: 1 are lost (3)"
    monkeypatch.setattr(changes, "MAX_ROWS", 5)
    (large,) = changes.changes(now, then, TABLES[:1])
    assert "more than 5 rows" in str(large)
