"""A store's listing against its manifests: what is there, what should be, what nobody names.
Pure; `scrub` does the looking."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

from backups.format.manifest import context, manifest_key, parse_manifest_key, parse_segment_key
from backups.format.marks import kind_of as mark_of
from backups.ids import ID
from backups.model import Context, Finding, Manifest, ObjectInfo, Segment

NAMED = 20
"""Findings of one kind that are named for one backup; the rest of them is counted."""

_ID = ID.pattern
_BUNDLE = re.compile(rf"v1/{_ID}/{_ID}/headers-[1-9][0-9]{{0,8}}\.age-bundle")
_KEPT = re.compile(r"v1/(?:enrolment|reports|audit)/.+", re.DOTALL)


# --- keys -----------------------------------------------------------------------------


def folder_of(key: str) -> str:
    """`v1/<database>/<backup>/`, what a listing comes in; elsewhere the key itself."""
    parts = key.split("/", 3)
    return "/".join(parts[:3]) + "/" if len(parts) == 4 else key


def manifest_beside(key: str) -> str:
    """The key of the manifest in the same folder."""
    return f"{folder_of(key)}manifest.dsse.json"


def is_foreign(key: str) -> bool:
    """Whether nothing of ours is ever named so (FORMAT.md section 2, DESIGN section 4)."""
    ours = (parse_segment_key, parse_manifest_key, mark_of, _BUNDLE.fullmatch, _KEPT.fullmatch)
    return not any(is_one(key) for is_one in ours)


def unnamed(there: Iterable[ObjectInfo], manifest: Manifest | None) -> Iterator[ObjectInfo]:
    """Parts of backups in one folder that its own manifest does not name. Headers need no
    naming: they go with the manifest."""
    names = {segment.key for segment in segments_of(manifest)} if manifest else set[str]()
    for info in there:
        segment = parse_segment_key(info.key) is not None
        if (segment and info.key not in names) or (
            manifest is None and _BUNDLE.fullmatch(info.key)
        ):
            yield info


def orphans_of(
    unnamed: Iterable[ObjectInfo], named: Container[str], spared: Container[str]
) -> list[ObjectInfo]:
    """Those that are not `named` from elsewhere, and whose backup's manifest is not among the
    `spared`."""
    return [
        info
        for info in unnamed
        if info.key not in named and manifest_beside(info.key) not in spared
    ]


# --- what a manifest promises ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """A segment that is not listed as its manifest says."""

    kind: str
    """missing or altered."""
    segment: Segment
    words: str


def segments_of(manifest: Manifest) -> Iterator[Segment]:
    """Every segment that it names, of whichever backup."""
    for artifact in manifest.artifacts:
        yield from artifact.segments


def differences(
    there: Mapping[str, ObjectInfo], segments: Iterable[Segment]
) -> Iterator[Difference]:
    """Where the listing differs. Versions and digests count where both sides know them."""
    for segment in segments:
        info = there.get(segment.key)
        if info is None:
            yield Difference("missing", segment, "its manifest names it, and it is gone")
        elif info.size != segment.stored_bytes:
            words = f"it has {info.size} bytes, its manifest says {segment.stored_bytes}"
            yield Difference("altered", segment, words)
        elif info.version_id and segment.version_id and info.version_id != segment.version_id:
            words = "another version than its manifest names lies on top"
            yield Difference("altered", segment, words)
        elif (
            info.checksum.startswith("sha256:") and info.checksum != f"sha256:{segment.sha256}"
        ):
            words = "the store gives another digest than its manifest"
            yield Difference("altered", segment, words)


# --- samples --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Drawable:
    """A segment that may be read as a sample, and what its header must say."""

    rank: bytes
    segment: Segment
    context: Context


def drawable(manifest: Manifest, wrong: Container[str], seed: str) -> Iterator[Drawable]:
    """A backup's own segments, but for those known to be wrong already.

    The sample is those of the lowest rank, SHA-256 over seed and key. With a scrub's random
    id as its seed nobody knows beforehand what is drawn, and anybody can tell afterwards.
    """
    folder = folder_of(manifest_key(manifest.database, manifest.backup))
    for artifact in manifest.artifacts:
        for index, segment in enumerate(artifact.segments):
            if segment.key.startswith(folder) and segment.key not in wrong:
                rank = hashlib.sha256(f"{seed} {segment.key}".encode()).digest()
                yield Drawable(rank, segment, context(manifest, artifact, index))


# --- findings -------------------------------------------------------------------------


class Tally:
    """Findings as they come: of many alike in one folder the first are named, the rest
    counted, so that an emptied bucket does not fill the memory and the catalog."""

    def __init__(self) -> None:
        self._named: list[Finding] = []
        self._count: dict[tuple[str, str], tuple[int, int]] = {}

    def add(self, kind: str, subject: str, words: str, size: int = 0) -> None:
        """`subject` may be any key that a store lists: it is made fit to be printed."""
        group = _group(kind, subject)
        count, total = self._count.get(group, (0, 0))
        if count < NAMED:
            self._named.append(Finding(kind, printable(subject), words, size))
            size = 0
        self._count[group] = count + 1, total + size

    def names(self, kind: str, subject: str) -> bool:
        """Whether one more of them would be named."""
        return self._count.get(_group(kind, subject), (0, 0))[0] < NAMED

    def findings(self) -> tuple[Finding, ...]:
        """Those named, then what was counted only."""
        rest = (
            Finding(kind, printable(folder), f"and {count - NAMED} more alike", total)
            for (kind, folder), (count, total) in self._count.items()
            if count > NAMED
        )
        return (*self._named, *rest)


def _group(kind: str, subject: str) -> tuple[str, str]:
    # What is foreign has no folders of ours: there may be as many as objects.
    return kind, "v1/" if kind == "foreign" else folder_of(subject)


def printable(key: str) -> str:
    """A key on one line of at most 300 characters, whoever chose it."""
    plain = key if key.isascii() and key.isprintable() else ascii(key)[1:-1]
    return plain if len(plain) <= 300 else f"{plain[:297]}..."
