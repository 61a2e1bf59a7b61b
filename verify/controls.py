"""Negative controls: damaged copies of a real backup, each of which a named check must reject.

An accident changes bytes: digests tell. A forger changes bytes, rewrites the manifest to
agree and signs it with a key that the test trusts: only what age binds into each segment
can tell. Nothing in the customer's store is touched: the copies are laid over it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backups.errors import BackupsError
from backups.format.age import Identity
from backups.format.manifest import context, sign
from backups.format.segment import SegmentBuilder
from backups.ids import uuid7
from backups.model import Artifact, Manifest, Segment, Source
from backups.ports import Entropy, Progress
from backups.proving import Drill, SelfTest, Trial
from backups.run.reader import fetch, fetch_segment, read_manifest
from verify.drill import DrillPorts, Subject, drill
from verify.meddle.registry import Meddling, NothingToChange
from verify.meter import Meter
from verify.overlay import Overlay

UNDAMAGED = "undamaged"
"""The copy that must pass: where everything is rejected, a rejection tells nothing."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What the copies are made of."""

    manifest: Manifest
    key: str
    """Of the manifest."""
    envelope: bytes
    forger: Ed25519PrivateKey
    """Trusted by the forged copies' tests, and by nobody else."""
    identities: Sequence[Identity]
    entropy: Entropy
    read: Callable[[Segment], bytes]

    def victim(self) -> tuple[Artifact, Segment]:
        """The last segment of the largest artifact."""
        artifact = max(self.manifest.artifacts, key=lambda each: each.stored_bytes)
        return artifact, artifact.segments[-1]


@dataclass(frozen=True, slots=True)
class Copy:
    """A backup as the test sees it."""

    changed: Mapping[str, bytes | None] = field(default_factory=dict)
    forged: bool = False
    """Signed with a key that the test trusts."""
    listed: bool = True
    """The catalog lists the forged manifest, too."""
    stranger: bool = False
    """Opened with an identity to which nothing was encrypted."""


@dataclass(frozen=True, slots=True)
class Control:
    """One kind of damage."""

    damage: str
    check: str
    make: Callable[[Bench], Copy | None]
    """None: this backup has nothing to be damaged so."""


# --- accidents ------------------------------------------------------------------------


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _header(bench: Bench) -> Copy:
    _, segment = bench.victim()
    return Copy({segment.key: _flipped(bench.read(segment), 30)})


def _payload(bench: Bench) -> Copy:
    _, segment = bench.victim()
    data = bench.read(segment)
    return Copy({segment.key: _flipped(data, len(data) - 20)})


def _cut(bench: Bench) -> Copy:
    _, segment = bench.victim()
    return Copy({segment.key: bench.read(segment)[:-1]})


def _dropped(bench: Bench) -> Copy:
    return Copy({bench.victim()[1].key: None})


def _swapped(bench: Bench) -> Copy:
    first, second = _pair(bench)
    return Copy({first.key: bench.read(second), second.key: bench.read(first)})


def _pair(bench: Bench) -> tuple[Segment, Segment]:
    artifact, last = bench.victim()
    others = [s for each in bench.manifest.artifacts for s in each.segments if s != last]
    return (artifact.segments[0] if len(artifact.segments) > 1 else others[0]), last


def _manifest(bench: Bench) -> Copy:
    # Within the payload: base64 stays base64.
    at = bench.envelope.index(b'"payload":"') + 40
    letter = b"B" if bench.envelope[at : at + 1] == b"A" else b"A"
    return Copy({bench.key: bench.envelope[:at] + letter + bench.envelope[at + 1 :]})


def _older(bench: Bench) -> Copy:
    """Signed, whole, and not the one that the catalog lists under this name."""
    day = timedelta(days=1)
    moved = replace(
        bench.manifest,
        snapshot_at=bench.manifest.snapshot_at - day,
        expires_at=bench.manifest.expires_at - day,
    )
    return Copy({bench.key: sign(moved, bench.forger)}, forged=True, listed=False)


