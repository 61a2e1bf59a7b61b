"""Values of many megabytes: whole on both sides, in a process that never holds one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pg_kit import Make, drop, give, take, url_of

from backups.engines.postgres import archive, content, long_rows
from backups.entropy import SystemEntropy
from backups.errors import DumpFailed, EngineError

pytestmark = pytest.mark.postgres

MIB = 1 << 20
WHOLE_LIFE = """
import sys
from pg_kit import ENGINE, silent
from backups.format.fingerprint import differences
from backups.model import RestoreOptions, Source

source, copy, folder = sys.argv[1:]
files = {}
with ENGINE.dump(Source(source)) as dump:
    for name, blocks in dump.artifacts():
        files[name] = f"{folder}/{name}"
        with open(files[name], "wb") as out:
            for block in blocks:
                out.write(block)
    expected = dump.finish()

def artifact(name):
    with open(files[name], "rb") as stream:
        while block := stream.read(1 << 20):
            yield block

with ENGINE.restore(Source(copy), RestoreOptions(jobs=2)) as restoration:
    written = restoration.load(expected, artifact, silent)
    found = differences(written.expected, restoration.fingerprint())
    assert not found, [str(item) for item in found]
    restoration.publish()
# Not getrusage: its maximum is inherited from the process that started this one.
(peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak.split()[1]) // 1024)
"""


@pytest.fixture
def fresh(pg15_url: str) -> Iterator[str]:
    """URL of a database that does not exist; dropped afterwards."""
    name = "copy_" + SystemEntropy().bytes(6).hex()
    yield url_of(pg15_url, name)
    drop(pg15_url, name)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_our_process_holds_no_large_value(
    pg15_url: str, make_database: Make, fresh: str, tmp_path: Path
) -> None:
    """A `bytea` of 100 MiB is a line of 200 MiB: beside another, in a child with its columns
    in another order, and before and after small rows. Our process stays below 150 MiB."""
    source = make_database(
        pg15_url,
        sql="""CREATE TABLE blob (id int PRIMARY KEY, b bytea);
        ALTER TABLE blob ALTER b SET STORAGE EXTERNAL;
        INSERT INTO blob VALUES (0, 'small'),
            (1, convert_to(repeat('x', 100 * 1024 * 1024), 'UTF8')), (2, 'small');
        CREATE TABLE parent (z text, a text);
        CREATE TABLE child (n int) INHERITS (parent);
        INSERT INTO child VALUES ('z', 'a', 1), (repeat('y', 40000000), 'a', 2), (NULL, '', 3)
        """,
    )
    ran = subprocess.run(
        [sys.executable, "-c", WHOLE_LIFE, source, fresh, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 150
    sums = """SELECT id, length(b), md5(b) FROM blob
        UNION ALL SELECT n, length(z), md5(z) FROM child"""
    with psycopg.connect(source) as one, psycopg.connect(fresh) as other:
        found = sorted(one.execute(sums).fetchall(), key=str)
        assert found == sorted(other.execute(sums).fetchall(), key=str)
    assert len(found) == 6


@pytest.mark.parametrize("jobs", [1, 3])
def test_rows_around_the_limit(
    jobs: int, pg15_url: str, make_database: Make, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (archive, content, long_rows):
        monkeypatch.setattr(module, "LONG", MIB)
    source = make_database(
        pg15_url,
        sql="""CREATE TABLE t AS SELECT g AS id, repeat(E'\\t\\\\x\\n', g * 37000) AS v
            FROM generate_series(0, 12) g;
        CREATE TABLE u AS SELECT g AS id, repeat('y', 1048570 + g) AS v
            FROM generate_series(0, 9) g;""",
    )
    assert give(take(source), fresh, jobs=jobs) == []


@pytest.mark.timeout(600)
@pytest.mark.full
def test_a_value_that_no_text_can_carry_is_no_reason_to_try_again(
    pg15_url: str, make_database: Make
) -> None:
    source = make_database(
        pg15_url,
        sql="""CREATE TABLE blob (id int, "b b" bytea);
        ALTER TABLE blob ALTER "b b" SET STORAGE EXTERNAL;
        INSERT INTO blob VALUES (1, convert_to(repeat('x', 600 * 1024 * 1024), 'UTF8'))""",
    )
    with pytest.raises(EngineError, match="larger than PostgreSQL itself can write") as told:
        take(source)
    assert not told.value.retryable
    with psycopg.connect(source) as connection:
        [words] = long_rows.too_large(connection)
    assert words.startswith("column b b of public.blob holds 1 values of more than 511 MiB")


def test_values_are_measured_without_being_read(
    pg15_url: str, make_database: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_rows, "MAX_BYTEA", MIB)
    monkeypatch.setattr(long_rows, "MIN_TOAST", 2 * MIB)
    source = make_database(
        pg15_url,
        sql="""CREATE DOMAIN doc AS bytea;
        CREATE TABLE a (id int, b bytea, d doc, t text);
        ALTER TABLE a ALTER b SET STORAGE EXTERNAL, ALTER d SET STORAGE EXTERNAL;
        INSERT INTO a SELECT g, decode(repeat('00', 1048576 + g), 'hex'),
            decode(repeat('00', 1048577), 'hex'), repeat('x', 3000000)
            FROM generate_series(-1, 2) g;
        CREATE TABLE small (b bytea); INSERT INTO small VALUES ('x');""",
    )
    with psycopg.connect(source) as connection:
        found = long_rows.too_large(connection)
    assert [words.split(" values")[0] for words in found] == [
        "column b of public.a holds 2",
        "column d of public.a holds 4",
    ]


@pytest.mark.parametrize(
    "said",
    [
        'pg_dump: error: Dumping the contents of table "t" failed: PQgetResult() failed.\n'
        "pg_dump: detail: Error message from server: ERROR:  invalid memory alloc request size "
        "1258291203",
        'pg_dump: error: Dumping the contents of table "t" failed: PQgetResult() failed.\n'
        "pg_dump: Detail: FEHLER:  ungültige Größe bei Speicheranforderung: 1258291203",
        "ERROR:  string buffer exceeds maximum allowed length (1073741823 bytes)",
    ],
)
def test_the_servers_words_for_it(said: str) -> None:
    assert not isinstance(long_rows.row_too_long(said), DumpFailed | None)
    assert long_rows.row_too_long("PQgetResult() failed. ERROR: division by zero") is None
