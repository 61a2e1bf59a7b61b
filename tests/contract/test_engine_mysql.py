"""MariaDB's and MySQL's own: kinds of objects, values, and what a dump can't carry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_kits import MysqlKit
from test_engines import give, quiet, rows, take

from backups.engines.mysql.server import code_in, connected, login
from backups.errors import AccessDenied, EngineError, TargetRefused, Unreachable, UsageError
from backups.format.fingerprint import differences
from backups.model import RestoreOptions, Secret, Source

BOTH = (
    "create table parent (id int unsigned auto_increment primary key, code char(3) unique)"
    " comment 'of all; (really)'",
    "create table child (id bigint primary key, parent int unsigned, what enum('a', 'b''c'),"
    " flags set('x', 'y'), at datetime(6), j json, made int as (id * 2) virtual,"
    " kept int as (id + 1) stored, constraint of_parent foreign key (parent)"
    " references parent (id) on delete cascade, constraint some check (id > 0), doc text,"
    " fulltext key words (doc), key part (doc(10)))",
    "create table parts (id int, at date) partition by range (year(at))"
    " (partition old values less than (2020), partition rest values less than maxvalue)",
    "create table counted (id int auto_increment primary key)"
    " partition by hash (id) partitions 2",
    "create table latin (t varchar(20)) character set latin1 collate latin1_german1_ci",
    "create view seen as select p.code, c.what from parent p join child c on c.parent = p.id",
    "create trigger noted after insert on parent for each row set @noted = 1",
    "create procedure done(a int) begin select a; end",
    "create function twice(a int) returns int deterministic return a * 2",
    "create event never on schedule every 1 day starts '2037-01-01' do delete from child",
    "insert into parent (code) values ('one'), ('two')",
    "insert into parts values (1, '2019-01-01'), (2, '2025-01-01')",
)
DROPS = (
    "drop view seen", "drop trigger noted", "alter procedure done comment 'other'",
    "drop procedure done", "drop function twice", "drop event never",
    "alter table child drop foreign key of_parent", "alter table child drop constraint some",
    "alter table child drop index words", "alter table child drop column kept",
    "alter table parts remove partitioning", "alter table counted auto_increment = 9",
    "alter table parent comment 'other'", "alter table latin collate latin1_swedish_ci",
    "alter table child modify what enum('a')",
    "alter table parent auto_increment = 50", "alter table parent drop index code",
    "alter database character set latin1", "drop table latin",
)  # fmt: skip
EVERYTHING = {
    "mariadb": (
        *BOTH,
        "create table versioned (a int) with system versioning",
        "create sequence numbers start with 7 increment by 3",
    ),
    "mysql": (
        *BOTH,
        "create table newer (id int, hidden int invisible default 3, name varchar(20)"
        " default (upper('x')), key on_name ((lower(name))), key down (id desc),"
        " key unseen (name) invisible, p point srid 4326, chosen json"
        " default (json_array(1)), constraint lax check (id > 5) not enforced)",
        "insert into newer (id) values (10)",
    ),
}
"""By engine."""
MORE_DROPS = {
    "mariadb": (
        "select nextval(numbers)", "drop sequence numbers",
        "alter table versioned drop system versioning",
    ),
    "mysql": (
        "alter table newer alter column hidden set visible", "alter table newer drop key down",
        "alter table newer drop key on_name", "alter table newer alter index unseen visible",
        "alter table newer alter check lax enforced",
        "alter table newer alter column name drop default",
    ),
}  # fmt: skip
VALUES = (
    "create table v (id int primary key, t text, l varchar(30) character set latin1, b blob,"
    " bits bit(9), n decimal(65, 30), d double, at timestamp(6) null, day date, span time(3),"
    " y year, j json)",
    "insert into v values (1, 'größe ☃ 😀', 'größe', x'00ff0a0d5c27', b'100000001',"
    " '12345678901234567890123456789012345.123456789012345678901234567890', 1e308,"
    " '1970-01-01 00:00:01.000001', '1000-01-01', '-838:59:59.000', 1901,"
    ' \'{"b": 1, "a": 2}\'),'
    " (2, '', '', '', 0, 0, -0.0, null, '9999-12-31', '00:00', 2155, '\"\"'),"
    " (3, null, null, null, null, null, 0.1, '2038-01-19 03:14:07', null, null, null, null),"
    " (4, 'it''s; \\\\ \\n\\r\\t\\Z \\0 end', '\\\\', x'', 1, -1, 5e-324, null, null,"
    " null, null, '[]')",
)
MORE_VALUES = {
    "mariadb": (
        "create table w (u uuid, i inet6)",
        "insert into w values (uuid(), '::1'), (null, null)",
    ),
    "mysql": (
        "create table w (p point, j json)",
        "insert into w values (st_geomfromtext('point(1 2)'), cast(1e200 as json)),"
        " (null, cast('null' as json))",
    ),
}


@pytest.fixture(
    params=[
        pytest.param("mariadb", marks=pytest.mark.mariadb),
        pytest.param("mysql", marks=pytest.mark.mysql),
    ]
)
def kit(request: pytest.FixtureRequest) -> Iterator[MysqlKit]:
    found = MysqlKit(request.getfixturevalue(f"{request.param}_url"))
    yield found
    found.close()


def kind(source: Source) -> str:
    """Which of the two it is on."""
    return login(source).family.engine


def test_every_kind_of_object_comes_back_and_is_missed_when_it_is_gone(kit: MysqlKit) -> None:
    family = kind(kit.fresh())
    source = kit.make(*EVERYTHING[family])
    taken = take(kit, source)
    kinds = {each.kind for each in taken[1].objects}
    more = {"SEQUENCE"} if family == "mariadb" else set()
    assert kinds == {"TABLE", "VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT"} | more
    target = kit.fresh()
    give(kit, taken, target)
    state = "select status from information_schema.events where event_schema = database()"
    assert rows(kit, target, state) == [("ENABLED",)], "only now"
    before = taken[1]
    with kit.session(target) as execute:
        for statement in DROPS + MORE_DROPS[family]:
            execute(statement)
            after = kit.engine.fingerprint(target)
            assert differences(before, after), statement
            before = after


def test_values_of_every_kind(kit: MysqlKit) -> None:
    source = kit.make(*VALUES, *MORE_VALUES[kind(kit.fresh())])
    target = kit.fresh()
    give(kit, take(kit, source), target)
    for every in ("select * from v order by id", "select * from w order by 1"):
        assert rows(kit, target, every) == rows(kit, source, every)


def test_what_the_dump_does_not_carry_is_counted(kit: MysqlKit) -> None:
    source = kit.make("create table m (a int) engine=MyISAM", "create table f (a float)")
    warnings = kit.engine.preflight(source).warnings
    assert any("1 tables are not InnoDB" in words for words in warnings)
    assert any("1 columns are FLOAT" in words for words in warnings)


def test_events_of_a_copy_do_not_act_before_it_is_published(kit: MysqlKit) -> None:
    artifacts, expected = take(kit, kit.make(*EVERYTHING[kind(kit.fresh())]))
    target = kit.fresh()
    with kit.engine.restore(target, RestoreOptions()) as restoration:
        restoration.load(expected, lambda name: iter([artifacts[name]]), quiet)
        state = "select status from information_schema.events where event_schema = database()"
        assert rows(kit, target, state) == [("DISABLED",)]
        with connected(login(target)) as connection:
            mark = login(target).family.mark
            assert mark.is_left(connection, login(target).database) is True
    assert login(target).database not in kit.left()


def test_what_a_dead_restore_left_is_dropped_by_the_next(kit: MysqlKit) -> None:
    taken = take(kit, kit.make("create table t (a int)"))
    target = kit.fresh()
    name = login(target).database
    with connected(login(target), database=False) as connection:
        login(target).family.mark.make(connection, name, "utf8mb4", "utf8mb4_bin")
    with kit.session(target) as execute:
        execute("create table half (a int)")
    give(kit, taken, target)
    assert rows(kit, target, "show tables") == [("t",)]


def test_a_password_is_in_nobodys_argv(
    kit: MysqlKit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = kit.make("create table t (a int)", "insert into t values (1)")
    with connected(login(source)) as connection, connection.cursor() as cursor:
        cursor.execute("drop user if exists keeper@localhost")
        cursor.execute("create user keeper@localhost identified by 'sécret \"x\\\\'")
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
    for url in ("mariadb://root@/", "mariadb://host/x", "mysqlx://a@b/x", "mariadb://a:b@c/x",
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


def test_a_user_who_does_not_see_everything_is_refused(kit: MysqlKit) -> None:
    """A managed service's user owns the database, and is no superuser."""
    source = kit.make(*BOTH)
    name = login(source).database
    with connected(login(source)) as connection, connection.cursor() as cursor:
        cursor.execute("drop user if exists part@localhost")
        cursor.execute("create user part@localhost")
        cursor.execute(f"grant select, trigger on {name}.* to part@localhost")
    part = Source(source.url.replace("root@", "part@"))
    with pytest.raises(AccessDenied, match="SHOW VIEW, EVENT, EXECUTE"):
        kit.engine.preflight(part)
    with pytest.raises(AccessDenied), kit.engine.dump(part):
        pytest.fail("it would lack views, events and programs")
    with connected(login(source)) as connection, connection.cursor() as cursor:
        cursor.execute(f"grant all on {name}.* to part@localhost")
    assert kit.engine.preflight(part).size_bytes
    with pytest.raises(EngineError, match=r"mysqldump|mariadb-dump"):
        take(kit, part)  # it sees that there are programs, and may not read their text
    with connected(login(source)) as connection, connection.cursor() as cursor:
        cursor.execute("drop procedure done")
        cursor.execute("drop function twice")
    taken = take(kit, part)
    assert differences(take(kit, source)[1], taken[1]) == ()
    give(kit, taken, kit.fresh())