def _wrong_key(_: Bench) -> Copy:
    return Copy(stranger=True)


# --- forgeries ------------------------------------------------------------------------


def _forged(bench: Bench, segments: Mapping[str, tuple[Segment, bytes]]) -> Copy:
    """A manifest that agrees with other bytes, by the key of the segment replaced."""

    def agreed(segment: Segment) -> Segment:
        if segment.key not in segments:
            return segment
        other, data = segments[segment.key]
        digest = hashlib.sha256(data).hexdigest()
        return replace(
            segment,
            plain_bytes=other.plain_bytes,
            stored_bytes=len(data),
            sha256=digest,
        )

    artifacts = tuple(
        replace(each, segments=tuple(map(agreed, each.segments)))
        for each in bench.manifest.artifacts
    )
    envelope = sign(replace(bench.manifest, artifacts=artifacts), bench.forger)
    changed: dict[str, bytes | None] = {key: data for key, (_, data) in segments.items()}
    return Copy({bench.key: envelope, **changed}, forged=True)


def _forged_header(bench: Bench) -> Copy:
    _, segment = bench.victim()
    return _forged(bench, {segment.key: (segment, _flipped(bench.read(segment), 30))})


def _forged_payload(bench: Bench) -> Copy:
    _, segment = bench.victim()
    data = bench.read(segment)
    return _forged(bench, {segment.key: (segment, _flipped(data, len(data) - 20))})


def _forged_swap(bench: Bench) -> Copy:
    first, second = _pair(bench)
    return _forged(
        bench,
        {first.key: (second, bench.read(second)), second.key: (first, bench.read(first))},
    )


def _forged_drop(bench: Bench) -> Copy | None:
    """The last segment was never there, says the manifest."""
    artifact, _ = bench.victim()
    if len(artifact.segments) == 1:
        return None
    artifacts = tuple(
        replace(each, segments=each.segments[:-1]) if each == artifact else each
        for each in bench.manifest.artifacts
    )
    envelope = sign(replace(bench.manifest, artifacts=artifacts), bench.forger)
    return Copy({bench.key: envelope}, forged=True)


def _strange_segment(bench: Bench) -> Copy:
    """Sealed for the same restore agent, and another customer's."""
    artifact, segment = bench.victim()
    where = context(bench.manifest, artifact, len(artifact.segments) - 1)
    builder = SegmentBuilder(
        [bench.identities[0].recipient],
        replace(where, customer="another-customer"),
        bench.entropy,
    )
    builder.write(b"what belongs to somebody else")
    built = builder.finish(last=True)
    other = replace(segment, plain_bytes=built.plain_bytes)
    return _forged(bench, {segment.key: (other, built.data)})


CONTROLS: Mapping[str, Control] = MappingProxyType(
    {
        "header flipped": Control("one bit of a segment's header", "downloaded", _header),
        "payload flipped": Control("one bit of a segment's payload", "downloaded", _payload),
        "tail cut": Control("a segment lacks its last byte", "present", _cut),
        "segment dropped": Control("a segment is gone", "present", _dropped),
        "segments swapped": Control(
            "two segments lie in each other's place", "present", _swapped
        ),
        "manifest flipped": Control("one letter of the manifest", "signed", _manifest),
        "older served as new": Control(
            "a manifest of the day before, rightly signed", "signed", _older
        ),
        "wrong key": Control("opened with a stranger's identity", "authentic", _wrong_key),
        "forged header": Control(
            "one bit of a header, with a manifest that agrees", "authentic", _forged_header
        ),
        "forged payload": Control(
            "one bit of a payload, with a manifest that agrees", "authentic", _forged_payload
        ),
        "forged swap": Control(
            "two segments swapped, with a manifest that agrees", "authentic", _forged_swap
        ),
        "forged end": Control(
            "an artifact without its last segment, with a manifest that agrees",
            "authentic",
            _forged_drop,
        ),
        "another customer's segment": Control(
            "sealed for the same restore agent, with a manifest that agrees",
            "authentic",
            _strange_segment,
        ),
    }
)
"""Damage at rest, by name; what is done to a restored copy stands in `verify.meddle`."""


