"""What is tried at enrolment, on the customer's real store with our three roles.

Everything is put below `v1/enrolment/check-<id>/` and removed again.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from backups.errors import BackupsError, ObjectLocked, ObjectMissing, StoreDenied
from backups.model import Capabilities, Look, ObjectInfo, Outcome, Receipt
from backups.ports import Body, Clock, Entropy, ObjectStore, Progress

Judged: TypeAlias = tuple[Outcome, str]
Judge: TypeAlias = Callable[[], Judged]
"""Raises BackupsError's kinds, or AssertionError, when what it tries fails."""

FOLDER = "v1/enrolment/"
LARGE = 8 << 20
"""Bytes put and got to see how fast that goes."""
SLOW = 1 << 20
"""Bytes per second below which a warning is due: a day holds 84 GiB of them."""
FAR = 1.0
"""Seconds for a round trip, likewise."""


def scratch(entropy: Entropy) -> str:
    """A key prefix of its own for one examination."""
    return f"{FOLDER}check-{entropy.bytes(8).hex()}/"


def examine(reach: Judge, judges: Mapping[str, Judge], progress: Progress) -> Iterator[Look]:
    """Try everything by name. What raises has failed, and the next ones go on; but where the
    store cannot be reached, nothing else is tried, and all of it is unproven."""
    reached = _try("reachable", reach, progress)
    yield reached
    for name, judge in judges.items():
        if reached.outcome == "failed":
            yield Look(name, "unproven", "not tried: the store cannot be reached")
        else:
            yield _try(name, judge, progress)


def _try(name: str, judge: Judge, progress: Progress) -> Look:
    progress(f"looking at {name.replace('_', ' ')}", 0, None)
    try:
        outcome, words = judge()
    except (BackupsError, AssertionError) as error:
        hint = error.hint if isinstance(error, BackupsError) else ""
        return Look(name, "failed", f"{error}; {hint}" if hint else str(error))
    return Look(name, outcome, words)


