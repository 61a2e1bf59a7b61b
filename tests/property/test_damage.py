"""I1: whatever byte of a backup is altered, cut or missing, reading refuses and says where.

Done to the frozen backup of tests/fixtures/golden: every byte of every object that its
manifest names, and of the manifest; without --full, every seventh.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from backups.errors import IntegrityError, ObjectMissing, StoreError
from backups.keys import load_identities, load_verify_key
from backups.run.reader import read_artifact, read_manifest
from providers.local import LocalStore

GOLDEN = Path(__file__).parent.parent / "fixtures" / "golden" / "v1"
VERIFY_KEY = load_verify_key(GOLDEN / "verify-key.pem")


def silent(step: str, done: int, total: int | None) -> None:
    """No progress is shown."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "store", tmp_path / "store"))


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    path = tmp_path / "identity.txt"
    path.touch(mode=0o600)
    path.write_bytes((GOLDEN / "identity.txt").read_bytes())
    return path


class Backup:
    """The frozen backup in a folder of its own, to be spoilt and read."""

    def __init__(self, root: Path, identity: Path) -> None:
        self.root = root
        self.store = LocalStore(root)
        self.identities = load_identities(identity)
        (manifest,) = root.rglob("manifest.dsse.json")
        self.place = manifest.parts[-3], manifest.parts[-2]
        self.manifest = read_manifest(self.store, *self.place, [VERIFY_KEY]).manifest

    def read(self) -> None:
        """Everything, from the manifest to the last byte."""
        manifest = read_manifest(self.store, *self.place, [VERIFY_KEY]).manifest
        for artifact in manifest.artifacts:
            for _ in read_artifact(
                self.store, manifest, artifact.name, self.identities, silent
            ):
                pass

    def objects(self) -> list[str]:
        segments = [
            segment.key for part in self.manifest.artifacts for segment in part.segments
        ]
        return [*segments, "v1/{}/{}/manifest.dsse.json".format(*self.place)]

    def refused(self, key: str) -> bool:
        """Reading everything fails, and the error names the object."""
        try:
            self.read()
        except (IntegrityError, ObjectMissing) as error:
            return key in str(error)
        return False


@pytest.fixture
def backup(root: Path, identity: Path) -> Backup:
    return Backup(root, identity)


def spoilt(path: Path, step: int) -> Iterator[str]:
    """Flip one bit of each byte in turn, then cut the file at each length; then mend it."""
    whole = path.read_bytes()
    path.chmod(0o600)
    for at in range(0, len(whole), step):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        yield f"byte {at} flipped"
    for at in range(0, len(whole), step * 5):
        path.write_bytes(whole[:at])
        yield f"cut to {at} bytes"
    path.write_bytes(whole + b"\0")
    yield "one byte longer"
    path.write_bytes(whole)


def test_the_frozen_backup_reads(backup: Backup) -> None:
    backup.read()


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.full)])
@pytest.mark.timeout(600)
def test_every_damaged_byte_is_refused(backup: Backup, step: int) -> None:
    for key in backup.objects():
        for damage in spoilt(backup.root / key, step):
            assert backup.refused(key), f"{key}: {damage}"
    backup.read()


def test_a_missing_object_is_refused(backup: Backup) -> None:
    for key in backup.objects():
        path = backup.root / key
        away = path.with_suffix(".away")
        path.rename(away)
        assert backup.refused(key)
        away.rename(path)


def test_two_segments_swapped_are_refused(backup: Backup) -> None:
    first, second, *_ = (backup.root / key for key in backup.objects())
    away = first.with_suffix(".away")
    first.rename(away)
    second.rename(first)
    away.rename(second)
    with pytest.raises((IntegrityError, StoreError)):
        backup.read()


def test_a_signature_by_another_key_is_refused(backup: Backup) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from backups.errors import BadSignature

    stranger = Ed25519PrivateKey.generate().public_key()
    with pytest.raises(BadSignature, match=r"manifest\.dsse\.json"):
        read_manifest(backup.store, *backup.place, [stranger])
