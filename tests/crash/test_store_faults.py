"""A store that fails in every way while a backup is taken and read, of every kind: a clean
error, or a success; never a listed backup that can't be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from backups import keys, wiring
from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import (
    BackupsError,
    Damaged,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    TransferDamaged,
)
from backups.ports import ObjectStore
from backups.run.reader import Found, Unbelieved, list_manifests
from backups.run.restore import check
from backups.settings import Home
from providers.access import Access
from providers.faults import Action, Fault, Faulty
from providers.registry import ADAPTERS
from providers.retry import Pace, Retrying
from providers.urls import parse_store_url

if TYPE_CHECKING:
    from conftest import Place  # type: ignore[attr-defined]

pytestmark = pytest.mark.postgres
ACTIONS: list[Action] = ["fail_before", "fail_after", "hang", "flip"]
README, FIRST, MIDDLE, MANIFEST = PUTS = [
    "README.txt", "*/00000.age", "*/00002.age", "*/manifest.dsse.json",
]  # fmt: skip
THROTTLED = StoreUnavailable("503 Slow Down")
REVOKED = StoreDenied("403 the credentials have expired")


def script(place: Place, *faults: Fault) -> Faulty:
    """The place's store itself, with faults."""
    url = parse_store_url(place.store_url)
    return Faulty(ADAPTERS[url.scheme](url, Access("pruner"), SystemClock()), faults)


def retried(store: ObjectStore, attempts: int = 4) -> Callable[[object], ObjectStore]:
    """What a run gets in its store's place: retries around the faults."""
    pace = Pace(attempts=attempts, first=0.001, longest=0.01, total=5)
    return lambda _: Retrying(store, SystemClock(), SystemEntropy(), pace)


def read_back(place: Place, *faults: Fault) -> list[Unbelieved]:
    """Every backup that is in the store, read to its end through a store that fails; those
    whose manifest can't be believed are returned. The whole script must be played."""
    home = Home.at(place.home)
    identities = keys.load_identities(home.restore_identity)
    faulty = script(place, *faults)
    store = retried(faulty)(None)
    unbelieved = []
    for entry in list_manifests(store, keys.load_verify_keys(home)):
        if isinstance(entry, Found):
            ports = wiring.restore_ports(store, entry.manifest, identities)
            check(ports, entry.manifest, lambda *_: None)
        else:
            unbelieved.append(entry)
    store.close()
    faulty.assert_all_fired()
    return unbelieved


@pytest.fixture
def place(new_place: Callable[..., Place], memory_store: str) -> Place:
    return new_place(lambda _: memory_store)


@pytest.fixture
def any_place(new_place: Callable[..., Place], every_store: str) -> Place:
    return new_place(lambda _: every_store)


# --- every accident at every step, on one store ---------------------------------------


@pytest.mark.parametrize("action", ACTIONS)
def test_one_accident_at_each_step_is_survived(place: Place, action: Action) -> None:
    """Lost requests, lost replies, hangs and bytes altered on their way."""
    store = script(place, *(Fault("put", action, key=key) for key in PUTS))
    place.run(store=retried(store))
    store.assert_all_fired()
    assert len(place.listed()) == 1
    assert place.listed() == place.whole_backups()


@pytest.mark.parametrize(
    ("key", "error"),
    [
        *((key, error) for key in PUTS for error in (THROTTLED, REVOKED)),
        (MIDDLE, TransferDamaged("BadDigest")),
    ],
)
def test_a_store_that_stays_broken(place: Place, key: str, error: BackupsError) -> None:
    faults = [Fault("put", "fail_before", key=key, nth=n, error=error) for n in range(1, 5)]
    with pytest.raises(StoreError):
        place.run(store=retried(script(place, *faults)))
    assert place.listed() == place.whole_backups() == set()
    place.run()
    assert place.listed() == place.whole_backups()
    assert place.unfinished() == 0


# --- the whole way, on every kind of store --------------------------------------------


def test_a_backup_through_a_storm(any_place: Place) -> None:
    """Every put is throttled, then answers nothing, then is altered on its way, then is
    stored; and everything that is read comes in pieces."""
    place = any_place
    storm = [
        fault
        for key in PUTS
        for fault in (
            Fault("put", "fail_before", key=key, nth=1, error=THROTTLED),
            Fault("put", "hang", key=key, nth=2),
            Fault("put", "flip", key=key, nth=3),
        )
    ]
    store = script(place, *storm)
    place.run(store=retried(store))
    store.assert_all_fired()
    assert len(place.listed()) == 1
    assert not read_back(
        place,
        Fault("list", "cut", nth=1, at=1),
        Fault("list", "hang", nth=2),
        *(
            fault
            for key in (FIRST, MIDDLE, MANIFEST)
            for fault in (
                Fault("open", "fail_before", key=key, nth=1, error=THROTTLED),
                Fault("open", "cut", key=key, nth=2, at=500),
                Fault("open", "hang", key=key, nth=3),
                Fault("open", "cut", key=key, nth=4, at=0),
            )
        ),
    )
    assert place.listed() == place.whole_backups()


def test_a_backup_whose_credentials_are_revoked_midway(any_place: Place) -> None:
    """Nothing is listed and nothing half done passes for a backup; the next run succeeds,
    and completes what lacked its manifest only."""
    place = any_place
    for key in (MIDDLE, MANIFEST):
        store = script(place, Fault("put", "fail_before", key=key, error=REVOKED))
        with pytest.raises(StoreDenied) as caught:
            place.run(store=retried(store))
        assert caught.value is REVOKED
        store.assert_all_fired()
        assert place.listed() == place.whole_backups() == set()
    place.run()
    assert len(place.listed()) == 2
    assert place.listed() == place.whole_backups()
    assert place.unfinished() == 0


def test_a_manifest_whose_reply_is_lost_for_good_is_settled_by_the_next_run(
    any_place: Place,
) -> None:
    """The store has it, we were never told: the next run finds it is our own."""
    place = any_place
    store = script(place, Fault("put", "fail_after", key=MANIFEST))
    with pytest.raises(StoreUnavailable):
        place.run(store=retried(store, attempts=1))
    store.assert_all_fired()
    assert place.listed() == set()
    assert len(place.whole_backups()) == 1
    place.run()
    assert len(place.listed()) == 2
    assert place.listed() == place.whole_backups()


def test_reading_what_was_altered_on_its_way_is_a_clean_error(any_place: Place) -> None:
    """Never a wrong byte: the object is named, and the next reading succeeds."""
    place = any_place
    place.run()
    for action in ("truncate", "flip"):
        (unbelieved,) = read_back(place, Fault("open", action, key=MANIFEST, at=300))
        assert unbelieved.key.endswith("manifest.dsse.json")
        with pytest.raises(Damaged, match=r"00002\.age"):
            read_back(place, Fault("open", action, key=MIDDLE, at=300))
    revoked = [
        Fault("open", "cut", key=MIDDLE, nth=1, at=300),
        Fault("open", "fail_before", key=MIDDLE, nth=2, error=REVOKED),
    ]
    with pytest.raises(StoreDenied):
        read_back(place, *revoked)
    assert not read_back(place)
