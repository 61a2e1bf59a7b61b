"""The audit chain: what was done, by whom, in an order nobody can rewrite unnoticed. Pure.

Each record has a leaf, the SHA-256 of its salt and of its content, and a digest over the
leaf, its place, its instant and the digest before it. Whoever holds a later head can check
every earlier record. Only leaves go into the digests: a chain can be shown to a customer with
the content of that customer's records alone, and the random salt keeps the others from being
guessed (RFC 9162 has the same idea of a leaf; a list is enough here, since a head is
published daily and records are few).

The head is a DSSE envelope like a manifest's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from pydantic import TypeAdapter, ValidationError

from backups.errors import Damaged, UnknownFormat
from backups.format import canonical, dsse
from backups.keeping import FIRST, Record

HEAD_TYPE = "application/vnd.bloomneo.backups.audit-head.v1+json"
_HEAD_KEY = re.compile(r"v1/audit/\d{4}-\d{2}-\d{2}\.head")


def leaf(record: Record) -> str:
    """Hex SHA-256 of the salt and the content."""
    content = canonical.dumps(
        {
            "action": record.action,
            "actor": record.actor,
            "customer": record.customer,
            "details": dict(record.details),
            "subject": record.subject,
        }
    )
    return hashlib.sha256(bytes.fromhex(record.salt) + content).hexdigest()


def digest(record: Record) -> str:
    """Hex SHA-256 that the next record and the head build on."""
    return chained(record.sequence, record.at, leaf(record), record.previous)


def chained(sequence: int, at: datetime, leaf_: str, previous: str) -> str:
    """The digest of a record of which only the leaf is known."""
    link = {"at": text_of(at), "leaf": leaf_, "previous": previous, "sequence": sequence}
    return hashlib.sha256(canonical.dumps(link)).hexdigest()


@dataclass(frozen=True, slots=True)
class Head:
    """How far the chain reached when it was published."""

    at: str
    """When it was published, ISO 8601 in UTC."""
    digest: str
    """Of the last record; of an empty chain `FIRST`."""
    sequence: int
    """Of the last record; of an empty chain 0."""


_HEAD = TypeAdapter(Head)


def follow(records: Iterable[Record]) -> Iterator[Record]:
    """The records, each after it was checked against the one before.

    Raises Damaged, naming the first record that does not follow."""
    sequence, previous = 0, FIRST
    for record in records:
        if record.sequence != sequence + 1:
            raise Damaged(f"audit record {sequence + 1} is gone: {record.sequence} follows")
        if record.previous != previous:
            raise Damaged(f"audit record {record.sequence} or the one before it was changed")
        yield record
        sequence, previous = record.sequence, digest(record)


def sign_head(head: Head, key: Ed25519PrivateKey) -> bytes:
    """The envelope that is published."""
    return dsse.seal(canonical.dumps(asdict(head)), HEAD_TYPE, key)


def verify_head(envelope: bytes, keys: Sequence[Ed25519PublicKey]) -> Head:
    """Raises BadSignature, Damaged, UnknownFormat."""
    kind, payload = dsse.unseal(envelope, keys)
    if kind != HEAD_TYPE:
        raise UnknownFormat(f"this is not the head of an audit chain but {kind[:80]!r}")
    try:
        head = _HEAD.validate_json(payload, strict=True)
    except ValidationError:
        raise Damaged("the head of the audit chain is malformed") from None
    if canonical.dumps(asdict(head)) != payload:
        raise Damaged("the head of the audit chain is not canonical")
    return head


def head_key(at: datetime) -> str:
    """Where the head of that day lies in a store."""
    return f"v1/audit/{at.astimezone(UTC):%Y-%m-%d}.head"


def is_head_key(key: str) -> bool:
    """Whether a head may lie there."""
    return _HEAD_KEY.fullmatch(key) is not None


def text_of(at: datetime) -> str:
    """An instant as heads and links have it."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
