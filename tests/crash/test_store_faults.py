"""A store that fails in every way while a backup is taken: a clean error, or a success;
never a listed backup that can't be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import (
    BackupsError,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    TransferDamaged,
)
from backups.ports import ObjectStore
from providers.faults import Action, Fault, Faulty
from providers.local import LocalStore
from providers.retry import Pace, Retrying

if TYPE_CHECKING:
    from conftest import Place  # type: ignore[attr-defined]

pytestmark = pytest.mark.postgres
ACTIONS: list[Action] = ["fail_before", "fail_after", "hang", "flip"]
PUTS = ["README.txt", "*/00000.age", "*/00002.age", "*/manifest.dsse.json"]


def script(place: Place, *faults: Fault) -> Faulty:
    """The place's store itself, with faults."""
    return Faulty(LocalStore(Path(urlsplit(place.store_url).path)), faults)


def retried(store: ObjectStore, attempts: int = 4) -> Callable[[object], ObjectStore]:
    """What a run gets in its store's place: retries around the faults."""
    pace = Pace(attempts=attempts, first=0.001, longest=0.01, total=5)
    return lambda _: Retrying(store, SystemClock(), SystemEntropy(), pace)


@pytest.fixture
def place(new_place: Callable[..., Place], new_folder: Callable[[int], str]) -> Place:
    return new_place(new_folder)


@pytest.mark.parametrize("key", PUTS)
@pytest.mark.parametrize("action", ACTIONS)
def test_one_accident_is_survived(place: Place, key: str, action: Action) -> None:
    """Lost requests, lost replies, hangs and bytes altered on their way."""
    store = script(place, Fault("put", action, key=key))
    place.run(store=retried(store))
    store.assert_all_fired()
    assert len(place.listed()) == 1
    assert place.listed() == place.whole_backups()


@pytest.mark.parametrize("key", PUTS)
@pytest.mark.parametrize(
    "error",
    [StoreUnavailable("503 Slow Down"), StoreDenied("403"), TransferDamaged("BadDigest")],
    ids=lambda error: type(error).__name__,
)
def test_a_store_that_stays_broken(place: Place, key: str, error: BackupsError) -> None:
    faults = [Fault("put", "fail_before", key=key, nth=n, error=error) for n in range(1, 5)]
    with pytest.raises(StoreError):
        place.run(store=retried(script(place, *faults)))
    assert place.listed() == place.whole_backups() == set()
    place.run()
    assert place.listed() == place.whole_backups()
    assert place.unfinished() == 0


def test_a_manifest_whose_reply_is_lost_for_good_is_settled_by_the_next_run(
    place: Place,
) -> None:
    """The store has it, we were never told: the next run finds it is our own."""
    store = script(place, Fault("put", "fail_after", key="*/manifest.dsse.json"))
    with pytest.raises(StoreUnavailable):
        place.run(store=retried(store, attempts=1))
    store.assert_all_fired()
    assert place.listed() == set()
    assert len(place.whole_backups()) == 1
    place.run()
    assert len(place.listed()) == 2
    assert place.listed() == place.whole_backups()
