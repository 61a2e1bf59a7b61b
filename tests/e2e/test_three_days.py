"""Three days of `serve` on real servers, its clock alone made to hurry: killed, hung, stopped,
started twice. What there was in the end is asked of the buckets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest
import yaml
from machines_kit import until
from sample_kit import hung, whole
from serve_kit import FileClock, Server

from backups import wiring
from backups.clock import SystemClock
from backups.model import Policy
from backups.schedule.due import slot

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = [pytest.mark.postgres, pytest.mark.s3]

MINUTE = timedelta(minutes=1)
STEP = timedelta(hours=6)
DAY = timedelta(days=1)
ZONES = {"shop": "Europe/Berlin", "blog": "America/New_York"}
CUSTOMERS = {"shop": "acme", "blog": "birch"}


class Town:
    """Two customers with a database and a bucket each."""

    def __init__(self, house: House, urls: dict[str, str], stores: dict[str, str]) -> None:
        self.house, self.urls, self.stores = house, urls, stores
        fleet = [
            {
                "id": customer,
                "plan": "pro",
                "stores": [{"url": stores[name]}],
                "recipients": [house.recipient],
                "databases": [
                    {"id": name, "engine": "postgresql", "url": urls[name],
                     "window": f"02:00-04:00 {ZONES[name]}"}
                ],
            }
            for name, customer in CUSTOMERS.items()
        ]  # fmt: skip
        path = house.path / "fleet.yaml"
        path.write_text(yaml.safe_dump({"customers": fleet}))
        house.must("apply", str(path))
        midnight = SystemClock().now().replace(hour=0, minute=0, second=0, microsecond=0)
        self.begin = midnight + DAY
        self.clock = FileClock(house.path / "clock")
        self.clock.set(self.begin)
        self.servers: list[Server] = []

    def serve(self) -> Server:
        self.servers.append(Server(self.house.home, self.clock))
        return self.servers[-1]

    def policy(self, name: str) -> Policy:
        with wiring.opened(self.house.home) as app:
            return app.catalog.policy(name)

    def next_slot(self, name: str) -> datetime:
        policy, now = self.policy(name), self.clock.now()
        today = now.astimezone(ZoneInfo(ZONES[name])).date()
        return next(at for n in range(3) if (at := slot(policy, today + n * DAY)) > now)

    def runs(self, name: str) -> Counter[str]:
        with wiring.opened(self.house.home) as app:
            return Counter(run.state for run in app.catalog.runs(name))

    def keys(self) -> dict[str, set[str]]:
        found = {}
        for name, url in self.stores.items():
            with wiring.bare_store(url) as store:
                found[name] = {info.key for info in store.list("v1/")}
        return found

    def whole_backups(self) -> list[tuple[str, datetime]]:
        """Database and snapshot of every backup in the buckets, each read to its end."""
        listed = []
        for name, url in self.stores.items():
            for manifest in whole(self.house.home, url):
                assert (manifest.database, manifest.customer) == (name, CUSTOMERS[name])
                listed.append((name, manifest.snapshot_at))
        return listed


@pytest.fixture
def town(
    house: House,
    pg15_url: str,
    make_database: Callable[..., str],
    make_bucket: Callable[[], str],
    s3_endpoint: str,
) -> Iterator[Town]:
    sql = "create table t as select generate_series(1, 500) g"
    town = Town(
        house,
        {name: make_database(pg15_url, sql=sql) for name in ZONES},
        {
            name: f"s3://{make_bucket()}/b?endpoint={quote(s3_endpoint, safe='')}"
            for name in ZONES
        },
    )
    yield town
    for server in town.servers:
        server.kill_all()


@pytest.mark.timeout(600)
def test_three_days(town: Town) -> None:
    # The first day: a second instance, started by mistake, stands by until the first is killed
    # in the middle of a backup.
    first = town.serve()
    first.until("leading")
    first.settle()
    second = town.serve()
    second.until("another instance leads")
    with hung(town.urls["shop"]) as dumping:
        at = town.next_slot("shop")
        first.live(at - MINUTE, STEP)
        town.clock.set(at)
        first.until("shop: started")
        until(dumping, "a dump")
        first.kill()
        second.until("leading")
    assert town.runs("shop")["interrupted"] == 1, "its worker noticed, and said so"
    town.clock.set(at + 10 * MINUTE)
    second.settle()
    assert town.runs("shop")["committed"] >= 1

    # The second: the whole machine is lost in the middle of a backup, and away for hours.
    with hung(town.urls["blog"]) as dumping:
        at = town.next_slot("blog")
        second.live(at - MINUTE, STEP)
        town.clock.set(at)
        second.until("blog: started")
        until(dumping, "a dump")
        second.kill_all()
    assert town.runs("blog")["running"] == 1, "nobody was left to say what became of it"
    town.clock.set(at + 5 * timedelta(hours=1))
    third = town.serve()
    third.until("leading")
    third.settle()
    assert town.runs("blog")["running"] == 0
    assert town.runs("blog")["interrupted"] == 1

    # The third: one that hangs is ended and tried again; a stop lets what runs come to its end.
    with hung(town.urls["shop"]) as dumping:
        at = town.next_slot("shop")
        third.live(at - MINUTE, STEP)
        town.clock.set(at)
        third.until("shop: started")
        until(dumping, "a dump")
        town.clock.set(at + timedelta(hours=1))
        third.until("shop: failed: ended by the scheduler: it made no progress for too long")
    town.clock.set(town.clock.now() + 10 * MINUTE)
    third.settle()
    with hung(town.urls["blog"]) as dumping:
        at = town.next_slot("blog")
        third.live(at - MINUTE, STEP)
        town.clock.set(at)
        third.until("blog: started")
        until(dumping, "a dump")
        third.process.terminate()
        third.until("draining: 1 running")
    assert third.end() == 0
    fourth = town.serve()
    fourth.until("leading")
    end = town.begin + 3 * DAY + timedelta(hours=12)
    fourth.live(end, STEP)

    taken = town.whole_backups()
    for name, zone in ZONES.items():
        days = Counter(
            at.astimezone(ZoneInfo(zone)).date() for whose, at in taken if whose == name
        )
        first_day = town.begin.astimezone(ZoneInfo(zone)).date()
        last_day = end.astimezone(ZoneInfo(zone)).date()
        assert days == {first_day + n * DAY: 1 for n in range((last_day - first_day).days + 1)}
        assert len(days) >= 4

    # And then somebody sets the clock ahead.
    before = town.keys()
    town.clock.set(end.replace(year=end.year + 10))
    fourth.settle()
    fourth.live(town.clock.now() + 8 * DAY, 4 * DAY)
    assert any("@prune" in line and "frozen" in line for line in fourth.said)
    assert all(before[name] <= now for name, now in town.keys().items()), "nothing is deleted"
    fourth.process.terminate()
    assert fourth.end() == 0
