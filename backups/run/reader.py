"""Reading a backup: nothing is released before the whole object it lies in was checked."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from backups.errors import BackupsError, Damaged, IntegrityError, NotFound, ObjectMissing
from backups.format.age import Identity
from backups.format.manifest import context, manifest_key, parse_manifest_key, verify
from backups.model import Artifact, Manifest, Segment
from backups.ports import Blocks, ObjectStore, Progress
from backups.run.rewrapped import Headers

AHEAD = 3
"""Segments fetched before they are needed; each is one object held in memory."""


def fetch(store: ObjectStore, key: str, version_id: str | None = None) -> bytes:
    """A whole object. Raises ObjectMissing."""
    with closing(store.open(key, version_id=version_id)) as body:
        return body.read()


def fetch_segment(store: ObjectStore, segment: Segment) -> bytes:
    """A segment's stored bytes, equal to what the manifest says. Raises Damaged."""
    data = fetch(store, segment.key, segment.version_id)
    if len(data) != segment.stored_bytes:
        raise _wrong_size(segment, len(data))
    if hashlib.sha256(data).hexdigest() != segment.sha256:
        raise Damaged(f"object {segment.key} does not have the digest in its manifest")
    return data


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest as it lies in a store, its signature checked."""

    key: str
    sha256: str
    """Hex digest of the envelope."""
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Unbelieved:
    """A manifest that is missing, damaged or signed by nobody we trust."""

    key: str
    error: BackupsError


def read_manifest(
    store: ObjectStore, database: str, backup: str, keys: Sequence[Ed25519PublicKey]
) -> Found:
    """The manifest of that backup, signed by one of `keys` and about that very backup.

    Raises ObjectMissing, BadSignature, Damaged, UnknownFormat; each names the object.
    """
    key = manifest_key(database, backup)
    envelope = fetch(store, key)
    try:
        manifest = verify(envelope, keys)
    except IntegrityError as error:
        raise named(error, key) from error
    if (manifest.database, manifest.backup) != (database, backup):
        raise Damaged(f"object {key} is the manifest of another backup")
    return Found(key, hashlib.sha256(envelope).hexdigest(), manifest)


def named(error: IntegrityError, key: str) -> IntegrityError:
    """The same error, saying which object it is about."""
    return type(error)(f"object {key}: {error}", hint=error.hint)


def require_whole(store: ObjectStore, manifest: Manifest) -> None:
    """Everything that the manifest names is there, in its size: no byte is read.

    Raises ObjectMissing or Damaged, naming an object.
    """
    folder = manifest_key(manifest.database, manifest.backup).rpartition("/")[0]
    sizes = {info.key: info.size for info in store.list(f"{folder}/")}
    for artifact in manifest.artifacts:
        for segment in artifact.segments:
            size = sizes.get(segment.key)
            if size is None:  # an earlier backup's, or gone
                size = store.stat(segment.key, version_id=segment.version_id).size
            if size != segment.stored_bytes:
                raise _wrong_size(segment, size)


def _wrong_size(segment: Segment, size: int) -> Damaged:
    return Damaged(
        f"object {segment.key} has {size} bytes, its manifest says {segment.stored_bytes}"
    )


def find_artifact(manifest: Manifest, name: str) -> Artifact:
    """The artifact of that name. Raises NotFound."""
    for artifact in manifest.artifacts:
        if artifact.name == name:
            return artifact
    raise NotFound(f"backup {manifest.backup} has no artifact {name!r}")


def read_artifact(
    store: ObjectStore,
    manifest: Manifest,
    name: str,
    identities: Sequence[Identity],
    progress: Progress,
) -> Blocks:
    """An artifact's plain bytes, in order, a few segments fetched ahead.

    Raises Damaged, WrongKey, ObjectMissing, each naming the object.
    """
    artifact = find_artifact(manifest, name)
    total, done = artifact.plain_bytes, 0
    headers = Headers(store, manifest.database, manifest.backup)
    for index, segment, data in fetched(store, artifact):
        expected = context(manifest, artifact, index)
        try:
            for block in headers.open(
                data, identities, expected, segment.key, segment.plain_bytes
            ):
                yield block
                done += len(block)
                progress(f"reading {name}", done, total)
        except IntegrityError as error:
            raise named(error, segment.key) from error


def fetched(store: ObjectStore, artifact: Artifact) -> Iterator[tuple[int, Segment, bytes]]:
    """Position, segment and stored bytes of each, a few fetched ahead. Raises Damaged."""
    pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="fetch")
    waiting: deque[tuple[int, Segment, Future[bytes]]] = deque()
    todo = iter(enumerate(artifact.segments))
    try:
        while True:
            while len(waiting) < AHEAD and (following := next(todo, None)) is not None:
                index, segment = following
                waiting.append((index, segment, pool.submit(fetch_segment, store, segment)))
            if not waiting:
                return
            index, segment, future = waiting.popleft()
            yield index, segment, future.result()
            del future  # the bytes go with it
    finally:
        pool.shutdown(cancel_futures=True)


def list_manifests(
    store: ObjectStore, keys: Sequence[Ed25519PublicKey]
) -> Iterator[Found | Unbelieved]:
    """Every manifest in the store, by key."""
    for info in store.list("v1/"):
        place = parse_manifest_key(info.key)
        if place is None:
            continue
        try:
            yield read_manifest(store, *place, keys)
        except (IntegrityError, ObjectMissing) as error:
            yield Unbelieved(info.key, error)
