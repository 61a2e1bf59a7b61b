"""Giving data back: from the manifest in the bucket, never from the catalog's word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backups.errors import VerificationFailed
from backups.format.age import Identity
from backups.format.fingerprint import Difference, differences, read
from backups.model import Fingerprint, Manifest, RestoreOptions, Source
from backups.ports import Blocks, Clock, Engine, ObjectStore, Progress
from backups.run.reader import read_artifact

NAMED = 20
"""Differences listed in an error; the rest is counted."""


@dataclass(frozen=True, slots=True)
class RestorePorts:
    """What giving back needs; only this side holds identities."""

    clock: Clock
    engine: Engine
    store: ObjectStore
    identities: Sequence[Identity]


@dataclass(frozen=True, slots=True)
class Restored:
    """A copy that equals its fingerprint and bears its final name."""

    manifest: Manifest
    notes: tuple[str, ...]
    """What was done differently from the source, in words."""
    tables: int
    rows: int
    load_seconds: float
    check_seconds: float


def restore(
    ports: RestorePorts,
    manifest: Manifest,
    target: Source,
    options: RestoreOptions,
    progress: Progress,
) -> Restored:
    """Write a backup into `target`, compare it with its fingerprint, then name it.

    Raises what reading raises (Damaged, WrongKey, ObjectMissing), the engine's errors and
    VerificationFailed; in every such case nothing remains of the copy.
    """
    expected = read_fingerprint(ports, manifest, progress)

    def artifact(name: str) -> Blocks:
        return read_artifact(ports.store, manifest, name, ports.identities, progress)

    started = ports.clock.monotonic()
    with ports.engine.restore(target, options) as restoration:
        written = restoration.load(expected, artifact, progress)
        loaded = ports.clock.monotonic()
        progress("comparing with the fingerprint", 0, None)
        require_equal(written.expected, restoration.fingerprint())
        compared = ports.clock.monotonic()
        restoration.publish()
    return Restored(
        manifest=manifest,
        notes=written.notes,
        tables=len(written.expected.tables),
        rows=sum(table.rows for table in written.expected.tables),
        load_seconds=loaded - started,
        check_seconds=compared - loaded,
    )


def foresee(
    ports: RestorePorts,
    manifest: Manifest,
    target: Source,
    options: RestoreOptions,
    progress: Progress,
) -> tuple[str, ...]:
    """What the target lacks for this backup, in words; both are looked at, nothing is written.

    Raises what reading raises, and TargetRefused as `restore` would."""
    expected = read_fingerprint(ports, manifest, progress)
    with ports.engine.restore(target, options) as restoration:
        return restoration.lacks(expected)


def read_fingerprint(
    ports: RestorePorts, manifest: Manifest, progress: Progress
) -> Fingerprint:
    """What the source contained, decrypted and bound to its manifest. Raises Damaged."""
    blocks = read_artifact(ports.store, manifest, "fingerprint", ports.identities, progress)
    return read(b"".join(blocks), manifest.fingerprint_sha256)


def check(ports: RestorePorts, manifest: Manifest, progress: Progress) -> None:
    """Integrity check: every object the manifest names is read, authenticated and
    decompressed to its end. It proves the bytes, not that a database takes them."""
    read_fingerprint(ports, manifest, progress)
    for artifact in manifest.artifacts:
        blocks = read_artifact(ports.store, manifest, artifact.name, ports.identities, progress)
        for _ in blocks:
            pass


def require_equal(expected: Fingerprint, actual: Fingerprint) -> None:
    """Raises VerificationFailed naming what differs."""
    found = differences(expected, actual)
    if found:
        listed = "; ".join(_in_words(difference) for difference in found[:NAMED])
        more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise VerificationFailed(
            f"the copy differs from its fingerprint in {len(found)} places: {listed}{more}"
        )


def _in_words(difference: Difference) -> str:
    return (
        f"{difference.check} of {difference.subject}: "
        f"expected {difference.expected}, found {difference.actual}"
    )
