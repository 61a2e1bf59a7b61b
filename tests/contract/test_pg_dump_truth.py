"""A dump holds what its snapshot shows, whatever others do to the tables meanwhile.

The oracle is no part of the program: each change writes, in its own transaction, what every
table then holds into a log. The newest entry that a dump carries says what the rest of it must
hold; a table read as empty, or as another, can't agree.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from pg_kit import ENGINE, Make, take

from backups.engines.postgres import rewrites
from backups.engines.postgres.archive import ArchiveParser, Rows
from backups.engines.postgres.content import copy_columns
from backups.engines.postgres.server import connected, login
from backups.errors import BackupsError, DumpFailed, Unreachable
from backups.model import Source

pytestmark = pytest.mark.postgres

TABLES = """
CREATE TABLE log (n int PRIMARY KEY, tab text, rows int, sum bigint, gone bool DEFAULT false);
CREATE TABLE plain (id int PRIMARY KEY, v int);
CREATE TABLE one (id int PRIMARY KEY, v int);
CREATE TABLE two (id int PRIMARY KEY, v int);
CREATE SCHEMA live; CREATE SCHEMA next;
CREATE TABLE live.t (id int, v int); CREATE TABLE next.t (id int, v int);
CREATE TABLE parts (id int, v int) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1000);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (1000) TO (2000);
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE moods (id int, v mood);
INSERT INTO plain SELECT i, i FROM generate_series(1, 300) i;
INSERT INTO one SELECT i, 1 FROM generate_series(1, 200) i;
INSERT INTO two SELECT i, 2 FROM generate_series(1, 400) i;
INSERT INTO live.t SELECT i, 3 FROM generate_series(1, 150) i;
INSERT INTO next.t SELECT i, 4 FROM generate_series(1, 250) i;
INSERT INTO parts SELECT i, i FROM generate_series(0, 1999, 7) i;
"""
WATCHED = ("public.plain", "public.one", "public.two", "live.t", "next.t", "public.parts_1",
           "public.parts_2")  # fmt: skip
LOG = (
    "INSERT INTO log SELECT (SELECT coalesce(max(n), 0) + 1 FROM log) + k, t.tab, t.rows,"
    " t.sum FROM ("
    + " UNION ALL ".join(
        f"SELECT {k} AS k, '{name}' AS tab, count(*) AS rows, coalesce(sum(v), 0) AS sum"
        f" FROM ONLY {name}"
        for k, name in enumerate(WATCHED)
    )
    + ") t"
)
CHANGES = (
    "TRUNCATE plain; INSERT INTO plain SELECT i, i * 2 FROM generate_series(1, {n}) i",
    "ALTER TABLE plain ALTER v TYPE bigint; UPDATE plain SET v = v + 1",
    "ALTER TABLE plain ALTER v TYPE int",
    "DELETE FROM plain WHERE id % 7 = 0; CLUSTER plain USING plain_pkey",
    "ALTER TABLE one RENAME TO three; ALTER TABLE two RENAME TO one;"
    " ALTER TABLE three RENAME TO two",
    "ALTER SCHEMA live RENAME TO other; ALTER SCHEMA next RENAME TO live;"
    " ALTER SCHEMA other RENAME TO next",
    "ALTER TABLE parts DETACH PARTITION parts_2; UPDATE parts_2 SET v = v + 1;"
    " ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (1000) TO (2000)",
    "INSERT INTO live.t SELECT i, 5 FROM generate_series(1, {n}) i",
    "ALTER TABLE two ADD COLUMN x int DEFAULT 7; ALTER TABLE two DROP COLUMN x",
    "UPDATE two SET v = v + 1",
)


def rows_of(archive: list[bytes]) -> dict[str, list[dict[str, str]]]:
    """The rows of each table, as the archive has them."""
    parser = ArchiveParser()
    found: dict[str, list[dict[str, str]]] = {}
    for block in archive:
        for event in parser.feed(block):
            if isinstance(event, Rows):
                columns = copy_columns(event.entry.copy_stmt)
                name = f"{event.entry.namespace}.{event.entry.tag}"
                found.setdefault(name, []).extend(
                    dict(zip(columns, row.decode()[:-1].split("\t"), strict=True))
                    for row in event.rows
                )
    parser.finish()
    return found


def contradictions(archive: list[bytes]) -> list[str]:
    """Where the dump's tables are not what its own newest entries of the log say."""
    found = rows_of(archive)
    newest = {row["tab"]: row for row in sorted(found["public.log"], key=lambda r: int(r["n"]))}
    wrong = []
    for name in WATCHED:
        rows = found.get(name, [])
        seen = (len(rows), sum(int(row["v"]) for row in rows))
        said = (int(newest[name]["rows"]), int(newest[name]["sum"]))
        if seen != said:
            wrong.append(f"{name}: holds {seen}, was {said}")
    return wrong


