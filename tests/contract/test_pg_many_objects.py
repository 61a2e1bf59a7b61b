"""Hundreds of tables, sequences and large objects: right, and in few round trips."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import psycopg
import pytest
from pg_kit import Make, drop, give, take, url_of

from backups.engines.postgres import lanes
from backups.entropy import SystemEntropy
from backups.model import Fingerprint, Source
from verify.examine import pg_batches
from verify.examine.pg_pages import full_read, pages
from verify.examine.pg_rules import sequences_ahead
from verify.examine.pg_session import session

pytestmark = pytest.mark.postgres

TABLES = """DO $$ BEGIN FOR i IN 1..{n} LOOP
    EXECUTE format('CREATE TABLE t%s (id serial PRIMARY KEY, v text)', i);
    EXECUTE format('INSERT INTO t%s (v) SELECT md5(g::text) FROM generate_series(1, %s) g',
        i, i % 7); END LOOP; END $$;"""


@pytest.fixture
def fresh(pg15_url: str) -> Iterator[str]:
    """URL of a database that does not exist; dropped afterwards."""
    name = "copy_" + SystemEntropy().bytes(6).hex()
    yield url_of(pg15_url, name)
    drop(pg15_url, name)


@pytest.mark.timeout(600)
def test_many_tables_and_sequences(pg15_url: str, make_database: Make, fresh: str) -> None:
    assert give(take(make_database(pg15_url, sql=TABLES.format(n=700))), fresh) == []
    with psycopg.connect(fresh) as connection:
        total = connection.execute(
            "SELECT sum((xpath('/row/c/text()', query_to_xml(format("
            "'SELECT count(*) AS c FROM %s', oid::regclass), true, true, '')))[1]::text::int)"
            " FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        ).fetchone()
    assert total == (2100,)


def test_large_objects_go_many_at_once(
    pg15_url: str, make_database: Make, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "OBJECTS", 7)
    monkeypatch.setattr(lanes, "OBJECT_BYTES", 50_000)
    source = make_database(
        pg15_url,
        sql="""SELECT lo_from_bytea(1000 + g, decode(repeat('ab', g * 41), 'hex'))
            FROM generate_series(0, 99) g;
        SELECT lo_from_bytea(4000000000, decode(repeat('00ff', 70000), 'hex')), lo_create(7)""",
    )
    assert give(take(source), fresh) == []
    sums = "SELECT oid, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY 1"
    with psycopg.connect(source) as one, psycopg.connect(fresh) as other:
        found = one.execute(sums).fetchall()
        assert other.execute(sums).fetchall() == found
    assert len(found) == 102


@pytest.mark.parametrize("at_once", [1, 100])
def test_one_among_many_is_found_and_named(
    at_once: int, pg15_url: str, make_database: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same findings, together or each alone."""
    monkeypatch.setattr(pg_batches, "AT_ONCE", at_once)
    url = make_database(pg15_url, sql=TABLES.format(n=120))
    with psycopg.connect(url) as connection:
        connection.execute("ALTER TABLE t3 ADD COLUMN a aclitem")  # without binary output
        connection.execute("SELECT setval('t17_id_seq', 1)")
        connection.execute("CREATE TABLE broken (v text)")
        connection.execute("""CREATE FUNCTION bad(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE
            AS $$ BEGIN RETURN 1 / (CASE WHEN current_setting('a.b', true) = 'x' THEN 1
                ELSE 0 END); END $$""")
        connection.execute("SET a.b = 'x'")
        connection.execute("INSERT INTO broken VALUES ('x')")
        connection.execute("CREATE INDEX broken_bad ON broken (bad(v))")
    found = {}
    taken = Fingerprint("postgresql", "15", {}, {}, (), (), (), ())
    steps = {
        "pages": pages,
        "full_read": full_read,
        "sequences_ahead": partial(sequences_ahead, fingerprint=taken),
    }
    for name, step in steps.items():
        with session(Source(url), timedelta(seconds=60)) as opened:
            found[name] = [
                (check.passed, check.subject) for check in step(opened) if not check.passed
            ]
    assert found["full_read"] == []
    assert [subject for _, subject in found["sequences_ahead"]] == ["public.t17_id_seq"]
    assert [subject for _, subject in found["pages"]] == ["public.broken_bad"]
