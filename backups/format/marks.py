"""Signed words about a backup: a hold, its release, a tombstone; and the keys they lie under.
Pure.

FORMAT.md section 12. Payload: canonical JSON of a dataclass of `backups.keeping`; envelope:
DSSE v1, as a manifest's. The payload type says which of the three it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from pydantic import TypeAdapter, ValidationError

from backups.errors import Damaged, UnknownFormat
from backups.format import canonical, dsse
from backups.format.manifest import manifest_key
from backups.ids import ID, check_id
from backups.keeping import Hold, Release, Tombstone

M = TypeVar("M", Hold, Release, Tombstone)
Mark = Hold | Release | Tombstone

_TYPES: Mapping[type[Mark], str] = {
    kind: f"application/vnd.bloomneo.backups.{kind.__name__.lower()}.v1+json"
    for kind in (Hold, Release, Tombstone)
}
_IDS = frozenset({"id", "hold", "customer", "database", "backup"})
_LINE = 4096
_KEY = re.compile(
    rf"v1/({ID.pattern})/({ID.pattern})/"
    rf"(?:(tombstone)|holds/({ID.pattern})(\.release)?)\.dsse\.json"
)


def hold_key(database: str, backup: str, hold: str) -> str:
    """Key of a hold. Raises UsageError for an id that is none."""
    return f"{_folder(database, backup)}holds/{check_id(hold, 'hold')}.dsse.json"


def release_key(database: str, backup: str, hold: str) -> str:
    """Key of a hold's release. Raises UsageError for an id that is none."""
    return f"{_folder(database, backup)}holds/{check_id(hold, 'hold')}.release.dsse.json"


def tombstone_key(database: str, backup: str) -> str:
    """Key of a backup's tombstone. Raises UsageError for an id that is none."""
    return f"{_folder(database, backup)}tombstone.dsse.json"


def key_of(mark: Mark) -> str:
    """The key that a mark lies under. Raises UsageError for an id that is none."""
    if isinstance(mark, Hold):
        return hold_key(mark.database, mark.backup, mark.id)
    if isinstance(mark, Release):
        return release_key(mark.database, mark.backup, mark.hold)
    return tombstone_key(mark.database, mark.backup)


def kind_of(key: str) -> type[Mark] | None:
    """What lies under a key; None when it is no mark's."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    return Tombstone if match[3] else Release if match[5] else Hold


def sign(mark: Mark, key: Ed25519PrivateKey) -> bytes:
    """The envelope's bytes; the same mark gives the same bytes.

    Raises Damaged when `verify` would refuse it.
    """
    kind = type(mark)
    try:
        envelope = dsse.seal(canonical.dumps(_payload(mark)), _TYPES[kind], key)
    except ValueError as error:
        raise Damaged(f"the {_name(kind)} holds what canonical JSON cannot") from error
    if verify(envelope, key_of(mark), [key.public_key()]) != mark:
        raise Damaged(f"the {_name(kind)} would not be read as it was written")
    return envelope


def verify(envelope: bytes, key: str, keys: Iterable[Ed25519PublicKey]) -> Mark:
    """The mark that was read from `key`, if one of `keys` signed these bytes for that very key.

    Raises Damaged, BadSignature, or UnknownFormat when it is signed but of another version.
    """
    kind = kind_of(key)
    if kind is None:
        raise Damaged(f"{key[:200]!r} is no key of a hold, a release or a tombstone")
    payload_type, payload = dsse.unseal(envelope, keys)
    if payload_type != _TYPES[kind]:
        raise UnknownFormat(f"the {_name(kind)} is of type {payload_type[:100]!r}")
    try:
        mark: Mark = TypeAdapter(kind).validate_json(payload, strict=True)
        same = canonical.dumps(_payload(mark)) == payload
    except (ValidationError, ValueError):
        same = False
    if not same or not _keeps_the_rules(mark) or key_of(mark) != key:
        raise Damaged(f"the {_name(kind)} does not keep the rules of version 1")
    return mark


def is_line(text: str) -> bool:
    """Whether a person's words may stand in a mark: one printable line, not empty."""
    return 0 < len(text) <= _LINE and text.isprintable()


def _payload(mark: Mark) -> dict[str, Any]:
    fields = asdict(mark)
    return {
        name: _instant(value) if isinstance(value, datetime) else value
        for name, value in fields.items()
    }


def _keeps_the_rules(mark: Mark) -> bool:
    fields = asdict(mark)
    ids = [value for name, value in fields.items() if name in _IDS]
    lines = [fields[name] for name in ("reason", "name") if name in fields]
    ends = isinstance(mark, Hold) and mark.until is not None and mark.until <= mark.placed_at
    return all(map(ID.fullmatch, ids)) and all(map(is_line, lines)) and not ends


def _instant(value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError("an instant without a time zone cannot be written")
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _folder(database: str, backup: str) -> str:
    return manifest_key(database, backup).removesuffix("manifest.dsse.json")


def _name(kind: type[Mark]) -> str:
    return kind.__name__.lower()
