"""The manifest: what a backup is, signed; and the keys that objects have. Pure.

FORMAT.md sections 2 and 5. Payload: canonical JSON of `model.Manifest`; envelope: DSSE v1.
The payload type carries the version and is covered by the signature.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from pydantic import TypeAdapter, ValidationError

from backups.errors import Damaged, UnknownFormat
from backups.format import canonical, dsse
from backups.ids import ID, check_id
from backups.model import Artifact, Context, Manifest, Segment

PAYLOAD_TYPE = "application/vnd.bloomneo.backups.manifest.v1+json"
FINGERPRINT = "fingerprint"
"""Name of the artifact that every backup has, whatever its engine."""

MAX_NUMBER = 9_999_999
MAX_PLAIN = 1 << 30
MAX_STORED = 128 << 20

_ID = ID.pattern
_SEGMENT_KEY = re.compile(rf"v1/({_ID})/({_ID})/([0-9]{{5}}|[1-9][0-9]{{5,6}})\.age")
_MANIFEST_KEY = re.compile(rf"v1/({_ID})/({_ID})/manifest\.dsse\.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# No quotes, backslashes or brackets: the stock-tool recipe finds fields by pattern.
_VERSION_ID = re.compile(r'[^\x00-\x20"\[\\\]\x7f-\U0010ffff]{1,1024}')
_MANIFEST = TypeAdapter(Manifest)


# --- keys of objects ------------------------------------------------------------------


def segment_key(database: str, backup: str, number: int) -> str:
    """Key of a segment; `number` counts from 0 over the whole backup.

    Raises UsageError for an id that is none, ValueError for a number out of range.
    """
    if not 0 <= number <= MAX_NUMBER:
        raise ValueError(f"a backup has no segment number {number}")
    return f"{_folder(database, backup)}/{number:05}.age"


def manifest_key(database: str, backup: str) -> str:
    """Key of a backup's manifest. Raises UsageError for an id that is none."""
    return f"{_folder(database, backup)}/manifest.dsse.json"


def parse_segment_key(key: str) -> tuple[str, str, int] | None:
    """Database, backup and number; None when it is not a segment's key."""
    match = _SEGMENT_KEY.fullmatch(key)
    return (match[1], match[2], int(match[3])) if match else None


def parse_manifest_key(key: str) -> tuple[str, str] | None:
    """Database and backup; None when it is not a manifest's key."""
    match = _MANIFEST_KEY.fullmatch(key)
    return (match[1], match[2]) if match else None


def _folder(database: str, backup: str) -> str:
    return f"v1/{check_id(database, 'database')}/{check_id(backup, 'backup')}"


# --- signing and reading --------------------------------------------------------------


def sign(manifest: Manifest, key: Ed25519PrivateKey) -> bytes:
    """The envelope's bytes, ready to be put.

    Raises Damaged when `verify` would refuse it: what cannot be read is never written.
    """
    try:
        envelope = dsse.seal(canonical.dumps(payload_of(manifest)), PAYLOAD_TYPE, key)
    except ValueError as error:
        raise Damaged("the manifest holds what canonical JSON cannot") from error
    if verify(envelope, [key.public_key()]) != manifest:
        raise Damaged("the manifest would not be read as it was written")
    return envelope


def verify(envelope: bytes, keys: Iterable[Ed25519PublicKey]) -> Manifest:
    """The manifest, if one of `keys` signed these bytes and it keeps every rule.

    That it is of the very backup that was asked for, the caller compares: it may have been
    moved. Raises Damaged, BadSignature, or UnknownFormat when it is signed but of another
    version.
    """
    payload_type, payload = dsse.unseal(envelope, keys)
    if payload_type != PAYLOAD_TYPE:
        raise UnknownFormat(f"the manifest is of type {payload_type[:100]!r}")
    try:
        manifest = _MANIFEST.validate_json(payload, strict=True)
        same = canonical.dumps(payload_of(manifest)) == payload
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise Damaged(f"the manifest's field {where or 'list'} is wrong or missing") from None
    except ValueError:
        same = False
    if not same:
        raise Damaged("the manifest is not canonical JSON of the fields of version 1")
    for broken in _broken_rules(manifest):
        raise Damaged(f"the manifest breaks a rule: {broken}")
    return manifest


