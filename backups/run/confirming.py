"""Nothing is accused before a second look: a listing may be older than the manifest, and what
is read may have changed on its way only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from backups.errors import Damaged, IntegrityError, ObjectMissing
from backups.format.age import Identity
from backups.model import ObjectInfo, Segment
from backups.ports import ObjectStore
from backups.run.reader import fetch_segment
from backups.run.rewrapped import Headers
from backups.run.scrubbing import Drawable, Tally, differences, manifest_beside

T = TypeVar("T")


def twice(read: Callable[[], T]) -> T:
    """What `read` gives, if need be at the second try. Raises IntegrityError."""
    try:
        return read()
    except IntegrityError:
        return read()


def compare(
    store: ObjectStore,
    folder: str,
    there: Mapping[str, ObjectInfo],
    segments: Sequence[Segment],
    tally: Tally,
) -> set[str]:
    """Compare the segments of one folder with its listing, and list it again before anything
    is told; the keys of those that are wrong."""
    wrong: set[str] = set()
    doubted = [each.segment for each in differences(there, segments)]
    if not doubted:
        return wrong
    now = {info.key: info for info in store.list(folder)}
    manifest = manifest_beside(folder)
    if manifest in there and manifest not in now:
        return wrong  # being deleted as it should be, manifest first
    for each in differences(now, doubted):
        key, words = each.segment.key, each.words
        wrong.add(key)
        if each.segment.version_id and tally.names(each.kind, key):
            words += _its_version(store, each.segment)
        tally.add(each.kind, key, words)
    return wrong


def _its_version(store: ObjectStore, segment: Segment) -> str:
    """In a store with versions, deleting or overwriting by name only hides."""
    try:
        info = store.stat(segment.key, version_id=segment.version_id)
    except ObjectMissing:
        return "; the version that its manifest names is gone"
    same = info.size == segment.stored_bytes
    return "; the version that its manifest names is still there, beneath" if same else ""


def read_one(
    store: ObjectStore, identities: Sequence[Identity], drawn: Drawable, tally: Tally
) -> int:
    """Read a sample, and with an identity open it: to its last byte, which is the first at
    which it is known to be whole. Returns how many bytes were compared."""
    key = drawn.segment.key
    try:
        data = twice(partial(fetch_segment, store, drawn.segment))
    except ObjectMissing as error:
        if _exists(store, manifest_beside(key)):  # else it was deleted as it should be
            tally.add("missing", key, str(error))
        return 0
    except Damaged as error:
        tally.add("altered", key, str(error))
        return 0
    try:
        if identities:
            plain = drawn.segment.plain_bytes
            headers = Headers(store, drawn.context.database, drawn.context.backup)
            for _ in headers.open(data, identities, drawn.context, key, plain):
                pass
    except IntegrityError as error:
        tally.add("unreadable", key, str(error))
    return len(data)


def _exists(store: ObjectStore, key: str) -> bool:
    try:
        store.stat(key)
    except ObjectMissing:
        return False
    return True
