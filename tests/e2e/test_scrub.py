"""Scrub as a person calls it: each kind of damage is named, in every kind of store, and
nothing else is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from backups import wiring
from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import StoreDenied
from backups.model import Backup, Scrub
from backups.ports import ObjectStore
from backups.run.backup import back_up
from backups.run.scrub import ScrubOptions, scrub
from providers.access import Access
from providers.faults import Fault, Faulty
from providers.registry import open_store

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = [pytest.mark.postgres, pytest.mark.s3, pytest.mark.gcs]
OPEN = ("local_store", "s3_store", "gcs_store", "azure_store")
LATER = timedelta(days=8)


@pytest.fixture
def locked_store(s3_client: Any, s3_endpoint: str) -> str:
    """URL of a bucket with object lock, and so with versions."""
    name = "test-" + SystemEntropy().bytes(6).hex()
    s3_client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return f"s3://{name}/bloomneo?endpoint={quote(s3_endpoint, safe='')}&lock=governance"


@pytest.fixture
def store(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def shop(pg15_url: str, make_database: Callable[..., str]) -> str:
    return make_database(pg15_url, sql="create table t as select generate_series(1, 9)")


@contextmanager
def raw(url: str) -> Iterator[ObjectStore]:
    """The store, as somebody with every right who is not us."""
    access = Access("pruner")
    opened = open_store(url, clock=SystemClock(), entropy=SystemEntropy(), access=access)
    with closing(opened):
        yield opened


def run(house: House, *faults: Fault) -> Backup:
    """A backup of `shop`, as the command takes one; its store meets the faults."""
    with wiring.opened(house.home) as app:
        policy = app.catalog.policy("shop")
        with wiring.backup_ports(app, policy) as ports:
            faulty = replace(ports, store=Faulty(ports.store, faults))
            return back_up(faulty, policy, wiring.source_of(policy), silent)


def silent(step: str, done: int, total: int | None) -> None:
    """No progress is shown."""


def fetched(store: ObjectStore, key: str) -> bytes:
    with closing(store.open(key)) as body:
        return body.read()


def replace_object(store: ObjectStore, key: str, data: bytes) -> None:
    info = store.stat(key)
    store.delete(key, version_id=info.version_id)
    store.put(key, data)


def objects(url: str) -> set[str]:
    with raw(url) as store:
        return {info.key for info in store.list("v1/")}


def found(said: Any) -> set[tuple[str, str]]:
    (store,) = said.json
    return {(finding["kind"], finding["subject"]) for finding in store["findings"]}


@pytest.mark.parametrize("store", OPEN, indirect=True)
def test_nothing_is_found_but_each_kind_of_damage(house: House, store: str, shop: str) -> None:
    house.declare(store, shop=shop)
    backups = [run(house) for _ in range(3)]
    before = objects(store)
    (row,) = house.must("scrub", "--sample", "all", "--remove-orphans", "--json").json
    assert row == {
        "customer": "acme",
        "store": store,
        "objects": len(before),
        "backups": 3,
        "read_bytes": sum(backup.stored_bytes for backup in backups),
        "findings": [],
    }
    assert objects(store) == before
    first, second, third = (f"v1/shop/{backup.id}" for backup in backups)
    planted = set()
    with raw(store) as spoilt:
        spoilt.delete(f"{first}/00000.age")
        planted.add(("missing", f"{first}/00000.age"))
        data = fetched(spoilt, f"{first}/00001.age")
        replace_object(spoilt, f"{first}/00001.age", data[:-1])
        planted.add(("altered", f"{first}/00001.age"))
        data = fetched(spoilt, f"{first}/00002.age")
        replace_object(spoilt, f"{first}/00002.age", data[:-1] + bytes([data[-1] ^ 1]))
        planted.add(("altered", f"{first}/00002.age"))
        data = fetched(spoilt, f"{second}/manifest.dsse.json")
        replace_object(spoilt, f"{second}/manifest.dsse.json", data.replace(b"e", b"f", 1))
        planted.add(("unreadable", f"{second}/manifest.dsse.json"))
        spoilt.delete(f"{third}/manifest.dsse.json")
        planted.add(("missing", f"{third}/manifest.dsse.json"))
        spoilt.put("v1/shop/notes.txt", b"somebody's")
        planted.add(("foreign", "v1/shop/notes.txt"))
        # An orphan, but a young one; and what is ours without being part of a backup.
        spoilt.put("v1/shop/some-run/00000.age", b"half a run")
        spoilt.put("v1/shop/some-run/holds/h-1.dsse.json", b"{}")
    said = house.call("scrub", "--sample", "all", "--json")
    assert found(said) == planted
    assert said.code == 30
    assert "5 of the findings break a promise" in said.err


def test_what_only_hides_is_told_and_still_restored(
    house: House, locked_store: str, s3_client: Any, shop: str
) -> None:
    """Under versions and locks, whoever deletes or overwrites by name hides, no more."""
    house.declare(locked_store, shop=shop)
    backup = run(house).id
    assert found(house.must("scrub", "--sample", "all", "--json")) == set()
    bucket = locked_store.split("/")[2]
    above = f"bloomneo/v1/shop/{backup}"
    s3_client.delete_object(Bucket=bucket, Key=f"{above}/00000.age")
    s3_client.put_object(Bucket=bucket, Key=f"{above}/00001.age", Body=b"other")
    said = house.call("scrub", "--sample", "all", "--json")
    assert said.code == 30
    assert found(said) == {
        ("missing", f"v1/shop/{backup}/00000.age"),
        ("altered", f"v1/shop/{backup}/00001.age"),
    }
    findings = said.json[0]["findings"]
    assert all("still there, beneath" in finding["words"] for finding in findings)
    house.must("check", backup)
    said = house.call("scrub", "--sample", "0")
    assert all(finding["subject"] in said.out for finding in findings)


def test_uploads_that_others_left(
    house: House, s3_store: str, s3_client: Any, shop: str
) -> None:
    house.declare(s3_store, shop=shop)
    bucket = s3_store.split("/")[2]
    s3_client.create_multipart_upload(Bucket=bucket, Key="bloomneo/v1/big")
    s3_client.create_multipart_upload(Bucket=bucket, Key="elsewhere/big")
    assert found(house.must("scrub", "--json")) == set()  # it may be under way
    (finding,) = later(house, ScrubOptions()).findings
    assert (finding.kind, finding.subject) == ("upload", "v1/big")


def test_what_the_catalog_does_not_know(house: House, local_store: str, shop: str) -> None:
    house.declare(local_store, shop=shop)
    backup = run(house).id
    for file in house.home.glob("catalog.sqlite3*"):
        file.unlink()
    empty = house.path / "empty"
    empty.mkdir()
    house.must("catalog", "rebuild", "--store", f"file://{empty}")  # a new, empty catalog
    house.must("apply", str(house.path / "fleet.yaml"))
    said = house.must("scrub", "--json")
    assert found(said) == {("unlisted", f"v1/shop/{backup}/manifest.dsse.json")}
    house.must("catalog", "rebuild")
    assert found(house.must("scrub", "--json")) == set()


def test_a_store_out_of_reach_does_not_stop_the_others(
    house: House, s3_store: str, local_store: str, shop: str
) -> None:
    house.declare([local_store, s3_store], shop=shop)
    house.must("run", "shop")
    folder = Path(local_store.removeprefix("file://"))
    folder.rename(folder.with_name("unmounted"))
    said = house.call("scrub", "--json")
    assert said.code == 20
    away, there = said.json
    assert [finding["kind"] for finding in away["findings"]] == ["unreachable"]
    assert (there["store"], there["backups"], there["findings"]) == (s3_store, 1, [])


def test_words_of_the_call(house: House, local_store: str, shop: str) -> None:
    house.declare(local_store, shop=shop)
    assert house.call("scrub", "nobody").code == 11
    assert house.call("scrub", "--sample", "some").code == 2
    assert house.call("scrub", "--orphan-age", "0").code == 2
    (house.home / "keys" / "restore-identity.txt").unlink()
    assert "by digest only" in house.must("scrub").err
    assert house.must("scrub", "--no-identity").err.count("warning") == 0


# --- orphans --------------------------------------------------------------------------


class Later:
    """The machine's clock, some days ahead."""

    def __init__(self, ahead: timedelta) -> None:
        self._ahead = ahead
        self._clock = SystemClock()

    def now(self) -> datetime:
        return self._clock.now() + self._ahead

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)