def thrown() -> Iterator[int]:
    """Numbers below 256 in no order, the same each time."""
    for n in itertools.count():
        yield from hashlib.sha256(str(n).encode()).digest()


@contextmanager
def changing(url: str, pause: float) -> Iterator[Callable[[], int]]:
    """Somebody who alters tables without end; gives how many changes were made."""
    stop, done, failed = threading.Event(), [0], []

    def work() -> None:
        dice = thrown()
        with psycopg.connect(url, autocommit=True) as connection:
            while not stop.wait(next(dice) / 256 * pause):
                change = CHANGES[next(dice) % len(CHANGES)].format(n=50 + next(dice))
                try:
                    if next(dice) < 25:
                        connection.execute("VACUUM FULL plain")
                    with connection.transaction():
                        # So that no two changes' logs are of one instant.
                        for statement in change.split(";"):
                            connection.execute(statement)  # type: ignore[call-overload]
                        connection.execute(LOG)  # type: ignore[call-overload]
                except psycopg.errors.DuplicateColumn:
                    continue
                done[0] += 1

    def guarded() -> None:
        try:
            work()
        except psycopg.Error as error:  # told by the test
            failed.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield lambda: done[0]
    finally:
        stop.set()
        thread.join()
    assert not failed


def taken_while_changing(
    url: str, wanted: int, pause: float, least: int
) -> tuple[int, int, int]:
    """Take that many dumps, and more until `least` changes were made; returns how many were
    good, how many failed as may be tried again, and how many changes were made meanwhile."""
    with psycopg.connect(url) as connection:
        connection.execute(LOG)  # type: ignore[call-overload]
    good = failed = 0
    with changing(url, pause) as changes:
        while good < wanted or changes() < least:
            try:
                artifacts, _ = take(url)
            except DumpFailed:
                failed += 1
                assert failed <= wanted, "more dumps fail than not"
                continue
            assert contradictions(artifacts["archive"]) == []
            good += 1
        return good, failed, changes()


@pytest.mark.timeout(300)
def test_dumps_are_of_one_instant_while_tables_are_altered(
    pg15_url: str, make_database: Make
) -> None:
    url = make_database(pg15_url, sql=TABLES)
    good, _, changes = taken_while_changing(url, 6, 2, 3)
    assert good >= 6
    assert changes >= 3


@pytest.mark.full
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("server", ["pg15_url", "pg16_url", "pg18_url"])
def test_fifty_dumps_are_of_one_instant_while_tables_are_altered(
    server: str, request: pytest.FixtureRequest, make_database: Make
) -> None:
    url = make_database(request.getfixturevalue(server), sql=TABLES)
    good, failed, changes = taken_while_changing(url, 50, 1, 50)
    print(f"{server}: {good} good, {failed} to be tried again, {changes} changes")
    assert changes >= 50


@contextmanager
def holding(url: str, *statements: str) -> Iterator[Callable[..., None]]:
    """A transaction that has done these; what it gives ends it by others and COMMIT."""
    with psycopg.connect(url) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]

        def finish(*more: str) -> None:
            for statement in more:
                connection.execute(statement)  # type: ignore[call-overload]
            connection.commit()

        yield finish


def until(url: str, query: str) -> None:
    """Wait until the server says so."""
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(3000):
            if connection.execute(query).fetchone() == (True,):  # type: ignore[call-overload]
                return
            connection.execute("SELECT pg_sleep(0.02)")
    pytest.fail(f"it never came so: {query}")


WAITING = (
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database()"
    " AND wait_event_type = 'Lock' AND query LIKE 'LOCK TABLE%'"
)


def dumped_beside(url: str, meanwhile: Callable[[], None]) -> Any:
    """Take a dump; `meanwhile` is called once pg_dump waits for a lock."""
    result: list[Any] = []

    def work() -> None:
        try:
            result.append(take(url))
        except BackupsError as error:
            result.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until(url, WAITING)
    meanwhile()
    thread.join()
    if isinstance(result[0], Exception):
        raise result[0]
    return result[0]


