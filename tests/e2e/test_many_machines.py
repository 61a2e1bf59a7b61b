"""Machines that share a catalog: killed, frozen, cut off, two that decide. Every database has a
good backup in the end, and nothing is half."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import psycopg
import pytest
import yaml
from machines_kit import (
    CLOCK,
    CatalogServer,
    Machine,
    catalog_server,
    past_window,
    running,
    until,
)
from sample_kit import hung, whole

from backups import keys, wiring
from backups.catalog.open import open_catalog
from backups.format.age import Identity
from backups.settings import Home
from backups.wiring.serving import queue_of

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = [pytest.mark.postgres, pytest.mark.s3, pytest.mark.timeout(300)]
LOST = 8
"""Seconds after which a worker is taken for lost; its leases, after twice as many."""


@dataclass
class Town:
    """Databases of two customers, a shared catalog, and homes for machines."""

    house: House
    server: CatalogServer
    start: Callable[[Path, str, str], Machine]
    urls: dict[str, str]
    stores: dict[str, str]
    homes: dict[str, Path] = field(default_factory=dict)

    def home(self, name: str, roles: str) -> Path:
        """A machine's own, made by the command."""
        if name not in self.homes:
            path = self.house.path / name
            self.house.must(
                "--home", str(path), "init", "--like", str(self.house.home), "--roles", roles
            )
            self.homes[name] = path
        return self.homes[name]

    def machine(self, name: str, command: str = "worker", roles: str = "backup") -> Machine:
        return self.start(self.home(name, roles), command, roles)

    def committed(self) -> Counter[str]:
        with wiring.opened(self.house.home) as app:
            return Counter(backup.database for backup in app.catalog.backups())

    def all_taken(self) -> bool:
        return self.committed().keys() == self.urls.keys()

    def open_jobs(self) -> dict[str, str]:
        with wiring.opened(self.house.home) as app, closing(queue_of(app)) as queue:
            return {n: s for n, s in queue.open().items() if not n.startswith("@")}

    def unfinished(self) -> list[str]:
        with wiring.opened(self.house.home) as app:
            return [run.id for name in self.urls for run in app.catalog.unfinished_runs(name)]

    def all_whole(self) -> Counter[str]:
        """How many backups of each database lie in the stores; each is read to its end."""
        return Counter(
            manifest.database
            for url in self.stores.values()
            for manifest in whole(self.house.home, url)
        )


@pytest.fixture
def count() -> int:
    return 6


@pytest.fixture
def town(
    house: House,
    count: int,
    pg15_url: str,
    make_database: Callable[..., str],
    make_bucket: Callable[[], str],
    s3_endpoint: str,
) -> Iterator[Town]:
    sql = "create table t as select generate_series(1, 500) g"
    urls = {f"db-{n}": make_database(pg15_url, sql=sql) for n in range(count)}
    stores = {
        name: f"s3://{make_bucket()}/b?endpoint={quote(s3_endpoint, safe='')}"
        for name in ("acme", "birch")
    }
    fleet = [
        {
            "id": customer,
            "plan": "pro",
            "stores": [{"url": stores[customer]}],
            "recipients": [house.recipient],
            "databases": [
                {"id": name, "engine": "postgresql", "url": url, "window": past_window()}
                for n, (name, url) in enumerate(urls.items())
                if n % 2 == (customer == "birch")
            ],
        }
        for customer in stores
    ]
    path = house.path / "fleet.yaml"
    path.write_text(yaml.safe_dump({"customers": fleet}))
    with catalog_server() as server, running() as start:
        house.must("catalog", "move", "--to", server.url)
        settings = house.home / "settings.yaml"
        more = f"lost_seconds: {LOST}\nworkers_per_source: 4\n"
        settings.write_text(settings.read_text() + more)
        yield Town(house, server, start, urls, stores)


def apply(town: Town) -> None:
    town.house.must("apply", str(town.house.path / "fleet.yaml"))


def judged(town: Town, late: int = 0) -> None:
    """What must be true in the end, whatever happened."""
    assert town.open_jobs() == {}
    taken, whole = town.committed(), town.all_whole()
    assert taken == whole
    assert taken.keys() == town.urls.keys()
    assert sum(taken.values()) <= len(town.urls) + late
    town.house.must("audit", "verify")


def settled(town: Town) -> None:
    """Runs that died are brought to their end by the next backup of their database."""
    for name in {run_database(town, run) for run in town.unfinished()}:
        town.house.must("run", name)
    assert town.unfinished() == []


