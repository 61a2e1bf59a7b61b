"""Our files with the stock commands `age`, `age-keygen` and `zstd`, and theirs with ours."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import zstandard

from backups.entropy import SystemEntropy
from backups.errors import Damaged
from backups.format.age import Identity, Recipient, parse_identities
from backups.format.headers import read_bundle, rewrap, stored_header, write_bundle
from backups.format.payload import decrypt, encrypt
from backups.format.segment import SegmentBuilder, context_stanza, open_segment
from backups.model import Context

ENTROPY = SystemEntropy()
SIZES = [0, 1, 15, 16, 65535, 65536, 65537, 131071, 131072, 131073, 1_000_000]
PLACE = Context("acme", "acme-main", "0199", "archive", 0, last=True, engine="postgresql")


def run(*argv: str | Path, stdin: bytes = b"") -> bytes:
    if shutil.which(argv[0]) is None:
        pytest.fail(f"`{argv[0]}` is not installed: run localstack/test, which installs it")
    done = subprocess.run(argv, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Identity.generate(ENTROPY)


@pytest.fixture(scope="module")
def key_file(identity: Identity, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "identity.txt"
    path.write_text(identity.reveal() + "\n")
    return path


def build(recipients: list[Recipient], plain: bytes, place: Context = PLACE) -> bytes:
    builder = SegmentBuilder(recipients, place, ENTROPY)
    for at in range(0, len(plain), 100_000):
        builder.write(plain[at : at + 100_000])
    return builder.finish(place.last).data


@pytest.mark.parametrize("size", SIZES)
def test_stock_age_opens_ours(identity: Identity, key_file: Path, size: int) -> None:
    plain = ENTROPY.bytes(size)
    others = [Identity.generate(ENTROPY).recipient for _ in range(2)]
    file = encrypt(plain, [*others, identity.recipient], ENTROPY, [context_stanza(PLACE)])
    assert run("age", "-d", "-i", key_file, stdin=file) == plain


@pytest.mark.parametrize("size", SIZES)
def test_we_open_what_stock_age_wrote(identity: Identity, size: int) -> None:
    plain = ENTROPY.bytes(size)
    file = run("age", "-r", str(identity.recipient), stdin=plain)
    assert b"".join(decrypt(file, [Identity.generate(ENTROPY), identity])) == plain


def test_keys_are_the_same_keys(identity: Identity, key_file: Path, tmp_path: Path) -> None:
    assert run("age-keygen", "-y", key_file).decode().strip() == str(identity.recipient)
    made = run("age-keygen").decode()
    (theirs,) = parse_identities(made)
    assert f"# public key: {theirs.recipient}" in made.splitlines()
    assert theirs.reveal() in made.splitlines()


@pytest.mark.parametrize("size", SIZES)
def test_stock_tools_read_a_segment(identity: Identity, key_file: Path, size: int) -> None:
    plain = ENTROPY.bytes(size)  # does not compress: stored sizes cross the same edges
    segment = build([identity.recipient], plain)
    frame = run("age", "-d", "-i", key_file, stdin=segment)
    assert run("zstd", "-dc", stdin=frame) == plain
    assert zstandard.get_frame_parameters(frame).has_checksum


def test_segments_of_an_artifact_pass_as_one_stream(identity: Identity, key_file: Path) -> None:
    plains = [b"first " * 50_000, b"", b"last"]
    segments = [build([identity.recipient], plain) for plain in plains]
    frames = [run("age", "-d", "-i", key_file, stdin=segment) for segment in segments]
    assert run("zstd", "-dc", stdin=b"".join(frames)) == b"".join(plains)


@pytest.mark.parametrize("options", [[], ["-10"], ["--no-check"], ["--long=27"]])
def test_we_read_frames_of_stock_zstd(identity: Identity, options: list[str]) -> None:
    plain = b"".join(f"{number} row\n".encode() for number in range(100_000))
    frame = run("zstd", "-c", *options, stdin=plain)
    file = encrypt(frame, [identity.recipient], ENTROPY, [context_stanza(PLACE)])
    assert b"".join(open_segment(file, [identity], PLACE, len(plain))) == plain


def test_a_file_of_stock_age_is_no_segment(identity: Identity) -> None:
    file = run("age", "-r", str(identity.recipient), stdin=run("zstd", "-c", stdin=b"rows"))
    with pytest.raises(Damaged, match="no context"):
        open_segment(file, [identity], PLACE, 4)


def test_stock_age_opens_a_rotated_segment(
    identity: Identity, key_file: Path, tmp_path: Path
) -> None:
    former = Identity.generate(ENTROPY)
    plain = ENTROPY.bytes(200_000)
    stored = build([former.recipient], plain)
    new = rewrap(stored_header(stored), [former], [identity.recipient], ENTROPY)
    header = read_bundle(write_bundle("0199", {"key": new}), "0199")["key"]
    frame = run("age", "-d", "-i", key_file, stdin=header.raw + stored[header.skip :])
    assert run("zstd", "-dc", stdin=frame) == plain
