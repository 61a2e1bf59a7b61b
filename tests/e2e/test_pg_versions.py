"""Each major version of PostgreSQL: out, back, and proven; and up to the newer ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from pg_kit import Make, assert_same, drop, give, plain, take, url_of
from server_kit import POSTGRES, unique

from backups.engines.postgres.tools import choose

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = pytest.mark.postgres

RICH = (Path(__file__).parents[1] / "fixtures" / "pg_versions.sql").read_text()
TABLES = ("customer", "item", "sale", "feeling", "room", "month", "best")


def version_of(url: str) -> int:
    with psycopg.connect(url) as connection:
        return connection.info.server_version // 10000


def rows_of(url: str) -> dict[str, str]:
    """A sum of each table's rows as the server writes them, and of large objects."""
    with psycopg.connect(url) as connection:
        found = {
            name: connection.execute(
                f"SELECT count(*) || ' ' || md5(string_agg(t::text, ',' ORDER BY t::text))"
                f" FROM shop.{name} t"
            ).fetchall()[0][0]
            for name in TABLES
        }
        (found["lo"],) = connection.execute(
            "SELECT md5(string_agg(data, '')) FROM pg_largeobject"
        ).fetchone()
    return found


@pytest.mark.timeout(300)
def test_each_version_is_backed_up_restored_and_proven(
    every_pg: str, house: House, tmp_path: Path, make_database: Make
) -> None:
    source = make_database(every_pg, sql=RICH)
    major = version_of(source)
    name = unique("copy_")
    with house.proving(tmp_path, source):
        house.must("run", "live")
        house.must("restore", "live", "--to", url_of(every_pg, name))
        try:
            assert rows_of(url_of(every_pg, name)) == rows_of(source)
            assert_same(plain(source, major), plain(url_of(every_pg, name), major))
        finally:
            drop(every_pg, name)
        found = house.call("verify", "run", "live", "--json").json
    assert (found["verdict"], found["level"]) == ("PASSED", 12), found["reason"]
    assert found["scratch"]["server_version"].startswith(str(major))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("old", POSTGRES[:-1])
def test_a_backup_goes_to_each_newer_version(old: int, make_database: Make) -> None:
    source = make_database(os.environ[f"BACKUPS_TEST_PG_{old}"], sql=RICH)
    taken, expected = take(source), rows_of(source)
    for new in (major for major in POSTGRES if major > old):
        server = os.environ[f"BACKUPS_TEST_PG_{new}"]
        copy = url_of(server, unique("copy_"))
        try:
            assert (new, give(taken, copy)) == (new, [])
            assert (new, rows_of(copy)) == (new, expected)
        finally:
            drop(server, copy.partition("?")[0].rpartition("/")[2])


def test_every_server_has_contrib_and_its_own_tools_or_newer(every_pg: str) -> None:
    with psycopg.connect(every_pg) as connection:
        asked = "SELECT count(*) FROM pg_available_extensions WHERE name = ANY (%s)"
        found = connection.execute(asked, [["amcheck", "hstore", "citext"]]).fetchall()
    assert found == [(3,)]
    tools = choose(version_of(every_pg))
    said = subprocess.check_output([tools.path("pg_dump"), "--version"], text=True)
    assert tools.version in said
