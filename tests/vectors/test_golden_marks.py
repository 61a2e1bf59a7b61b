"""Marks of format v1, frozen: every later program must read them, and openssl check them."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backups.errors import BadSignature, Damaged, UnknownFormat
from backups.format import canonical, dsse
from backups.format.marks import Mark, key_of, sign, verify
from backups.keeping import Hold, Release, Tombstone

GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden" / "marks-v1"
BACKUP = "01a205fa-5e80-701d-b8fe-713680b05e93"
OF = ("golden", "golden-db", BACKUP)
AT = datetime(2026, 11, 23, 1, 17, 4, 70, tzinfo=UTC)
LATER = datetime(2027, 1, 1, tzinfo=UTC)
WORDS = 'größe: "quotes", a \\ and \U0001f600'
MARKS: list[Mark] = [
    Hold("01a2-hold", *OF, WORDS, "Ann Lee", AT, LATER),
    Hold("01a3-open", *OF, "case 47", "Ann Lee", AT),
    Release("01a2-hold", *OF, "Bob Ray", LATER),
    Tombstone(*OF, "its window ended on 2026-12-23 01:17 UTC", LATER),
]
SUMS = "c2fda590e96b190de4230b93a0e0c2f1e14665c92e6ac344006b9bbfa325b0f7"


def stored(mark: Mark) -> bytes:
    return (GOLDEN / "store" / key_of(mark)).read_bytes()


@pytest.fixture
def keys() -> list[dsse.Ed25519PublicKey]:
    return [dsse.read_public_pem((GOLDEN / "verify-key.pem").read_bytes())]


def test_the_samples_are_as_they_ever_were() -> None:
    files = sorted(path for path in GOLDEN.rglob("*") if path.is_file())
    listed = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(GOLDEN)}\n"
        for path in files
    )
    assert hashlib.sha256(listed.encode()).hexdigest() == SUMS


@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: type(mark).__name__)
def test_they_are_read(mark: Mark, keys: list[dsse.Ed25519PublicKey]) -> None:
    assert verify(stored(mark), key_of(mark), keys) == mark


@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: type(mark).__name__)
def test_openssl_agrees(mark: Mark, tmp_path: Path) -> None:
    envelope = json.loads(stored(mark))
    kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"])
    pae = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    (tmp_path / "pae").write_bytes(pae)
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", GOLDEN / "verify-key.pem"]
    command += ["-rawin", "-in", "pae", "-sigfile", "sig"]
    subprocess.run(command, cwd=tmp_path, check=True)


def test_every_flipped_byte_is_refused(keys: list[dsse.Ed25519PublicKey]) -> None:
    whole = stored(MARKS[0])
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        with pytest.raises((Damaged, BadSignature, UnknownFormat)):
            verify(bytes(damaged), key_of(MARKS[0]), keys)


def test_none_can_be_moved_or_pass_for_another(keys: list[dsse.Ed25519PublicKey]) -> None:
    for mark in MARKS:
        for other in MARKS:
            if mark != other:
                with pytest.raises((Damaged, UnknownFormat)):
                    verify(stored(mark), key_of(other), keys)
    with pytest.raises(Damaged, match="no key of"):
        verify(stored(MARKS[0]), f"v1/golden-db/{BACKUP}/holds/x/y.dsse.json", keys)


def test_what_breaks_a_rule_is_neither_written_nor_read() -> None:
    key = dsse.Ed25519PrivateKey.from_private_bytes(bytes(32))
    broken = [
        Hold("h", *OF, "", "Ann", AT),
        Hold("h", *OF, "two\nlines", "Ann", AT),
        Hold("h", *OF, "x", "n" * 4097, AT),
        Hold("h", *OF, "x", "Ann", AT, AT),
        Release("h", *OF, "", AT),
        Tombstone("Not An Id", "db", "b", "x", AT),
    ]
    for mark in broken:
        with pytest.raises(Damaged):
            sign(mark, key)
        if not isinstance(mark, Tombstone):
            fields = canonical.dumps({"hold": "h"})
            kind = f"application/vnd.bloomneo.backups.{type(mark).__name__.lower()}.v1+json"
            with pytest.raises(Damaged):
                verify(dsse.seal(fields, kind, key), key_of(mark), [key.public_key()])
