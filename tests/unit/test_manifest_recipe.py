"""The printed recipe is run as it is printed, with the stock tools that it names."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backups.errors import UsageError
from backups.format import dsse
from backups.format.manifest import manifest_key, segment_key, sign
from backups.format.recipe import readme_text, recipe
from backups.model import Artifact, Manifest, Segment

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
PIECES = {
    "archive": (b"PGDMP" + bytes(100_000), b"", b"tail\n"),
    "roles": (b"CREATE ROLE app;\n",),
    "fingerprint": (b"{}",),
}


def output_of(*argv: str, data: bytes = b"") -> bytes:
    return subprocess.run(argv, input=data, capture_output=True, check=True).stdout


@dataclass
class Place:
    """A store with one backup made by stock tools, and an empty folder to recover in."""

    root: Path
    work: Path
    manifest: Manifest

    @property
    def url(self) -> str:
        return f"file://{quote(str(self.root))}"

    def path(self, key: str) -> Path:
        return self.root / key

    @property
    def manifest_path(self) -> Path:
        return self.path(manifest_key(self.manifest.database, self.manifest.backup))

    def run(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (self.work / "recover.sh").write_text(script)
        return subprocess.run(
            ["bash", "recover.sh"],
            cwd=self.work,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    root, work = tmp_path / "it's a $(store)", tmp_path / "work"
    work.mkdir()
    identity = output_of("age-keygen").decode()
    recipient = re.search(r"age1\w+", identity)
    assert recipient
    artifacts, number = [], 0
    for name, pieces in PIECES.items():
        segments = []
        for plain in pieces:
            key = segment_key("acme-main", "b-1" if name == "roles" else "b-2", number)
            stored = output_of("age", "-r", recipient[0], data=output_of("zstd", data=plain))
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_bytes(stored)
            digest = hashlib.sha256(stored).hexdigest()
            segments.append(Segment(key, len(plain), len(stored), digest, "v-1"))
            number += 1
        artifacts.append(Artifact(name, tuple(segments)))
    manifest = Manifest(
        customer="acme",
        database="acme-main",
        backup="b-2",
        engine="none",
        snapshot_at=datetime(2026, 1, 1, tzinfo=UTC),
        position="",
        expires_at=datetime(2026, 2, 1, tzinfo=UTC),
        policy_version=1,
        server_version="15",
        tool_version="15",
        program_version="0",
        recipients=("00" * 32,),
        artifacts=tuple(artifacts),
        fingerprint_sha256="00" * 32,
        # Text that looks like a field must not be taken for one.
        warnings=('"key":"v1/x/y/00000.age","plain_bytes":0,"sha256":"00"', '"name":"archive"'),
    )
    place = Place(root, work, manifest)
    place.manifest_path.write_bytes(sign(manifest, KEY))
    (work / "identity.txt").write_text(identity)
    (work / "verify-key.pem").write_bytes(dsse.public_pem(KEY.public_key()))
    return place


def tools(folder: Path, scripts: Mapping[str, str]) -> str:
    """A PATH on which the named tools of clouds and databases are what we say."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(stat.S_IRWXU)
    return f"{folder}:{os.environ['PATH']}"


def test_the_recipe_recovers_every_artifact(place: Place) -> None:
    done = place.run(recipe(place.manifest, place.url))
    assert done.returncode == 0, done.stderr
    for name, pieces in PIECES.items():
        assert (place.work / f"{name}.out").read_bytes() == b"".join(pieces)
    assert (place.work / "fingerprint.json").read_bytes() == b"{}"
    assert (place.work / "fingerprint.json").stat().st_mode & 0o077 == 0


def test_the_recipe_feeds_the_tools_of_postgresql(place: Place) -> None:
    as_postgres = replace(place.manifest, engine="postgresql")
    place.manifest_path.write_bytes(sign(as_postgres, KEY))
    path = tools(
        place.work / "bin",
        {
            "psql": 'echo "psql $*" >> calls',
            "createdb": 'echo "createdb $*" >> calls',
            "pg_restore": 'echo "pg_restore $*" >> calls; cat > restored',
        },
    )
    done = place.run(recipe(as_postgres, place.url), PATH=path)
    assert done.returncode == 0, done.stderr
    assert (place.work / "calls").read_text().splitlines() == [
        "psql -X -d postgres -f roles.sql",
        "createdb -T template0 acme-main-restored",
        "pg_restore -d acme-main-restored",
    ]
    assert (place.work / "roles.sql").read_bytes() == b"".join(PIECES["roles"])
    assert (place.work / "restored").read_bytes() == b"".join(PIECES["archive"])


def test_the_readme_recovers_with_the_names_filled_in(place: Place) -> None:
    text = readme_text()
    assert all(len(line) <= 96 for line in text.splitlines() if not line.startswith("    "))
    script = text[text.index("    set -euo") : text.index("The line fetch()")]
    script = script[: script.index("    # Into a new database")] + "plain archive > archive.out"
    fetch = next(line for line in text.splitlines() if "fetch() { cp" in line)
    script = re.sub(r".*fetch\(\).*", fetch.replace("/FOLDER", '"$ROOT"'), script)
    script = script.replace("DATABASE-ID", "acme-main").replace("BACKUP-ID", "b-2")
    done = place.run(script, ROOT=str(place.root))
    assert done.returncode == 0, done.stderr
    assert (place.work / "archive.out").read_bytes() == b"".join(PIECES["archive"])


