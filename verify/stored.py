"""What lies in the store, looked at without reading it."""

from __future__ import annotations

from collections.abc import Iterator

from backups.errors import ObjectMissing
from backups.format.manifest import manifest_key
from backups.model import Manifest, ObjectInfo, Segment
from backups.ports import ObjectStore
from backups.proving import Check
from backups.run.scrubbing import differences, segments_of

LOOKED_AT = 32
"""Objects whose lock is looked at: each costs a call."""
NAMED = 5


def present(store: ObjectStore, manifest: Manifest) -> Iterator[Check]:
    """Every object that the manifest names, by size, version and digest as listed."""
    segments = list(segments_of(manifest))
    folder = manifest_key(manifest.database, manifest.backup).rpartition("/")[0] + "/"
    there = {info.key: info for info in store.list(folder)}
    for segment in segments:
        if not segment.key.startswith(folder):  # an earlier backup's
            there.update(_seen(store, segment))
    wrong = [f"{found.segment.key}: {found.words}" for found in differences(there, segments)]
    more = f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    yield Check(
        "present",
        not wrong,
        f"{len(segments)} objects, {sum(s.stored_bytes for s in segments)} bytes",
        "; ".join(wrong[:NAMED]) + more if wrong else "all of them",
    )


def locked(store: ObjectStore, manifest: Manifest) -> Iterator[Check]:
    """Whether the manifest and its segments are locked to the end of their window; nothing
    where the store has no locks."""
    if not store.capabilities().retention:
        return
    segments = list(segments_of(manifest))
    step = max(1, -(-len(segments) // LOOKED_AT))
    keys: list[tuple[str, str | None]] = [
        (manifest_key(manifest.database, manifest.backup), None),
        *((segment.key, segment.version_id) for segment in segments[::step]),
    ]
    until = manifest.expires_at
    loose = []
    for key, version in keys:
        end = store.stat(key, version_id=version).retain_until
        # Stores keep whole seconds.
        if end is None or end < until.replace(microsecond=0):
            loose.append(f"{key} {'is not locked' if end is None else f'until {end}'}")
    more = f"; and {len(loose) - NAMED} more" if len(loose) > NAMED else ""
    yield Check(
        "locked",
        not loose,
        f"locked until {until}",
        "; ".join(loose[:NAMED]) + more if loose else f"{len(keys)} objects looked at are",
    )


def _seen(store: ObjectStore, segment: Segment) -> dict[str, ObjectInfo]:
    try:
        return {segment.key: store.stat(segment.key, version_id=segment.version_id)}
    except ObjectMissing:
        return {}
