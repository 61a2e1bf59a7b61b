"""What every object store must do, as named checks: run against adapters by the tests, and
against a customer's bucket by `backups store check`.

Each check works below a key prefix of its own, raises AssertionError (or a StoreError) with
the reason when the store falls short, and removes what it put. Under an object lock
something may stay: `retention` then leaves one empty object, locked for two minutes.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta

from backups.errors import (
    BackupsError,
    CapabilityMissing,
    ObjectExists,
    ObjectLocked,
    ObjectMissing,
    StoreError,
    TransferDamaged,
)
from backups.model import ObjectInfo, Receipt
from backups.ports import Clock, ObjectStore
from providers.checksums import checksum_of


@dataclass(frozen=True, slots=True)
class Trial:
    """What a check works with."""

    store: ObjectStore
    clock: Clock
    root: str
    """Key prefix, ends with `/`; nothing else may lie below it."""
    many: int = 25
    """Objects put to see that listings go on after their first page."""
    sizes: tuple[int, ...] = (0, 1, 65_535, 65_536, 65_537, 5 << 20)
    """Bytes of the objects put and got back."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing a store must do."""

    name: str
    run: Callable[[Trial], None]


def round_trip(trial: Trial) -> None:
    """What is put comes back, whole and with the facts told in its receipt."""
    with _objects(trial, "round-trip") as put:
        for size in trial.sizes:
            data = _bytes(size)
            receipt = put(f"{size}.bin", data)
            info = trial.store.stat(receipt.key, version_id=receipt.version_id)
            _equal("size in receipt", receipt.size, size)
            _equal("size in stat", info.size, size)
            _equal("version in stat", info.version_id, receipt.version_id)
            for checksum in filter(None, (receipt.checksum, info.checksum)):
                _equal("checksum", checksum, checksum_of(checksum.partition(":")[0], data))
            _equal("bytes", _read(trial, receipt), data)


def create_only(trial: Trial) -> None:
    """A second put of a key is refused, also with the same bytes; the first stay."""
    with _objects(trial, "create-only") as put:
        first = put("key", b"first")
        for data in (b"second", b"first", b""):
            with _refused(ObjectExists):
                trial.store.put(first.key, data)
        _equal("bytes", _read(trial, first), b"first")


def concurrent_puts(trial: Trial) -> None:
    """Of several writers of one key exactly one wins, and its bytes are stored."""
    key = f"{trial.root}concurrent/key"

    def attempt(number: int) -> Receipt | None:
        try:
            return trial.store.put(key, b"writer %d" % number * 1000)
        except ObjectExists:
            return None

    with ThreadPoolExecutor(8) as pool:
        attempts = [pool.submit(attempt, number) for number in range(8)]
    receipts = {n: done.result() for n, done in enumerate(attempts) if not done.exception()}
    won = {n: receipt for n, receipt in receipts.items() if receipt}
    try:
        for done in attempts:
            done.result()  # another failure than losing is the check's own
        _equal("number of winners", len(won), 1)
        with closing(trial.store.open(key)) as body:
            _equal("bytes", body.read(), b"writer %d" % next(iter(won)) * 1000)
    finally:
        _remove(trial, list(won.values()))


def digest_enforced(trial: Trial) -> None:
    """Bytes that are not those of the given digest are refused, and not stored."""
    key = f"{trial.root}digest/key"
    with _refused(TransferDamaged):
        trial.store.put(key, b"sent", sha256=hashlib.sha256(b"meant").digest())
    with _refused(ObjectMissing):
        trial.store.stat(key)
    with _objects(trial, "digest") as put:
        put("key", b"sent", sha256=hashlib.sha256(b"sent").digest())


def ranged_reads(trial: Trial) -> None:
    """Reads of a part, clipped to the object's end."""
    data = _bytes(100_000)
    with _objects(trial, "ranges") as put:
        receipt, empty = put("key", data), put("empty", b"")
        for start, length in (
            (0, 1), (1, 65_536), (50_000, None), (99_999, 1), (99_999, 50), (0, 200_000),
            (100_000, 1), (100_000, None), (200_000, 5), (0, 0), (10, 0), (0, 100_000),
        ):  # fmt: skip
            end = None if length is None else start + length
            got = _read(trial, receipt, start, length)
            _equal(f"bytes from {start}, {length} long", got, data[start:end])
        _equal("a range of an empty object", _read(trial, empty, 0, 10), b"")
        with closing(trial.store.open(receipt.key, start=7)) as body:
            pieces = list(iter(lambda: body.read(1000), b""))
        _equal("bytes read in pieces", b"".join(pieces), data[7:])
        if max(map(len, pieces)) > 1000:
            raise AssertionError("a read gave more than was asked for")


def listing(trial: Trial) -> None:
    """Every object below a prefix, in key order, over all pages, and no other."""
    # `a-b` sorts before `a/b`: the order is that of whole keys.
    names = [f"many/{number:05}.age" for number in range(trial.many)]
    names += ["a/b", "a-b/c", "a/b-c", "aa", "v1/db-1/0190-f/00000.age", "v1/db-1.json"]
    with _objects(trial, "list") as put:
        receipts = {name: put(name, name.encode()) for name in names}
        for prefix in ("", "many/", "many/0000", "a", "a/", "a/b", "v1/db-1", "v1/x", "b/"):
            expected = [
                (receipts[name].key, len(name), receipts[name].version_id)
                for name in sorted(names)
                if name.startswith(prefix)
            ]
            found: list[ObjectInfo] = list(trial.store.list(f"{trial.root}list/{prefix}"))
            _equal(
                f"objects under {prefix!r}",
                [(info.key, info.size, info.version_id) for info in found],
                expected,
            )


