"""Fidelity: every object that PostgreSQL's own tests of pg_dump create (002_pg_dump.pl)."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from fidelity.catalogs import everything, forget_subscriptions
from pg_kit import assert_same, create, drop, give, name_of, plain, take, url_of
from psycopg import sql

from backups.entropy import SystemEntropy

pytestmark = [pytest.mark.postgres, pytest.mark.full]

READER = Path(__file__).parent.parent / "fidelity" / "dump_objects.pl"
ELSEWHERE = {
    "CREATE DATABASE": "another database",
    "GRANT CREATE ON DATABASE dump_test": "a right on another database",
    "REVOKE CONNECT ON DATABASE dump_test": "a right on another database",
    "CREATE TABLESPACE": "a folder of the server, not of the database",
}
"""Beginnings of names of what is not created here, and why it is no object of a database."""


@dataclass(frozen=True)
class Created:
    """One of them, as the file says it."""

    name: str
    sql: str
    database: str


def objects(script: Path) -> tuple[list[Created], dict[str, str]]:
    """In the order of creation; and by name, why one is not created."""
    read = subprocess.run(["perl", str(READER), str(script)], capture_output=True, check=True)
    found = [
        Created(row["name"], row["sql"], row["database"]) for row in json.loads(read.stdout)
    ]
    left_out = {
        each.name: reason
        for each in found
        for start, reason in ELSEWHERE.items()
        if each.name.startswith(start)
    }
    return [each for each in found if each.name not in left_out], left_out


def script_for(major: int) -> Path:
    """The server's own release's, else PostgreSQL 16's."""
    folder = os.environ.get("BACKUPS_TEST_REGRESS")
    if not folder:
        pytest.skip("PostgreSQL's regression scripts are not at hand")
    own = Path(folder) / "pg_dump" / f"{major}.pl"
    return own if own.exists() else Path(folder) / "pg_dump" / "16.pl"


def run(url: str, created: list[Created]) -> dict[str, str]:
    """In one session, as the file does; by name, what the server refused."""
    text = "".join(
        f"\\warn == {each.name}\n{each.sql.rstrip().rstrip(';')};\n" for each in created
    )
    said = subprocess.run(
        ["psql", "-X", "-q", "-d", url], input=text, capture_output=True, text=True, check=True
    ).stderr
    pieces = re.split(r"(?m)^== (.*)$", said)[1:]
    return {
        name: words.strip()
        for name, words in zip(pieces[::2], pieces[1::2], strict=True)
        if "ERROR" in words
    }


@contextmanager
def databases(server: str, wanted: set[str]) -> Iterator[dict[str, str]]:
    """URLs of new databases, by the file's names for them; dropped with all their roles."""
    marker = SystemEntropy().bytes(5).hex()
    urls = {name: url_of(server, f"{name}_{marker}") for name in sorted(wanted)}
    try:
        for url in urls.values():
            create(server, url)
        yield urls
    finally:
        for url in urls.values():
            for each in (url, copy_of(server, url)):
                with suppress(psycopg.OperationalError):
                    forget_subscriptions(each)
                drop(server, name_of(each))
        with psycopg.connect(server, autocommit=True) as connection:
            for (role,) in connection.execute(
                "select rolname from pg_roles where rolname like 'regress\\_%'"
            ).fetchall():
                connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def copy_of(server: str, url: str) -> str:
    return url_of(server, f"{name_of(url)}_copy")


LOST = {
    "pg_proc .*pg_stat_reset": "the owner of a function of the system's, which no tool carries",
    "rows of dump_test.regress_pg_dump_matview_am_1:": "it counts the catalogs' own rows",
    'pg_constraint .*"nn".*test_table_nn_chld': "pg_dump 18 makes an inherited NOT NULL local",
}
"""Patterns of the facts that a copy does not have as they were, and why."""


def facts(url: str) -> list[str]:
    """All that the catalogs say, but LOST."""
    return sorted(
        line for line in everything(url) if not any(re.match(pattern, line) for pattern in LOST)
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("major", [15, 16, 18])
def test_every_object_of_pg_dumps_own_tests(
    major: int, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    server: str = request.getfixturevalue(f"pg{major}_url")
    found, left_out = objects(script_for(major))
    with databases(server, {each.database for each in found}) as urls:
        refused: dict[str, str] = {}
        for database, url in urls.items():
            refused |= run(url, [each for each in found if each.database == database])
        with capsys.disabled():
            for name, reason in {**left_out, **refused}.items():
                print(f"\n  {major}: {name}: {reason}", end="")
        # Servers in wheels are built without them; Debian's have all.
        wheels = major != 15
        assert all(wheels and "not supported" in words for words in refused.values()), refused
        assert len(found) > 150
        for url in urls.values():
            copy = copy_of(server, url)
            taken = take(url)
            assert taken[1].not_backed_up == ()
            assert give(taken, copy) == []
            assert_same(plain(url, major), plain(copy, major))
            assert_same(facts(url), facts(copy))
