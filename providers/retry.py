"""Tries again what may succeed later: a decorator of the ObjectStore port.

Waits grow exponentially with full jitter (Brooker, "Exponential Backoff And Jitter", AWS
Architecture Blog, 2015). Attempts and total time are both bounded; a single call that hangs
is bounded by the adapter's own timeouts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import TypeVar

from backups.errors import ObjectExists, ObjectMissing, StoreDenied, StoreError
from backups.model import Capabilities, ObjectInfo, Receipt
from backups.ports import Body, Clock, Entropy, ObjectStore

T = TypeVar("T")
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient to be."""

    attempts: int = 6
    """The first one included."""
    first: float = 0.25
    """Seconds: the longest wait before the second attempt; doubles from there."""
    longest: float = 20.0
    """Seconds: no single wait is longer."""
    total: float = 180.0
    """Seconds after which no further attempt starts."""


class Retrying:
    """An ObjectStore that repeats calls whose error is `retryable`."""

    def __init__(
        self, inner: ObjectStore, clock: Clock, entropy: Entropy, pace: Pace | None = None
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._entropy = entropy
        self._pace = pace or Pace()

    def put(
        self,
        key: str,
        data: bytes,
        *,
        sha256: bytes | None = None,
        retain_until: datetime | None = None,
    ) -> Receipt:
        """As the port says; a taken key is ours if an earlier attempt of this call, whose
        reply was lost, left exactly these bytes there."""
        streak = self._streak()
        may_have_landed = False
        while True:
            try:
                return self._inner.put(key, data, sha256=sha256, retain_until=retain_until)
            except ObjectExists:
                receipt = self._settle(key, data) if may_have_landed else None
                if receipt is None:
                    raise
                return receipt
            except StoreError as error:
                may_have_landed = True
                if not streak.again(error):
                    raise

    def open(
        self,
        key: str,
        *,
        start: int = 0,
        length: int | None = None,
        version_id: str | None = None,
    ) -> Body:
        """As the port says; the body goes on where a cut connection left it."""

        def reopen(done: int) -> Body:
            left = None if length is None else length - done
            return self._inner.open(key, start=start + done, length=left, version_id=version_id)

        return _ResumingBody(self._repeat(lambda: reopen(0)), reopen, self._streak)

    def stat(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """See `ports.ObjectStore.stat`."""
        return self._repeat(lambda: self._inner.stat(key, version_id=version_id))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ports.ObjectStore.list`; a broken listing starts anew and skips what it gave."""
        last = ""
        streak = self._streak()
        while True:
            try:
                for info in self._inner.list(prefix):
                    if info.key > last:
                        last = info.key
                        streak = self._streak()
                        yield info
                return
            except StoreError as error:
                if not streak.again(error):
                    raise

    def delete(self, key: str, *, version_id: str | None = None) -> None:
        """See `ports.ObjectStore.delete`."""
        self._repeat(lambda: self._inner.delete(key, version_id=version_id))

    def extend_retention(
        self, key: str, until: datetime, *, version_id: str | None = None
    ) -> None:
        """See `ports.ObjectStore.extend_retention`."""
        self._repeat(lambda: self._inner.extend_retention(key, until, version_id=version_id))

    def capabilities(self) -> Capabilities:
        """See `ports.ObjectStore.capabilities`."""
        return self._inner.capabilities()

    def close(self) -> None:
        """See `ports.ObjectStore.close`."""
        self._inner.close()

    def _streak(self) -> _Streak:
        return _Streak(self._pace, self._clock, self._entropy)

    def _repeat(self, call: Callable[[], T]) -> T:
        streak = self._streak()
        while True:
            try:
                return call()
            except StoreError as error:
                if not streak.again(error):
                    raise

    def _settle(self, key: str, data: bytes) -> Receipt | None:
        """A receipt if our bytes lie under `key`; None if others', or if we may not look."""
        try:
            info = self.stat(key)
            if info.size != len(data):
                return None
            checksum = info.checksum or self._read_checksum(key, info.version_id)
        except (StoreDenied, ObjectMissing):
            return None
        if checksum != f"sha256:{hashlib.sha256(data).hexdigest()}":
            return None
        return Receipt(key, info.size, checksum, info.version_id)

    def _read_checksum(self, key: str, version_id: str | None) -> str:
        digest = hashlib.sha256()
        with closing(self.open(key, version_id=version_id)) as body:
            while piece := body.read(_PIECE):
                digest.update(piece)
        return f"sha256:{digest.hexdigest()}"


class _Streak:
    """Attempts at one thing since it last got anywhere."""

    def __init__(self, pace: Pace, clock: Clock, entropy: Entropy) -> None:
        self._pace = pace
        self._clock = clock
        self._entropy = entropy
        self._failures = 0
        self._since = clock.monotonic()

    def again(self, error: StoreError) -> bool:
        """Wait and say yes, or say at once that `error` is the end of it."""
        pace = self._pace
        self._failures += 1
        if not error.retryable or self._failures >= pace.attempts:
            return False
        ceiling = min(pace.longest, pace.first * 2 ** (self._failures - 1))
        wait = ceiling * int.from_bytes(self._entropy.bytes(4), "big") / 2**32
        if self._clock.monotonic() - self._since + wait > pace.total:
            return False
        self._clock.sleep(wait)
        return True


class _ResumingBody:
    """A body that opens itself anew at its offset; sound because objects never change."""

    def __init__(
        self, body: Body, reopen: Callable[[int], Body], streak: Callable[[], _Streak]
    ) -> None:
        self._body: Body | None = body
        self._reopen = reopen
        self._new_streak = streak
        self._done = 0

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:  # in pieces, so that a cut costs one piece and not all
            whole = BytesIO()  # gives its bytes away; joining pieces would hold them twice
            while piece := self.read(_PIECE):
                whole.write(piece)
            return whole.getvalue()
        streak = self._new_streak()
        while True:
            try:
                if self._body is None:
                    self._body = self._reopen(self._done)
                data = self._body.read(size)
            except StoreError as error:
                self.close()
                if not streak.again(error):
                    raise
            else:
                self._done += len(data)
                return data

    def close(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()
