"""Scrub where a store misbehaves or changes while it is being looked at."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Literal

import pytest
from scrub_kit import NOW, Planned, World, silent

from backups import wiring
from backups.errors import ObjectLocked, StoreDenied, StoreUnavailable
from backups.format.manifest import segment_key
from backups.model import ObjectInfo
from backups.ports import ObjectStore
from backups.run.scrub import ScrubOptions, scrub
from providers.faults import Fault, Faulty
from providers.memory import MemoryStore

KEPT = Planned("kept", ("right", "right"), extra=False, borrows=False, old=True)
DEAD = replace(KEPT, state="dead", segments=("right",) * 4)


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("scrub") / "home"
    wiring.init(str(home))
    with wiring.opened(home) as app:
        yield World(app)


def looked_at(world: World, store: ObjectStore, pruner: ObjectStore | None = None) -> None:
    """The next scrub sees the store so."""
    world.ports = replace(
        world.ports,
        restorer=lambda: nullcontext(store),
        pruner=lambda: nullcontext(pruner or store),
    )


def test_a_listing_older_than_the_manifest_accuses_nobody(world: World) -> None:
    first = world.add(KEPT, None).artifacts[0].segments[0].key

    class Stale(MemoryStore):
        """Its first pages were sent before the segment came, its last ones after."""

        listings = 0

        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            self.listings += 1
            for info in world.store.list(prefix):
                if self.listings > 1 or info.key != first:
                    yield info

        open = property(lambda self: world.store.open)  # type: ignore[assignment]
        stat = property(lambda self: world.store.stat)  # type: ignore[assignment]

    store = Stale(world.clock)
    looked_at(world, store)
    done = scrub(world.ports, ScrubOptions(), silent)
    assert (done.objects, done.findings) == (2, ())
    assert store.listings == 2


@pytest.mark.parametrize("meanwhile", ["open", "list"])
def test_what_is_deleted_meanwhile_as_it_should_be_accuses_nobody(
    world: World, meanwhile: str
) -> None:
    """Manifest first, then segments: pruning does so at any time."""
    manifest = world.add(KEPT, None)
    segments = [segment.key for segment in manifest.artifacts[0].segments]
    if meanwhile == "list":
        world.store.delete(segments[0])  # pruning, or somebody else? its manifest tells

    class Pruned(Watched):
        def prune(self) -> None:
            world.store.delete(f"v1/{world.name}/{manifest.backup}/manifest.dsse.json")
            for key in segments:
                world.store.delete(key)

        def open(self, key: str, **arguments: object) -> object:  # type: ignore[override]
            if meanwhile == "open" and key.endswith(".age"):
                self.prune()
            return super().open(key, **arguments)

        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            if meanwhile == "list" and prefix != "v1/":
                self.prune()
            yield from super().list(prefix)

    looked_at(world, Pruned(world.store, []))
    done = scrub(world.ports, replace(ScrubOptions(), sample=1), silent)
    assert done.findings == ()
    assert world.objects() == {}


@pytest.mark.parametrize("action", ["flip", "truncate"])
def test_what_changed_on_its_way_only_accuses_nobody(
    world: World, action: Literal["flip", "truncate"]
) -> None:
    world.add(KEPT, None)
    keys = ("*.age", "*.json")
    store = Faulty(world.store, [Fault("open", action, key=key, at=1) for key in keys])
    looked_at(world, store)
    assert world.scrub(sample=None) == set()
    store.assert_all_fired()


def test_a_manifest_that_comes_late_keeps_what_it_names(world: World) -> None:
    """Not even a store that lists out of order, or a run that nobody knew of, loses data."""
    manifest = world.add(KEPT, None)
    key = f"v1/{world.name}/{manifest.backup}/manifest.dsse.json"
    late = world.store.open(key).read()
    world.store.delete(key)
    world.ports = replace(world.ports, listed=dict, catalog=Forgetful(world.app.catalog))

    class Late(Faulty):
        def stat(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
            raise AssertionError("no version and no lock to ask for")

    def pruner() -> nullcontext[ObjectStore]:
        world.store.put(key, late)
        return nullcontext(world.store)

    looked_at(world, Late(world.store, []))
    world.ports = replace(world.ports, pruner=pruner)
    assert world.scrub(sample=0, remove_orphans=True) >= {
        ("orphan", segment.key) for segment in manifest.artifacts[0].segments
    }
    world.ports = replace(world.ports, listed=dict)
    assert {kind for kind, _ in world.scrub(sample=None)} == {"unlisted"}


class Forgetful:
    """A catalog that was lost: it records, and knows of no backup."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return (lambda *_: []) if name == "backups" else getattr(self._inner, name)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("list", "fail_before", error=StoreUnavailable("no answer")),
        Fault("list", "fail_after", error=StoreUnavailable("no answer")),
        Fault("open", "fail_before", nth=2, error=StoreDenied("no right")),
        Fault("open", "hang", nth=2),
    ],
    ids=lambda fault: f"{fault.call}-{fault.action}",
)
def test_a_store_that_fails_is_a_finding_and_loses_nothing(world: World, fault: Fault) -> None:
    world.add(KEPT, None)
    world.add(DEAD, None)
    objects = world.objects()
    store = Faulty(world.store, [fault])
    looked_at(world, store)
    assert ("unreachable", world.url) in world.scrub(sample=None, remove_orphans=True)
    store.assert_all_fired()
    assert world.objects() == objects