def missing_objects(trial: Trial) -> None:
    """What is not there is missing, also where a folder or a longer key is."""
    with _objects(trial, "missing") as put:
        put("folder/key", b"here")
        for name in ("nothing", "nothing/below", "folder", "folder/ke", "folder/key/below"):
            key = f"{trial.root}missing/{name}"
            with _refused(ObjectMissing):
                trial.store.stat(key)
            with _refused(ObjectMissing):
                trial.store.open(key)
            with _refused(ObjectMissing):
                trial.store.open(key, length=0)
            trial.store.delete(key)


def deletion(trial: Trial) -> None:
    """What is deleted is gone from stat, open and list; deleting again is fine."""
    key = f"{trial.root}delete/key"
    for _ in range(2):  # a key is free again once its object is gone
        receipt = trial.store.put(key, b"x")
        trial.store.delete(key, version_id=receipt.version_id)
        trial.store.delete(key, version_id=receipt.version_id)
        with _refused(ObjectMissing):
            trial.store.stat(key)
        with _refused(ObjectMissing):
            trial.store.open(key)
        _equal("listing", list(trial.store.list(key)), [])


def strange_keys(trial: Trial) -> None:
    """Keys that could escape the store's prefix or mean two things are refused."""
    for key in (
        "", "/", "/etc/x", "..", "../x", "a/../x", "a/..", "./a", "a//b", "a/", "a\\b",
        "a\0b", "a\nb", "a b", "a?b", "a%2e%2e", "é", ".hidden", "a" * 1001,
    ):  # fmt: skip
        for call in (
            lambda key: trial.store.put(key, b"x"),
            trial.store.open,
            trial.store.stat,
            trial.store.delete,
        ):
            with _refused(StoreError):
                call(key)
    for prefix in ("../", "/", "a//", "a/../b", "a\0", "."):
        with _refused(StoreError):
            list(trial.store.list(prefix))


def versions(trial: Trial) -> None:
    """Version ids are given if and only if versions are declared; they outlive hiding."""
    declared = trial.store.capabilities().versions
    with _objects(trial, "versions") as put:
        receipt = put("key", b"kept")
        _equal("whether a put gives a version id", receipt.version_id is not None, declared)
        if declared:
            trial.store.delete(receipt.key)  # by name: hides only
            with _refused(ObjectMissing):
                trial.store.stat(receipt.key)
            _equal("bytes of the hidden version", _read(trial, receipt), b"kept")


def retention(trial: Trial) -> None:
    """A lock is enforced and can be extended; where there are none, asking is refused."""
    store, key = trial.store, f"{trial.root}retention/key"
    until = trial.clock.now().replace(microsecond=0) + timedelta(seconds=60)
    later = until + timedelta(seconds=60)
    if not store.capabilities().retention:
        with _refused(CapabilityMissing):
            store.put(key, b"", retain_until=until)
        with _refused(CapabilityMissing):
            store.extend_retention(key, until)
        with _refused(ObjectMissing):
            store.stat(key)
        return
    receipt = store.put(key, b"", retain_until=until)
    version = receipt.version_id
    for ask, expected in ((until, until), (later, later), (until, later)):
        store.extend_retention(key, ask, version_id=version)
        _equal("end of the lock", store.stat(key, version_id=version).retain_until, expected)
        with _refused(ObjectLocked):
            store.delete(key, version_id=version)
    _equal("bytes under the lock", _read(trial, receipt), b"")
    with _refused(ObjectMissing):
        store.extend_retention(f"{key}-missing", later)


def closed_twice(trial: Trial) -> None:
    """Closing again is fine; the store is of no use afterwards, so this check is last."""
    trial.store.close()
    trial.store.close()


CHECKS: tuple[Check, ...] = tuple(
    Check(function.__name__, function)
    for function in (
        round_trip, create_only, concurrent_puts, digest_enforced, ranged_reads, listing,
        missing_objects, deletion, strange_keys, versions, retention, closed_twice,
    )
)  # fmt: skip


# --- helpers --------------------------------------------------------------------------


class _Put:
    """Puts below a folder and remembers what it put."""

    def __init__(self, trial: Trial, folder: str) -> None:
        self._trial = trial
        self._folder = folder
        self.receipts: list[Receipt] = []

    def __call__(self, name: str, data: bytes, sha256: bytes | None = None) -> Receipt:
        key = f"{self._trial.root}{self._folder}/{name}"
        receipt = self._trial.store.put(key, data, sha256=sha256)
        _equal("key in receipt", receipt.key, key)
        self.receipts.append(receipt)
        return receipt


@contextlib.contextmanager
def _objects(trial: Trial, folder: str) -> Iterator[_Put]:
    put = _Put(trial, folder)
    try:
        yield put
    finally:
        _remove(trial, put.receipts)


def _remove(trial: Trial, receipts: list[Receipt]) -> None:
    for receipt in receipts:
        trial.store.delete(receipt.key, version_id=receipt.version_id)


@contextlib.contextmanager
def _refused(kind: type[BackupsError]) -> Iterator[None]:
    try:
        yield
    except kind:
        return
    raise AssertionError(f"the store did what must raise {kind.__name__}")


def _read(trial: Trial, receipt: Receipt, start: int = 0, length: int | None = None) -> bytes:
    body = trial.store.open(
        receipt.key, start=start, length=length, version_id=receipt.version_id
    )
    with closing(body):
        return body.read()


def _equal(what: str, actual: object, expected: object) -> None:
    if actual != expected:
        raise AssertionError(f"{what}: {str(actual)[:200]} instead of {str(expected)[:200]}")


def _bytes(size: int) -> bytes:
    """The same varied bytes each time (SHA-256 in counter mode)."""
    blocks = (hashlib.sha256(b"%d" % number).digest() for number in range(size // 32 + 1))
    return b"".join(blocks)[:size]