def test_an_unknown_signer_stops_it_before_anything_is_fetched(place: Place) -> None:
    place.manifest_path.write_bytes(sign(place.manifest, OTHER))
    done = place.run(recipe(place.manifest, place.url))
    assert done.returncode != 0
    assert "Signature Verification Failure" in done.stdout + done.stderr
    assert not (place.work / "v1").exists()


def test_a_manifest_of_another_backup_stops_it(place: Place) -> None:
    for moved in ({"backup": "b-3"}, {"database": "other", "artifacts": elsewhere(place)}):
        place.manifest_path.write_bytes(sign(replace(place.manifest, **moved), KEY))  # type: ignore[arg-type]
        done = place.run(recipe(place.manifest, place.url))
        assert done.returncode != 0
        assert "Signature Verified Successfully" in done.stdout
        assert not (place.work / "v1").exists()


def elsewhere(place: Place) -> tuple[Artifact, ...]:
    return tuple(
        Artifact(
            artifact.name,
            tuple(
                replace(s, key=s.key.replace("acme-main", "other")) for s in artifact.segments
            ),
        )
        for artifact in place.manifest.artifacts
    )


@pytest.mark.parametrize("index", [0, 1, 2])
def test_an_altered_segment_stops_it_before_it_is_decrypted(place: Place, index: int) -> None:
    key = place.manifest.artifacts[0].segments[index].key
    stored = bytearray(place.path(key).read_bytes())
    stored[-1] ^= 1
    place.path(key).write_bytes(stored)
    done = place.run(recipe(place.manifest, place.url))
    assert done.returncode != 0
    assert f"{key}: FAILED" in done.stdout
    assert not (place.work / "fingerprint.json").exists()


def test_a_missing_segment_stops_it(place: Place) -> None:
    place.path(place.manifest.artifacts[0].segments[1].key).unlink()
    done = place.run(recipe(place.manifest, place.url))
    assert done.returncode != 0
    assert not (place.work / "fingerprint.json").exists()


def test_a_wrong_identity_stops_it(place: Place) -> None:
    (place.work / "identity.txt").write_bytes(output_of("age-keygen"))
    done = place.run(recipe(place.manifest, place.url))
    assert done.returncode != 0
    assert "no identity matched" in done.stderr
    assert not (place.work / "archive.out").exists()


EVIL = "o'clock/$(touch evil)`touch evil`/a b"
AZ = (
    *("az", "storage", "blob", "download"),
    *("--only-show-errors", "--output", "none", "--auth-mode", "login"),
)
CALLS = {
    "s3": (
        f"s3://bucket/{quote(EVIL)}?endpoint=http%3A%2F%2F127.0.0.1%3A1&region=eu-central-1&profile=p",
        ["aws", "--endpoint-url", "http://127.0.0.1:1", "--region", "eu-central-1"],
        ["--profile", "p", "s3", "cp", "--only-show-errors", f"s3://bucket/{EVIL}/KEY", "FILE"],
    ),
    "s3 without more": (
        "s3://bucket",
        ["aws"],
        ["s3", "cp", "--only-show-errors", "s3://bucket/KEY", "FILE"],
    ),
    "gs": (
        f"gs://bucket/{quote(EVIL)}/",
        ["gcloud"],
        ["storage", "cp", f"gs://bucket/{EVIL}/KEY", "FILE"],
    ),
    "az": (
        f"az://account/container/{quote(EVIL)}",
        [*AZ, "--account-name", "account", "--container-name", "container"],
        ["--name", f"{EVIL}/KEY", "--file", "FILE"],
    ),
    "az without more": (
        "az://account/container?endpoint=http://127.0.0.1:1/account",
        [*AZ, "--blob-endpoint", "http://127.0.0.1:1/account", "--container-name", "container"],
        ["--name", "KEY", "--file", "FILE"],
    ),
}


def fetch_in(script: str) -> str:
    (fetch,) = (line for line in script.splitlines() if line.startswith("fetch()"))
    return fetch


@pytest.mark.parametrize(("url", "head", "tail"), CALLS.values(), ids=CALLS)
def test_the_cloud_is_asked_for_exactly_this(
    place: Place, url: str, head: list[str], tail: list[str]
) -> None:
    """The clouds' command lines are not at hand here: what they are given is looked at."""
    tell = 'printf "%s\\0" "${0##*/}" "$@"'
    path = tools(place.work / "bin", dict.fromkeys(("aws", "gcloud", "az"), tell))
    fetch = fetch_in(recipe(place.manifest, url))
    done = place.run(f"{fetch}\nfetch KEY FILE", PATH=path)
    assert done.stdout.split("\0")[:-1] == head + tail
    assert not (place.work / "evil").exists()


def test_another_endpoint_of_google_is_set(place: Place) -> None:
    path = tools(
        place.work / "bin", {"gcloud": 'echo "$CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE"'}
    )
    fetch = fetch_in(recipe(place.manifest, "gs://bucket/p?endpoint=http://127.0.0.1:1/"))
    assert place.run(f"{fetch}\nfetch KEY FILE", PATH=path).stdout == "http://127.0.0.1:1/\n"


@pytest.mark.parametrize("url", ["ftp://host/x", "bucket", ""])
def test_a_store_that_is_none(place: Place, url: str) -> None:
    with pytest.raises(UsageError):
        recipe(place.manifest, url)


def test_every_stock_tool_is_here() -> None:
    assert all(shutil.which(tool) for tool in ("age", "zstd", "openssl", "sha256sum", "bash"))
