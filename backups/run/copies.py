"""A backup in a second store: the same segments, with a manifest of its own there.

Segments travel encrypted as they are, so copying needs no identity; each is checked against
the manifest on its way, which proves the first copy's bytes as well.
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backups.errors import Damaged, ObjectExists
from backups.format.manifest import manifest_key, sign
from backups.format.recipe import readme_text
from backups.model import Artifact, Copy, Manifest, Segment
from backups.ports import Catalog, Clock, ObjectStore, Progress
from backups.run.reader import fetch_segment, fetched, read_manifest

PUTTERS = 2
"""Segments on their way to the target at once; with those fetched ahead, they bound the
memory."""


@dataclass(frozen=True, slots=True)
class CopyPorts:
    """What copying needs. Nothing in it can decrypt."""

    catalog: Catalog
    clock: Clock
    source: ObjectStore
    """Read only."""
    target: ObjectStore
    """As the writer, who creates and sees nothing."""
    beside: ObjectStore
    """The target as the restorer: looks at what an earlier attempt left."""
    signing_key: Ed25519PrivateKey


def copy(ports: CopyPorts, manifest: Manifest, store_url: str, progress: Progress) -> Copy:
    """Copy a backup into the store at `store_url` and list it; whole or not at all.

    May be repeated: what an earlier attempt left is taken over when it is the same, byte for
    byte. Raises Damaged and ObjectMissing about the source, or when other bytes lie under a
    key of the target; StoreError's kinds.
    """
    with suppress(ObjectExists):
        ports.target.put("README.txt", readme_text().encode())
    total = sum(artifact.stored_bytes for artifact in manifest.artifacts)
    artifacts: list[Artifact] = []
    done = 0
    until = ports.target.capabilities().lock(manifest.expires_at, ports.clock.now())
    with ThreadPoolExecutor(PUTTERS, thread_name_prefix="copy") as pool:
        for artifact in manifest.artifacts:
            segments: list[Segment] = []
            underway: deque[Future[Segment]] = deque()
            for _, segment, data in fetched(ports.source, artifact):
                if len(underway) == PUTTERS:
                    segments.append(underway.popleft().result())
                underway.append(pool.submit(_put, ports, segment, data, until))
                done += segment.stored_bytes
                progress("copying", done, total)
            segments.extend(put.result() for put in underway)
            artifacts.append(replace(artifact, segments=tuple(segments)))
    # `previous` stays: it chains backups, and every copy of a backup says the same of it.
    found = _commit(ports, replace(manifest, artifacts=tuple(artifacts)), until)
    listed = Copy(manifest.backup, store_url, found)
    ports.catalog.add_copy(listed)
    return listed


def _put(ports: CopyPorts, segment: Segment, data: bytes, until: datetime | None) -> Segment:
    digest = bytes.fromhex(segment.sha256)
    try:
        receipt = ports.target.put(segment.key, data, sha256=digest, retain_until=until)
    except ObjectExists:
        there = ports.beside.stat(segment.key).version_id
        same = replace(segment, version_id=there)
        fetch_segment(ports.beside, same)
        return same
    return replace(segment, version_id=receipt.version_id)


def _commit(ports: CopyPorts, manifest: Manifest, until: datetime | None) -> str:
    """Hex SHA-256 of the copy's manifest, put now or by an earlier attempt."""
    envelope = sign(manifest, ports.signing_key)
    key = manifest_key(manifest.database, manifest.backup)
    digest = hashlib.sha256(envelope)
    try:
        ports.target.put(key, envelope, sha256=digest.digest(), retain_until=until)
    except ObjectExists:
        trusted = [ports.signing_key.public_key()]
        found = read_manifest(ports.beside, manifest.database, manifest.backup, trusted)
        if found.manifest != manifest:
            raise Damaged(f"object {key} is the manifest of another copy") from None
        return found.sha256
    return digest.hexdigest()