def later(house: House, options: ScrubOptions, *faults: Fault) -> Scrub:
    """What a scrub finds when orphans are old enough; the pruner meets the faults."""
    with wiring.opened(house.home) as app:
        ((customer, destination),) = wiring.declared_stores(app, None)
        ports = wiring.scrub_ports(app, customer, destination, with_identity=True)

        @contextmanager
        def pruner() -> Iterator[ObjectStore]:
            with ports.pruner() as inner:
                yield Faulty(inner, faults)

        return scrub(replace(ports, clock=Later(LATER), pruner=pruner), options, silent)


NO_LAST = Fault("put", "fail_before", key="*/00002.age", error=StoreDenied("injected"))
NO_MANIFEST = Fault("put", "kill_before", key="*/manifest.dsse.json")


def failed_run(house: House, fault: Fault = NO_LAST) -> None:
    """A run that ends at its fault, with segments stored and no manifest."""
    with suppress(StoreDenied):
        run(house, fault)


def killed(work: Callable[[], object]) -> bool:
    """Whether a child that does the work was killed at it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("store", OPEN[:2], indirect=True)
def test_orphans_of_a_run_that_died_are_removed(house: House, store: str, shop: str) -> None:
    house.declare(store, shop=shop)
    run(house)
    kept = objects(store)
    assert killed(lambda: failed_run(house, NO_MANIFEST))
    assert len(objects(store) - kept) == 3
    # The catalog says that this run has prepared its manifest: it will be put.
    assert later(house, ScrubOptions(remove_orphans=True)).findings == ()
    run(house)
    settled = objects(store)
    assert kept < settled
    failed_run(house)
    orphans = objects(store) - settled
    assert len(orphans) == 2
    assert found(house.must("scrub", "--remove-orphans", "--json")) == set()  # young
    told = later(house, ScrubOptions()).findings
    assert {(finding.kind, finding.subject) for finding in told} == {
        ("orphan", key) for key in orphans
    }
    assert all(finding.bytes and "8 days old" in finding.words for finding in told)
    assert objects(store) == settled | orphans
    removed = later(house, ScrubOptions(remove_orphans=True)).findings
    assert {finding.subject for finding in removed} == orphans
    assert objects(store) == settled
    assert later(house, ScrubOptions(sample=None, remove_orphans=True)).findings == ()


def test_locked_orphans_wait_and_say_until_when(
    house: House, locked_store: str, shop: str
) -> None:
    house.declare(locked_store, shop=shop)
    run(house)
    kept = objects(locked_store)
    failed_run(house)
    orphans = objects(locked_store) - kept
    assert len(orphans) == 2
    until = SystemClock().now() + timedelta(days=90)
    for remove_orphans in (False, True):
        told = later(house, ScrubOptions(remove_orphans=remove_orphans)).findings
        assert {finding.subject for finding in told} == orphans
        assert all(f"locked until {until:%Y-%m-%d}" in finding.words for finding in told)
        assert all(finding.bytes for finding in told)
    assert objects(locked_store) == kept | orphans


def test_killed_amid_removal_the_next_one_converges(
    house: House, local_store: str, shop: str
) -> None:
    house.declare(local_store, shop=shop)
    run(house)
    kept = objects(local_store)
    for _ in range(2):
        failed_run(house)
    left = len(objects(local_store) - kept)
    assert left == 4
    remove = ScrubOptions(remove_orphans=True)
    for action, gone in (("kill_before", 0), ("kill_after", 1), ("kill_after", 2)):
        fault = Fault("delete", action, nth=max(gone, 1))  # type: ignore[arg-type]
        assert killed(lambda fault=fault: later(house, remove, fault))  # type: ignore[misc]
        left -= gone
        assert kept < objects(local_store)
        assert len(objects(local_store) - kept) == left
    later(house, remove)
    assert objects(local_store) == kept
    house.must("check", "shop")