PAY = (
    "CREATE TABLE pay (id int PRIMARY KEY, v int);"
    "INSERT INTO pay SELECT i, i FROM generate_series(1, 5000) i"
)


@pytest.mark.parametrize(
    ("before", "after", "rows"),
    [
        ([], ["ALTER TABLE pay ALTER v TYPE bigint"], 5000),
        (["TRUNCATE pay"], ["INSERT INTO pay SELECT i, i FROM generate_series(1, 70) i"], 70),
        ([], ["CREATE TABLE new (LIKE pay)", "DROP TABLE pay",
              "ALTER TABLE new RENAME TO pay", "INSERT INTO pay VALUES (1, 1)"], 1),
        ([], ["ALTER TABLE pay DROP COLUMN v"], 5000),
        ([], ["CLUSTER pay USING pay_pkey"], 5000),
    ],
)  # fmt: skip
@pytest.mark.parametrize("server", ["pg15_url", "pg18_url"])
def test_a_table_rewritten_before_its_lock_is_read_anew(
    server: str,
    before: list[str],
    after: list[str],
    rows: int,
    request: pytest.FixtureRequest,
    make_database: Make,
) -> None:
    url = make_database(request.getfixturevalue(server), sql=PAY)
    with holding(url, "LOCK TABLE pay IN ACCESS EXCLUSIVE MODE", *before) as finish:
        _, fingerprint = dumped_beside(url, lambda: finish(*after))
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pay").fetchone() == (rows,)
    assert [(table.name, table.rows) for table in fingerprint.tables] == [("pay", rows)]
    assert fingerprint.not_compared == ()


def read_beside(url: str, *statements: str) -> None:
    """Read a dump to its end; the statements are run once it has begun."""
    with ENGINE.dump(Source(url)) as dump:
        for _, blocks in dump.artifacts():
            next(blocks)
            with psycopg.connect(url, autocommit=True) as connection:
                for statement in statements:
                    connection.execute(statement)  # type: ignore[call-overload]
            for _ in blocks:
                pass


@pytest.mark.parametrize(
    ("more", "change", "words"),
    [
        (
            "CREATE SCHEMA other; CREATE TABLE other.pay (id int, v int)",
            "ALTER SCHEMA public RENAME TO third; ALTER SCHEMA other RENAME TO public",
            "schema public",
        ),
        (
            "CREATE TYPE mood AS ENUM ('good', 'bad'); ALTER TABLE pay ADD m mood",
            "ALTER TYPE mood RENAME VALUE 'good' TO 'fine'",
            "label of an enum good",
        ),
        (
            "CREATE TYPE pair AS (a int, b int); ALTER TABLE pay ADD p pair",
            "ALTER TYPE pair ADD ATTRIBUTE c int",
            "relation public.pair",
        ),
        (
            "ALTER TABLE pay ADD r regproc;"
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "ALTER FUNCTION f() RENAME TO g",
            "name of function public.f",
        ),
    ],
)
def test_what_no_lock_protects_fails_the_run_at_its_end(
    more: str, change: str, words: str, pg15_url: str, make_database: Make
) -> None:
    url = make_database(pg15_url, sql=f"{PAY};{more}")
    with pytest.raises(DumpFailed, match=words):
        read_beside(url, *change.split(";"))


def test_who_waits_for_pg_dump_does_not_fail_it(pg15_url: str, make_database: Make) -> None:
    """Tables may be exchanged as soon as pg_dump has let go of them."""
    url = make_database(
        pg15_url, sql=f"{PAY.replace('5000', '200000')}; CREATE TABLE new (v int)"
    )
    with ENGINE.dump(Source(url)) as dump:
        for name, blocks in dump.artifacts():
            if name == "archive":
                next(blocks)
                waiting = threading.Thread(target=exchange, args=(url,))
                waiting.start()
                until(url, WAITING.replace("LOCK TABLE", "ALTER TABLE"))
            for _ in blocks:
                pass
        waiting.join()
        rows = {table.name: table.rows for table in dump.finish().tables}
    assert rows == {"pay": 200_000, "new": 0}


def exchange(url: str) -> None:
    with psycopg.connect(url) as connection:
        for change in ("pay RENAME TO old", "new RENAME TO pay", "old RENAME TO new"):
            connection.execute(f"ALTER TABLE {change}")


