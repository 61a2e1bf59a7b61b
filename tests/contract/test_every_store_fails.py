"""Accidents on every kind of store, by the same scripts: what may be healed is, what may not
is said, and nothing is tried again that cannot help."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path

import pytest

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import (
    BackupsError,
    Damaged,
    ObjectExists,
    ObjectMissing,
    StoreDenied,
    StoreUnavailable,
    TransferDamaged,
)
from backups.model import Secret, Segment
from backups.ports import ObjectStore
from backups.run.reader import fetch_segment
from providers.access import Access
from providers.faults import Action, Fault, Faulty, Method
from providers.network import ANYWHERE, Network
from providers.observe import Call, Observed
from providers.registry import ADAPTERS
from providers.retry import Pace, Retrying
from providers.urls import parse_store_url

CLOCK = SystemClock()
DATA = SystemEntropy().bytes(3 << 20)
DIGEST = hashlib.sha256(DATA).digest()
THROTTLED = StoreUnavailable("503 Slow Down")
REVOKED = StoreDenied("403 the credentials have expired")
EVERY_CALL: tuple[Method, ...] = ("put", "stat", "list", "open", "delete")


def opened(url: str, network: Network = ANYWHERE, key: str | None = None) -> ObjectStore:
    """The bare adapter."""
    place = parse_store_url(url)
    access = Access("pruner", network=network, key=Secret(key) if key else None)
    return ADAPTERS[place.scheme](place, access, CLOCK)


@pytest.fixture
def bare(every_store: str) -> Iterator[ObjectStore]:
    with closing(opened(every_store)) as store:
        yield store


class Play:
    """A store that fails by script below retries, and what was asked of it; leaving it
    asserts that the whole script was played."""

    def __init__(self, bare: ObjectStore, *faults: Fault, attempts: int = 4) -> None:
        pace = Pace(attempts=attempts, first=0.001, longest=0.01, total=60)
        self.calls: list[Call] = []
        self.faulty = Faulty(bare, faults)
        seen = Observed(self.faulty, CLOCK, self.calls.append)
        self.store = Retrying(seen, CLOCK, SystemEntropy(), pace)

    def __enter__(self) -> Play:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.faulty.assert_all_fired()

    def outcomes(self, name: str) -> list[str]:
        return [call.outcome for call in self.calls if call.name == name]


def segment(key: str) -> Segment:
    return Segment(key, len(DATA), len(DATA), DIGEST.hex(), None)


def read(store: ObjectStore, key: str) -> bytes:
    with closing(store.open(key)) as body:
        return body.read()


def each(store: ObjectStore, key: str) -> list[Callable[[], object]]:
    """Every call of the port, in the order of EVERY_CALL."""
    return [
        lambda: store.put(key, DATA, sha256=DIGEST),
        lambda: store.stat(key),
        lambda: [info.key for info in store.list("v1/")],
        lambda: read(store, key),
        lambda: store.delete(key),
    ]


# --- what is healed -------------------------------------------------------------------


def test_a_throttle_storm(bare: ObjectStore) -> None:
    """Every call of every thread is refused three times."""
    keys = [f"v1/{number:02}" for number in range(12)]
    storm = [
        Fault(call, "fail_before", key=key, nth=nth, error=THROTTLED)
        for key in keys
        for call in ("put", "open", "stat", "delete")
        for nth in (1, 2, 3)
    ]
    storm += [Fault("list", "fail_before", nth=nth, error=THROTTLED) for nth in (1, 2, 3)]
    with Play(bare, *storm) as play, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: play.store.put(key, key.encode()), keys))
        assert [info.key for info in play.store.list("v1/")] == keys
        sizes = [info.size for info in pool.map(play.store.stat, keys)]
        assert sizes == [len(key) for key in keys]
        read_back = pool.map(lambda key: read(play.store, key), keys)
        assert list(read_back) == [key.encode() for key in keys]
        list(pool.map(play.store.delete, keys))
    assert list(bare.list("")) == []


@pytest.mark.parametrize("action", ["fail_before", "fail_after", "hang"])
def test_a_lost_request_a_lost_reply_and_a_hang(bare: ObjectStore, action: Action) -> None:
    """Twice on every call: its end is what it would have been, and done once."""
    faults = [
        Fault(call, action, nth=nth)
        for call in EVERY_CALL
        for nth in (1, 2)
        # A put's reply is lost once: then the key is taken, by us.
        if (call, action, nth) != ("put", "fail_after", 2)
    ]
    with Play(bare, *faults) as play:
        put, stat, listed, whole, delete = each(play.store, "v1/key")
        put()
        assert play.outcomes("put")[-1] == ("ObjectExists" if action == "fail_after" else "ok")
        assert bare.stat("v1/key").size == len(DATA)
        stat()
        assert listed() == ["v1/key"]
        assert whole() == DATA
        delete()
    with pytest.raises(ObjectMissing):
        bare.stat("v1/key")


def test_resets_in_the_middle_of_a_body(bare: ObjectStore) -> None:
    """At its start, in its middle, twice in a row, and before its last byte."""
    bare.put("v1/key", DATA)
    offsets = [0, 1, 70_000, 1 << 20, 10, len(DATA) - (1 << 20) - 70_012]
    cuts = [Fault("open", "cut", nth=nth, at=at) for nth, at in enumerate(offsets, 1)]
    with Play(bare, *cuts) as play:
        assert fetch_segment(play.store, segment("v1/key")) == DATA
    assert len(play.outcomes("open")) == len(offsets) + 1


def test_resets_while_a_part_is_read_in_pieces(bare: ObjectStore) -> None:
    bare.put("v1/key", DATA)
    cuts = [Fault("open", "cut", nth=1, at=100_000), Fault("open", "cut", nth=2, at=7)]
    with (
        Play(bare, *cuts) as play,
        closing(play.store.open("v1/key", start=5, length=200_000)) as body,
    ):
        pieces = iter(lambda: body.read(30_000), b"")
        assert b"".join(pieces) == DATA[5:200_005]


@pytest.mark.parametrize("at", [0, 6, 12])
def test_a_broken_listing_goes_on_where_it_broke(bare: ObjectStore, at: int) -> None:
    keys = [f"v1/{number:02}" for number in range(12)]
    for key in keys:
        bare.put(key, b"x")
    cuts = [Fault("list", "cut", nth=1, at=at), Fault("list", "cut", nth=2, at=at)]
    with Play(bare, *cuts) as play:
        assert [info.key for info in play.store.list("v1/")] == keys


@pytest.mark.parametrize("at", [0, len(DATA) - 1])
def test_bytes_altered_on_their_way_in_are_refused_and_sent_again(
    bare: ObjectStore, at: int
) -> None:
    faults = [Fault("put", "flip", nth=nth, at=at) for nth in (1, 2)]
    with Play(bare, *faults) as play:
        play.store.put("v1/key", DATA, sha256=DIGEST)
    assert play.outcomes("put") == ["TransferDamaged", "TransferDamaged", "ok"]
    assert fetch_segment(bare, segment("v1/key")) == DATA


# --- what is said ---------------------------------------------------------------------


def test_bytes_that_stay_altered_are_never_stored(bare: ObjectStore) -> None:
    faults = [Fault("put", "flip", nth=nth, at=nth) for nth in (1, 2, 3, 4)]
    with Play(bare, *faults) as play, pytest.raises(TransferDamaged):
        play.store.put("v1/key", DATA, sha256=DIGEST)
    assert list(bare.list("")) == []


@pytest.mark.parametrize("action", ["truncate", "flip"])
@pytest.mark.parametrize("at", [0, 1 << 20, len(DATA) - 1])
def test_bytes_altered_on_their_way_out_are_found(
    bare: ObjectStore, action: Action, at: int
) -> None:
    """An answer that ends early as if it were whole, and one that differs."""
    bare.put("v1/key", DATA)
    with Play(bare, Fault("open", action, at=at)) as play:
        with pytest.raises(Damaged, match="v1/key"):
            fetch_segment(play.store, segment("v1/key"))
        assert fetch_segment(play.store, segment("v1/key")) == DATA


@pytest.mark.parametrize("error", [THROTTLED, REVOKED], ids=["throttled", "revoked"])
@pytest.mark.parametrize("index", range(5), ids=EVERY_CALL)
def test_a_store_that_stays_broken(bare: ObjectStore, index: int, error: BackupsError) -> None:
    """Tried as often as agreed when that can help, else once; the error is the store's own."""
    if index:
        bare.put("v1/key", DATA)
    attempts = 4 if error.retryable else 1
    call = EVERY_CALL[index]
    faults = [
        Fault(call, "fail_before", nth=nth, error=error) for nth in range(1, attempts + 1)
    ]
    with Play(bare, *faults) as play, pytest.raises(type(error)) as caught:
        each(play.store, "v1/key")[index]()
    assert caught.value is error
    assert play.outcomes(call) == [type(error).__name__] * attempts
    assert len(list(bare.list(""))) == (1 if index else 0)