# --- the three roles as one -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ByRole:
    """An ObjectStore whose every call is made by the role whose work it is."""

    writer: ObjectStore
    restorer: ObjectStore
    pruner: ObjectStore

    def put(
        self,
        key: str,
        data: bytes,
        *,
        sha256: bytes | None = None,
        retain_until: datetime | None = None,
    ) -> Receipt:
        """See `ports.ObjectStore.put`."""
        return self.writer.put(key, data, sha256=sha256, retain_until=retain_until)

    def open(
        self,
        key: str,
        *,
        start: int = 0,
        length: int | None = None,
        version_id: str | None = None,
    ) -> Body:
        """See `ports.ObjectStore.open`."""
        return self.restorer.open(key, start=start, length=length, version_id=version_id)

    def stat(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """See `ports.ObjectStore.stat`."""
        return self.restorer.stat(key, version_id=version_id)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ports.ObjectStore.list`."""
        return self.restorer.list(prefix)

    def delete(self, key: str, *, version_id: str | None = None) -> None:
        """See `ports.ObjectStore.delete`."""
        self.pruner.delete(key, version_id=version_id)

    def extend_retention(
        self, key: str, until: datetime, *, version_id: str | None = None
    ) -> None:
        """See `ports.ObjectStore.extend_retention`."""
        self.pruner.extend_retention(key, until, version_id=version_id)

    def capabilities(self) -> Capabilities:
        """See `ports.ObjectStore.capabilities`."""
        return self.writer.capabilities()

    def close(self) -> None:
        """See `ports.ObjectStore.close`."""
        for store in (self.writer, self.restorer, self.pruner):
            store.close()


# --- what is tried --------------------------------------------------------------------


def reachable(store: ObjectStore) -> Judged:
    """A listing is answered."""
    next(iter(store.list(FOLDER)), None)
    return "passed", "it answers"


def owned(store: ObjectStore, key: str, command: str) -> Judged:
    """The object that only the bucket's owner was told to put is there."""
    try:
        store.stat(key)
    except ObjectMissing:
        return "failed", f"nobody has proven to own this store; its owner runs: {command}"
    return "passed", f"the object {key} is there"


def writer_rights(
    bare: Mapping[str, ObjectStore], store: ObjectStore, root: str, *, shared: bool
) -> Judged:
    """Past our own rules, the writer may neither read, list nor delete.

    `bare` are the roles' stores without our own rules; `shared`: they have one credential."""
    writer = bare["writer"]
    put = writer.put(f"{root}object", b"x")

    def delete(version: str | None) -> Callable[[], object]:
        return lambda: writer.delete(put.key, version_id=version)

    # By name alone it only hides where there are versions, which is as bad.
    deletions = {None: delete(None), put.version_id: delete(put.version_id)}
    try:
        may = _may(
            {
                "read": [lambda: _read(writer, put)],
                "list": [lambda: list(writer.list(root))],
                "delete": list(deletions.values()),
            }
        )
    finally:
        store.delete(put.key, version_id=put.version_id)
    return _judge_rights("writer", may, shared=shared)


def restorer_rights(
    bare: Mapping[str, ObjectStore], store: ObjectStore, root: str, *, shared: bool
) -> Judged:
    """Past our own rules, the restorer may neither write nor delete."""
    restorer = bare["restorer"]
    put = store.put(f"{root}object", b"x")
    other: list[Receipt] = []
    try:
        may = _may(
            {
                "write": [lambda: other.append(restorer.put(f"{root}other", b"x"))],
                "delete": [lambda: restorer.delete(put.key, version_id=put.version_id)],
            }
        )
    finally:
        for receipt in (put, *other):
            store.delete(receipt.key, version_id=receipt.version_id)
    return _judge_rights("restorer", may, shared=shared)


def _may(attempts: Mapping[str, list[Callable[[], object]]]) -> list[str]:
    """Those attempts of which one was not refused."""
    may = []
    for name, calls in attempts.items():
        for call in calls:
            try:
                call()
            except StoreDenied:
                continue
            except ObjectMissing:  # looked for and not there any more: it was let through
                pass
            may.append(name)
            break
    return may


def _judge_rights(role: str, may: list[str], *, shared: bool) -> Judged:
    if not may:
        return "passed", f"the store refuses what is not the {role}'s work"
    words = f"the store lets the {role} {' and '.join(may)}"
    if shared:
        return "warning", f"one credential for all roles: {words}; only this program does not"
    return "failed", f"{words}: apply what `backups store policy` prints"


def latency(store: ObjectStore, clock: Clock, root: str) -> Judged:
    """The median of five small questions."""
    put = store.put(f"{root}small", b"x")
    try:
        spans = []
        for _ in range(5):
            begin = clock.monotonic()
            store.stat(put.key, version_id=put.version_id)
            spans.append(clock.monotonic() - begin)
    finally:
        store.delete(put.key, version_id=put.version_id)
    median = statistics.median(spans)
    words = f"{median * 1000:.0f} ms for a round trip"
    return ("passed", words) if median < FAR else ("warning", f"{words}: the store is far away")


def throughput(store: ObjectStore, clock: Clock, root: str) -> Judged:
    """One large object there and back, on one connection."""
    data = bytes(LARGE)
    begin = clock.monotonic()
    put = store.put(f"{root}large", data)
    try:
        middle = clock.monotonic()
        got = _read(store, put)
        end = clock.monotonic()
    finally:
        store.delete(put.key, version_id=put.version_id)
    if got != data:
        return "failed", "other bytes came back than were put"
    there, back = (LARGE / max(span, 1e-6) for span in (middle - begin, end - middle))
    words = f"{there / 2**20:.1f} MiB/s there, {back / 2**20:.1f} MiB/s back, one connection"
    return ("passed" if min(there, back) > SLOW else "warning"), words


def tidy(store: ObjectStore, clock: Clock, root: str) -> Judged:
    """Remove what is left, also of earlier examinations; under locks something may stay."""
    forgotten = clock.now() - timedelta(hours=1)
    locked = 0
    for info in list(store.list(f"{FOLDER}check-")):
        if not info.key.startswith(root) and info.modified > forgotten:
            continue  # another examination is under way
        try:
            store.delete(info.key, version_id=info.version_id)
        except ObjectLocked:
            locked += 1
    if not locked:
        return "passed", "nothing was left behind"
    # The conformance check of locks leaves one each time.
    return (
        "passed",
        f"left behind: {locked} empty, locked for two minutes (removed by a later check)",
    )


def _read(store: ObjectStore, put: Receipt) -> bytes:
    with closing(store.open(put.key, version_id=put.version_id)) as body:
        return body.read()
