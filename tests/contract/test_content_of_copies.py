"""What pg_restore made tells the same contents as its source: real servers, each major."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from backups.engines.postgres.archive import ArchiveParser
from backups.engines.postgres.content import ContentHasher, Contents
from backups.engines.postgres.tools import choose

pytestmark = pytest.mark.postgres

EVERY_KIND = Path(__file__).parents[1] / "fixtures" / "every_kind.sql"


def contents(archive: bytes) -> Contents:
    parser, hasher = ArchiveParser(), ContentHasher()
    hasher.add(parser.feed(archive))
    parser.finish()
    return hasher.result()


@pytest.mark.parametrize("major", [15, 16, 17, 18, 19])
def test_a_copy_tells_the_same(
    major: int, request: pytest.FixtureRequest, make_database: Callable[..., str]
) -> None:
    server = request.getfixturevalue(f"pg{major}_url")
    tools = choose(major).folder

    def run(tool: str, *argv: str, given: bytes | None = None) -> bytes:
        return subprocess.run(
            [tools / tool, *argv], input=given, check=True, capture_output=True
        ).stdout

    source, copy = make_database(server), make_database(server)
    run("psql", "-XqvON_ERROR_STOP=1", f"--file={EVERY_KIND}", source)
    archive = run("pg_dump", "-Fc", "-Z0", source)
    run("pg_restore", "--exit-on-error", f"--dbname={copy}", given=archive)
    told = contents(archive)
    again = contents(run("pg_dump", "-Fc", "-Z0", copy))
    assert again == told
    assert len(told.objects) > 90
    assert sum(table.rows for table in told.tables) > 4000

    run("psql", "-Xqc", "update app.p set v = v || '!' where id = 7", copy)
    run("psql", "-Xqc", "alter table fk1 add check (a > 0)", copy)
    changed = contents(run("pg_dump", "-Fc", "-Z0", copy))
    assert [t.name for t in set(told.tables) ^ set(changed.tables)] == ["p1", "p1"]
    assert {(o.kind, o.name) for o in set(told.objects) ^ set(changed.objects)} == {
        ("TABLE", "fk1")
    }
