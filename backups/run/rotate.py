"""Rotation: a backup's segments get headers for other keys, all in one object beside it.

No payload is touched, so it works under locks. What was done is seen in the store itself: a
rotation that was killed goes on where it was. It revokes nothing (FORMAT.md section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from backups.errors import IntegrityError, ObjectExists, WrongKey
from backups.format.age import MAX_HEADER, Header, Identity, Recipient
from backups.format.headers import rewrap, stored_header, write_bundle
from backups.format.segment import SegmentHeader
from backups.model import Manifest
from backups.ports import Clock, Entropy, ObjectStore, Progress
from backups.run.rewrapped import Headers, bundle_key, bundles

AT_ONCE = 8
"""Headers that are fetched side by side; each is a small read."""


@dataclass(frozen=True, slots=True)
class RotatePorts:
    """One store, and the keys of before and after."""

    reader: ObjectStore
    writer: ObjectStore
    clock: Clock
    entropy: Entropy
    identities: Sequence[Identity]
    """That open what is there now."""
    identity: Identity
    """That is to open it from now on, alone."""
    recipients: Sequence[Recipient]
    """Whom it is for from now on."""


def rotate(ports: RotatePorts, manifest: Manifest, progress: Progress) -> int:
    """The number of the headers that were put beside it; 0: the new identity opens it already.

    Raises WrongKey, Damaged, ObjectMissing, StoreError's kinds.
    """
    if opens(ports.reader, manifest, ports.identity):
        return 0
    keys = [segment.key for artifact in manifest.artifacts for segment in artifact.segments]
    newer = Headers(ports.reader, manifest.database, manifest.backup)
    done = 0

    def fresh(key: str) -> tuple[str, SegmentHeader]:
        current = _current(newer, key, ports.identities)
        return key, rewrap(current, ports.identities, ports.recipients, ports.entropy)

    headers = {}
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="rewrap") as pool:
        for key, header in pool.map(fresh, keys):
            headers[key] = header
            done += 1
            progress(f"rewrapping {manifest.backup}", done, len(keys))
    bundle = write_bundle(manifest.backup, headers)
    until = ports.writer.capabilities().lock(manifest.expires_at, ports.clock.now())
    number = max(bundles(ports.reader, manifest.database, manifest.backup), default=0)
    while True:
        number += 1
        key = bundle_key(manifest.database, manifest.backup, number)
        try:
            ports.writer.put(key, bundle, retain_until=until)
        except ObjectExists:
            continue  # another rotation was quicker
        break
    if not opens(ports.reader, manifest, ports.identity):
        raise WrongKey(f"the new headers of backup {manifest.backup} do not open it")
    return number


def opens(store: ObjectStore, manifest: Manifest, identity: Identity) -> bool:
    """Whether that identity alone opens the header of every segment, its own or a newer one.

    Raises ObjectMissing, StoreError's kinds.
    """
    missing = {segment.key for artifact in manifest.artifacts for segment in artifact.segments}
    for found in Headers(store, manifest.database, manifest.backup).all():
        missing -= {key for key, header in found.items() if _opens(header, identity)}
    # Segments of one backup were written for the same: the first that fails says enough.
    return all(_opens(_own(store, key), identity) for key in sorted(missing))


def _opens(header: SegmentHeader, identity: Identity) -> bool:
    try:
        Header.parse(header.raw).open([identity])
    except IntegrityError:
        return False
    return True


def _current(newer: Headers, key: str, identities: Sequence[Identity]) -> SegmentHeader:
    """The header that our identities open. Raises WrongKey."""
    for header in (_own(newer.store, key), *newer.of(key)):
        if any(_opens(header, identity) for identity in identities):
            return header
    raise WrongKey(f"no identity at hand opens object {key}")


def _own(store: ObjectStore, key: str) -> SegmentHeader:
    with closing(store.open(key, length=MAX_HEADER)) as body:
        return stored_header(body.read())