def test_credentials_that_are_revoked_between_puts(bare: ObjectStore) -> None:
    """What was stored before stays, what comes after is asked for once each, and a store
    that lets us in again goes on."""
    faults = [Fault("put", "fail_before", nth=nth, error=REVOKED) for nth in (3, 4)]
    with Play(bare, *faults) as play:
        for number in (1, 2):
            play.store.put(f"v1/{number}", b"x")
        for number in (3, 4):
            with pytest.raises(StoreDenied):
                play.store.put(f"v1/{number}", b"x")
        assert play.outcomes("put") == ["ok", "ok", "StoreDenied", "StoreDenied"]
        assert [info.key for info in bare.list("")] == ["v1/1", "v1/2"]
        play.store.put("v1/3", b"x")


def test_credentials_that_expire_while_a_body_is_read(bare: ObjectStore) -> None:
    """The cut could be healed, the refusal cannot: no short answer, and no more attempts."""
    bare.put("v1/key", DATA)
    faults = [
        Fault("open", "cut", nth=1, at=100_000),
        Fault("open", "fail_before", nth=2, error=REVOKED),
    ]
    with Play(bare, *faults) as play, pytest.raises(StoreDenied):
        fetch_segment(play.store, segment("v1/key"))
    assert play.outcomes("open") == ["ok", "StoreDenied"]