def test_names_that_were_exchanged_and_changed_back_are_noticed(
    pg15_url: str, make_database: Make
) -> None:
    """A small archive is read and its pg_dump gone before anybody looks."""
    url = make_database(pg15_url, sql=f"{PAY}; CREATE TABLE new (v int)")
    with connected(login(Source(url)), reads=True) as session:
        before = rewrites.shape(session)
        exchange(url)
        exchange(url)
        found = rewrites.changed_before_locks(before, rewrites.shape(session))
        again = rewrites.shape(session)
        assert rewrites.changed_before_locks(again, rewrites.shape(session)) == []
    assert sorted(found) == ["relation public.new", "relation public.pay"]


def test_rows_come_from_the_snapshot_that_is_told(pg15_url: str, make_database: Make) -> None:
    """Nothing that is written after the dump was opened is in it."""
    url = make_database(pg15_url, sql=PAY)
    with ENGINE.dump(Source(url)) as dump:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("INSERT INTO pay VALUES (0, 0)")
            taken = connection.execute("SELECT %s < now()", (dump.snapshot.taken_at,))
            assert taken.fetchone() == (True,)
        for _, blocks in dump.artifacts():
            for _ in blocks:
                pass
        assert dump.finish().tables[0].rows == 5000


def test_a_lock_that_is_not_given_is_told_with_its_table(
    pg15_url: str, make_database: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backups.engines.postgres.attempt.LOCK_WAIT", 300)
    url = make_database(pg15_url, sql=PAY)
    with (
        holding(url, "LOCK TABLE pay IN ACCESS EXCLUSIVE MODE"),
        pytest.raises(DumpFailed, match=r"public\.pay") as caught,
    ):
        take(url)
    assert "pg_locks" in caught.value.hint


def test_tables_that_change_without_end_are_named(
    pg15_url: str, make_database: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backups.engines.postgres.attempt.TRIES", 1)
    url = make_database(pg15_url, sql=PAY)
    with (
        holding(url, "TRUNCATE pay") as finish,
        pytest.raises(DumpFailed, match=r"changed again and again.*relation public\.pay"),
    ):
        dumped_beside(url, finish)


def test_no_session_of_ours_idles_while_rows_are_read(
    pg15_url: str, make_database: Make
) -> None:
    """A housekeeping job that ends idle transactions finds none of ours."""
    big = PAY.replace("5000", "400000")
    url = make_database(pg15_url, sql=big)
    with ENGINE.dump(Source(url)) as dump:
        for name, blocks in dump.artifacts():
            if name == "archive":
                next(blocks)
                until(url, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE"
                      " datname = current_database() AND state LIKE 'idle%'"
                      " AND pid <> pg_backend_pid())")  # fmt: skip
                with psycopg.connect(url, autocommit=True) as connection:
                    connection.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                        " datname = current_database() AND state LIKE 'idle%'"
                        " AND pid <> pg_backend_pid()"
                    )
            for _ in blocks:
                pass
        assert dump.finish().tables[0].rows == 400_000


def test_a_session_of_pg_dump_that_is_ended_fails_the_run_early(
    pg15_url: str, make_database: Make
) -> None:
    url = make_database(pg15_url, sql=PAY.replace("5000", "400000"))
    with pytest.raises(Unreachable):
        read_beside(
            url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )


def test_rows_that_the_archive_lacks_are_found_by_the_servers_count(
    pg15_url: str, make_database: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parser passes over a row, as a faulty tool might."""
    from backups.engines.postgres import row_counts

    url = make_database(pg15_url, sql=PAY)
    add = row_counts.Seen.add

    def one_less(self: Any, events: Any) -> None:
        add(self, events)
        for event in events:
            if isinstance(event, Rows):
                self.rows[event.entry.oid] -= 1

    monkeypatch.setattr(row_counts.Seen, "add", one_less)
    with pytest.raises(DumpFailed, match=r"rows of table public\.pay, and the server counts"):
        take(url)


def test_tables_beyond_the_budget_are_named(
    pg15_url: str, make_database: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backups.engines.postgres.row_counts.PAGES", 10)
    url = make_database(pg15_url, sql=f"{PAY}; CREATE TABLE small AS SELECT 1 AS v")
    _, fingerprint = take(url)
    (line,) = fingerprint.not_compared
    assert line.startswith("rows of table public.pay: not counted a second time")