def test_a_removal_that_fails_tells_what_is_left(world: World) -> None:
    world.add(KEPT, None)
    world.add(DEAD, None)
    fault = Fault("delete", "fail_before", nth=3, error=StoreDenied("the pruner may not"))
    looked_at(world, world.store, Faulty(world.store, [fault]))
    told = {("orphan", key) for key in world.orphans}
    assert world.scrub(remove_orphans=True) == told | {("unreachable", world.url)}
    assert sum("removed, with" in words for words in world.words.values()) == 2
    assert sum("not removed" in words for words in world.words.values()) == 2
    assert world.orphans & world.objects().keys() == {
        key for key in world.orphans if "not removed" in world.words[key]
    }


def test_a_lock_is_a_normal_outcome(world: World) -> None:
    world.add(DEAD, None)
    locked = sorted(world.orphans)[1]

    class Locked(Faulty):
        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            for info in super().list(prefix):
                until = NOW + timedelta(days=20) if info.key == locked else None
                yield replace(info, retain_until=until)

    fault = Fault("delete", "fail_before", key=locked, error=ObjectLocked("locked"))
    looked_at(world, Locked(world.store, []), Faulty(world.store, [fault]))
    assert world.scrub(remove_orphans=True) == {("orphan", key) for key in world.orphans}
    assert "locked until 2026-12-13 12:00 UTC" in world.words[locked]
    assert world.objects().keys() == {locked}


@pytest.mark.parametrize(("sample", "read"), [(0, 0), (3, 3), (None, 8), (100, 8)])
def test_as_many_are_read_as_were_asked_for(
    world: World, sample: int | None, read: int
) -> None:
    for _ in range(4):
        world.add(KEPT, None)
    looked_at(world, watched := Watched(world.store, []))
    assert world.scrub(sample=sample) == set()
    assert len(watched.opened) == read


class Watched(Faulty):
    """Remembers which segments were read."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self.opened: set[str] = set()

    def open(self, key: str, **arguments: object) -> object:  # type: ignore[override]
        if key.endswith(".age"):
            self.opened.add(key)
        return super().open(key, **arguments)  # type: ignore[arg-type]


def test_a_sample_is_opened_where_an_identity_is_at_hand(world: World) -> None:
    """A manifest of ours vouches for the bytes, and they belong elsewhere."""
    manifest = world.add(replace(KEPT, segments=("misplaced", "right")), None)
    misplaced = manifest.artifacts[0].segments[0].key
    assert world.scrub(sample=None) == {("unreadable", misplaced)}
    assert "belongs elsewhere" in world.words[misplaced]
    world.ports = replace(world.ports, identities=())
    assert world.scrub(sample=None) == set()


def test_memory_does_not_grow_with_the_store(world: World) -> None:
    """100,000 objects in 500 backups of other runs: what is held is what nobody names."""
    count = 100_000

    class Many(MemoryStore):
        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            yield from world.store.list(prefix)
            for number in range(count):
                key = segment_key("young", f"b-{number // 200:05}", number % 200)
                yield ObjectInfo(key, 100, NOW)

    world.add(KEPT, None)
    store = Many(world.clock)
    store.open = world.store.open  # type: ignore[method-assign]
    looked_at(world, store)
    tracemalloc.start()
    done = scrub(world.ports, ScrubOptions(), silent)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert done.objects == count + 3
    assert done.findings == ()
    assert peak < 8 << 20
