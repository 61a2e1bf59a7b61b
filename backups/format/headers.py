"""Rotation: new recipients for stored segments, without touching a payload.

A new header wraps the same file key for others and keeps the context; all of a backup's
new headers lie in one bundle beside it (FORMAT.md section 4). It revokes nothing: the old
header stays where it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from backups.errors import Damaged, UnknownFormat
from backups.format import canonical
from backups.format.age import MAX_HEADER, Buffer, Header, Opener, Recipient
from backups.format.segment import SegmentHeader, find_context
from backups.ports import Entropy

MAX_BUNDLE = 256 << 20
"""Bytes; a larger bundle is refused unread."""

_FORMAT = "bloomneo-backups/v1"


def stored_header(front: Buffer) -> SegmentHeader:
    """A stored segment's own header; its first 64 KiB are enough.

    Raises UnknownFormat, Damaged."""
    raw = Header.parse(front).raw
    return SegmentHeader(raw, skip=len(raw))


def rewrap(
    current: SegmentHeader,
    identities: Iterable[Opener],
    recipients: Iterable[Recipient],
    entropy: Entropy,
) -> SegmentHeader:
    """A new header for the same payload and place, for these recipients only.

    `current` is the object's own or an earlier replacement.
    Raises UnknownFormat, WrongKey, Damaged; ConfigError for unusable recipients.
    """
    old = Header.parse(current.raw)
    file_key = old.open(identities)
    new = Header.build(file_key, recipients, entropy, (find_context(old),))
    return SegmentHeader(new.raw, current.skip)


def write_bundle(backup: str, headers: Mapping[str, SegmentHeader]) -> bytes:
    """The content of `headers-<n>.age-bundle`: every segment's new header by its key."""
    entries = {
        key: {"header": header.raw.decode("ascii"), "skip": header.skip}
        for key, header in headers.items()
    }
    bundle = {"v": 1, "format": _FORMAT, "backup": backup, "headers": entries}
    return canonical.dumps(bundle) + b"\n"


def read_bundle(data: bytes, backup: str) -> dict[str, SegmentHeader]:
    """The headers in a bundle of that backup. They prove themselves when they are used:
    one that has not the segment's file key and context does not open it.

    Raises Damaged, UnknownFormat.
    """
    if len(data) > MAX_BUNDLE:
        raise Damaged(f"the bundle is larger than {MAX_BUNDLE} bytes")
    try:
        bundle = json.loads(data)
    except (ValueError, RecursionError):
        raise Damaged("the bundle is not JSON") from None
    if not isinstance(bundle, dict) or (bundle.get("format"), bundle.get("v")) != (_FORMAT, 1):
        raise UnknownFormat("the bundle is of a format this program can't read")
    if bundle.get("backup") != backup:
        raise Damaged("the bundle belongs to another backup")
    try:
        headers = {
            key: SegmentHeader(_header(entry["header"]), _skip(entry["skip"]))
            for key, entry in bundle["headers"].items()
        }
        same = write_bundle(backup, headers) == data
    except (ValueError, KeyError, TypeError, AttributeError):
        same = False
    if not same:
        raise Damaged("the bundle is not as this program writes it")
    return headers


def _header(text: str) -> bytes:
    return text.encode("ascii")


def _skip(value: object) -> int:
    if type(value) is not int or not 0 < value <= MAX_HEADER:
        raise ValueError("not the length of a header")
    return value