def run_database(town: Town, run_id: str) -> str:
    with wiring.opened(town.house.home) as app:
        return next(run.database for run in app.catalog.runs(None, 500) if run.id == run_id)


def free_name(make_database: Callable[..., str], url: str) -> str:
    """Of a database that is not there, and will not be after the test."""
    made = urlsplit(make_database(url)).path.strip("/")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{made}"')  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize("count", [6, pytest.param(40, marks=pytest.mark.full)])
def test_two_machines_share_the_work(town: Town) -> None:
    apply(town)
    first = town.machine("first", "serve")
    second = town.machine("second", "serve")
    until(town.all_taken, "every database's backup")
    until(lambda: not town.open_jobs(), "an empty queue")
    judged(town)
    leading = [machine.has_said("leading") for machine in (first, second)]
    assert leading.count(True) == 1
    stood_by = first if second.has_said("leading") else second
    assert stood_by.has_said("standing by")
    did = [sum(": started" in line for line in m.said) for m in (first, second)]
    assert all(did), did
    for machine in (first, second):
        assert machine.end() == 0, machine.said[-20:]


def test_killed_frozen_and_woken_with_two_that_decide(town: Town) -> None:
    with hung(town.urls["db-0"]) as dumping_0, hung(town.urls["db-1"]) as dumping_1:
        apply(town)
        killed = town.machine("killed")
        decider = town.machine("decider", "serve", "none")
        until(lambda: dumping_0() and dumping_1(), "two dumps on one machine")
        killed.kill()
        frozen = town.machine("frozen")
        until(lambda: frozen.has_said("db-0: started"), "its work taken over")
        until(lambda: dumping_0() and dumping_1(), "two dumps on another machine")
        frozen.freeze()
    other = town.machine("other", "serve")
    until(town.all_taken, "every database's backup")
    decider.freeze()  # and the one that decides is taken over from
    until(lambda: other.has_said("leading"), "another one to decide")
    frozen.thaw()
    decider.thaw()
    until(lambda: decider.has_said("another instance leads now"), "the decider to give way")
    until(lambda: not town.open_jobs(), "an empty queue")
    assert frozen.end() == 0
    settled(town)
    # The two that were frozen may have come to their ends late, and two may have been settled.
    judged(town, late=4)
    for machine in (decider, other):
        assert machine.end() == 0, machine.said[-20:]


def test_the_catalog_restarts_in_the_middle(town: Town) -> None:
    with hung(town.urls["db-0"]) as dumping:
        apply(town)
        machines = [town.machine("one", "serve"), town.machine("two")]
        until(dumping, "a dump under way")
        town.server.stop()
        until(lambda: all(m.has_said("warning") for m in machines), "them to notice")
        assert all(machine.process.poll() is None for machine in machines)
        town.server.start()
    until(town.all_taken, "every database's backup", 120)
    until(lambda: not town.open_jobs(), "an empty queue")
    settled(town)
    judged(town, late=2)
    assert [machine.end() for machine in machines] == [0, 0]


def test_a_machine_cut_off_from_the_catalog_does_no_harm(town: Town) -> None:
    """Its sessions are ended and it may not log in any more; others do its work."""
    with hung(town.urls["db-0"]) as dumping, psycopg.connect(town.server.url) as admin:
        admin.autocommit = True
        admin.execute("create role cut superuser login")
        apply(town)
        settings = town.home("cut", "backup") / "settings.yaml"
        settings.write_text(settings.read_text().replace("postgres@/", "cut@/"))
        cut = town.machine("cut")
        decider = town.machine("decider", "serve", "none")
        until(dumping, "a dump under way")
        admin.execute("alter role cut nologin")
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'cut'"
        )
        until(lambda: cut.has_said("warning"), "it to notice")
        other = town.machine("other")
        until(lambda: other.has_said("db-0: started"), "its work taken over")
    until(town.all_taken, "every database's backup")
    until(lambda: not town.open_jobs(), "an empty queue")
    with psycopg.connect(town.server.url, autocommit=True) as admin:
        admin.execute("alter role cut login")
    assert cut.end() == 0
    settled(town)
    judged(town, late=3)
    assert decider.end() == other.end() == 0


def test_a_job_that_is_cancelled_ends(town: Town) -> None:
    with hung(town.urls["db-0"]) as dumping:
        apply(town)
        machine = town.machine("one", "serve")
        until(dumping, "a dump under way")
        assert "db-0" in town.house.must("queue", "list").out
        town.house.must("queue", "cancel", "db-0")
        until(lambda: machine.has_said("db-0: failed: stopped"), "its end")
        assert town.house.call("queue", "cancel", "nothing").code == 11
    until(lambda: len(town.committed()) >= len(town.urls) - 1, "all others")


