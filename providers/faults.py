"""Makes a store fail by script: a decorator of the ObjectStore port, for tests and drills.

Every fault of the script must happen, or the test that wrote it proves nothing:
end with `assert_all_fired()`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import islice
from threading import Lock
from typing import Literal, TypeVar

from backups.errors import BackupsError, StoreUnavailable
from backups.model import Capabilities, ObjectInfo, Receipt
from backups.ports import Body, ObjectStore

T = TypeVar("T")
Method = Literal["put", "open", "stat", "list", "delete", "extend_retention"]
Action = Literal[
    "fail_before",  # raise; the store never hears of the call
    "fail_after",  # the store did it; the caller gets an error (a lost reply)
    "hang",  # no answer within the adapter's timeout
    "truncate",  # open: the body ends early, as if it were whole
    "cut",  # open or list: the connection breaks after `at` bytes or entries
    "flip",  # put or open: one bit of byte `at` differs on its way
    "kill_before",  # SIGKILL to this process; the store never hears of the call
    "kill_after",  # SIGKILL to this process once the store did it
]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, once."""

    call: Method
    action: Action
    key: str = "*"
    """Shell-style pattern; of a listing, its prefix is matched."""
    nth: int = 1
    """It hits the nth call that matches `call` and `key`, counted from 1."""
    at: int = 0
    """Byte offset, for truncate, cut and flip; of a listing, entries."""
    error: BackupsError = field(
        default_factory=lambda: StoreUnavailable("a fault was injected")
    )
    """What fail_before and fail_after raise."""


class Faulty:
    """An ObjectStore on which a script of faults is played; safe between threads."""

    def __init__(self, inner: ObjectStore, faults: Sequence[Fault]) -> None:
        self._inner = inner
        self._faults = tuple(faults)
        self._seen = [0] * len(self._faults)
        self._lock = Lock()

    def assert_all_fired(self) -> None:
        """Raises AssertionError naming the faults that have not happened."""
        quiet = [f for f, seen in zip(self._faults, self._seen, strict=True) if seen < f.nth]
        if quiet:
            raise AssertionError(f"faults that never fired: {quiet}")

    def put(
        self,
        key: str,
        data: bytes,
        *,
        sha256: bytes | None = None,
        retain_until: datetime | None = None,
    ) -> Receipt:
        """See `ports.ObjectStore.put`."""
        fault = self._due("put", key)
        if fault is not None and fault.action == "flip":
            data = _flip(data, fault.at)
        return _play(
            fault,
            lambda: self._inner.put(key, data, sha256=sha256, retain_until=retain_until),
        )

    def open(
        self,
        key: str,
        *,
        start: int = 0,
        length: int | None = None,
        version_id: str | None = None,
    ) -> Body:
        """See `ports.ObjectStore.open`."""
        fault = self._due("open", key)
        body = _play(
            fault,
            lambda: self._inner.open(key, start=start, length=length, version_id=version_id),
        )
        if fault is not None and fault.action in ("truncate", "cut", "flip"):
            return _FaultyBody(body, fault)
        return body

    def stat(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """See `ports.ObjectStore.stat`."""
        return _play(
            self._due("stat", key), lambda: self._inner.stat(key, version_id=version_id)
        )

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ports.ObjectStore.list`; fail_after breaks it when all was given."""
        fault = self._due("list", prefix)
        listing = _play(fault, lambda: self._inner.list(prefix), after=False)
        if fault is not None and fault.action == "cut":
            yield from islice(listing, fault.at)
            raise StoreUnavailable("the listing was cut (injected)")
        yield from listing
        _play(fault, lambda: None, before=False)

    def delete(self, key: str, *, version_id: str | None = None) -> None:
        """See `ports.ObjectStore.delete`."""
        _play(self._due("delete", key), lambda: self._inner.delete(key, version_id=version_id))

    def extend_retention(
        self, key: str, until: datetime, *, version_id: str | None = None
    ) -> None:
        """See `ports.ObjectStore.extend_retention`."""
        _play(
            self._due("extend_retention", key),
            lambda: self._inner.extend_retention(key, until, version_id=version_id),
        )

    def capabilities(self) -> Capabilities:
        """See `ports.ObjectStore.capabilities`."""
        return self._inner.capabilities()

    def close(self) -> None:
        """See `ports.ObjectStore.close`."""
        self._inner.close()

    def _due(self, call: Method, key: str) -> Fault | None:
        due = None
        with self._lock:
            for index, fault in enumerate(self._faults):
                if fault.call == call and fnmatchcase(key, fault.key):
                    self._seen[index] += 1
                    if self._seen[index] == fault.nth:
                        due = due or fault
        return due


def _play(
    fault: Fault | None, call: Callable[[], T], *, before: bool = True, after: bool = True
) -> T:
    action = fault.action if fault is not None else None
    if fault is not None and before:
        if action == "fail_before":
            raise fault.error
        if action == "hang":
            raise StoreUnavailable("no answer within the timeout (injected)")
        if action == "kill_before":
            os.kill(os.getpid(), signal.SIGKILL)
    result = call()
    if fault is not None and after:
        if action == "fail_after":
            raise fault.error
        if action == "kill_after":
            os.kill(os.getpid(), signal.SIGKILL)
    return result


def _flip(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


class _FaultyBody:
    def __init__(self, inner: Body, fault: Fault) -> None:
        self._inner = inner
        self._fault = fault
        self._done = 0

    def read(self, size: int = -1, /) -> bytes:
        fault, start = self._fault, self._done
        if fault.action == "flip":
            data = self._inner.read(size)
            self._done += len(data)
            if start <= fault.at < self._done:
                data = _flip(data, fault.at - start)
            return data
        left = max(0, fault.at - start)
        if left == 0 and fault.action == "cut":
            raise StoreUnavailable("the connection was cut (injected)")
        data = self._inner.read(left if size < 0 else min(size, left))
        self._done += len(data)
        return data

    def close(self) -> None:
        self._inner.close()
