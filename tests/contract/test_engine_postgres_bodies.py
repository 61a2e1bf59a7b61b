"""A table by itself whose load runs functions: what their bodies name comes along, on real
servers. What is expected is read from the source with psql's own queries."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from pg_kit import Make, dropped, take, url_of
from test_engine_postgres_partial import given, tables

pytestmark = pytest.mark.postgres

BODIES = """
create schema lib; create schema "Odd lib";
create table lib.value (code text primary key);
insert into lib.value select 'c' || g from generate_series(1, 30) g;
create type lib.kind as enum ('a', 'b');
create sequence lib.uses;
create table "Odd lib"."The ""List"" x" (n int primary key);
insert into "Odd lib"."The ""List"" x" select generate_series(1, 7);
create function lib.low(n int) returns boolean language plpgsql immutable as $$
    begin return exists (select from "Odd lib"."The ""List"" x" l where l.n >= low.n); end $$;
create function lib.low(t text) returns boolean language plpgsql immutable as $$
    declare k lib.kind := 'a'; begin
        return exists (select from LIB.Value v where v.code = t); end $$;
create function lib.middle(t text, n int) returns boolean language sql immutable as
    'select lib.low(t) and lib.low(n)';
create function public.ok(t text, n int) returns boolean language plpgsql immutable as $f$
    begin execute 'select lib.middle($1, $2)' using t, n; -- lib.uses is told in a comment
    return lib.middle(t, n); end $f$;
create table public.item (id int primary key, code text, check (public.ok(code, id)));
insert into public.item select g, 'c' || g from generate_series(1, 7) g;
create table public.log (at timestamptz default now(), what text);
insert into public.log (what) select 'x' from generate_series(1, 100);
create function public.noted() returns trigger language plpgsql as
    $$ begin insert into public.log (what) values (new.id::text); return new; end $$;
create trigger noted after insert on public.item for each row execute function public.noted();
create table public.other (a int primary key);
create function public.never(a int) returns int language sql as 'select a from public.other';
"""


@pytest.fixture(params=["pg15_url", "pg16_url", "pg18_url"])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def fresh(server: str) -> Iterator[str]:
    yield from dropped(server)


def test_what_bodies_name_comes_along(server: str, fresh: str, make_database: Make) -> None:
    source, url = make_database(server, sql=BODIES), url_of(server, fresh)
    written = given(take(source), url, "public.item")
    assert tables(written) == {
        "public.item": 7, "lib.value": 30, 'Odd lib.The "List" x': 7,
    }  # fmt: skip
    with psycopg.connect(source) as one, psycopg.connect(url) as other:
        for query in (
            "select * from public.item order by 1",
            "select * from lib.value order by 1",
            'select * from "Odd lib"."The ""List"" x" order by 1',
            "select oid::regprocedure::text from pg_proc where pronamespace ="
            " 'lib'::regnamespace order by 1",
            "select typname from pg_type where typname in ('kind', 'uses') order by 1",
        ):
            assert other.execute(query).fetchall() == one.execute(query).fetchall(), query
        kept = other.execute(
            "select count(*) from pg_proc where proname in ('ok', 'noted', 'never')"
        ).fetchone()
        assert kept == (2,), "what nobody names stays where it is"
        with pytest.raises(psycopg.errors.CheckViolation):
            other.execute("insert into public.item values (99, 'none')")
    names = "\n".join(written.notes)
    assert "table lib.value came along: the body of function lib.low(text) names it" in names
    assert "function lib.middle(text, integer) came along: the body of function" in names
    assert "function public.noted(), which no load runs, names what may be needed" in names
    assert "no part: public.log" in names, "a trigger's function brings nothing, and says so"


def test_a_comment_names_too_much_and_harms_nothing(
    server: str, fresh: str, make_database: Make
) -> None:
    written = given(
        take(make_database(server, sql=BODIES)), url_of(server, fresh), "public.item"
    )
    assert any(s.name == "uses" for s in written.expected.sequences)