def payload_of(manifest: Manifest) -> dict[str, Any]:
    """The fields of the payload, as JSON has them (FORMAT.md section 5)."""
    fields: dict[str, Any] = _MANIFEST.dump_python(manifest)
    for name in ("snapshot_at", "expires_at"):
        fields[name] = _instant(fields[name])
    return fields


def context(manifest: Manifest, artifact: Artifact, index: int) -> Context:
    """What the header of `artifact.segments[index]` must say."""
    parsed = parse_segment_key(artifact.segments[index].key)
    if parsed is None:
        raise Damaged(f"{artifact.segments[index].key[:200]!r} is not a segment's key")
    return Context(
        customer=manifest.customer,
        database=manifest.database,
        backup=parsed[1],
        artifact=artifact.name,
        index=index,
        last=index == len(artifact.segments) - 1,
        engine=manifest.engine,
    )


def _instant(value: datetime) -> str:
    if value.tzinfo is None:
        raise Damaged("an instant without a time zone cannot be written")
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


# --- rules ----------------------------------------------------------------------------


def _broken_rules(manifest: Manifest) -> Iterable[str]:
    """Each rule of FORMAT.md section 5 that the manifest breaks, in words."""
    ids = (manifest.customer, manifest.database, manifest.backup, manifest.engine)
    versions = (manifest.server_version, manifest.tool_version, manifest.program_version)
    lines = (manifest.position, *versions, *manifest.warnings)
    digests = [manifest.fingerprint_sha256, *manifest.recipients]
    digests += [] if manifest.previous is None else [manifest.previous]
    names = [artifact.name for artifact in manifest.artifacts]
    segments = [segment for artifact in manifest.artifacts for segment in artifact.segments]
    rules = {
        "customer, database, backup and engine are ids": all(map(ID.fullmatch, ids)),
        "a text is one line of at most 4096 characters": all(map(_is_line, lines)),
        "there are at most 1000 warnings": len(manifest.warnings) <= 1000,
        "it expires after its snapshot": manifest.snapshot_at < manifest.expires_at,
        "policy_version is in range": 0 <= manifest.policy_version < 1 << 31,
        "digests are SHA-256 in hex": all(map(_SHA256.fullmatch, digests)),
        "there are recipients, sorted and different": bool(manifest.recipients)
        and list(manifest.recipients) == sorted(set(manifest.recipients)),
        "artifact names are different ids": len(names) == len(set(names))
        and all(map(ID.fullmatch, names)),
        "there is a fingerprint": FINGERPRINT in names,
        "every artifact has segments": all(
            artifact.segments for artifact in manifest.artifacts
        ),
        "no segment is named twice": len({s.key for s in segments}) == len(segments),
    }
    yield from (rule for rule, kept in rules.items() if not kept)
    for segment in segments:
        yield from _broken_segment_rules(segment, manifest.database)


def _broken_segment_rules(segment: Segment, database: str) -> Iterable[str]:
    parsed = parse_segment_key(segment.key)
    rules = {
        "its key is a segment's, of this database": parsed and parsed[0] == database,
        "its sizes are in range": 0 <= segment.plain_bytes <= MAX_PLAIN
        and 1 <= segment.stored_bytes <= MAX_STORED,
        "its digest is SHA-256 in hex": _SHA256.fullmatch(segment.sha256),
        "its version id is plain text": segment.version_id is None
        or _VERSION_ID.fullmatch(segment.version_id),
    }
    for rule, kept in rules.items():
        if not kept:
            yield f"of segment {segment.key[:200]!r}: {rule}"


def _is_line(text: str) -> bool:
    return len(text) <= 4096 and (text == "" or text.isprintable())
