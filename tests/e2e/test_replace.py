"""A backup in the place of the live database, on a real server: the way there, the way back,
and whatever goes wrong between."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import command_kit
import psycopg
import pytest
import yaml
from machines_kit import catalog_server, running
from prune_kit import SetClock
from test_main_job import documented

from backups import wiring
from backups.clock import SystemClock
from backups.errors import ApprovalMissing, PlanVoid, RoleMissing, UsageError
from backups.schedule.jobs import NOW
from backups.wiring import replacing

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = pytest.mark.postgres

SQL = "create table t (a int primary key); insert into t select generate_series(1, 40)"


def quiet(*_: object) -> None: ...


class Live:
    """A database with a backup of all its forty rows, of which half were then deleted."""

    def __init__(self, house: House, url: str, server: str) -> None:
        self.house, self.url, self.server = house, url, server
        self.backup = house.must("list", "--json").json[0]["backup_id"]
        self.name = url.partition("?")[0].rpartition("/")[2]

    def rows(self) -> int:
        with psycopg.connect(self.url) as connection:
            found = connection.execute("select count(*) from t").fetchone()
        assert found is not None
        return int(found[0])

    def beside(self, name: str) -> str:
        return self.url.replace(f"/{self.name}?", f"/{name}?")

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(statement)  # type: ignore[arg-type]

    def others(self) -> list[str]:
        """Databases beside it that carry its name."""
        with psycopg.connect(self.server) as connection:
            found = connection.execute(
                "select datname from pg_database where datname like %s", (f"{self.name}_%",)
            ).fetchall()
        return sorted(name for (name,) in found)

    def report(self) -> dict[str, Any]:
        """Of this month, so far."""
        folder = self.house.path / "report"
        month = f"{SystemClock().now():%Y-%m}"
        self.house.must("report", "build", "--month", month, "--out", str(folder))
        found: dict[str, Any] = json.loads((folder / "report.json").read_text())
        return found

    def plan(self, *options: str) -> dict[str, Any]:
        planned: dict[str, Any] = self.house.must(
            "replace", "plan", self.backup, "--json", *options
        ).json
        return planned

    def start(self, plan: dict[str, Any], *options: str) -> Any:
        return self.house.call(
            "replace", "start", plan["replacement_id"], "--confirm", self.name, "--json",
            *options,
        )  # fmt: skip


@pytest.fixture
def live(
    house: House, tmp_path: Path, pg15_url: str, make_database: Callable[..., str]
) -> Iterator[Live]:
    (tmp_path / "store").mkdir()
    url = make_database(pg15_url, sql=SQL)
    house.declare(f"file://{tmp_path / 'store'}", shop=url)
    house.must("run", "shop")
    live = Live(house, url, pg15_url)
    live.execute("delete from t where a > 20")
    yield live
    with psycopg.connect(pg15_url, autocommit=True) as connection:
        for name in live.others():
            connection.execute(f'drop database "{name}" with (force)')  # type: ignore[arg-type]


def test_there_and_back(live: Live) -> None:
    plan = live.plan()
    assert set(plan) == documented("replace plan --json")
    assert any("rows of table" in words or "20" in words for words in plan["difference"])
    assert live.rows() == 20, "a plan changes nothing"
    wrong = ("replace", "start", plan["replacement_id"], "--confirm", "another")
    assert live.house.call(*wrong).code == UsageError.exit_code
    with psycopg.connect(live.url) as session:  # an application that holds on to it
        session.execute("select 1")
        done = live.start(plan)
        assert done.code == 0, done.err
        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
    assert done.json["state"] == "replaced"
    assert live.rows() == 40
    assert live.others() == [done.json["aside"]]
    newest = live.house.must("list", "--json").json[0]
    assert newest["backup_id"] == done.json["safety_backup"]
    assert live.start(plan).code == UsageError.exit_code, "once"

    live.execute("insert into t values (99)")
    undone = live.house.must("replace", "undo", plan["replacement_id"], "--json").json
    assert undone["state"] == "undone"
    assert live.rows() == 20
    assert len(live.others()) == 1, "what was written meanwhile is kept beside too"
    early = live.house.call("replace", "drop", plan["replacement_id"])
    assert early.code == UsageError.exit_code
    live.house.must("replace", "drop", plan["replacement_id"], "--anyway")
    assert live.others() == []
    assert live.rows() == 20
    shown = live.house.must("replace", "list", "shop", "--json").json
    assert [each["state"] for each in shown] == ["undone"]
    actions = [row["action"] for row in live.house.must("audit", "list", "--json").json]
    assert {"replacement.planned", "replacement.done", "replacement.undone"} <= set(actions)


def test_a_rehearsal_shows_which_rows_come_go_and_change(live: Live) -> None:
    live.execute("create table nameless (a int)")
    live.execute("insert into nameless values (1)")
    live.house.must("run", "shop")
    live.backup = live.house.must("list", "--json").json[0]["backup_id"]
    live.execute("delete from t where a <= 2")
    live.execute("insert into t select generate_series(100, 106)")
    live.execute("insert into nameless values (2)")
    plan = live.plan()
    rehearse = ("replace", "rehearse", plan["replacement_id"])
    rehearsed = live.house.must(*rehearse, "--json").json
    assert rehearsed["seen"] == [
        "public.nameless: 1 are lost; 2 rows now, 1 then; no primary key: rows are told apart "
        "by all their values",
        "public.t: 2 come back (1, 2); 7 are lost (100, 101, 102, 103, 104, ...)",
    ]
    assert live.others() == [rehearsed["rehearsal"]]
    with psycopg.connect(live.beside(rehearsed["rehearsal"])) as connection:
        assert connection.execute("select count(*) from t").fetchone() == (20,)
        connection.execute("delete from t")  # somebody tries things in it
    assert live.house.must(*rehearse).code == 0, "again"
    assert live.others() == [rehearsed["rehearsal"]]
    done = live.start(plan)
    assert done.code == 0, done.err
    assert live.rows() == 20
    assert live.others() == [done.json["aside"]], "the rehearsal is over"
    assert live.house.call(*rehearse).code == UsageError.exit_code

    live.house.must("replace", "undo", plan["replacement_id"])
    live.house.must("replace", "drop", plan["replacement_id"], "--anyway")
    thrown_away, forgotten = live.plan(), live.plan()
    for each in (thrown_away, forgotten):
        live.house.must("replace", "rehearse", each["replacement_id"])
    live.house.must("replace", "cancel", thrown_away["replacement_id"])
    assert len(live.others()) == 1
    with wiring.opened(live.house.home) as real:
        late = replace(real, clock=SetClock(SystemClock().now() + timedelta(hours=25)))
        replacing.tidy(late)
    assert live.others() == []


def test_a_plan_is_void_when_the_database_changed(live: Live) -> None:
    plan = live.plan()
    live.execute("insert into t values (77)")
    void = live.start(plan)
    assert void.code == PlanVoid.exit_code
    assert "plan anew" in void.err
    assert live.rows() == 21
    assert live.others() == []
    anyway = live.start(plan, "--break-glass", "the shop is down")
    assert anyway.code == 0, anyway.err
    assert live.rows() == 40
    records = live.house.must("audit", "list", "--json").json
    assert any(row["details"].get("broke_glass") == "the shop is down" for row in records)
    (exception,) = (
        each for each in live.report()["exceptions"] if each["kind"] == "glass broken"
    )
    assert exception["words"].endswith("the shop is down")


def test_a_second_person_must_agree(live: Live) -> None:
    fleet = live.house.path / "fleet.yaml"
    document = yaml.safe_load(fleet.read_text())
    document["plans"] = {"max": {"retention_days": 90, "second_approver": True}}
    fleet.write_text(yaml.safe_dump(document))
    live.house.must("apply", str(fleet))
    settings = live.house.home / "settings.yaml"
    settings.write_text("restore_approvers: [ann, bea]\n")
    plan = live.plan("--by", "ann", "--ticket", "T-1", "--consent", "by mail of 23 November")
    assert plan["needs"] == "person"
    assert live.start(plan).code == ApprovalMissing.exit_code
    approve = ("replace", "approve", plan["replacement_id"], "--name")
    assert live.house.call(*approve, "ann").code == ApprovalMissing.exit_code
    assert live.house.call(*approve, "eve").code == ApprovalMissing.exit_code
    live.house.must(*approve, "bea")
    assert live.start(plan).code == 0
    assert live.rows() == 40
    (use,) = (each for each in live.report()["access"]["uses"] if "T-1" in each["action"])
    assert use["action"] == "restore.started, ticket: T-1, consent: by mail of 23 November"

    settings.write_text("restore_approvers: [ann]\n")
    plan = live.plan("--by", "ann")
    assert plan["needs"] == "delay"
    late = live.start(plan)
    assert late.code == ApprovalMissing.exit_code
    with wiring.opened(live.house.home) as real:
        hour = SystemClock().now() + timedelta(minutes=61)
        app = replace(real, clock=SetClock(hour))
        found = replacing.start(app, plan["replacement_id"], "ann", live.name, quiet, quiet)
        assert found.state == "replaced"
        old = replace(real, clock=SetClock(hour + timedelta(days=8)))
        assert "dropped" in replacing.tidy(old)
    cancelled = live.plan()
    live.house.must("replace", "cancel", cancelled["replacement_id"])
    assert live.start(cancelled).code == UsageError.exit_code


def test_a_machine_that_only_restores_asks_another_for_the_safety_backup(live: Live) -> None:
    home = live.house.path / "restores"

    def call(*arguments: str) -> Any:
        return live.house.must("--home", str(home), "replace", *arguments, "--json").json

    with catalog_server() as server, running() as start:
        live.house.must("catalog", "move", "--to", server.url)
        for roles, path in (("restore", home), ("backup", live.house.path / "backs-up")):
            like = ("--like", str(live.house.home), "--roles", roles)
            live.house.must("--home", str(path), "init", *like)
        refused = live.house.call("--home", str(home), "run", "shop")
        assert refused.code == RoleMissing.exit_code, "said before it looks for a key"
        decides = start(live.house.home, "serve", "none")
        worker = start(live.house.path / "backs-up", "worker", "backup")
        plan = call("plan", live.backup)
        done = call("start", plan["replacement_id"], "--confirm", live.name)
        assert done["state"] == "replaced"
        assert live.rows() == 40
        newest = live.house.must("list", "--json").json[0]
        assert newest["backup_id"] == done["safety_backup"] != live.backup
        undone = call("undo", plan["replacement_id"])
        assert (undone["state"], live.rows()) == ("undone", 20)
        assert (worker.end(), decides.end()) == (0, 0)
        assert worker.has_said(f"{NOW}shop")


# --- killed -----------------------------------------------------------------------------

STEPS = [
    ("call", "save", 1),  # that it is begun
    ("return", "save", 1),
    ("return", "safety", 1),
    ("return", "save", 2),
    ("return", "_structure", 1),  # half a copy, under its temporary name
    ("return", "restore", 1),  # of the copy, compared
    ("return", "save", 3),
    ("call", "swap", 1),
    ("call", "_rename", 1),  # nobody is let in any more
    ("call", "_rename", 2),  # within the transaction
    ("return", "swap", 1),
    ("call", "save", 4),
    ("return", "save", 4),
]
AFTER = STEPS.index(("return", "swap", 1))
"""From here on it took place."""


def start_and_die(home: str, plan: str, name: str, event: str, function: str, nth: str) -> None:
    seen = 0

    def profile(frame: FrameType, what: str, _: object) -> None:
        nonlocal seen
        ours = frame.f_code.co_filename.endswith(
            ("catalog/replacements.py", "run/replace.py", "swap.py", "wiring/replacing.py",
             "run/restore.py")
        )  # fmt: skip
        ours |= function == "_structure" and frame.f_code.co_filename.endswith(
            "postgres/restore.py"
        )
        if ours and (what, frame.f_code.co_name) == (event, function):
            seen += 1
            if seen == int(nth):
                os.kill(os.getpid(), signal.SIGKILL)

    with wiring.opened(home) as app:
        sys.setprofile(profile)
        replacing.start(app, plan, "ann", name, quiet, quiet)


@contextmanager
def mended(live: Live) -> Iterator[None]:
    """What `serve` does each minute."""
    with wiring.opened(live.house.home) as app:
        replacing.tidy(app)
    yield


@pytest.mark.timeout(300)
def test_killed_after_every_step(live: Live) -> None:
    for event, function, nth in STEPS:
        step = f"{event} {function} {nth}"
        plan = live.plan()
        ended = command_kit.fork(
            start_and_die, str(live.house.home), plan["replacement_id"], live.name, event,
            function, str(nth),
        )  # fmt: skip
        assert ended == -signal.SIGKILL, step
        with mended(live):
            found = live.house.must("replace", "show", plan["replacement_id"], "--json").json
        assert found["state"] in ("planned", "failed", "replaced"), step
        swapped = found["state"] == "replaced"
        assert live.rows() == (40 if swapped else 20), step
        assert swapped == (STEPS.index((event, function, nth)) >= AFTER), step
        if swapped:
            live.house.must("replace", "undo", plan["replacement_id"])
            assert live.rows() == 20, step
            live.house.must("replace", "drop", plan["replacement_id"], "--anyway")
        elif found["state"] == "planned":
            live.house.must("replace", "cancel", plan["replacement_id"])
        assert live.others() == [], step