def test_a_stop_lets_what_runs_come_to_its_end(town: Town) -> None:
    with hung(town.urls["db-0"]) as dumping:
        apply(town)
        machine = town.machine("one", "serve")
        until(dumping, "a dump under way")
        machine.process.terminate()
        until(lambda: machine.has_said("draining"), "it to drain")
    machine._closed()
    assert machine.process.returncode == 0
    assert town.committed()["db-0"] == 1


def test_nobody_waits_for_somebody_elses_thousands(
    town: Town, make_database: Callable[..., str], pg15_url: str
) -> None:
    """2,000 databases of one customer are due and none can be reached quickly; another
    customer's restore is done within seconds all the same."""
    apply(town)
    town.house.must("run", "db-1")  # of birch
    town.house.must("run", "db-2")  # of acme
    document = yaml.safe_load((town.house.path / "fleet.yaml").read_text())
    acme = document["customers"][0]
    acme["databases"] += [
        {
            "id": f"noise-{n}",
            "engine": "postgresql",
            "window": past_window(),
            "url": f"postgresql://u@127.0.0.1:1/d{n}",
        }
        for n in range(2000)
    ]
    (town.house.path / "fleet.yaml").write_text(yaml.safe_dump(document))
    apply(town)
    names = [free_name(make_database, pg15_url) for _ in range(6)]
    name = names.pop()
    machine = town.machine("one", "serve", "backup,restore")
    until(lambda: machine.has_said("noise-"), "the noise")
    with wiring.opened(town.house.home) as app:
        from backups.wiring import requests

        entry = app.catalog.backups("db-1")[0]
        mine = app.catalog.backups("db-2")[0]
        for number, copy in enumerate(names):  # and the noisy one wants restores too
            requests.ask(app, "acme", "db-2", "restore", "ann", f"{number}",
                         backup=mine.id, name=copy)  # fmt: skip
        asked = CLOCK.now()
        request = requests.ask(
            app, "birch", "db-1", "restore", "bea", "key", backup=entry.id, name=name
        )
        until(lambda: app.requests.one(request.id).state in ("done", "failed"), "it")
        done = app.requests.one(request.id)
    assert done.state == "done", done
    assert done.ended_at
    waited = done.started_at - asked if done.started_at else timedelta.max
    print(f"waited {waited}, done after {done.ended_at - asked}")
    assert waited < timedelta(seconds=30)
    assert done.ended_at - asked < timedelta(seconds=60)
    machine.signal(signal.SIGKILL)


# --- each with the keys of its roles --------------------------------------------------


def test_machines_of_one_role_each_do_a_days_work(
    town: Town, make_database: Callable[..., str], pg15_url: str
) -> None:
    apply(town)
    name = free_name(make_database, pg15_url)
    backup = town.machine("b", "serve", "backup")
    restore = town.machine("r", "worker", "restore")
    prune = town.machine("p", "worker", "prune")
    assert sorted(file.name for file in (town.homes["b"] / "keys").iterdir()) == [
        "enrolment.key", "restore-recipient.txt", "signing.pem", "verify.pem",
    ]  # fmt: skip
    until(town.all_taken, "every database's backup")
    with wiring.opened(town.house.home) as app:
        from backups.wiring import requests

        entry = app.catalog.backups("db-1")[0]
        request = requests.ask(
            app, "birch", "db-1", "restore", "bea", "key", backup=entry.id, name=name
        )
        until(lambda: app.requests.one(request.id).state in ("done", "failed"), "the restore")
        assert app.requests.one(request.id).state == "done", app.requests.one(request.id)
    until(lambda: prune.has_said("@prune: pruned"), "the day's pruning")
    assert not backup.has_said("@prune: started")
    assert restore.has_said("?" + request.id)
    assert [machine.end() for machine in (backup, restore, prune)] == [0, 0, 0]


def test_the_identity_of_a_worker_is_that_of_the_home(town: Town) -> None:
    """Homes that are made like one share its catalog and its recipient."""
    home = Home.at(town.home("r", "restore"))
    identity = keys.load_identities(home.restore_identity)[0]
    assert isinstance(identity, Identity)
    assert str(identity.recipient) == str(keys.load_restore_recipient(home))
    with closing(open_catalog(town.server.url)) as catalog:
        assert catalog.policies() == []
