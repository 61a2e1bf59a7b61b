"""Cutting streams into segments, and reading them back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import Damaged, DumpFailed, StoreDenied, StoreUnavailable, WrongKey
from backups.format import segment
from backups.format.age import Identity
from backups.format.payload import Source
from backups.model import Artifact, Manifest
from backups.run.reader import read_artifact
from backups.run.writer import ArtifactWriter
from providers.faults import Fault, Faulty
from providers.memory import MemoryStore

ENTROPY = SystemEntropy()
IDENTITY = Identity.generate(ENTROPY)
AT = SystemClock().now()


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule is the same at any size; 64 MiB would only make it slow."""
    monkeypatch.setattr(segment, "PLAIN_SIZE", 1000)


def silent(step: str, done: int, total: int | None) -> None:
    """No progress is shown."""


def writer(store: object, backup: str = "b1") -> ArtifactWriter:
    return ArtifactWriter(
        store,  # type: ignore[arg-type]
        ENTROPY,
        [IDENTITY.recipient],
        level=3,
        customer="acme",
        database="shop",
        backup=backup,
        engine="postgresql",
    )


def manifest(*artifacts: Artifact, backup: str = "b1") -> Manifest:
    return Manifest(
        "acme", "shop", backup, "postgresql", AT, "", AT, 1, "15", "15", "0",
        ("0" * 64,), artifacts, "0" * 64,
    )  # fmt: skip


def read(store: object, whole: Manifest, name: str = "archive") -> bytes:
    return b"".join(read_artifact(store, whole, name, [IDENTITY], silent))  # type: ignore[arg-type]


@given(st.lists(st.binary(max_size=1500), max_size=12))
def test_what_was_written_is_read(blocks: list[bytes]) -> None:
    store = MemoryStore(SystemClock())
    with writer(store) as out:
        artifact = out.write("archive", iter(blocks), silent)
    assert read(store, manifest(artifact)) == b"".join(blocks)
    assert artifact.plain_bytes == sum(map(len, blocks))
    for part in artifact.segments:
        data = store.open(part.key).read()
        assert hashlib.sha256(data).hexdigest() == part.sha256
        assert len(data) == part.stored_bytes


def test_a_full_segment_at_the_end_is_the_last_one() -> None:
    store = MemoryStore(SystemClock())
    with writer(store) as out:
        artifact = out.write("archive", iter([bytes(1000), bytes(1000)]), silent)
    assert [part.plain_bytes for part in artifact.segments] == [1000, 1000]


def test_keys_count_over_the_whole_backup() -> None:
    store = MemoryStore(SystemClock())
    with writer(store) as out:
        one = out.write("archive", iter([bytes(1000), b"x"]), silent)
        two = out.write("roles", iter([b"y"]), silent)
    keys = [part.key for artifact in (one, two) for part in artifact.segments]
    assert sorted(keys) == [f"v1/shop/b1/{number:05}.age" for number in range(3)]
    assert read(store, manifest(one, two), "roles") == b"y"


def test_a_source_that_ends_badly_leaves_no_last_segment() -> None:
    def blocks() -> Iterator[bytes]:
        yield bytes(1000)
        yield b"tail"
        raise DumpFailed("the process ended with 1")

    store = MemoryStore(SystemClock())
    with pytest.raises(DumpFailed), writer(store) as out:
        out.write("archive", blocks(), silent)
    assert {info.key for info in store.list("")} <= {"v1/shop/b1/00000.age"}
    for info in store.list(""):
        header = Source(store.open(info.key).read()).header()
        header.open([IDENTITY])
        assert b'"last":false' in segment.find_context(header).body


def test_a_failed_put_ends_the_stream() -> None:
    store = Faulty(
        MemoryStore(SystemClock()),
        [Fault("put", "fail_before", nth=2, error=StoreDenied("no"))],
    )
    taken: list[int] = []

    def blocks() -> Iterator[bytes]:
        for number in range(10_000):
            taken.append(number)
            yield bytes(1000)

    with pytest.raises(StoreDenied), writer(store) as out:
        out.write("archive", blocks(), silent)
    store.assert_all_fired()
    assert len(taken) < 10_000


def test_a_put_whose_reply_was_lost_goes_under_a_new_key() -> None:
    """In a store that may not be read, nobody can tell whose object lies there."""
    inner = MemoryStore(SystemClock())
    inner.put("v1/shop/b1/00000.age", b"our bytes, reply lost")
    with writer(inner) as out:
        artifact = out.write("archive", iter([b"rows"]), silent)
    assert [part.key for part in artifact.segments] == ["v1/shop/b1/00001.age"]
    assert read(inner, manifest(artifact)) == b"rows"


def test_another_backups_segment_is_refused() -> None:
    store = MemoryStore(SystemClock())
    with writer(store, "b1") as out:
        mine = out.write("archive", iter([b"mine"]), silent)
    with writer(store, "b2") as out:
        out.write("archive", iter([b"other"]), silent)
    # The manifest of b2 naming b1's bytes: digest and signature would fit, the place doesn't.
    lie = Artifact("roles", mine.segments)
    with pytest.raises(Damaged, match="artifact"):
        read(store, manifest(lie), "roles")


def test_another_identity_opens_nothing() -> None:
    store = MemoryStore(SystemClock())
    with writer(store) as out:
        artifact = out.write("archive", iter([b"rows"]), silent)
    stranger = Identity.generate(ENTROPY)
    with pytest.raises(WrongKey):
        b"".join(read_artifact(store, manifest(artifact), "archive", [stranger], silent))


def test_a_reader_that_stops_early_leaves_no_fetch_behind() -> None:
    import threading

    store = MemoryStore(SystemClock())
    with writer(store) as out:
        artifact = out.write("archive", iter([bytes(1000)] * 20), silent)
    blocks = read_artifact(store, manifest(artifact), "archive", [IDENTITY], silent)
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if "fetch" in thread.name]


def test_an_unavailable_store_is_said_so() -> None:
    store = Faulty(MemoryStore(SystemClock()), [Fault("put", "hang")])
    with pytest.raises(StoreUnavailable), writer(store) as out:
        out.write("archive", iter([b"rows"]), silent)
    store.assert_all_fired()
