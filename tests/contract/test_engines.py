"""What every engine promises, tried on each: the contract of `ports.Engine`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_kits import MysqlKit, PostgresKit, SqliteKit

from backups.errors import BackupsError, DumpFailed, EngineError, NotFound, TargetRefused
from backups.format.fingerprint import differences
from backups.model import Fingerprint, RestoreOptions, Source, Written
from backups.run.restore import require_equal

Kit = PostgresKit | MysqlKit | SqliteKit
Taken = tuple[dict[str, bytes], Fingerprint]

SHOP = (
    "create table customer (id integer primary key, name text not null, born date)",
    "create table orders (id integer primary key, customer integer references customer (id), "
    "total numeric(10, 2) check (total >= 0))",
    "create index orders_total on orders (total)",
    "create view spent as select customer, sum(total) as total from orders group by customer",
    "insert into customer values (1, 'Ann', '1980-02-29'), (2, 'B''ea', null), (3, '', null)",
    "insert into orders values (1, 1, 10.50), (2, 1, 0), (3, 2, 99.99)",
)
ACCOUNTS = (
    "create table account (id integer primary key, owned integer not null)",
    *(f"insert into account values ({n}, 1000)" for n in range(20)),
)
EVIL = ["'; drop table t; --", ' "quoted" x', "größe \N{SNOWMAN} %41", "a..b", "-wal"]


@pytest.fixture(
    params=[
        pytest.param("postgresql", marks=pytest.mark.postgres),
        pytest.param("mariadb", marks=pytest.mark.mariadb),
        pytest.param("mysql", marks=pytest.mark.mysql),
        "sqlite",
    ]
)
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kit]:
    if request.param == "postgresql":
        found: Kit = PostgresKit(request.getfixturevalue("pg15_url"))
    elif request.param in ("mariadb", "mysql"):
        found = MysqlKit(request.getfixturevalue(f"{request.param}_url"))
    else:
        folder = tmp_path / "databases"
        folder.mkdir()
        found = SqliteKit(folder)
    yield found
    found.close()


def quiet(*_: object) -> None: ...


def take(kit: Kit, source: Source) -> Taken:
    with kit.engine.dump(source) as dump:
        return {name: b"".join(blocks) for name, blocks in dump.artifacts()}, dump.finish()


def give(kit: Kit, taken: Taken, target: Source, *only: str) -> Written:
    """Restored, found equal, named."""
    artifacts, expected = taken
    with kit.engine.restore(target, RestoreOptions(only=only)) as restoration:
        written = restoration.load(expected, lambda name: iter([artifacts[name]]), quiet)
        require_equal(written.expected, restoration.fingerprint())
        restoration.publish()
    return written


def rows(kit: Kit, source: Source, query: str) -> list[Any]:
    with kit.session(source) as execute:
        return [tuple(row) for row in execute(query)]


def test_there_and_back(kit: Kit) -> None:
    source = kit.make(*SHOP)
    taken = take(kit, source)
    target = kit.fresh()
    give(kit, taken, target)
    for query in ("select * from customer order by id", "select * from spent order by 1"):
        assert rows(kit, target, query) == rows(kit, source, query)
    assert differences(taken[1], kit.engine.fingerprint(target)) == ()
    with (
        kit.session(target) as execute,
        pytest.raises(Exception, match=r"(?i)check|constraint"),
    ):
        execute("insert into orders values (9, 1, -1)")


def test_what_is_looked_at_before(kit: Kit) -> None:
    found = kit.engine.preflight(kit.make(*SHOP))
    assert found.server_version
    assert found.tool_version
    assert found.size_bytes > 4096
    with pytest.raises(EngineError):
        kit.engine.preflight(kit.fresh())
    with pytest.raises(EngineError), kit.engine.dump(kit.fresh()):
        pytest.fail("there is nothing to dump")


@pytest.mark.timeout(300)
def test_the_sum_is_exact_at_every_moment(kit: Kit) -> None:
    """Money is moved all the time; each of twenty dumps shows one instant."""
    source = kit.make(*ACCOUNTS)
    over = threading.Event()
    moved = 0

    def move() -> None:
        nonlocal moved
        with kit.session(source) as execute:
            while not over.is_set():
                a, b = moved % 20, (moved * 7 + 3) % 20
                execute("begin")
                execute(f"update account set owned = owned - 5 where id = {a}")
                execute(f"update account set owned = owned + 5 where id = {b}")
                execute("commit")
                moved += 1

    thread = threading.Thread(target=move)
    thread.start()
    try:
        seen = []
        for _ in range(20):
            before = moved
            taken = take(kit, source)
            while moved == before:
                pass
            target = kit.fresh()
            give(kit, taken, target)
            assert rows(kit, target, "select sum(owned), count(*) from account") == [
                (20000, 20)
            ]
            seen.append(tuple(rows(kit, target, "select owned from account order by id")))
    finally:
        over.set()
        thread.join()
    assert len(set(seen)) > 5, "the writer was at work"


def test_a_target_that_is_there_is_refused_and_kept(kit: Kit) -> None:
    taken = take(kit, kit.make(*SHOP))
    theirs = kit.make("create table theirs (a integer)")
    with pytest.raises(TargetRefused), kit.engine.restore(theirs, RestoreOptions()):
        pytest.fail("it was accepted")
    assert rows(kit, theirs, "select count(*) from theirs") == [(0,)]

    artifacts, expected = taken
    target = kit.fresh()
    before = kit.left()
    refused = 0
    with kit.engine.restore(target, RestoreOptions()) as restoration:
        restoration.load(expected, lambda name: iter([artifacts[name]]), quiet)
        for each in (lambda: give(kit, taken, target), restoration.publish):
            try:
                each()
            except TargetRefused:
                refused += 1
    assert refused == 1, "of two at once one gets it"
    assert len(kit.left() - before) == 1, "and of the other nothing remains"
    assert differences(expected, kit.engine.fingerprint(target)) == ()


def test_nothing_is_left_of_what_is_not_published(kit: Kit) -> None:
    artifacts, expected = take(kit, kit.make(*SHOP))
    before = kit.left()
    for part in (0, 0.01, 0.5, 0.99, 0.9999):
        torn = {name: data[: int(len(data) * part)] for name, data in artifacts.items()}
        with pytest.raises(BackupsError):
            give(kit, (torn, expected), kit.fresh())
        assert kit.left() == before, part
    with kit.engine.restore(kit.fresh(), RestoreOptions()) as restoration:
        restoration.load(expected, lambda name: iter([artifacts[name]]), quiet)
    assert kit.left() == before


def test_a_dump_that_is_left_early_is_none(kit: Kit) -> None:
    with kit.engine.dump(kit.make(*SHOP)) as dump:
        for _, blocks in dump.artifacts():
            next(blocks)
            break
        with pytest.raises(DumpFailed):
            dump.finish()


def test_one_table_of_it(kit: Kit) -> None:
    taken = take(kit, kit.make(*SHOP))
    target = kit.fresh()
    written = give(kit, taken, target, f"{kit.schema}customer")
    assert [(t.name, t.rows) for t in written.expected.tables] == [("customer", 3)]
    assert rows(kit, target, "select name from customer order by id")[1] == ("B'ea",)
    with kit.session(target) as execute, pytest.raises(Exception, match="orders"):
        execute("select * from orders")
    with (
        pytest.raises(NotFound, match="custmer") as refused,
        kit.engine.restore(
            kit.fresh(), RestoreOptions(only=(f"{kit.schema}custmer",))
        ) as restoration,
    ):
        restoration.load(taken[1], lambda name: iter([taken[0][name]]), quiet)
    assert "customer" in refused.value.hint


@pytest.mark.parametrize(
    "change",
    [
        "update customer set name = 'x' where id = 3",
        "delete from orders where id = 2",
        "insert into orders values (4, 1, 1)",
        "drop index orders_total",
        "drop view spent",
        "alter table customer add column more integer",
        "create table another (a integer)",
    ],
)
def test_the_fingerprint_notices(kit: Kit, change: str) -> None:
    source = kit.make(*SHOP)
    before = kit.engine.fingerprint(source)
    assert differences(before, kit.engine.fingerprint(source)) == ()
    with kit.session(source) as execute:
        execute(change)
    assert differences(before, kit.engine.fingerprint(source))


@pytest.mark.parametrize("name", EVIL)
def test_names_that_mean_something_elsewhere(kit: Kit, name: str) -> None:
    table = '"' + name.replace('"', '""') + '"'
    source = kit.make(
        f"create table {table} ({table} text)", f"insert into {table} values ('a')"
    )
    taken = take(kit, source)
    target = kit.fresh(name if "/" not in name else "")
    give(kit, taken, target)
    assert rows(kit, target, f"select * from {table}") == [("a",)]
    part = kit.fresh()
    give(kit, taken, part, f"{kit.schema}{name}")
    assert rows(kit, part, f"select * from {table}") == [("a",)]
