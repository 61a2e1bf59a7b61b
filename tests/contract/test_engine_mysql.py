"""What is MariaDB's alone: kinds of objects, values, rights, and what it can't carry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_kits import MysqlKit
from test_engines import give, quiet, rows, take

from backups.engines.mysql import marks
from backups.engines.mysql.server import code_in, connected, login
from backups.errors import AccessDenied, TargetRefused, Unreachable, UsageError
from backups.format.fingerprint import differences
from backups.model import RestoreOptions, Secret, Source

pytestmark = pytest.mark.mariadb

EVERYTHING = (
    "create table parent (id int unsigned auto_increment primary key, code char(3) unique)"
    " comment 'of all; (really)'",
    "create table child (id bigint primary key, parent int unsigned, what enum('a', 'b''c'),"
    " flags set('x', 'y'), at datetime(6), j json, made int as (id * 2) virtual,"
    " kept int as (id + 1) persistent, constraint of_parent foreign key (parent)"
    " references parent (id) on delete cascade, constraint some check (id > 0),"
    " fulltext key words (doc), doc text, key part (doc(10)))",
    "create table parts (id int, at date) partition by range (year(at))"
    " (partition old values less than (2020), partition rest values less than maxvalue)",
    "create table versioned (a int) with system versioning",
    "create table latin (t varchar(20)) character set latin1 collate latin1_german1_ci",
    "create sequence numbers start with 7 increment by 3",
    "create view seen as select p.code, c.what from parent p join child c on c.parent = p.id",
    "create trigger noted after insert on parent for each row set @noted = 1",
    "create procedure done(a int) begin select a; end",
    "create function twice(a int) returns int deterministic return a * 2",
    "create event never on schedule every 1 day starts '2037-01-01' do delete from child",
    "insert into parent (code) values ('one'), ('two')",
    "insert into parts values (1, '2019-01-01'), (2, '2025-01-01')",
)
DROPS = (
    "drop view seen", "drop trigger noted", "drop procedure done", "drop function twice",
    "drop event never", "drop sequence numbers", "drop table latin",
    "alter table child drop foreign key of_parent", "alter table child drop constraint some",
    "alter table child drop index words", "alter table child drop column kept",
    "alter table parts remove partitioning", "alter table versioned drop system versioning",
    "alter table parent comment 'other'", "alter table latin collate latin1_swedish_ci",
    "alter table child modify what enum('a')", "select nextval(numbers)",
    "alter table parent auto_increment = 50", "alter table parent drop index code",
    "create or replace procedure done(a int) begin select a + 1; end",
    "alter database character set latin1",
)  # fmt: skip
VALUES = (
    "create table v (id int primary key, t text, l varchar(30) character set latin1, b blob,"
    " bits bit(9), n decimal(65, 30), d double, at timestamp(6) null, day date, span time(3),"
    " y year, u uuid, i inet6)",
    "insert into v values (1, 'größe ☃ 😀', 'größe', x'00ff0a0d5c27', b'100000001',"
    " '12345678901234567890123456789012345.123456789012345678901234567890', 1e308,"
    " '1970-01-01 00:00:01.000001', '0001-01-01', '-838:59:59.000', 1901, uuid(), '::1'),"
    " (2, '', '', '', 0, 0, -0.0, null, '9999-12-31', '00:00', 2155, null, null),"
    " (3, null, null, null, null, null, 0.1, '2038-01-19 03:14:07', null, null, null, null,"
    " null), (4, 'it''s; \\\\ \\n\\r\\t\\Z \\0 end', '\\\\', x'', 1, -1, 5e-324, null, null,"
    " null, null, null, null)",
)


@pytest.fixture
def kit(mariadb_url: str) -> Iterator[MysqlKit]:
    found = MysqlKit(mariadb_url)
    yield found
    found.close()


def test_every_kind_of_object_comes_back_and_is_missed_when_it_is_gone(kit: MysqlKit) -> None:
    source = kit.make(*EVERYTHING)
    taken = take(kit, source)
    kinds = {each.kind for each in taken[1].objects}
    assert kinds == {"TABLE", "VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "SEQUENCE"}
    target = kit.fresh()
    give(kit, taken, target)
    state = "select status from information_schema.events where event_schema = database()"
    assert rows(kit, target, state) == [("ENABLED",)], "only now"
    for statement in DROPS:
        copy = kit.fresh()
        give(kit, taken, copy)
        with kit.session(copy) as execute:
            execute(statement)
        assert differences(taken[1], kit.engine.fingerprint(copy)), statement


def test_values_of_every_kind(kit: MysqlKit) -> None:
    source = kit.make(*VALUES)
    target = kit.fresh()
    give(kit, take(kit, source), target)
    every = "select * from v order by id"
    assert rows(kit, target, every) == rows(kit, source, every)


def test_what_the_dump_does_not_carry_is_counted(kit: MysqlKit) -> None:
    source = kit.make("create table m (a int) engine=MyISAM", "create table f (a float)")
    warnings = kit.engine.preflight(source).warnings
    assert any("1 tables are not InnoDB" in words for words in warnings)
    assert any("1 columns are FLOAT" in words for words in warnings)


def test_events_of_a_copy_do_not_act_before_it_is_published(kit: MysqlKit) -> None:
    artifacts, expected = take(kit, kit.make(*EVERYTHING))
    target = kit.fresh()
    with kit.engine.restore(target, RestoreOptions()) as restoration:
        restoration.load(expected, lambda name: iter([artifacts[name]]), quiet)
        state = "select status from information_schema.events where event_schema = database()"
        assert rows(kit, target, state) == [("DISABLED",)]
        comment = "select schema_comment from information_schema.schemata"
        named = f"{comment} where schema_name = database()"
        assert rows(kit, target, named) == [(marks.MARK,)]
    assert login(target).database not in kit.left()


def test_what_a_dead_restore_left_is_dropped_by_the_next(kit: MysqlKit) -> None:
    taken = take(kit, kit.make("create table t (a int)"))
    target = kit.fresh()
    name = login(target).database
    with connected(login(target), database=False) as connection, connection.cursor() as cursor:
        cursor.execute(f"create database {name} comment '{marks.MARK}'")
    with kit.session(target) as execute:
        execute("create table half (a int)")
    give(kit, taken, target)
    assert rows(kit, target, "show tables") == [("t",)]


def test_a_password_is_in_nobodys_argv(
    kit: MysqlKit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = kit.make("create table t (a int)", "insert into t values (1)")
    with connected(login(source)) as connection, connection.cursor() as cursor:
        cursor.execute("create or replace user keeper@localhost identified by 'sécret \"x\\\\'")
        cursor.execute("grant all on *.* to keeper@localhost")
    url = source.url.replace("root@", "keeper@")
    keeper = Source(url, Secret('sécret "x\\'))
    seen: list[str] = []
    from backups.engines import process

    started = process.subprocess.Popen

    def watched(argv: list[str], **options: object) -> object:
        seen.extend(argv)
        seen.extend((options.get("env") or {}).values())  # type: ignore[attr-defined]
        return started(argv, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(process.subprocess, "Popen", watched)
    taken = take(kit, keeper)
    give(kit, taken, Source(kit.fresh().url.replace("root@", "keeper@"), keeper.password))
    assert seen
    assert not [word for word in seen if "cret" in word]
    with pytest.raises(AccessDenied):
        kit.engine.preflight(Source(url, Secret("wrong")))


def test_a_url_that_says_something_else_is_refused() -> None:
    for url in ("mariadb://root@/", "mariadb://host/x", "mysql://a@b/x", "mariadb://a:b@c/x",
                "mariadb://a@b/x?init-command=drop"):  # fmt: skip
        with pytest.raises(UsageError):
            login(Source(url))
    with pytest.raises(Unreachable):
        MysqlKit("mariadb://root@/x?socket=/nowhere").engine.preflight(
            Source("mariadb://root@/x?socket=/nowhere")
        )


def test_the_number_of_an_error_is_found() -> None:
    assert code_in("ERROR 1062 (23000) at line 3: Duplicate entry 'secret' for key") == 1062
    assert code_in('mariadb-dump: Got error: 1045: "Access denied" when trying') == 1045
    assert code_in("mariadb-dump: Couldn't execute 'x': no (1412)") == 1412
    assert code_in("something else") == 0


def test_a_database_that_is_there_is_never_dropped(kit: MysqlKit) -> None:
    theirs = kit.make("create table t (a int)")
    with pytest.raises(TargetRefused), kit.engine.restore(theirs, RestoreOptions()):
        pytest.fail("it was accepted")
    assert rows(kit, theirs, "show tables") == [("t",)]
