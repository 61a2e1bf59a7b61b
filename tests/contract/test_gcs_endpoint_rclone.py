"""Our own Google Cloud Storage endpoint, as a second client sees it that shares no code with
Google's Python library: rclone, on Google's library for Go."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from google.cloud.storage import Client

pytestmark = pytest.mark.gcs
FILES = {
    "empty": b"",
    "small": b"s" * 1000,
    "deep/er/ünï cödé": b"x" * 70_000,
    "large": bytes(range(251)) * 70_000,  # 17.6 MB: a resumable upload in two chunks
}


class Rclone:
    """Runs the command; `at` is a place in the bucket."""

    def __init__(self, endpoint: str, bucket: str, key: str) -> None:
        self.options = [
            "--config", os.devnull, "--retries", "1", "--low-level-retries", "1",
            "--gcs-endpoint", f"{endpoint}/storage/v1/", "--gcs-service-account-file", key,
            "--gcs-bucket-policy-only",
        ]  # fmt: skip
        self.at = f":gcs:{bucket}"

    def __call__(self, *arguments: str, stdin: bytes = b"", code: int = 0) -> str:
        done = subprocess.run(
            ["rclone", *self.options, *arguments], input=stdin, capture_output=True, check=False
        )
        assert done.returncode == code, done.stderr.decode()
        return (done.stdout if not code else done.stderr).decode()


@pytest.fixture
def rclone(gcs_endpoint: str, gcs_bucket: str) -> Rclone:
    return Rclone(gcs_endpoint, gcs_bucket, os.environ["GOOGLE_APPLICATION_CREDENTIALS"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, body in FILES.items():
        file = tmp_path / "files" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
    return tmp_path / "files"


def test_a_folder_goes_there_and_back(rclone: Rclone, folder: Path, tmp_path: Path) -> None:
    rclone("copy", str(folder), f"{rclone.at}/pre")
    listed = rclone("lsf", "-R", "--files-only", "--format", "ps", f"{rclone.at}/pre")
    assert set(listed.splitlines()) == {f"{name};{len(body)}" for name, body in FILES.items()}
    rclone("check", str(folder), f"{rclone.at}/pre")  # by size, and MD5 where there is one
    rclone("copy", f"{rclone.at}/pre", str(tmp_path / "back"))
    back = {name: (tmp_path / "back" / name).read_bytes() for name in FILES}
    assert back == FILES
    part = rclone("cat", "--offset", "3", "--count", "5", f"{rclone.at}/pre/small")
    assert part == "sssss"


def test_it_sees_what_the_other_client_wrote(
    rclone: Rclone, gcs_client: Client, gcs_bucket: str
) -> None:
    bucket = gcs_client.bucket(gcs_bucket)
    for number in range(5):
        bucket.blob(f"a/{number}").upload_from_string(str(number))
    assert rclone("lsf", f"{rclone.at}") == "a/\n"
    listed = rclone("lsf", f"{rclone.at}/a")
    assert listed.split() == list("01234")
    rclone("deletefile", f"{rclone.at}/a/3")
    rclone("rcat", f"{rclone.at}/b", stdin=b"streamed")
    assert [blob.name for blob in bucket.list_blobs()] == ["a/0", "a/1", "a/2", "a/4", "b"]
    assert bucket.blob("b").download_as_bytes() == b"streamed"


def test_it_is_refused_as_google_would(
    rclone: Rclone, gcs_client: Client, gcs_bucket: str
) -> None:
    blob = gcs_client.bucket(gcs_bucket).blob("held")
    blob.upload_from_string(b"1")
    blob.temporary_hold = True
    blob.patch()
    error = rclone("deletefile", f"{rclone.at}/held", code=1)
    assert "under active Temporary hold" in error
    assert "directory not found" in rclone("cat", f"{rclone.at}-not/x", code=3)