def test_credentials_that_expire_in_the_middle_of_a_listing(bare: ObjectStore) -> None:
    for number in range(4):
        bare.put(f"v1/{number}", b"x")
    faults = [
        Fault("list", "cut", nth=1, at=2),
        Fault("list", "fail_before", nth=2, error=REVOKED),
    ]
    with Play(bare, *faults) as play, pytest.raises(StoreDenied):
        list(play.store.list("v1/"))
    with Play(bare, Fault("list", "fail_after", error=REVOKED)) as play:
        listing = play.store.list("v1/")
        assert [next(listing).key for _ in range(4)] == [f"v1/{n}" for n in range(4)]
        with pytest.raises(StoreDenied):
            next(listing)


def test_a_reply_that_is_lost_for_good(bare: ObjectStore) -> None:
    """It is there, we were not told; a later put of the key is refused, whoever made it."""
    with Play(bare, Fault("put", "fail_after"), attempts=1) as play:
        with pytest.raises(StoreUnavailable):
            play.store.put("v1/key", DATA)
        with pytest.raises(ObjectExists):
            play.store.put("v1/key", DATA)
    assert read(bare, "v1/key") == DATA


def test_a_lost_reply_over_an_object_of_somebody_else(bare: ObjectStore) -> None:
    """Of the same size: it is not taken for ours, and it stays."""
    other = bytes(len(DATA))
    bare.put("v1/key", other)
    with Play(bare, Fault("put", "fail_before")) as play, pytest.raises(ObjectExists):
        play.store.put("v1/key", DATA, sha256=DIGEST)
    assert read(bare, "v1/key") == other


# --- hosted ---------------------------------------------------------------------------


def test_hosted_the_local_cloud_is_private_until_the_operator_allows_it(
    every_store: str,
) -> None:
    """With a key of the customer's own, as a hosted program demands of such an endpoint."""
    scheme = parse_store_url(every_store).scheme
    key = {
        "gs": lambda: Path(os.environ["GOOGLE_APPLICATION_CREDENTIALS"]).read_text(),
        "az": lambda: os.environ["AZURE_STORAGE_KEY"],
    }.get(scheme, lambda: None)()
    allowed = Network(hosted=True, allowed=(ip_network("127.0.0.0/8"),))
    with closing(opened(every_store, allowed, key)) as store:
        store.put("v1/key", DATA, sha256=DIGEST)
        assert [info.key for info in store.list("v1/")] == ["v1/key"]
        assert read(store, "v1/key") == DATA
        store.delete("v1/key")
    if scheme in ("memory", "file"):
        return
    with closing(opened(every_store, Network(hosted=True), key)) as store:
        for call in each(store, "v1/key"):
            with pytest.raises(StoreDenied, match=r"leads to 127\.0\.0\.1"):
                call()