# --- the test -------------------------------------------------------------------------


def self_test(
    ports: DrillPorts,
    subject: Subject,
    meddlings: Mapping[str, Meddling],
    entropy: Entropy,
    progress: Progress,
) -> SelfTest:
    """Every control on one backup. Raises nothing that the backup, the store or the scratch
    place cause: what could not be made is told in `error`."""
    began = ports.clock.now()
    trials: list[Trial] = []
    error = ""
    try:
        trials.append(_undamaged(_run(ports, subject, entropy, Copy(), None, progress)))
        bench = _bench(ports, subject, entropy)
        for name, control in CONTROLS.items():
            progress(f"control: {name}", len(trials), None)
            copy = control.make(bench)
            if copy is not None:
                found = _run(ports, subject, entropy, copy, bench, progress)
                trials.append(_judged(name, control.damage, control.check, found))
        for name, meddling in meddlings.items():
            progress(f"control: {name}", len(trials), None)
            try:
                found = _run(ports, subject, entropy, Copy(), bench, progress, meddling.change)
            except NothingToChange:
                continue
            trials.append(_judged(name, meddling.words, meddling.check, found))
    except BackupsError as problem:
        error = str(problem)
    return SelfTest(
        id=subject.id,
        customer=subject.entry.customer,
        database=subject.entry.database,
        backup=subject.entry.id,
        began_at=began,
        ended_at=ports.clock.now(),
        trials=tuple(trials),
        error=error,
    )


def _bench(ports: DrillPorts, subject: Subject, entropy: Entropy) -> Bench:
    entry = subject.entry
    found = read_manifest(ports.store, entry.database, entry.id, ports.verify_keys)
    return Bench(
        manifest=found.manifest,
        key=found.key,
        envelope=fetch(ports.store, found.key),
        forger=Ed25519PrivateKey.from_private_bytes(entropy.bytes(32)),
        identities=ports.identities,
        entropy=entropy,
        read=lambda segment: fetch_segment(ports.store, segment),
    )


def _run(
    ports: DrillPorts,
    subject: Subject,
    entropy: Entropy,
    copy: Copy,
    bench: Bench | None,
    progress: Progress,
    meddle: Callable[[Source], None] | None = None,
) -> Drill:
    altered = replace(ports, store=Overlay(ports.store, copy.changed), meter=Meter())
    tested = replace(subject, id=uuid7(ports.clock.now(), entropy.bytes(10)))
    if copy.stranger:
        altered = replace(altered, identities=(Identity.generate(entropy),))
    if copy.forged and bench is not None:
        envelope = copy.changed[bench.key] or b""
        altered = replace(altered, verify_keys=(bench.forger.public_key(),))
        if copy.listed:
            tested = replace(tested, manifest_sha256=hashlib.sha256(envelope).hexdigest())
    return drill(altered, tested, progress, meddle)


def _undamaged(found: Drill) -> Trial:
    by = "it passed" if found.verdict == "PASSED" else f"{found.verdict}: {found.reason}"
    return Trial(UNDAMAGED, "nothing at all", "", found.verdict == "PASSED", by)


def _judged(name: str, damage: str, check: str, found: Drill) -> Trial:
    rejected = [each for each in found.checks if each.passed is False]
    named = [each for each in rejected if each.name == check]
    caught = found.verdict == "FAILED" and bool(named)
    told = [*named, *rejected][:1]
    by = f"{told[0].name}: {told[0].actual}" if told else f"nothing: {found.verdict}"
    return Trial(name, damage, check, caught, by)
