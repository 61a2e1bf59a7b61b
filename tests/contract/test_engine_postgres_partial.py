"""One schema or table of a backup, by itself, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from pg_kit import ENGINE, RICH, Make, drop, dropped, silent, take, url_of

from backups.errors import NotFound
from backups.format.fingerprint import differences
from backups.model import RestoreOptions, Source, Written

pytestmark = pytest.mark.postgres

SHOP = """
create schema crm;
create type crm.tier as enum ('free', 'pro');
create function crm.touch() returns trigger language plpgsql as
    'begin new.seen = now(); return new; end';
create table crm.customer (id serial primary key, mail text unique, tier crm.tier
    default 'free', seen timestamptz, note text);
comment on column crm.customer.mail is 'theirs';
create trigger touched before update on crm.customer for each row execute function crm.touch();
create table "the orders" (id bigint generated always as identity primary key,
    customer int not null references crm.customer, total numeric check (total >= 0));
create index on "the orders" (customer);
create view spenders as select c.mail, sum(o.total) from crm.customer c
    join "the orders" o on o.customer = c.id group by c.mail;
create table measured (at date, what int) partition by range (at);
create table measured_1 partition of measured for values from ('2026-01-01') to ('2026-02-01');
create table measured_2 partition of measured default;
create index on measured (what);
create table parent (b int, a int);
create table child (c int) inherits (parent);
create table unrelated (a int primary key);
create publication told for table unrelated;
insert into crm.customer (mail, tier) select g || '@example.com', 'pro' from generate_series(1, 50) g;
insert into "the orders" (customer, total) select g, g * 2 from generate_series(1, 50) g;
insert into measured select '2026-01-15'::date + g, g from generate_series(1, 40) g;
insert into child values (1, 2, 3);
insert into unrelated values (1);
select lo_create(0);
"""  # noqa: E501


@pytest.fixture(params=["pg15_url", "pg16_url", "pg18_url"])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def fresh(server: str) -> Iterator[str]:
    yield from dropped(server)


def given(taken: Any, url: str, *only: str) -> Written:
    """Restored, compared and named; a second time into the same name."""
    artifacts, expected = taken
    with ENGINE.restore(Source(url), RestoreOptions(only=only)) as restoration:
        written = restoration.load(expected, lambda name: iter(artifacts[name]), silent)
        assert differences(written.expected, restoration.fingerprint()) == ()
        restoration.publish()
    return written


def tables(written: Written) -> dict[str, int]:
    return {f"{t.schema}.{t.name}": t.rows for t in written.expected.tables}


def test_a_table_a_schema_and_what_they_need(
    server: str, fresh: str, make_database: Make
) -> None:
    taken = take(make_database(server, sql=SHOP))
    url = url_of(server, fresh)

    one = given(taken, url, "public.the orders")
    assert tables(one) == {"public.the orders": 50}
    assert any("fk constraint" in note and "left out" in note for note in one.notes), one.notes
    assert "large objects were left out" in one.notes
    with psycopg.connect(url) as connection:
        connection.execute('insert into "the orders" (customer, total) values (1, 1)')
        found = connection.execute('select max(id) from "the orders"').fetchone()
        assert found == (51,), "its numbers go on where they were"
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute('insert into "the orders" (customer, total) values (1, -1)')
    drop(server, fresh)

    crm = given(taken, url, "crm")
    assert tables(crm) == {"crm.customer": 50}
    assert set(crm.expected.extensions) == {"plpgsql"}
    with psycopg.connect(url) as connection:
        connection.execute("update crm.customer set note = 'x' where mail = '7@example.com'")
        row = connection.execute("select seen from crm.customer where id = 7").fetchone()
        assert row is not None
        assert row[0] is not None, "its trigger came along"
    drop(server, fresh)

    both = given(taken, url, "crm.customer", "public.the orders")
    assert not any("fk constraint" in note for note in both.notes)
    with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.ForeignKeyViolation):
        connection.execute('insert into "the orders" (customer) values (999)')
    drop(server, fresh)

    view = given(taken, url, "public.spenders")
    assert set(tables(view)) == {"crm.customer", "public.the orders"}
    assert "table crm.customer came along: it is needed" in view.notes
    drop(server, fresh)

    whole = given(taken, url, "public.measured", "public.child")
    assert tables(whole) == {
        "public.measured_1": 16, "public.measured_2": 24, "public.child": 1, "public.parent": 0,
    }  # fmt: skip
    with psycopg.connect(url) as connection:
        assert connection.execute("select count(*) from measured").fetchone() == (40,)
    drop(server, fresh)

    alone = given(taken, url, "public.measured_2")
    assert tables(alone) == {"public.measured_2": 24}


def test_every_table_of_a_database_with_everything(
    server: str, fresh: str, make_database: Make
) -> None:
    """Each by itself, so that no kind of object is forgotten; then all schemas together."""
    taken = take(make_database(server, sql=RICH))
    url = url_of(server, fresh)
    names = sorted({f"{t.schema}.{t.name}" for t in taken[1].tables})
    for name in names:
        assert name in tables(given(taken, url, name))
        drop(server, fresh)
    schemas = {t.schema for t in taken[1].tables}
    assert len(tables(given(taken, url, *schemas))) == len(names)


def test_a_name_that_is_not_there_is_refused_before_anything_is_made(
    pg15_url: str, make_database: Make
) -> None:
    taken = take(make_database(pg15_url, sql=SHOP))
    url = url_of(pg15_url, "never_made")
    with pytest.raises(NotFound, match=r"no table 'crm\.custmer'") as refused:
        given(taken, url, "crm.custmer")
    assert "crm.customer" in refused.value.hint
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)
