"""The scripted faults do what they say, and a script that was not played is an error."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backups.clock import SystemClock
from backups.errors import ObjectLocked, ObjectMissing, StoreUnavailable
from backups.ports import ObjectStore
from providers.faults import Fault, Faulty
from providers.local import LocalStore
from providers.memory import MemoryStore
from providers.observe import Call, Observed


@pytest.fixture
def memory() -> MemoryStore:
    store = MemoryStore(SystemClock())
    store.put("a/1", b"0123456789")
    return store


def test_before_and_after(memory: MemoryStore) -> None:
    locked = ObjectLocked("locked")
    store = Faulty(
        memory,
        [
            Fault("put", "fail_before", key="a/*", nth=2, error=locked),
            Fault("put", "fail_after", key="b"),
            Fault("delete", "hang"),
        ],
    )
    store.put("a/2", b"")
    with pytest.raises(ObjectLocked):
        store.put("a/3", b"")
    with pytest.raises(ObjectMissing):
        memory.stat("a/3")
    with pytest.raises(StoreUnavailable):
        store.put("b", b"")
    assert memory.stat("b").size == 0
    with pytest.raises(StoreUnavailable):
        store.delete("b")
    assert memory.stat("b").size == 0
    store.assert_all_fired()


def test_a_listing_that_is_cut(memory: MemoryStore) -> None:
    memory.put("a/2", b"")
    store = Faulty(memory, [Fault("list", "cut", at=1)])
    listing = store.list("a/")
    assert next(listing).key == "a/1"
    with pytest.raises(StoreUnavailable):
        next(listing)
    assert [info.key for info in store.list("a/")] == ["a/1", "a/2"]
    store.assert_all_fired()


def test_a_fault_that_never_fired_is_named(memory: MemoryStore) -> None:
    store = Faulty(
        memory, [Fault("put", "fail_before", key="x/*"), Fault("stat", "hang", nth=2)]
    )
    store.stat("a/1")
    with pytest.raises(AssertionError, match=r"x/\*"):
        store.assert_all_fired()


@pytest.mark.parametrize("size", [-1, 1, 3, 100])
@pytest.mark.parametrize(
    ("action", "expected"), [("truncate", b"0123"), ("cut", None), ("flip", b"0123556789")]
)
def test_bodies(memory: MemoryStore, action: str, expected: bytes | None, size: int) -> None:
    store = Faulty(memory, [Fault("open", action, at=4)])  # type: ignore[arg-type]
    body, got = store.open("a/1"), bytearray()

    def read_all() -> None:
        while piece := body.read(size):
            got.extend(piece)

    if expected is None:
        with pytest.raises(StoreUnavailable):
            read_all()
        assert got == b"0123"
    else:
        read_all()
        assert got == expected
    body.close()
    assert store.open("a/1").read() == b"0123456789"


PROGRAM = """
import sys
from pathlib import Path
from providers.faults import Fault, Faulty
from providers.local import LocalStore

store = Faulty(LocalStore(Path(sys.argv[1])), [Fault("put", sys.argv[2], nth=2)])
store.put("first", b"1")
store.put("second", b"2")
print("still here")
"""


@pytest.mark.parametrize(
    ("action", "left"), [("kill_before", ["first"]), ("kill_after", ["first", "second"])]
)
def test_kill(tmp_path: Path, action: str, left: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path, action], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b""
    assert [info.key for info in LocalStore(tmp_path).list("")] == left


def test_every_call_is_reported() -> None:
    calls: list[Call] = []
    faulty = Faulty(
        MemoryStore(SystemClock()),
        [Fault("stat", "hang", nth=2), Fault("open", "cut", nth=2, at=3)],
    )
    store: ObjectStore = Observed(faulty, SystemClock(), calls.append)
    store.put("key", b"12345")
    store.stat("key")
    with pytest.raises(StoreUnavailable):
        store.stat("key")
    body = store.open("key", start=1)
    body.read(2)
    body.read()
    body.close()
    body.close()
    body = store.open("key")
    body.read(3)
    with pytest.raises(StoreUnavailable):
        body.read(3)
    body.close()
    list(store.list("k"))
    store.delete("key")
    with pytest.raises(ObjectMissing):
        store.open("key")
    assert [(call.name, call.key, call.size, call.outcome) for call in calls] == [
        ("put", "key", 5, "ok"),
        ("stat", "key", 0, "ok"),
        ("stat", "key", 0, "StoreUnavailable"),
        ("open", "key", 0, "ok"),
        ("read", "key", 4, "ok"),
        ("open", "key", 0, "ok"),
        ("read", "key", 3, "StoreUnavailable"),
        ("list", "k", 0, "ok"),
        ("delete", "key", 0, "ok"),
        ("open", "key", 0, "ObjectMissing"),
    ]
    assert all(call.seconds >= 0 for call in calls)
