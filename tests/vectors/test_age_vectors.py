"""The C2SP CCTV vectors of age v1: what must open, what must not, and how far.

The product opens X25519 only. Passphrases and the post-quantum type appear here, in the
test, so that all binary vectors run against the product's header and payload code.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from backups.errors import Damaged, IntegrityError, UnknownFormat, WrongKey
from backups.format.age import Header, Identity, Opener, Stanza, decode64
from backups.format.bech32 import bech32_decode
from backups.format.payload import Encryptor, Source, decrypt, decrypt_chunks

BINARY = 110
"""Vectors that are not ASCII armor, in the release of the kit that the gate installs."""


@dataclass(frozen=True)
class Passphrase:
    text: bytes

    def unwrap(self, stanza: Stanza) -> bytes | None:
        if stanza.args[0] != "scrypt":
            return None
        if len(stanza.args) != 3 or len(stanza.body) != 32:
            raise Damaged("malformed scrypt stanza")
        salt = decode64(stanza.args[1].encode(), 16)
        if not re.fullmatch("[1-9][0-9]?", stanza.args[2]) or int(stanza.args[2]) > 18:
            raise Damaged("work factor out of range")
        key = Scrypt(b"age-encryption.org/v1/scrypt" + salt, 32, 2 ** int(stanza.args[2]), 8, 1)
        try:
            cipher = ChaCha20Poly1305(key.derive(self.text))
            return cipher.decrypt(bytes(12), stanza.body, None)
        except InvalidTag:
            return None


@dataclass(frozen=True)
class Hybrid:
    seed: bytes

    def unwrap(self, stanza: Stanza) -> bytes | None:
        if stanza.args[0] != "mlkem768x25519":
            return None
        if len(stanza.args) != 2 or len(stanza.body) != 32:
            raise Damaged("malformed hybrid stanza")
        share = decode64(stanza.args[1].encode(), 1120)
        seeds = hashlib.shake_256(self.seed).digest(96)
        x25519 = X25519PrivateKey.from_private_bytes(seeds[64:])
        try:
            x25519.exchange(X25519PublicKey.from_public_bytes(share[1088:]))
        except ValueError:
            raise Damaged("low order") from None
        key = hpke.MLKEM768X25519PrivateKey(
            MLKEM768PrivateKey.from_seed_bytes(seeds[:64]), x25519
        )
        suite = hpke.Suite(
            hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305
        )
        try:
            return suite.decrypt(share + stanza.body, key, b"age-encryption.org/mlkem768x25519")
        except InvalidTag:
            return None


@dataclass(frozen=True)
class Vector:
    name: str
    expect: str
    file_key: bytes
    payload: str | None
    openers: tuple[Opener, ...]
    file: bytes


class Trickle:
    """A stream that gives a few bytes at a time, as networks do."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data, self._step, self._at = data, step, 0

    def read(self, size: int = -1, /) -> bytes:
        step = self._step if size < 0 else min(size, self._step)
        piece = self._data[self._at : self._at + step]
        self._at += len(piece)
        return piece

    def close(self) -> None:
        pass


def read(path: Path) -> Vector | None:
    head, _, file = path.read_bytes().partition(b"\n\n")
    lines = [line.split(": ", 1) for line in head.decode().splitlines()]
    fields = dict(lines)
    if "armored" in fields:
        return None
    if fields.get("compressed") == "zlib":
        file = zlib.decompress(file)
    openers: list[Opener] = []
    for name, value in lines:
        if name == "passphrase":
            openers.append(Passphrase(value.encode()))
        elif name == "identity" and (seed := bech32_decode("age-secret-key-pq-", value)):
            openers.append(Hybrid(seed))
        elif name == "identity":
            openers.append(Identity.parse(value))
    file_key = bytes.fromhex(fields["file key"])
    payload = fields.get("payload")
    return Vector(path.name, fields["expect"], file_key, payload, tuple(openers), file)


@pytest.fixture(scope="module")
def vectors(age_vectors: Path) -> list[Vector]:
    found = [vector for path in sorted(age_vectors.iterdir()) if (vector := read(path))]
    assert len(found) == BINARY, f"{age_vectors} should hold {BINARY} binary vectors"
    return found


def outcome(source: Source, openers: tuple[Opener, ...]) -> tuple[str, bytes | None, bytes]:
    """What the kit calls the result, the file key, and all plain bytes released."""
    released = bytearray()
    file_key = None
    stage = "header failure"
    try:
        header = source.header()
        file_key = header.unwrap(openers)
        stage = "HMAC failure"
        header.authenticate(file_key)
        stage = "header failure"
        chunks = decrypt_chunks(source, file_key)
        stage = "payload failure"
        for chunk in chunks:
            released += chunk
    except WrongKey:
        return "no match", None, bytes(released)
    except (Damaged, UnknownFormat):
        return stage, file_key, bytes(released)
    return "success", file_key, bytes(released)


@pytest.mark.parametrize("step", [None, 1000, 65_552], ids=["whole", "trickle", "chunks"])
def test_every_binary_vector_ends_as_the_kit_says(
    vectors: list[Vector], step: int | None
) -> None:
    seen: Counter[str] = Counter()
    for vector in vectors:
        source = (
            Source(vector.file) if step is None else Source(body=Trickle(vector.file, step))
        )
        ended, file_key, released = outcome(source, vector.openers)
        assert ended == vector.expect, vector.name
        assert file_key in (None, vector.file_key), vector.name
        if vector.payload is None:
            assert not released, vector.name
        else:
            assert hashlib.sha256(released).hexdigest() == vector.payload, vector.name
        seen[ended] += 1
    assert seen == {
        "success": 19, "header failure": 60, "HMAC failure": 1, "no match": 12,
        "payload failure": 18,
    }  # fmt: skip


def test_the_one_call_agrees(vectors: list[Vector]) -> None:
    for vector in vectors:
        if vector.expect == "success":
            plain = b"".join(decrypt(vector.file, vector.openers))
            assert hashlib.sha256(plain).hexdigest() == vector.payload, vector.name
        else:
            with pytest.raises(IntegrityError):
                b"".join(decrypt(vector.file, vector.openers))


def test_what_was_read_is_written_the_same(vectors: list[Vector]) -> None:
    for vector in vectors:
        if vector.expect == "header failure":
            continue
        header = Header.parse(vector.file)
        lines = header.raw.splitlines(keepends=True)
        stanzas = b"".join(stanza.encode() for stanza in header.stanzas)
        assert header.raw == lines[0] + stanzas + lines[-1], vector.name


def test_encryption_gives_the_kits_own_bytes(vectors: list[Vector]) -> None:
    for vector in vectors:
        if vector.expect != "success":
            continue
        plain = b"".join(decrypt(vector.file, vector.openers))
        payload = vector.file[len(Header.parse(vector.file).raw) :]
        encryptor = Encryptor(vector.file_key, payload[:16])
        sealed = [
            encryptor.update(plain[at : at + 99_999]) for at in range(0, len(plain), 99_999)
        ]
        assert b"".join([*sealed, encryptor.finish()]) == payload, vector.name
