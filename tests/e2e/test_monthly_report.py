"""A month on real servers: faults planted in a fleet, each named on the report and nothing
else; the report delivered, corrected, checked, and missed when it is not there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import command_kit
import pytest
import yaml
from prune_kit import SetClock
from scratch_kit import short_folder
from test_main_job import documented

from backups import wiring
from backups.clock import SystemClock
from backups.errors import ConfigError, NotFound, UsageError
from backups.model import Backup
from backups.wiring import proving, reporting
from backups.wiring.watching import watch
from verify.report.document import Report
from verify.report.month import Month

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = [pytest.mark.postgres, pytest.mark.s3]

PLAIN = (
    "create table t (id serial primary key, words text); "
    "insert into t (words) select repeat('x', g) from generate_series(1, 50) g"
)
Plant = Callable[["Town", Backup], None]


def quiet(*_: object) -> None: ...


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and what the report must say of it."""

    outcome: str
    says: str
    sql: str = ""
    database: dict[str, Any] | None = None
    customer: dict[str, Any] | None = None
    plant: Plant | None = None
    backed_up: bool = True


def flipped(town: Town, backup: Backup) -> None:
    with town.changed(backup, ".age") as data:
        data[len(data) // 2] ^= 1


def cut(town: Town, backup: Backup) -> None:
    with town.changed(backup, ".age") as data:
        del data[-100:]


def gone(town: Town, backup: Backup) -> None:
    town.remove(backup, ".age")


def forged(town: Town, backup: Backup) -> None:
    with town.changed(backup, "manifest.dsse.json") as data:
        data[100] ^= 1


def unlisted(town: Town, backup: Backup) -> None:
    town.remove(backup, "manifest.dsse.json")


def stale(town: Town, backup: Backup) -> None:
    """The manifest of the backup before it, served as its own."""
    with wiring.opened(town.house.home) as app:
        older = app.catalog.backups(backup.database)[-1]
    assert older.id != backup.id
    with town.changed(older, "manifest.dsse.json") as theirs:
        pass
    with town.changed(backup, "manifest.dsse.json") as mine:
        mine[:] = theirs


def away(town: Town, backup: Backup) -> None:
    """The bucket is gone."""
    town.remove(backup, "")
    town.client.delete_bucket(Bucket=town.buckets[backup.customer])


def died(town: Town, backup: Backup) -> None:
    process = command_kit.fork(drill_and_die, str(town.house.home), backup.database)
    assert process == -signal.SIGKILL


def drill_and_die(home: str, database: str) -> None:
    def progress(what: str, *_: object) -> None:
        if what == "creating the structure":
            os.kill(os.getpid(), signal.SIGKILL)

    with wiring.opened(home) as app:
        due = next(each for each in proving.due_drills(app) if each.database == database)
        proving.drill_due(app, due, progress)


FAULTS = {
    "flipped": Fault("FAILED", "downloaded", plant=flipped),
    "cut": Fault("FAILED", "present", plant=cut),
    "gone": Fault("FAILED", "present", plant=gone),
    "forged": Fault("FAILED", "signed", plant=forged),
    "unlisted": Fault("FAILED", "signed", plant=unlisted),
    "stale": Fault("FAILED", "signed", plant=stale),
    "away": Fault("INCONCLUSIVE", "bucket", plant=away),
    "died": Fault("DIED", "its process died", plant=died),
    "elsewhere": Fault("ENVIRONMENT", "mars-1 alone", customer={"scratch_region": "mars-1"}),
    "untrue": Fault("FAILED", "assertion", database={
        "assertions": [{"name": "many rows", "sql": "select count(*) > 1000 from t"}]}),
    "locked-out": Fault("FAILED", "usable", database={"application_role": "nobody_known"}),
    "never": Fault("NOT TESTED", "there is no backup of it", backed_up=False),
}  # fmt: skip
AT_SOURCE = {
    "behind": "select setval('t_id_seq', 3)",
    "orphans": "create table u (t int references t); set session_replication_role = replica; "
    "insert into u values (9999)",
}
"""What the source's own rows break: the backup is as good as the source, and it is said."""


class Town:
    """A customer for each of some databases, each with a bucket, and a home for all."""

    def __init__(self, house: House, client: Any, endpoint: str) -> None:
        self.house, self.client, self.endpoint = house, client, endpoint
        self.buckets: dict[str, str] = {}

    def declare(self, databases: dict[str, str], bucket: Callable[[], str]) -> None:
        customers = []
        for name, url in databases.items():
            fault = FAULTS.get(name, Fault("", ""))
            customer = f"c-{name}"
            self.buckets[customer] = bucket()
            place = f"s3://{self.buckets[customer]}/b?endpoint={quote(self.endpoint, safe='')}"
            database = {"id": name, "engine": "postgresql", "url": url}
            customers.append({
                "id": customer, "plan": "pro", "stores": [{"url": place}],
                "recipients": [self.house.recipient],
                "databases": [{**database, **(fault.database or {})}],
                **(fault.customer or {}),
            })  # fmt: skip
        path = self.house.path / "fleet.yaml"
        path.write_text(yaml.safe_dump({"customers": customers}))
        self.house.must("apply", str(path))

    def keys(self, backup: Backup, end: str) -> list[str]:
        """Of the backup's objects; of the whole bucket's with an empty `end`."""
        prefix = f"b/v1/{backup.database}/{backup.id}/" if end else ""
        found = self.client.list_objects_v2(Bucket=self.buckets[backup.customer], Prefix=prefix)
        return [each["Key"] for each in found["Contents"] if each["Key"].endswith(end)]

    def remove(self, backup: Backup, end: str) -> None:
        for key in self.keys(backup, end):
            self.client.delete_object(Bucket=self.buckets[backup.customer], Key=key)

    @contextmanager
    def changed(self, backup: Backup, end: str) -> Iterator[bytearray]:
        """The bytes of an object, put anew as they are left."""
        place = {"Bucket": self.buckets[backup.customer], "Key": self.keys(backup, end)[0]}
        data = bytearray(self.client.get_object(**place)["Body"].read())
        yield data
        self.client.put_object(**place, Body=bytes(data))


@pytest.fixture
def town(house: House, s3_client: Any, s3_endpoint: str) -> Iterator[Town]:
    with short_folder() as folder:
        (house.home / "settings.yaml").write_text(f"scratch: {{directory: {folder}}}\n")
        yield Town(house, s3_client, s3_endpoint)


@pytest.mark.parametrize("whole", [2, pytest.param(16, marks=pytest.mark.full)])
@pytest.mark.timeout(600)
def test_planted_faults_are_named_and_nothing_else(
    whole: int,
    town: Town,
    pg15_url: str,
    make_database: Callable[..., str],
    make_bucket: Callable[[], str],
) -> None:
    healthy = [f"well-{n}" for n in range(whole)]
    names = [*FAULTS, *AT_SOURCE, *healthy]
    more = {name: fault.sql for name, fault in FAULTS.items()} | AT_SOURCE
    town.declare(
        {n: make_database(pg15_url, sql=f"{PLAIN}; {more.get(n, '')}") for n in names},
        make_bucket,
    )
    with wiring.opened(town.house.home) as app:
        for name in names:
            if name not in FAULTS or FAULTS[name].backed_up:
                for _ in range(2 if name == "stale" else 1):
                    town.house.must("run", name)
        for name, fault in FAULTS.items():
            if fault.plant is not None:
                fault.plant(town, app.catalog.backups(name)[0])
        for due in proving.due_drills(app):
            if due.wanted.rule == "newest" and due.database != "died":
                proving.drill_due(app, due, quiet)
        report = reporting.build(app, month_now(app), None).report
        one = reporting.build(app, month_now(app), "c-well-0").report

    outcomes = {row.database: (row.outcome, row.reason) for row in report.coverage.rows}
    for name, fault in FAULTS.items():
        outcome, reason = outcomes.pop(name)
        assert (outcome, fault.says in reason) == (fault.outcome, True), (name, reason)
    assert set(outcomes.values()) == {("PASSED", "")}
    assert set(outcomes) == {*healthy, *AT_SOURCE}
    assert report.coverage.passed == whole + len(AT_SOURCE)
    told = {each.subject for each in report.exceptions if "own rows" in each.words}
    assert told == set(AT_SOURCE)

    named = {each.subject for each in report.exceptions if each.kind == "not proven"}
    assert named == set(FAULTS)
    assert not {each.subject for each in report.exceptions} & set(healthy) - said_late(report)
    assert {row.database for row in one.coverage.rows} == {"well-0"}


def said_late(report: Report) -> set[str]:
    """Neither self-test nor cold start was made: every test says so."""
    return {each.subject for each in report.exceptions if "self-test" in each.words}


def month_now(app: wiring.App) -> Month:
    now = app.clock.now()
    return Month(now.year, now.month)


def later(app: wiring.App) -> datetime:
    """Four days into the month after the present one."""
    return month_now(app).end + timedelta(days=4)


def test_a_report_is_delivered_corrected_and_missed(
    town: Town,
    tmp_path: Path,
    pg15_url: str,
    make_database: Callable[..., str],
    make_bucket: Callable[[], str],
) -> None:
    house = town.house
    town.declare({"well-0": make_database(pg15_url, sql=PLAIN)}, make_bucket)
    house.must("run", "well-0")
    house.must("verify", "run", "well-0")
    this = f"{SystemClock().now():%Y-%m}"
    building = ("report", "build", "--month", this, "--customer", "c-well-0", "--json")
    said = house.must(*building, "--out", str(tmp_path / "so-far")).json
    assert set(said) == documented("report build --json")
    assert (said["databases"], said["passed"], said["state"]) == (1, 1, "ISSUED")
    again = house.call(*building, "--out", str(tmp_path / "so-far"))
    assert again.code == ConfigError.exit_code
    early = house.call("report", "publish", "--month", this)
    assert early.code == 2
    assert "is not over" in early.err
    assert house.call("report", "build", "--month", "2026-13", "--out", "x").code == 2
    foreign = ("report", "build", "--month", this, "--customer", "nobody", "--out", "x")
    assert house.call(*foreign).code == NotFound.exit_code

    with wiring.opened(house.home) as real:
        app = replace(real, clock=SetClock(later(real)))
        watch(app)
        assert {a.alarm.subject for a in alarms(app, "report.missing")} == {"c-well-0", "fleet"}
        assert reporting.publish_due(app, quiet) == ["c-well-0", "the fleet"]
        assert reporting.publish_due(app, quiet) == []
        watch(app)
        assert alarms(app, "report.missing") == []
        with pytest.raises(UsageError, match="published already"):
            reporting.publish(app, month_now(real), "c-well-0", quiet)
        reporting.publish(app, month_now(real), "c-well-0", quiet, reason="a typing error")
        after = month_now(app)
        app = replace(app, clock=SetClock(after.end + timedelta(days=1)))
        reporting.publish(app, after, "c-well-0", quiet)

    third, second, first = house.must("report", "list", "--customer", "c-well-0", "--json").json
    assert set(first) == documented("report publish --json")
    assert (second["corrects"], second["reason"]) == (
        first["statement_sha256"],
        "a typing error",
    )
    assert third["previous"] == second["statement_sha256"]
    key = house.home / "keys" / "verify.pem"
    for number, row in (("1", first), ("2", second)):
        fetched = tmp_path / f"fetched-{number}"
        fetched.mkdir()
        with wiring.bare_store(first["stores"][0]) as store:
            for info in store.list(f"v1/reports/{this}/{number}/"):
                body = store.open(info.key)
                (fetched / info.key.rpartition("/")[2]).write_bytes(body.read())
                body.close()
        checking = ("report", "check", str(fetched), "--verify-key", str(key), "--json")
        checked = house.must(*checking).json
        assert set(checked) == documented("report check --json")
        assert checked["whole"] is True
        assert checked["digest"] == row["statement_sha256"]
        (fetched / "tests.csv").write_text("changed")
        assert house.call(*checking).code != 0
    # What was published is no stranger to those who look through the store.
    found = house.must("scrub", "c-well-0", "--json").json
    assert [each["findings"] for each in found] == [[]]


def alarms(app: wiring.App, kind: str) -> list[Any]:
    return [each for each in app.notices.alarms() if each.alarm.kind == kind]
