"""A dump or a restore that ends badly: a clear error, no process and no database left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pg_kit import (
    ENGINE,
    Make,
    children,
    databases,
    dropped,
    give,
    silent,
    take,
    url_of,
)

from backups.errors import (
    BackupsError,
    DumpFailed,
    Unreachable,
)
from backups.model import RestoreOptions, Secret, Source

pytestmark = pytest.mark.postgres


@pytest.fixture
def fresh(pg15_url: str) -> Iterator[str]:
    """Name of a database that does not exist; dropped afterwards."""
    yield from dropped(pg15_url)


BIG = (
    "CREATE TABLE big AS SELECT g, repeat(md5(g::text), 20) v FROM generate_series(1, 40000) g"
)


@pytest.fixture
def big(pg15_url: str, make_database: Make) -> str:
    """URL of a database whose dump fills many pipes."""
    return str(make_database(pg15_url, sql=BIG))


def test_a_backend_ended_midway_is_an_error(big: str) -> None:
    with ENGINE.dump(Source(big)) as dump:
        _, blocks = next(iter(dump.artifacts()))
        next(blocks)
        with psycopg.connect(big, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <>"
                " pg_backend_pid() AND datname = current_database() AND query LIKE 'COPY%'"
            )
        with pytest.raises((Unreachable, DumpFailed)):
            for _ in blocks:
                pass
        with pytest.raises(DumpFailed):
            dump.finish()


def test_a_tool_killed_midway_is_an_error(big: str) -> None:
    with ENGINE.dump(Source(big)) as dump:
        _, blocks = next(iter(dump.artifacts()))
        next(blocks)
        (child,) = children()
        os.kill(child, 9)
        with pytest.raises(DumpFailed, match=r"signal 9|inside"):
            for _ in blocks:
                pass


def test_a_dump_that_is_abandoned_ends_its_process(big: str) -> None:
    with ENGINE.dump(Source(big)) as dump:
        _, blocks = next(iter(dump.artifacts()))
        next(blocks)
        assert children()
        blocks.close()  # type: ignore[attr-defined]
        assert children() == []


def test_a_secret_is_in_no_argv_and_no_environment(big: str) -> None:
    secret = "hunter2:with\\colon"
    source = Source(big, Secret(secret))
    with ENGINE.dump(source) as dump:
        _, blocks = next(iter(dump.artifacts()))
        next(blocks)
        (child,) = children()
        seen = b"".join(
            Path(f"/proc/{child}/{what}").read_bytes() for what in ("environ", "cmdline")
        )
        assert b"PGPASSFILE=/proc/self/fd/" in seen
        assert b"hunter2" not in seen
        names = {item.split(b"=")[0] for item in seen.split(b"\0") if b"=" in item}
        assert b"HOME" not in names
        assert b"PYTHONPATH" not in names
        for _ in blocks:
            pass


def test_an_archive_cut_short_leaves_nothing(big: str, pg15_url: str, fresh: str) -> None:
    artifacts, fingerprint = take(big)
    whole = b"".join(artifacts["archive"])
    before = databases(pg15_url, fresh)
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        with pytest.raises(BackupsError):
            give(({"archive": [whole[:cut]]}, fingerprint), url_of(pg15_url, fresh))
        assert databases(pg15_url, fresh) == before


def test_an_interrupt_leaves_nothing(big: str, pg15_url: str, fresh: str) -> None:
    artifacts, fingerprint = take(big)
    before = databases(pg15_url, fresh)

    def interrupted() -> Iterator[bytes]:
        yield from artifacts["archive"][:3]
        assert databases(pg15_url, fresh) != before
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        ENGINE.restore(Source(url_of(pg15_url, fresh)), RestoreOptions()) as restoration,
    ):
        restoration.load(fingerprint, lambda name: interrupted(), silent)
    assert databases(pg15_url, fresh) == before
    assert children() == []


def test_a_copy_that_is_not_published_is_removed(big: str, pg15_url: str, fresh: str) -> None:
    artifacts, fingerprint = take(big)
    before = databases(pg15_url, fresh)
    with ENGINE.restore(Source(url_of(pg15_url, fresh)), RestoreOptions()) as restoration:
        restoration.load(fingerprint, lambda name: iter(artifacts[name]), silent)
        assert len(databases(pg15_url, fresh)) == len(before) + 1
        assert fresh not in databases(pg15_url, fresh)
    assert databases(pg15_url, fresh) == before


def test_a_row_that_the_target_refuses_is_not_quoted(
    pg15_url: str, make_database: Make, fresh: str
) -> None:
    source = make_database(
        pg15_url,
        sql="CREATE FUNCTION ok(text) RETURNS bool IMMUTABLE LANGUAGE sql AS"
        " 'SELECT current_database() NOT LIKE ''copy%''';"
        "CREATE TABLE t (v text CHECK (ok(v))); INSERT INTO t VALUES ('very private');",
    )
    artifacts, fingerprint = take(source)
    with ENGINE.restore(Source(url_of(pg15_url, fresh)), RestoreOptions()) as restoration:
        written = restoration.load(fingerprint, lambda name: iter(artifacts[name]), silent)
    (refused,) = written.exceptions
    assert "t_v_check" in refused.subject
    assert "private" not in str(refused)
