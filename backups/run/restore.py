"""Giving data back: from the manifest in the bucket, never from the catalog's word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backups.differing import Definitions, shown, texts_of, told
from backups.errors import RestoredInPart, VerificationFailed
from backups.format.age import Identity
from backups.format.fingerprint import differences, read
from backups.model import Fingerprint, Manifest, RestoreOptions, Source, Unrestored
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
    """A copy that equals what it is to contain, and bears its final name."""

    manifest: Manifest
    contains: Fingerprint
    """What the copy was compared with: its fingerprint, without what could not be made."""
    notes: tuple[str, ...]
    """What was done differently from the source, in words."""
    exceptions: tuple[Unrestored, ...]
    """What could not be made, or not in the form that the source has."""
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

    What could not be made is in `exceptions`: whoever calls this ends with `require_all`, once
    all is told and recorded. Raises what reading raises (Damaged, WrongKey, ObjectMissing), the
    engine's errors and VerificationFailed; in every such case nothing remains of the copy.
    """
    expected = read_fingerprint(ports, manifest, progress)

    def artifact(name: str) -> Blocks:
        return read_artifact(ports.store, manifest, name, ports.identities, progress)

    started = ports.clock.monotonic()
    with ports.engine.restore(target, options) as restoration:
        written = restoration.load(expected, artifact, progress)
        loaded = ports.clock.monotonic()
        progress("comparing with the fingerprint", 0, None)
        contained = restoration.fingerprint()
        require_equal(written.expected, contained, restoration.definitions)
        compared = ports.clock.monotonic()
        restoration.publish()
    return Restored(
        manifest=manifest,
        contains=written.expected,
        notes=written.notes,
        exceptions=written.exceptions,
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


def in_words(exceptions: Sequence[Unrestored]) -> tuple[str, ...]:
    """What could not be made, each thing with its reason; those of the source's own doing say
    so."""
    return tuple(
        f"{each.subject}: {each.reason}"
        + (" (the source has the same fault)" if each.at_source else "")
        for each in exceptions
    )


def summary(words: Sequence[str]) -> str:
    """All of them in one line, for a record; what is beyond the first 20 is counted."""
    more = f"; and {len(words) - NAMED} more" if len(words) > NAMED else ""
    things = "1 thing" if len(words) == 1 else f"{len(words)} things"
    return f"{things} could not be made as the source has it: {'; '.join(words[:NAMED])}{more}"


def require_all(words: Sequence[str]) -> None:
    """Raises RestoredInPart where a copy lacks something: the copy is there, and all of it was
    told before."""
    if words:
        raise RestoredInPart(f"restored, but {summary(words)}")


def require_equal(
    expected: Fingerprint, actual: Fingerprint, definitions: Definitions = lambda *_: None
) -> None:
    """Raises VerificationFailed naming what differs. The texts of definitions that differ are
    in its `texts`, not in its message, which is recorded (see `differing`)."""
    found = differences(expected, actual)
    if not found:
        return
    words, texts = [], []
    for difference in found[:NAMED]:
        both = texts_of(difference, definitions)
        wanted, seen = told(difference, both)
        words.append(
            f"{difference.check} of {difference.subject}: expected {wanted}, found {seen}"
        )
        texts.append(shown(difference.subject, both))
    more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
    error = VerificationFailed(
        f"the copy differs from its fingerprint in {len(found)} places: "
        f"{'; '.join(words)}{more}"
    )
    error.texts = "\n".join(filter(None, texts))
    raise error
