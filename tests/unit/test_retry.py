"""When to try again, how long to wait, and whose bytes lie there after a lost reply."""

from __future__ import annotations

import hashlib
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import (
    ObjectExists,
    ObjectMissing,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    TransferDamaged,
)
from backups.model import ObjectInfo
from providers.faults import Fault, Faulty
from providers.memory import MemoryStore
from providers.retry import Pace, Retrying

DATA = bytes(range(256)) * 20_000


class StandingClock:
    """Time passes only by sleeping; every sleep is written down."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []

    def now(self) -> datetime:
        return datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return sum(self.sleeps)

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)


class Highest:
    """Entropy that always gives the longest waits."""

    def bytes(self, count: int) -> bytes:
        return b"\xff" * count


class NoDigests(MemoryStore):
    """A store that keeps no checksums."""

    def stat(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        info = super().stat(key, version_id=version_id)
        return ObjectInfo(info.key, info.size, info.modified)


def script(
    *faults: Fault, pace: Pace | None = None, memory: MemoryStore | None = None
) -> tuple[Retrying, Faulty, MemoryStore, StandingClock]:
    clock = StandingClock()
    memory = memory or MemoryStore(clock)
    faulty = Faulty(memory, faults)
    return Retrying(faulty, clock, Highest(), pace), faulty, memory, clock


def failing(call: str, times: int, error: StoreError | None = None) -> list[Fault]:
    error = error or StoreUnavailable("down")
    return [
        Fault(call, "fail_before", nth=nth, error=error)  # type: ignore[arg-type]
        for nth in range(1, times + 1)
    ]


def test_waits_double_up_to_the_longest_and_attempts_end() -> None:
    pace = Pace(attempts=6, first=1.0, longest=5.0, total=100.0)
    store, faulty, _, clock = script(*failing("stat", 6), pace=pace)
    with pytest.raises(StoreUnavailable):
        store.stat("key")
    assert clock.sleeps == pytest.approx([1, 2, 4, 5, 5])
    faulty.assert_all_fired()


def test_total_time_ends_it_before_the_attempts_do() -> None:
    pace = Pace(attempts=1000, first=1.0, longest=5.0, total=20.0)
    store, _, _, clock = script(*failing("put", 1000), pace=pace)
    with pytest.raises(StoreUnavailable):
        store.put("key", b"x")
    assert 10 < clock.monotonic() <= 20


@given(st.binary(min_size=4, max_size=4), st.integers(1, 12))
def test_a_wait_lies_between_nothing_and_its_ceiling(noise: bytes, failures: int) -> None:
    class Fixed:
        def bytes(self, count: int) -> bytes:
            return noise[:count]

    clock = StandingClock()
    pace = Pace(attempts=failures + 1, first=0.25, longest=20.0, total=1e9)
    memory = MemoryStore(clock)
    memory.put("key", b"x")
    store = Retrying(Faulty(memory, failing("stat", failures)), clock, Fixed(), pace)
    assert store.stat("key").size == 1
    assert len(clock.sleeps) == failures
    for number, wait in enumerate(clock.sleeps):
        assert 0 <= wait < min(20.0, 0.25 * 2**number)


@pytest.mark.parametrize("error", [StoreDenied("no"), ObjectMissing("no"), StoreError("no")])
@pytest.mark.parametrize("call", ["put", "open", "stat", "delete", "extend_retention", "list"])
def test_what_no_time_heals_is_raised_at_once(call: str, error: StoreError) -> None:
    store, _, _, clock = script(*failing(call, 1, error))
    calls = {
        "put": lambda: store.put("key", b""),
        "open": lambda: store.open("key"),
        "stat": lambda: store.stat("key"),
        "delete": lambda: store.delete("key"),
        "extend_retention": lambda: store.extend_retention("key", clock.now()),
        "list": lambda: list(store.list("")),
    }
    with pytest.raises(type(error)):
        calls[call]()
    assert clock.sleeps == []


def test_every_call_is_repeated() -> None:
    store, faulty, _, _ = script(
        *(
            fault
            for call in ("put", "open", "stat", "list", "delete")
            for fault in failing(call, 2)
        )
    )
    store.put("key", DATA)
    assert store.stat("key").size == len(DATA)
    assert store.open("key").read() == DATA
    assert [info.key for info in store.list("")] == ["key"]
    store.delete("key")
    faulty.assert_all_fired()


# --- puts whose reply was lost --------------------------------------------------------


def test_a_taken_key_on_the_first_attempt_is_raised_even_with_equal_bytes() -> None:
    store, _, memory, clock = script()
    memory.put("key", DATA)
    with pytest.raises(ObjectExists):
        store.put("key", DATA)
    assert clock.sleeps == []


@pytest.mark.parametrize("kind", [MemoryStore, NoDigests])
def test_a_lost_reply_counts_as_our_success(kind: type[MemoryStore]) -> None:
    store, faulty, _, _ = script(Fault("put", "fail_after"), memory=kind(SystemClock()))
    receipt = store.put("key", DATA)
    assert receipt.checksum == f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    assert (receipt.key, receipt.size) == ("key", len(DATA))
    faulty.assert_all_fired()


@pytest.mark.parametrize("other", [b"other", DATA[:-1] + b"?", b""])
@pytest.mark.parametrize("kind", [MemoryStore, NoDigests])
def test_another_writers_bytes_are_never_ours(kind: type[MemoryStore], other: bytes) -> None:
    store, faulty, memory, _ = script(Fault("put", "fail_before"), memory=kind(SystemClock()))
    memory.put("key", other)
    with pytest.raises(ObjectExists):
        store.put("key", DATA)
    faulty.assert_all_fired()
    assert memory.open("key").read() == other


def test_who_may_not_look_must_take_a_new_key() -> None:
    store, faulty, _, _ = script(
        Fault("put", "fail_after"), Fault("stat", "fail_before", error=StoreDenied("no"))
    )
    with pytest.raises(ObjectExists):
        store.put("key", DATA)
    faulty.assert_all_fired()


def test_the_look_itself_is_repeated() -> None:
    store, faulty, _, _ = script(Fault("put", "fail_after"), *failing("stat", 3))
    assert store.put("key", DATA).size == len(DATA)
    faulty.assert_all_fired()


def test_damage_before_the_store_is_sent_again() -> None:
    store, faulty, memory, _ = script(Fault("put", "flip", at=5))
    store.put("key", DATA, sha256=hashlib.sha256(DATA).digest())
    assert memory.open("key").read() == DATA
    faulty.assert_all_fired()


def test_a_digest_that_never_fits_ends_in_an_error() -> None:
    store, _, _, _ = script(pace=Pace(attempts=3))
    with pytest.raises(TransferDamaged):
        store.put("key", DATA, sha256=b"\0" * 32)


# --- bodies and listings --------------------------------------------------------------


@given(
    cuts=st.lists(st.integers(0, 5000), max_size=5),
    start=st.integers(0, 21_000),
    length=st.none() | st.integers(0, 21_000),
    size=st.integers(1, 8000) | st.just(-1),
)
def test_a_body_is_whole_however_often_it_is_cut(
    cuts: list[int], start: int, length: int | None, size: int
) -> None:
    data = DATA[:20_000]
    store, _, memory, _ = script(
        *(Fault("open", "cut", nth=nth, at=at) for nth, at in enumerate(cuts, 1)),
        pace=Pace(attempts=10, total=1e9),
    )
    memory.put("key", data)
    with closing(store.open("key", start=start, length=length)) as body:
        got = body.read() if size < 0 else b"".join(iter(lambda: body.read(size), b""))
    assert got == data[start:][:length]


def test_a_body_that_never_gets_on_ends_in_an_error() -> None:
    store, _, memory, clock = script(
        *(Fault("open", "cut", nth=nth) for nth in range(1, 50)), pace=Pace(attempts=4)
    )
    memory.put("key", DATA)
    with closing(store.open("key")) as body, pytest.raises(StoreUnavailable):
        body.read()
    assert len(clock.sleeps) == 3


def test_a_broken_listing_gives_each_object_once() -> None:
    store, faulty, memory, _ = script(
        Fault("list", "fail_after"), Fault("list", "fail_after", nth=2)
    )
    for number in range(10):
        memory.put(f"key-{number}", b"")
    assert [info.key for info in store.list("key")] == [f"key-{n}" for n in range(10)]
    faulty.assert_all_fired()


def test_real_entropy_makes_waits_differ() -> None:
    clock = StandingClock()
    faulty = Faulty(MemoryStore(clock), failing("put", 6))
    with pytest.raises(StoreUnavailable):
        Retrying(faulty, clock, SystemEntropy(), Pace(attempts=6)).put("key", b"")
    assert len(set(clock.sleeps)) == 5
