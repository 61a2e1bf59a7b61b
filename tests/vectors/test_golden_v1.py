"""A backup of format v1, frozen: every later program must read it, and stock tools too.

tests/fixtures/golden/v1 is never made again; its README says why.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
import xxhash

from backups.engines.postgres.archive import ArchiveParser
from backups.engines.postgres.content import ContentHasher
from backups.errors import WrongKey
from backups.format import dsse, fingerprint
from backups.format.age import parse_identities
from backups.format.headers import read_bundle
from backups.format.manifest import context, verify
from backups.format.recipe import recipe
from backups.format.segment import SegmentHeader, open_segment
from backups.model import Artifact, Fingerprint, Manifest

GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden" / "v1"
STORE = GOLDEN / "store"
BACKUP = "01a205fa-5e80-701d-b8fe-713680b05e93"
FOLDER = f"v1/golden-db/{BACKUP}"
SUMS = "7aa83d9aaa0979c29485cfa193cdfa5410fb3d19bf2f32f010f9607a20e1d031"
NAMES = ["archive", "roles", "fingerprint"]


@pytest.fixture
def manifest() -> Manifest:
    key = dsse.read_public_pem((GOLDEN / "verify-key.pem").read_bytes())
    return verify((STORE / FOLDER / "manifest.dsse.json").read_bytes(), [key])


def plain(name: str) -> bytes:
    return (GOLDEN / "plain" / name).read_bytes()


def decrypted(
    manifest: Manifest,
    artifact: Artifact,
    identity_file: str,
    headers: dict[str, SegmentHeader] | None = None,
) -> bytes:
    identities = parse_identities((GOLDEN / identity_file).read_text())
    pieces: list[bytes] = []
    for index, segment in enumerate(artifact.segments):
        data = (STORE / segment.key).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (
            segment.stored_bytes,
            segment.sha256,
        )
        expected = context(manifest, artifact, index)
        header = headers[segment.key] if headers else None
        pieces += open_segment(data, identities, expected, segment.plain_bytes, header)
    return b"".join(pieces)


def test_the_sample_is_as_it_ever_was() -> None:
    sums = (GOLDEN / "SHA256SUMS").read_bytes()
    assert hashlib.sha256(sums).hexdigest() == SUMS
    listed = dict(reversed(line.split("  ")) for line in sums.decode().splitlines())
    there = {
        f"./{path.relative_to(GOLDEN)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in GOLDEN.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }
    assert there == listed


def test_the_manifest_says_what_it_said(manifest: Manifest) -> None:
    assert (manifest.customer, manifest.database, manifest.backup) == (
        "golden",
        "golden-db",
        BACKUP,
    )
    assert manifest.snapshot_at.isoformat() == "2026-11-23T01:17:04.000070+00:00"
    assert manifest.expires_at.isoformat() == "2026-12-23T01:17:04.000070+00:00"
    assert (manifest.engine, manifest.position) == ("postgresql", "0/1A2B3C8")
    assert manifest.policy_version == 2
    assert manifest.warnings == ('größe: a warning with "quotes", a \\ and \U0001f600',)
    assert [(a.name, len(a.segments)) for a in manifest.artifacts] == [
        ("archive", 3),
        ("roles", 1),
        ("fingerprint", 1),
    ]
    # A segment of an earlier backup of the same database:
    assert manifest.artifacts[1].segments[0].key.split("/")[2] < BACKUP


@pytest.mark.parametrize("identity", ["identity.txt", "identity-agent.txt"])
def test_every_artifact_comes_out(manifest: Manifest, identity: str) -> None:
    assert [artifact.name for artifact in manifest.artifacts] == NAMES
    for artifact in manifest.artifacts:
        assert decrypted(manifest, artifact, identity) == plain(artifact.name)


def test_rotated_headers_open_it_for_the_new_identity_only(manifest: Manifest) -> None:
    headers = read_bundle((STORE / FOLDER / "headers-1.age-bundle").read_bytes(), BACKUP)
    for artifact in manifest.artifacts:
        opened = decrypted(manifest, artifact, "identity-rotated.txt", headers)
        assert opened == plain(artifact.name)
        with pytest.raises(WrongKey):
            decrypted(manifest, artifact, "identity-rotated.txt")
        with pytest.raises(WrongKey):
            decrypted(manifest, artifact, "identity.txt", headers)


def test_the_fingerprint_is_read_and_the_archive_bears_it_out(manifest: Manifest) -> None:
    found = read_fingerprint(manifest)
    parser, hasher = ArchiveParser(), ContentHasher()
    hasher.add(parser.feed(plain("archive")))
    parser.finish()
    contents = hasher.result()
    assert found.tables == contents.tables
    assert found.sequences == contents.sequences
    assert found.large_objects == contents.large_objects
    assert found.objects == contents.objects


def test_the_content_hash_is_the_one_of_format_md(manifest: Manifest) -> None:
    """Computed here from the rows that went in, by nothing of ours."""
    found = read_fingerprint(manifest)
    rows = [b"same\n", b"same\n", b"\n", b"\\N\n"]
    total = sum(xxhash.xxh3_64_intdigest(row) for row in rows) % 2**64
    by_name = {table.name: table for table in found.tables}
    assert by_name["no_key"].content == f"{total:016x}"
    assert found.large_objects is not None
    large = xxhash.xxh3_64_intdigest(b"4711\0" + b"\x00\xff\x0a")
    assert found.large_objects.content == f"{large:016x}"


def read_fingerprint(manifest: Manifest) -> Fingerprint:
    return fingerprint.read(plain("fingerprint"), manifest.fingerprint_sha256)


def test_stock_tools_recover_it(manifest: Manifest, tmp_path: Path) -> None:
    """The printed recipe up to the database, then its artifacts one by one."""
    shutil.copy(GOLDEN / "identity.txt", tmp_path)
    shutil.copy(GOLDEN / "verify-key.pem", tmp_path)
    lines = recipe(manifest, f"file://{quote(str(STORE))}").splitlines()
    until = next(at for at, line in enumerate(lines) if line.startswith("plain fingerprint"))
    script = [*lines[:until], *(f"plain {name} > {name}" for name in NAMES)]
    subprocess.run(["bash", "-c", "\n".join(script)], cwd=tmp_path, check=True)
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == plain(name)


def test_stock_tools_read_rotated_headers(manifest: Manifest) -> None:
    """As README.txt in the bucket says it, without jq."""
    headers = read_bundle((STORE / FOLDER / "headers-1.age-bundle").read_bytes(), BACKUP)
    segment = manifest.artifacts[1].segments[0]
    header = headers[segment.key]
    joined = header.raw + (STORE / segment.key).read_bytes()[header.skip :]
    age = ["age", "-d", "-i", str(GOLDEN / "identity-rotated.txt")]
    frame = subprocess.run(age, input=joined, capture_output=True, check=True).stdout
    done = subprocess.run(["zstd", "-dc"], input=frame, capture_output=True, check=True)
    assert done.stdout == plain("roles")
