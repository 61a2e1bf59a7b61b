"""What is SQLite's alone: its files, its values, writers that lock, damage."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import command_kit
import pytest
from engine_kits import SqliteKit
from test_engines import give, quiet, rows, take

from backups.clock import SystemClock
from backups.engines.sqlite import files
from backups.engines.sqlite.dump import spool
from backups.errors import DumpFailed, TargetRefused, Unreachable, UsageError
from backups.format.fingerprint import differences
from backups.model import RestoreOptions, Source
from verify.examine.registry import open_examiner
from verify.ports import Questions

EVERYTHING = (
    "pragma user_version = 7",
    "create table v (a, b real, c text, d blob, e integer)",
    "insert into v values (1, 0.1, 'x', x'00ff', 9223372036854775807),"
    " (null, -0.0, '', x'', 0),"
    " ('1', 1e308, char(0) || 'after', zeroblob(3), -9223372036854775808),"
    " (9e999, 3, cast(x'ff80' as text), x'0a', 2)",
    "create table counted (id integer primary key autoincrement, t text)",
    "insert into counted (t) values ('a'), ('b')",
    "delete from counted where id = 2",
    "create table without (k text primary key, v) without rowid",
    "insert into without values ('k', 1)",
    "create table made (a integer, b integer as (a * 2) stored, c integer as (a + 1)) strict",
    "insert into made (a) values (21)",
    "create virtual table words using fts5 (body)",
    "insert into words values ('the quick brown fox')",
    "create trigger told after insert on v begin insert into counted (t) values ('by'); end",
    "create index partial on v (a) where a is not null",
    "create index reckoned on v (c || 'x')",
)  # fmt: skip


@pytest.fixture
def kit(tmp_path: Path) -> SqliteKit:
    folder = tmp_path / "databases"
    folder.mkdir()
    return SqliteKit(folder)


def test_every_kind_of_value_and_object(kit: SqliteKit) -> None:
    source = kit.make(*EVERYTHING)
    taken = take(kit, source)
    assert taken[1].settings["user_version"] == "7"
    assert taken[1].settings["journal"] == "wal"
    assert taken[1].not_compared == ("virtual table words: its module keeps its rows",)
    assert [(s.name, s.last_value) for s in taken[1].sequences] == [("counted", 2)]
    target = kit.fresh()
    give(kit, taken, target)
    assert rows(kit, target, "select body from words where words match 'quick'")
    assert rows(kit, target, "select b, c from made") == [(42, 22)]
    asked = open_examiner("sqlite", SystemClock()).examine(target, taken[1], Questions())
    assert {check.name: check.passed for check in asked} == {
        "pages": True, "full read": True, "foreign keys": True, "sequences ahead": True,
        "usable": True,
    }  # fmt: skip
    part = kit.fresh()
    give(kit, taken, part, "counted", "v", "without", "made")
    with kit.session(part) as execute:
        execute("insert into counted (t) values ('c')")
        assert execute("select max(id) from counted") == [(3,)], "numbers go on"


def test_values_that_look_alike_are_told_apart(kit: SqliteKit) -> None:
    found = {
        kit.engine.fingerprint(
            kit.make("create table t (a)", f"insert into t values ({value})")
        ).tables[0].content
        for value in ("1", "'1'", "1.0", "x'31'", "null", "''", "x''", "'a'", "'a' || char(0)")
    }  # fmt: skip
    assert len(found) == 9


def test_the_copy_on_the_way_is_private_and_leaves_nothing(
    kit: SqliteKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen: list[int] = []
    connect = sqlite3.connect

    def watched(*args: object, **options: object) -> sqlite3.Connection:
        seen.extend(stat.S_IMODE(path.stat().st_mode) for path in spool().iterdir())
        return connect(*args, **options)  # type: ignore[call-overload,no-any-return]

    source = kit.make(*EVERYTHING)
    monkeypatch.setattr("sqlite3.connect", watched)
    with kit.engine.dump(source) as dump:
        assert list(spool().iterdir()) == [], "it has no name any more"
        assert [name for name, _ in dump.artifacts()] == ["database"]
    assert set(seen) == {0o600}
    assert stat.S_IMODE(spool().stat().st_mode) == 0o700


def die_copying(url: str, folder: str) -> None:
    import tempfile

    tempfile.tempdir = folder
    kit = SqliteKit(Path(folder))
    real = files.connect

    def connect(*args: object, **options: object) -> sqlite3.Connection:
        if options.get("mode") == "rw":
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)  # type: ignore[arg-type]

    from backups.engines.sqlite import dump

    dump.connect = connect
    with kit.engine.dump(Source(url)):
        pass


def die_restoring(url: str, target: str, folder: str) -> None:
    kit = SqliteKit(Path(folder))
    artifacts, expected = take(kit, Source(url))
    with kit.engine.restore(Source(target), RestoreOptions()) as restoration:
        restoration.load(expected, lambda name: iter([artifacts[name]]), quiet)
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_left_the_next_removes(
    kit: SqliteKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    source, target = kit.make(*EVERYTHING), kit.fresh()
    died = command_kit.fork(die_copying, source.url, str(tmp_path))
    assert died == -signal.SIGKILL
    assert len(list(spool().iterdir())) == 1
    taken = take(kit, source)
    assert list(spool().iterdir()) == []
    before = kit.left()
    died = command_kit.fork(die_restoring, source.url, target.url, str(tmp_path))
    assert died == -signal.SIGKILL
    (left,) = kit.left() - before
    assert ".restoring." in left
    give(kit, taken, target)
    assert len(kit.left() - before) == 1


def test_a_journal_beside_the_target_is_not_played_into_it(kit: SqliteKit) -> None:
    for end in ("-wal", "-journal", "-shm"):
        target = kit.fresh()
        beside = Path(f"{files.path_of(target)}{end}")
        beside.write_bytes(b"another's")
        with pytest.raises(TargetRefused, match=end), kit.engine.restore(
            target, RestoreOptions()
        ):  # fmt: skip
            pytest.fail("it was accepted")


def test_a_locked_damaged_or_foreign_file_is_refused(
    kit: SqliteKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    source = kit.make("pragma journal_mode = delete", "create table t as select 1 as a")
    path = files.path_of(source)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("begin exclusive")
        with pytest.raises(Unreachable, match="locked"):
            kit.engine.preflight(source)
    text = kit.fresh()
    files.path_of(text).write_text("no database, but a text that is long enough" * 100)
    with pytest.raises(DumpFailed):
        kit.engine.preflight(text)
    large = kit.make("create table t (a)", "create index i on t (a)",
                     "insert into t select hex(randomblob(500)) from (with recursive n(i) as"
                     " (select 1 union all select i + 1 from n where i < 200) select i from n)",
                     "pragma wal_checkpoint(truncate)")  # fmt: skip
    whole = bytearray(files.path_of(large).read_bytes())
    whole[4096 : 4096 + 64] = bytes(64)  # the root of the table
    files.path_of(large).write_bytes(whole)
    with pytest.raises(DumpFailed, match="damaged"), kit.engine.dump(large):
        pytest.fail("it was dumped")
    for url in ("sqlite://host/x.db", "sqlite:", "sqlite:///", "postgresql:///x"):
        with pytest.raises((UsageError, Unreachable)):
            files.path_of(Source(url))
    folder = files.path_of(source).parent / "folder.db"
    folder.mkdir()
    with pytest.raises(Unreachable):
        kit.engine.preflight(Source(f"sqlite://{folder}"))


def test_a_customers_query_can_only_read(kit: SqliteKit, tmp_path: Path) -> None:
    from backups.declared import Assertion

    source = kit.make("create table t as select 1 as a")
    expected = kit.engine.fingerprint(source)
    asked = [
        Assertion("true", "select count(*) = 1 from t"),
        Assertion("false", "select count(*) = 2 from t"),
        Assertion("writes", "delete from t returning 1"),
        Assertion("attaches", f"attach '{tmp_path}/x.db' as x"),
        Assertion("never ends", "with recursive n(i) as (select 1 union all select i from n)"
                  " select count(*) from n"),
        Assertion("two columns", "select 1, 1"),
    ]  # fmt: skip
    from datetime import timedelta

    questions = Questions(asked, limit=timedelta(seconds=0.5))
    found = open_examiner("sqlite", SystemClock()).examine(source, expected, questions)
    told = {check.subject: check.passed for check in found if check.name == "assertion"}
    assert told == {
        "true": True, "false": False, "writes": None, "attaches": None, "never ends": None,
        "two columns": None,
    }  # fmt: skip
    assert differences(expected, kit.engine.fingerprint(source)) == ()
    assert not (tmp_path / "x.db").exists()


def test_a_writer_is_not_held_up_in_wal_mode(kit: SqliteKit) -> None:
    source = kit.make("create table t (a)", "insert into t values (1)")
    with kit.engine.dump(source) as dump, kit.session(source) as execute:
        thread = threading.Thread(target=lambda: [b"".join(b) for _, b in dump.artifacts()])
        execute("insert into t values (2)")
        thread.start()
        thread.join()
        assert dump.finish().tables[0].rows == 1
