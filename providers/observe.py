"""Tells somebody about every call to a store: a decorator of the ObjectStore port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from backups.model import Capabilities, ObjectInfo, Receipt
from backups.ports import Body, Clock, ObjectStore


@dataclass(frozen=True, slots=True)
class Call:
    """One call that ended. Keys hold ids only, so nothing here is secret."""

    name: str
    """The port's method; `read` is the whole reading of an opened body."""
    key: str
    """Key, or prefix of a listing."""
    size: int
    """Bytes put or read, else 0."""
    seconds: float
    outcome: str
    """`ok`, or the error's class name."""


class Observed:
    """An ObjectStore that reports each call to `report`, on the caller's thread."""

    def __init__(
        self, inner: ObjectStore, clock: Clock, report: Callable[[Call], None]
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._report = report

    def put(
        self,
        key: str,
        data: bytes,
        *,
        sha256: bytes | None = None,
        retain_until: datetime | None = None,
    ) -> Receipt:
        """See `ports.ObjectStore.put`."""
        with self._watch("put", key, len(data)):
            return self._inner.put(key, data, sha256=sha256, retain_until=retain_until)

    def open(
        self,
        key: str,
        *,
        start: int = 0,
        length: int | None = None,
        version_id: str | None = None,
    ) -> Body:
        """See `ports.ObjectStore.open`; `read` is reported when the body is closed."""
        with self._watch("open", key):
            body = self._inner.open(key, start=start, length=length, version_id=version_id)
        return _ObservedBody(body, key, self._clock, self._report)

    def stat(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """See `ports.ObjectStore.stat`."""
        with self._watch("stat", key):
            return self._inner.stat(key, version_id=version_id)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ports.ObjectStore.list`; reported when it ends."""
        with self._watch("list", prefix):
            yield from self._inner.list(prefix)

    def delete(self, key: str, *, version_id: str | None = None) -> None:
        """See `ports.ObjectStore.delete`."""
        with self._watch("delete", key):
            self._inner.delete(key, version_id=version_id)

    def extend_retention(
        self, key: str, until: datetime, *, version_id: str | None = None
    ) -> None:
        """See `ports.ObjectStore.extend_retention`."""
        with self._watch("extend_retention", key):
            self._inner.extend_retention(key, until, version_id=version_id)

    def capabilities(self) -> Capabilities:
        """See `ports.ObjectStore.capabilities`."""
        return self._inner.capabilities()

    def close(self) -> None:
        """See `ports.ObjectStore.close`."""
        self._inner.close()

    @contextmanager
    def _watch(self, name: str, key: str, size: int = 0) -> Iterator[None]:
        started = self._clock.monotonic()
        outcome = "ok"
        try:
            yield
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            seconds = self._clock.monotonic() - started
            self._report(Call(name, key, size, seconds, outcome))


class _ObservedBody:
    def __init__(
        self, inner: Body, key: str, clock: Clock, report: Callable[[Call], None]
    ) -> None:
        self._inner = inner
        self._key = key
        self._clock = clock
        self._report = report
        self._size = 0
        self._seconds = 0.0  # inside reads only: a slow consumer is not a slow store
        self._outcome = "ok"
        self._closed = False

    def read(self, size: int = -1, /) -> bytes:
        started = self._clock.monotonic()
        try:
            data = self._inner.read(size)
        except BaseException as error:
            self._outcome = type(error).__name__
            raise
        finally:
            self._seconds += self._clock.monotonic() - started
        self._size += len(data)
        return data

    def close(self) -> None:
        self._inner.close()
        if not self._closed:
            self._closed = True
            self._report(Call("read", self._key, self._size, self._seconds, self._outcome))
