"""A backup of the operator's own catalog: its label, and the keys that it lies under. Pure.

FORMAT.md section 13. The catalog's file is cut into pieces; each is one zstd frame in one age
file, encrypted to the operator's recipients alone. The label is signed, names every piece, and
is put last: without it there is no backup.

    catalog/<yyyy-mm-dd>-<uuid>/<nnnnn>.age
    catalog/<yyyy-mm-dd>-<uuid>/label.dsse.json

With stock tools: `for p in */*.age; do age -d -i identity.txt "$p" | zstd -dc; done`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from pydantic import TypeAdapter, ValidationError

from backups.errors import Damaged, UnknownFormat
from backups.format import canonical, dsse
from backups.format.age import Opener, Recipient
from backups.format.payload import decrypt, encrypt
from backups.ports import Entropy

ROOT = "catalog/"
LABEL_TYPE = "application/vnd.bloomneo.backups.catalog.v1+json"
PIECE = 64 << 20
"""Plain bytes of a piece; the last one has what is left."""

_LABEL_KEY = re.compile(r"catalog/(\d{4}-\d\d-\d\d-[0-9a-f-]{36})/label\.dsse\.json")


@dataclass(frozen=True, slots=True)
class Piece:
    """One stored object."""

    plain_bytes: int
    sha256: str
    """Hex digest of the stored bytes."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a backup of the catalog consists of."""

    name: str
    """`<yyyy-mm-dd>-<uuid>`; sorts by time."""
    taken_at: str
    """ISO 8601 in UTC."""
    program_version: str
    schema_version: str
    """Of the catalog's tables: an older program can't use it."""
    pieces: tuple[Piece, ...]


_LABEL = TypeAdapter(Label)


def name_of(at: datetime, id_: str) -> str:
    """The name of a backup taken then; `id_` is a UUID version 7."""
    return f"{at.astimezone(UTC):%Y-%m-%d}-{id_}"


def label_key(name: str) -> str:
    """Where its label lies."""
    return f"{ROOT}{name}/label.dsse.json"


def piece_key(name: str, index: int) -> str:
    """Where a piece of it lies."""
    return f"{ROOT}{name}/{index:05}.age"


def name_in(key: str) -> str | None:
    """The name of the backup whose label lies there; None when none does."""
    match = _LABEL_KEY.fullmatch(key)
    return match[1] if match else None


def sign_label(label: Label, key: Ed25519PrivateKey) -> bytes:
    """The envelope that is put last."""
    return dsse.seal(canonical.dumps(asdict(label)), LABEL_TYPE, key)


def verify_label(envelope: bytes, name: str, keys: Iterable[Ed25519PublicKey]) -> Label:
    """The label of that very backup. Raises BadSignature, Damaged, UnknownFormat."""
    kind, payload = dsse.unseal(envelope, keys)
    if kind != LABEL_TYPE:
        raise UnknownFormat(f"this is not the label of a catalog's backup but {kind[:80]!r}")
    try:
        label = _LABEL.validate_json(payload, strict=True)
    except ValidationError:
        raise Damaged("the label is malformed") from None
    if canonical.dumps(asdict(label)) != payload or label.name != name:
        raise Damaged("the label is not canonical, or another backup's")
    if any(not 0 < piece.plain_bytes <= PIECE for piece in label.pieces):
        raise Damaged("the label names a piece of a size that none has")
    return label


def seal_piece(plain: bytes, recipients: Sequence[Recipient], entropy: Entropy) -> bytes:
    """One stored object. Raises ConfigError."""
    return encrypt(zstandard.ZstdCompressor().compress(plain), recipients, entropy)


def open_piece(stored: bytes, piece: Piece, identities: Sequence[Opener]) -> bytes:
    """Its plain bytes. Raises WrongKey, Damaged, UnknownFormat."""
    packed = b"".join(decrypt(stored, identities))
    try:
        # The frame says its size; the label, which is signed, is what is believed.
        if zstandard.frame_content_size(packed) != piece.plain_bytes:
            raise Damaged("a piece is not of the size in its label")
        return zstandard.ZstdDecompressor().decompress(packed)
    except zstandard.ZstdError as error:
        raise Damaged("a piece can't be decompressed") from error
