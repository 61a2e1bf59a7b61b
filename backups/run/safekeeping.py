"""The operator's own catalog, into the operator's own store and back: it knows every customer,
so it never goes to one of theirs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from backups import __version__
from backups.errors import Damaged, IntegrityError, NotFound, ObjectMissing
from backups.format.age import Identity, Recipient
from backups.format.audit import text_of
from backups.format.catalog import (
    PIECE,
    ROOT,
    Label,
    Piece,
    label_key,
    name_in,
    name_of,
    open_piece,
    piece_key,
    seal_piece,
    sign_label,
    verify_label,
)
from backups.ids import uuid7
from backups.ports import Clock, Entropy, ObjectStore
from backups.run.reader import Unbelieved, fetch, named


@dataclass(frozen=True, slots=True)
class SafePorts:
    """What storing the catalog needs. Nothing in it can decrypt."""

    clock: Clock
    entropy: Entropy
    store: ObjectStore
    signing_key: Ed25519PrivateKey
    recipients: Sequence[Recipient]


def store_catalog(ports: SafePorts, file: BinaryIO, schema_version: str) -> Label:
    """Store a snapshot of the catalog; it is one once its label, put last, is there.

    Raises StoreError's kinds.
    """
    now = ports.clock.now()
    name = name_of(now, uuid7(now, ports.entropy.bytes(10)))
    pieces: list[Piece] = []
    while plain := file.read(PIECE):
        stored = seal_piece(plain, ports.recipients, ports.entropy)
        digest = hashlib.sha256(stored)
        ports.store.put(piece_key(name, len(pieces)), stored, sha256=digest.digest())
        pieces.append(Piece(len(plain), digest.hexdigest()))
    label = Label(name, text_of(now), __version__, schema_version, tuple(pieces))
    ports.store.put(label_key(name), sign_label(label, ports.signing_key))
    return label


def find_catalog(
    store: ObjectStore, keys: Sequence[Ed25519PublicKey]
) -> tuple[Label, list[Unbelieved]]:
    """The newest one that is believed, and newer ones that are not.

    Raises NotFound, with what was not believed, when there is none.
    """
    names = (name_in(info.key) for info in store.list(ROOT))
    unbelieved: list[Unbelieved] = []
    for name in sorted(filter(None, names), reverse=True):
        key = label_key(name)
        try:
            return verify_label(fetch(store, key), name, keys), unbelieved
        except (IntegrityError, ObjectMissing) as error:
            unbelieved.append(Unbelieved(key, error))
    if unbelieved:
        raise unbelieved[0].error
    raise NotFound(
        "no backup of a catalog lies in this store",
        hint="`backups catalog rebuild` makes one anew from the customers' stores.",
    )


def fetch_catalog(
    store: ObjectStore, label: Label, identities: Sequence[Identity], file: BinaryIO
) -> None:
    """Write the snapshot. Raises Damaged, WrongKey, ObjectMissing, naming the object; what
    was written until then is of no use."""
    for index, piece in enumerate(label.pieces):
        key = piece_key(label.name, index)
        stored = fetch(store, key)
        if hashlib.sha256(stored).hexdigest() != piece.sha256:
            raise Damaged(f"object {key} does not have the digest in its label")
        try:
            file.write(open_piece(stored, piece, identities))
        except IntegrityError as error:
            raise named(error, key) from error
