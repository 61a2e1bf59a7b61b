"""Extensions that customers have: backup, restore, restore test, each with the right verdict.

All on one server of the distribution's PostgreSQL with the libraries that its extensions want.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from pg_kit import assert_same, create, drop, plain, url_of
from pg_own_kit import own_server
from scratch_kit import EMPTY, ground_of, in_database, need, private, short_folder
from server_kit import unique

from backups.clock import SystemClock

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]

MAJOR = 15
CASES = {
    "an audit log": (
        "CREATE EXTENSION pgaudit; ALTER DATABASE {db} SET pgaudit.log = 'write, ddl'",
        "PASSED",
    ),
    "queues, Oracle's functions, periods": (
        "CREATE EXTENSION pgq; CREATE EXTENSION orafce; CREATE EXTENSION periods CASCADE;"
        "SELECT pgq.create_queue('q1');"
        "CREATE TABLE s (id int PRIMARY KEY, d_from date NOT NULL, d_to date NOT NULL);"
        "SELECT periods.add_period('s', 'p', 'd_from', 'd_to');"
        "INSERT INTO s VALUES (1, '2026-01-01', '2026-02-01')",
        "PASSED",
    ),
    "partitions by pg_partman": (
        "CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman;"
        "CREATE TABLE ev (id bigint, at timestamptz NOT NULL) PARTITION BY RANGE (at);"
        "SELECT partman.create_parent('public.ev', 'at', 'native', 'daily');"
        "INSERT INTO ev VALUES (1, now())",
        "PASSED",
    ),
    "maps with topology": (
        "CREATE EXTENSION postgis; CREATE EXTENSION postgis_topology;"
        "CREATE EXTENSION fuzzystrmatch; CREATE EXTENSION postgis_tiger_geocoder;"
        "INSERT INTO spatial_ref_sys (srid, auth_name, auth_srid, srtext, proj4text)"
        " VALUES (990001, 'acme', 1, 'x', '+proj=longlat');"
        "CREATE TABLE place (id int PRIMARY KEY, g geometry(Point, 4326));"
        "INSERT INTO place SELECT i, st_setsrid(st_point(i % 180, i % 90), 4326)"
        " FROM generate_series(1, 200) i; CREATE INDEX ON place USING gist (g);"
        "SELECT topology.CreateTopology('land', 4326);"
        "SELECT topology.TopoGeo_AddPoint('land', 'SRID=4326;POINT(1 1)')",
        "PASSED",
    ),
    "an index on a function that names another without a schema": (
        "CREATE EXTENSION unaccent; CREATE FUNCTION f(t text) RETURNS text IMMUTABLE"
        " LANGUAGE sql AS $$SELECT unaccent('unaccent', t)$$;"
        "CREATE TABLE person (id serial PRIMARY KEY, name text);"
        "INSERT INTO person (name) VALUES ('Zoé'), ('Ana'); CREATE INDEX ON person (f(name))",
        "PASSED",
    ),
    "views of an extension that counts": (
        "CREATE EXTENSION pg_stat_statements; CREATE TABLE t (id int PRIMARY KEY);"
        "CREATE MATERIALIZED VIEW m AS SELECT count(*) > 0 AS some FROM pg_stat_statements",
        "PASSED",
    ),
    "a column that names a role": (
        "CREATE TABLE jobs (id int PRIMARY KEY, owner regrole);"
        "INSERT INTO jobs VALUES (1, '{role}')",
        "ENVIRONMENT",
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    tools = Path(os.environ[f"BACKUPS_TEST_PG_{MAJOR}_BIN"])
    loaded = "shared_preload_libraries=pg_cron,pgaudit,pg_stat_statements"
    with own_server(tools, loaded, "cron.database_name=jobs") as url:
        yield url


def run(url: str, statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statements)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES)
def test_what_uses_an_extension_comes_back_and_is_proven(
    case: str, server: str, house: House, tmp_path: Path
) -> None:
    statements, verdict = CASES[case]
    name, role = unique("source_"), unique("role_")
    source, copy = url_of(server, name), url_of(server, f"{name}_copy")
    run(server, f"CREATE ROLE {role}")
    create(server, source)
    run(source, statements.replace("{db}", name).replace("{role}", role))
    with house.proving(tmp_path, source):
        house.must("run", "live")
        house.must("restore", "live", "--to", copy)
        assert_same(plain(source, MAJOR), plain(copy, MAJOR))
        found = house.call("verify", "run", "live", "--json").json
    assert found["verdict"] == verdict, found["reason"]
    assert verdict != "PASSED" or found["level"] == 12, found["reason"]
    drop(server, f"{name}_copy")
    drop(server, name)


def test_jobs_are_restored_under_the_name_they_may_have_and_none_runs(
    server: str, house: House, tmp_path: Path
) -> None:
    source = url_of(server, "jobs")
    create(server, source)
    run(source, "CREATE EXTENSION pg_cron; CREATE TABLE t (id int)")
    run(source, "SELECT cron.schedule('* * * * *', 'INSERT INTO t VALUES (1)')")
    run(source, "UPDATE cron.job SET active = false")
    clock = SystemClock()
    until = clock.monotonic() + 60
    while launchers(source) == 0 and clock.monotonic() < until:  # it begins anew by itself
        clock.sleep(0.1)
    assert launchers(source) == 1  # there is something to keep quiet
    before = plain(source, MAJOR)
    with house.proving(tmp_path, source):
        house.must("run", "live")
        found = house.call("verify", "run", "live", "--json").json
        assert (found["verdict"], found["level"]) == ("PASSED", 12), found["reason"]
        drop(server, "jobs")  # a disaster: the server has one database of that name
        house.must("restore", "live", "--to", source)
    assert plain(source, MAJOR) == before


def launchers(url: str) -> int:
    asked = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_cron launcher'"
    with psycopg.connect(url) as connection:
        return int(connection.execute(asked).fetchall()[0][0])


def test_a_scratch_server_with_jobs_has_no_process_that_would_run_them() -> None:
    wanted = need(replace(EMPTY, extensions={"pg_cron": "1.4", "pgaudit": "1.7"}))
    with short_folder() as folder, ground_of(private(folder), wanted) as ground:
        run(in_database(ground.target, "postgres"), "CREATE DATABASE scratch")
        run(ground.target.url, "CREATE EXTENSION pg_cron; CREATE EXTENSION pgaudit")
        run(ground.target.url, "SELECT cron.schedule('* * * * *', 'SELECT 1')")
        assert launchers(ground.target.url) == 0
        with psycopg.connect(ground.target.url) as connection:
            assert connection.execute("SHOW max_worker_processes").fetchone() == ("0",)
            assert connection.execute(
                "SELECT count(*) FROM cron.job_run_details"
            ).fetchone() == (0,)


def test_money_of_a_german_server_is_proven(house: House, tmp_path: Path) -> None:
    tools = Path(os.environ[f"BACKUPS_TEST_PG_{MAJOR}_BIN"])
    with own_server(tools, "lc_monetary=de_DE.UTF-8") as server:
        source = url_of(server, "shop")
        create(server, source)
        run(
            source,
            "CREATE TABLE t (id int PRIMARY KEY, m money);"
            "INSERT INTO t VALUES (1, 1234.56::numeric::money), (2, 0.5::numeric::money)",
        )
        with psycopg.connect(source) as connection:
            said = connection.execute("SELECT m::text FROM t WHERE id = 1").fetchall()
        assert said[0][0].startswith("1.234,56")  # as Germans write it
        with house.proving(tmp_path, source):
            house.must("run", "live")
            house.must("restore", "live", "--to", url_of(server, "copy"))
            assert_same(plain(source, MAJOR), plain(url_of(server, "copy"), MAJOR))
            found = house.call("verify", "run", "live", "--json").json
        assert (found["verdict"], found["level"]) == ("PASSED", 12), found["reason"]


def test_vectors_are_proven(pg17_url: str, house: House, tmp_path: Path) -> None:
    """pgvector is in Debian for 17, not for 15."""
    source = url_of(pg17_url, unique("source_"))
    create(pg17_url, source)
    run(
        source,
        "CREATE EXTENSION vector; CREATE TABLE emb (id int PRIMARY KEY, e vector(3));"
        "INSERT INTO emb VALUES (1, '[1,2,3]'); "
        "CREATE INDEX ON emb USING hnsw (e vector_l2_ops)",
    )
    copy = url_of(pg17_url, unique("copy_"))
    with house.proving(tmp_path, source):
        house.must("run", "live")
        house.must("restore", "live", "--to", copy)
        assert_same(plain(source, 17), plain(copy, 17))
        found = house.call("verify", "run", "live", "--json").json
    assert (found["verdict"], found["level"]) == ("PASSED", 12), found["reason"]
    for url in (source, copy):
        drop(pg17_url, url.partition("?")[0].rpartition("/")[2])
