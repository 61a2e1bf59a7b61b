"""Writing a backup's artifacts: cut into segments, put whole, several in flight."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from types import TracebackType

from backups.errors import ObjectExists
from backups.format.age import Recipient
from backups.format.manifest import segment_key
from backups.format.segment import BuiltSegment, SegmentBuilder
from backups.model import Artifact, Context, Segment
from backups.ports import Blocks, Entropy, ObjectStore, Progress

PUTTERS = 2
"""Segments on their way at once; with the one being built they bound the memory."""

AHEAD = 4
"""Blocks, of about 1 MiB, that may wait for the thread that compresses and encrypts."""

ATTEMPTS = 3
"""Keys tried for one segment; a new backup's keys are taken only by our own lost puts."""


class ArtifactWriter:
    """Writes the artifacts of one backup under keys that count up.

    A context manager: leaving it waits for the puts under way, so that nothing is
    written after a run has been recorded as over.
    """

    def __init__(
        self,
        store: ObjectStore,
        entropy: Entropy,
        recipients: Sequence[Recipient],
        *,
        level: int,
        customer: str,
        database: str,
        backup: str,
        engine: str,
        retain_until: datetime | None = None,
    ) -> None:
        self._store = store
        self._retain_until = retain_until
        self._entropy = entropy
        self._recipients = recipients
        self._level = level
        self._where = (customer, database, backup, engine)
        self._numbers = itertools.count()
        self._builders = ThreadPoolExecutor(1, thread_name_prefix="build")
        self._putters = ThreadPoolExecutor(PUTTERS, thread_name_prefix="put")
        self._room = threading.BoundedSemaphore(PUTTERS)

    def __enter__(self) -> ArtifactWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._builders.shutdown(cancel_futures=True)
        self._putters.shutdown(cancel_futures=True)

    def write(self, name: str, blocks: Blocks, progress: Progress) -> Artifact:
        """Store a stream to its end. The last segment is built only when `blocks` is
        exhausted, which it is only when its source ended well.

        Raises what `blocks` and the store raise; then the stream has no last segment.
        """
        stream = _Stream(self, name)
        building: deque[Future[None]] = deque()
        done = 0
        for block in blocks:
            if len(building) == AHEAD:
                building.popleft().result()  # a failed put ends the run here
            building.append(self._builders.submit(stream.add, block))
            done += len(block)
            progress(f"writing {name}", done, None)
        for step in building:
            step.result()
        return Artifact(name, self._builders.submit(stream.finish).result())

    def builder(self, name: str, index: int) -> SegmentBuilder:
        """For the next segment of an artifact."""
        customer, database, backup, engine = self._where
        context = Context(customer, database, backup, name, index, last=False, engine=engine)
        return SegmentBuilder(self._recipients, context, self._entropy, level=self._level)

    def put(self, built: BuiltSegment) -> Future[Segment]:
        """Start putting a segment, once there is room for one more."""
        self._room.acquire()
        future = self._putters.submit(self._put, built)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def _put(self, built: BuiltSegment) -> Segment:
        _, database, backup, _ = self._where
        for attempt in itertools.count(1):
            key = segment_key(database, backup, next(self._numbers))
            try:
                receipt = self._store.put(
                    key, built.data, sha256=built.sha256, retain_until=self._retain_until
                )
            except ObjectExists:
                # An attempt of ours whose reply was lost, in a store we may not read:
                # the bytes go under the next number, the earlier object is an orphan.
                if attempt == ATTEMPTS:
                    raise
                continue
            return Segment(
                key=key,
                plain_bytes=built.plain_bytes,
                stored_bytes=len(built.data),
                sha256=built.sha256.hex(),
                version_id=receipt.version_id,
            )
        raise AssertionError("the loop ends by returning or raising")


class _Stream:
    """One artifact on its way, used by the building thread alone."""

    def __init__(self, writer: ArtifactWriter, name: str) -> None:
        self._writer = writer
        self._name = name
        self._builder = writer.builder(name, 0)
        self._segments: list[Segment] = []
        self._pending: deque[Future[Segment]] = deque()

    def add(self, block: bytes) -> None:
        """The next bytes. Raises what an earlier put raised."""
        while self._pending and self._pending[0].done():
            self._segments.append(self._pending.popleft().result())
        if self._builder.is_full:  # cut late: a full segment may still turn out the last
            self._pending.append(self._writer.put(self._builder.finish(last=False)))
            following = len(self._segments) + len(self._pending)
            self._builder = self._writer.builder(self._name, following)
        self._builder.write(block)

    def finish(self) -> tuple[Segment, ...]:
        """The last segment goes when all others have arrived."""
        self._segments.extend(put.result() for put in self._pending)
        self._segments.append(self._writer.put(self._builder.finish(last=True)).result())
        return tuple(self._segments)
