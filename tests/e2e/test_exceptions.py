"""What a backup does not carry and what a restore can't make, from a real server to people:
command line, record, restore test, alarm, the API's work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from test_main_job import documented

from backups import wiring
from backups.errors import ApprovalMissing, RestoredInPart, UsageError
from backups.wiring import requests

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]

ORPHAN = """
create table person (id int primary key);
create table bill (id int primary key, person int);
insert into person values (1); insert into bill values (1, 1), (2, 99);
alter table bill add constraint of_whom foreign key (person) references person not valid;
update pg_constraint set convalidated = true where conname = 'of_whom';
"""
"""A key that the catalog calls validated, and one row of it without its person."""
PLACES = """
select (select count(*) from bill), (select count(*) from person),
       (select convalidated from pg_constraint where conname = 'of_whom')
"""


def found(url: str, query: str) -> Any:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchone()  # type: ignore[arg-type]


@pytest.fixture
def orphan(
    house: House, tmp_path: Path, pg15_url: str, make_database: Callable[..., str]
) -> Iterator[str]:
    """The URL of a database with such a row, of which there is a backup."""
    url = make_database(pg15_url, sql=ORPHAN)
    with house.proving(tmp_path, url):
        house.must("run", "live")
        yield url


def test_an_orphan_row_is_restored_listed_and_recorded(
    house: House, orphan: str, pg15_url: str, make_database: Callable[..., str]
) -> None:
    assert found(orphan, PLACES) == (2, 1, True)
    copy = make_database(pg15_url)
    said = house.call("restore", "live", "--to", copy, "--json")
    assert said.code == RestoredInPart.exit_code, said.err
    assert set(said.json) == documented("restore --json")
    (words,) = said.json["exceptions"]
    assert "of_whom" in words
    assert words.endswith("(the source has the same fault)")
    assert found(copy, PLACES) == (2, 1, False), "every row, and the key as NOT VALID"
    assert "of_whom" in said.err
    with wiring.opened(house.home) as app:
        (operation,) = app.catalog.operations("live")
    assert operation.state == "done"
    assert "of_whom" in (operation.error or "")


@pytest.mark.usefixtures("orphan")
def test_a_restore_test_says_that_it_is_the_source(house: House) -> None:
    tested = house.call("verify", "run", "live", "--json")
    assert tested.code == 0, tested.err
    checks = {each["name"]: each for each in tested.json["checks"]}
    assert tested.json["verdict"] == "PASSED"
    assert "of_whom" in tested.json["reason"]
    assert checks["source"]["passed"] is False
    assert checks["restored"]["passed"] is True
    assert checks["carried"]["passed"] is True
    assert tested.json["level"] < 10


def test_such_a_copy_is_not_put_in_place_unseen(house: House, orphan: str) -> None:
    url = orphan
    plan = house.must("replace", "plan", "live", "--json").json["replacement_id"]
    name = url.partition("?")[0].rpartition("/")[2]
    rehearsed = house.call("replace", "rehearse", plan, "--json")
    assert rehearsed.code == RestoredInPart.exit_code, rehearsed.err
    assert "of_whom" in rehearsed.json["exceptions"][0]
    assert any("of_whom" in each for each in rehearsed.json["seen"])
    refused = house.call("replace", "start", plan, "--confirm", name)
    assert refused.code == ApprovalMissing.exit_code
    assert found(url, PLACES) == (2, 1, True), "nothing was touched"
    done = house.call(
        "replace", "start", plan, "--confirm", name, "--accept-exceptions", "--json"
    )
    assert done.code == RestoredInPart.exit_code, done.err
    assert (done.json["state"], bool(done.json["accepted_by"])) == ("replaced", True)
    assert found(url, PLACES) == (2, 1, False)
    house.must("replace", "undo", plan)
    house.must("replace", "drop", plan, "--anyway")

    unseen = house.must("replace", "plan", "live", "--json").json["replacement_id"]
    refused = house.call("replace", "start", unseen, "--confirm", name)
    assert refused.code == 46
    assert "of_whom" in refused.err
    assert found(url, PLACES) == (2, 1, True)


@pytest.mark.usefixtures("orphan")
def test_work_of_the_api_is_done_with_exceptions(house: House, pg15_url: str) -> None:
    with wiring.opened(house.home) as app:
        backup = app.catalog.backups("live")[-1].id
        asked = requests.ask(
            app, "acme", "live", "restore", "ann", "a key of ours",
            backup=backup, name="copied_by_the_api",
        )  # fmt: skip
        worked = requests.work(app, asked.id)
    assert worked is not None
    try:
        assert (worked.state, worked.exit_code) == ("done", RestoredInPart.exit_code)
        assert "of_whom" in worked.exceptions[0]
    finally:
        with psycopg.connect(pg15_url, autocommit=True) as connection:
            connection.execute("drop database if exists copied_by_the_api")


FAR = """
create table t (a int primary key); create extension postgres_fdw;
create server far_away foreign data wrapper postgres_fdw;
create user mapping for postgres server far_away options (user 'x', password 'y');
"""


def test_what_is_not_backed_up_is_named_everywhere(
    house: House, tmp_path: Path, pg15_url: str, make_database: Callable[..., str]
) -> None:
    """Options of a user mapping are shown to superusers alone."""
    with psycopg.connect(pg15_url, autocommit=True) as connection:
        there = "select from pg_roles where rolname = 'reads_all_of_it'"
        if connection.execute(there).fetchone() is None:
            connection.execute("create role reads_all_of_it login in role pg_read_all_data")
    mine = make_database(pg15_url, sql=FAR)
    url = mine.replace("postgres@", "reads_all_of_it@")
    with house.proving(tmp_path, url):
        ran = house.must("run", "live", "--json").json
        assert set(ran) == documented("run --json")
        assert any("far_away" in words for words in ran["not_backed_up"])
        assert any(words.startswith("not backed up: ") for words in ran["warnings"])
        assert not any("far_away" in words for words in ran["warnings"]), "counts alone"
        shown = house.must("show", "live").out
        assert "not backed up: " in shown
        assert "far_away" not in shown
        assert "far_away" in house.must("show", "live", "--contents").out

        tested = house.must("verify", "run", "live", "--json").json
        (carried,) = (each for each in tested["checks"] if each["name"] == "carried")
        assert carried["passed"] is False
        assert "far_away" in carried["actual"]
        assert (tested["verdict"], tested["level"]) == ("PASSED", 5)
        assert tested["reason"].startswith("carried: ")

        alarms = house.must("alarms", "--look", "--json").json
        (alarm,) = (each for each in alarms if each["kind"] == "backup.incomplete")
        assert alarm["subject"] == "live"
        assert "far_away" not in alarm["words"]
        with psycopg.connect(mine) as connection:
            connection.execute("drop user mapping for postgres server far_away")
        house.must("run", "live")
        alarms = house.must("alarms", "--look", "--json").json
        assert not [each for each in alarms if each["kind"] == "backup.incomplete"]


def test_owners_are_mapped_where_they_can_be(
    house: House, tmp_path: Path, pg15_url: str, make_database: Callable[..., str]
) -> None:
    sql = "create table t (a int); grant select on t to public"
    url = make_database(pg15_url, sql=sql)
    with house.proving(tmp_path, url):
        house.must("run", "live")
        with psycopg.connect(pg15_url, autocommit=True) as connection:
            connection.execute("drop role if exists new_owner_of_copies")
            connection.execute("create role new_owner_of_copies")
        copy = make_database(pg15_url)
        options = ("--owner", "new_owner_of_copies", "--no-privileges")
        house.must("restore", "live", "--to", copy, *options)
        query = "select relowner::regrole::text, relacl from pg_class where relname = 't'"
        assert found(copy, query) == ("new_owner_of_copies", None)
        plain = tmp_path / "copy.sql"
        house.must("restore", "live", "--to", f"file:{plain}", *options)
        text = plain.read_text()
        assert "SET ROLE new_owner_of_copies" in text
        assert "GRANT" not in text
        assert "OWNER TO" not in text
        archive = house.call("restore", "live", "--to", f"file:{tmp_path / 'x.dump'}", *options)
        assert archive.code == UsageError.exit_code
        with psycopg.connect(copy, autocommit=True) as connection:
            connection.execute("drop owned by new_owner_of_copies")
