"""The fingerprint of a copy: the same by another way, and not blind to any change."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from pg_kit import ENGINE, Make, databases, drop, give, name_of, silent, take, url_of

from backups.engines.postgres import readback
from backups.entropy import SystemEntropy
from backups.errors import RestoreFailed
from backups.format.fingerprint import differences
from backups.model import RestoreOptions, Source

pytestmark = pytest.mark.postgres

SQL = """
    CREATE TABLE wide AS SELECT g AS id, repeat(E'\\\\!\\n', g % 9) || repeat('x', 200) AS v,
        timestamptz '2026-01-01Z' + g * interval '1 s' AS at, decode('00ff', 'hex') AS b
        FROM generate_series(1, 5000) g;
    CREATE TABLE "em\npty" (v text);
    CREATE TABLE columnless (); INSERT INTO columnless SELECT FROM generate_series(1, 3);
    CREATE SEQUENCE s; SELECT nextval('s'), lo_from_bytea(77, 'abc');
    CREATE SCHEMA "evil :name \\! $$";
    CREATE TABLE "evil :name \\! $$"."t\\\\;" AS SELECT 1 AS ":v";
"""


@pytest.fixture
def fresh(pg15_url: str) -> Iterator[str]:
    """URL of a database that does not exist; dropped afterwards."""
    name = "copy_" + SystemEntropy().bytes(6).hex()
    yield url_of(pg15_url, name)
    drop(pg15_url, name)


@pytest.mark.parametrize("jobs", [1, 3])
def test_pieces_of_a_table_add_up(
    jobs: int, pg15_url: str, make_database: Make, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readback, "PAGES", 7)
    assert give(take(make_database(pg15_url, sql=SQL)), fresh, jobs=jobs) == []


def test_another_time_zone_and_output_format_give_the_same(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    taken = take(make_database(pg15_url, sql=SQL))
    elsewhere = "options=-c%20TimeZone%3DAsia/Kathmandu%20-c%20bytea_output%3Descape"
    assert give(taken, f"{fresh}&{elsewhere}") == []


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ("UPDATE wide SET v = v || ' ' WHERE id = 4999", "content"),
        ("DELETE FROM wide WHERE id = 1", "rows"),
        ("INSERT INTO wide SELECT * FROM wide WHERE id = 7", "rows"),
        ("INSERT INTO columnless DEFAULT VALUES", "rows"),
        ('INSERT INTO "em\npty" VALUES (NULL)', "rows"),
        ("SELECT nextval('s')", "sequences"),
        ("SELECT lo_put(77, 1, 'x')", "large objects"),
        ("SELECT lo_create(78)", "large objects"),
        ("ALTER TABLE wide ALTER v SET NOT NULL", "structure"),
        ("CREATE TABLE more ()", "structure"),
        ("DROP SEQUENCE s; CREATE SEQUENCE s INCREMENT 2", "structure"),
        ("CREATE EXTENSION citext", "extensions"),
    ],
)
def test_every_change_of_a_copy_is_seen(
    change: str, check: str, pg15_url: str, make_database: Make, fresh: str
) -> None:
    artifacts, expected = take(make_database(pg15_url, sql=SQL))
    with ENGINE.restore(Source(fresh), RestoreOptions()) as restoration:
        restoration.load(expected, lambda name: iter(artifacts[name]), silent)
        (copy,) = databases(pg15_url, name_of(fresh))
        with psycopg.connect(url_of(pg15_url, copy)) as connection:
            connection.execute(change)
        found = differences(expected, restoration.fingerprint())
    assert check in {item.check for item in found}


def test_nothing_is_fingerprinted_before_it_is_loaded(fresh: str) -> None:
    with (
        ENGINE.restore(Source(fresh), RestoreOptions()) as restoration,
        pytest.raises(RestoreFailed, match="nothing was loaded"),
    ):
        restoration.fingerprint()
