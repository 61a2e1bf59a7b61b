"""Our own Google Cloud Storage endpoint, as Google's unmodified library sees it."""

from __future__ import annotations

import base64
import hashlib
import io
import socket
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import google_crc32c
import pytest
from google.api_core.exceptions import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    PreconditionFailed,
    RequestRangeNotSatisfiable,
)
from google.cloud.storage import Blob, Bucket, Client

from backups.clock import SystemClock

pytestmark = pytest.mark.gcs
QUANTUM = 256 * 1024
DATA = bytes(range(256)) * 5000  # 1.28 MB, no multiple of 256 KiB


def crc32c(data: bytes) -> str:
    return base64.b64encode(google_crc32c.Checksum(data).digest()).decode()


@pytest.fixture
def bucket(gcs_client: Client, gcs_bucket: str) -> Bucket:
    return gcs_client.bucket(gcs_bucket)


def reason(error: Any) -> str:
    return str(error.value.errors[0]["reason"])


# --- content --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, QUANTUM - 1, len(DATA)])
def test_multipart_upload_comes_back_with_its_sums(bucket: Bucket, size: int) -> None:
    blob = bucket.blob("deep/ünï cödé %2F?#")
    blob.metadata = {"some": "thing"}
    blob.upload_from_string(DATA[:size], content_type="text/x-test")
    back = bucket.get_blob(blob.name)
    assert (back.size, back.crc32c) == (size, crc32c(DATA[:size]))
    assert back.md5_hash == base64.b64encode(hashlib.md5(DATA[:size]).digest()).decode()
    assert (back.content_type, back.metadata) == ("text/x-test", {"some": "thing"})
    assert back.download_as_bytes() == DATA[:size]


def test_content_that_looks_like_multipart(bucket: Bucket) -> None:
    body = b"\r\n--=====\r\n\r\n--" * 20_000 + b"\r\n"
    bucket.blob("key").upload_from_string(body)
    assert bucket.blob("key").download_as_bytes() == body


def test_simple_upload(bucket: Bucket, gcs_client: Client, gcs_endpoint: str) -> None:
    url = f"{gcs_endpoint}/upload/storage/v1/b/{bucket.name}/o?uploadType=media&name=a%2Fb"
    made = gcs_client._http.post(url, data=DATA, headers={"Content-Type": "x/y"}).json()
    assert (made["name"], made["contentType"], made["size"]) == ("a/b", "x/y", str(len(DATA)))
    pieces = iter([DATA[:100], DATA[100:]])  # sent chunked, its length unknown
    made = gcs_client._http.post(url, data=pieces).json()
    assert made["crc32c"] == crc32c(DATA)


def test_resumable_upload_in_chunks(bucket: Bucket) -> None:
    blob = bucket.blob("key", chunk_size=QUANTUM)
    blob.upload_from_file(io.BytesIO(DATA), size=None, if_generation_match=0)
    assert bucket.blob("key").download_as_bytes() == DATA


def test_interrupted_upload_is_resumed(bucket: Bucket, gcs_client: Client) -> None:
    url = bucket.blob("key").create_resumable_upload_session(size=len(DATA))
    http = gcs_client._http
    asked = {"Content-Range": f"bytes */{len(DATA)}"}
    fresh = http.put(url, headers=asked)
    assert fresh.status_code == 308
    assert "Range" not in fresh.headers
    cut_short(url, DATA, sent=QUANTUM * 2 + 12345)
    reply = http.put(url, headers=asked)
    assert (reply.status_code, reply.headers["Range"]) == (308, f"bytes=0-{QUANTUM * 2 - 1}")
    assert not bucket.blob("key").exists()
    overlap = QUANTUM  # what is there already is ignored
    rest = {"Content-Range": f"bytes {overlap}-{len(DATA) - 1}/{len(DATA)}"}
    assert http.put(url, data=DATA[overlap:], headers=rest).json()["crc32c"] == crc32c(DATA)
    assert http.put(url, headers=asked).json()["size"] == str(len(DATA))
    assert bucket.blob("key").download_as_bytes() == DATA


def cut_short(url: str, data: bytes, sent: int) -> None:
    """Begin to put all, and hang up; wait until the server has seen it."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data[:sent])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def test_wrong_chunks_are_refused(bucket: Bucket, gcs_client: Client) -> None:
    url = bucket.blob("key").create_resumable_upload_session(size=len(DATA))
    http = gcs_client._http

    def put(start: int, end: int, total: object = len(DATA), data: bytes = DATA) -> int:
        ranges = {"Content-Range": f"bytes {start}-{end - 1}/{total}"}
        return int(http.put(url, data=data[start:end], headers=ranges).status_code)

    assert put(0, QUANTUM + 1) == 400  # no multiple of 256 KiB, and not the last
    assert put(QUANTUM, 2 * QUANTUM) == 400  # a gap
    assert put(0, QUANTUM, total=len(DATA) + 1) == 400  # another size than was begun with
    assert put(0, QUANTUM, data=DATA[:100]) == 400  # the body and the range differ
    assert put(0, QUANTUM) == 308
    assert http.delete(url).status_code == 499
    assert put(QUANTUM, len(DATA)) == 410
    assert http.put(f"{url}x", data=b"").status_code == 404


def test_wrong_checksums_store_nothing(bucket: Bucket, gcs_client: Client) -> None:
    for given in ({"crc32c": "AAAAAA=="}, {"md5_hash": base64.b64encode(b"0" * 16).decode()}):
        blob = bucket.blob("key")
        for name, value in given.items():
            setattr(blob, name, value)
        with pytest.raises(BadRequest, match="doesn't match calculated"):
            blob.upload_from_string(DATA, checksum=None)
    url = bucket.blob("key").create_resumable_upload_session(size=len(DATA))
    bad = {"X-Goog-Hash": "crc32c=AAAAAA=="}
    assert gcs_client._http.put(url, data=DATA, headers=bad).status_code == 400
    assert not bucket.blob("key").exists()


def test_ranges(bucket: Bucket, gcs_client: Client) -> None:
    blob = bucket.blob("key")
    blob.upload_from_string(DATA)
    assert blob.download_as_bytes(start=5, end=9) == DATA[5:10]
    assert blob.download_as_bytes(start=len(DATA) - 3) == DATA[-3:]
    with pytest.raises(RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=len(DATA))
    last = gcs_client._http.get(blob.media_link, headers={"Range": "bytes=-7"})
    assert (last.status_code, last.content) == (206, DATA[-7:])
    assert last.headers["Content-Range"] == f"bytes {len(DATA) - 7}-{len(DATA) - 1}/{len(DATA)}"
    assert last.headers["X-Goog-Hash"].startswith(f"crc32c={crc32c(DATA)}")
    assert last.headers["X-Goog-Generation"] == str(blob.generation)


# --- names, versions, preconditions -----------------------------------------------------


def test_listing_in_pages(bucket: Bucket, gcs_client: Client) -> None:
    names = sorted(
        [*(f"a/{n:02}" for n in range(7)), "a", "b/x/1", "b/x/2", "c", "ü", "\U0001f600"]
    )
    for name in names:
        bucket.blob(name).upload_from_string(b"")

    def listed(**options: Any) -> tuple[list[str], set[str]]:
        pages = gcs_client.list_blobs(bucket, page_size=2, **options)
        return [blob.name for blob in pages], set(pages.prefixes)

    assert listed() == (names, set())
    assert listed(prefix="a/") == (names[1:8], set())
    assert listed(delimiter="/") == (["a", "c", "ü", "\U0001f600"], {"a/", "b/"})
    assert listed(prefix="b/", delimiter="/") == ([], {"b/x/"})
    assert listed(start_offset="a/03", end_offset="b/x/2") == ([*names[4:8], "b/x/1"], set())
    only_names = gcs_client.list_blobs(bucket, fields="items(name),nextPageToken", page_size=5)
    assert [(blob.name, blob.size) for blob in only_names] == [(name, None) for name in names]


def test_preconditions(bucket: Bucket, gcs_client: Client) -> None:
    blob = bucket.blob("key")
    blob.upload_from_string(b"1", if_generation_match=0)
    with pytest.raises(PreconditionFailed) as error:
        bucket.blob("key").upload_from_string(b"2", if_generation_match=0)
    assert error.value.response.json()["error"]["errors"][0]["reason"] == "conditionNotMet"
    with pytest.raises(PreconditionFailed):
        bucket.blob("key").upload_from_string(b"2", if_generation_match=blob.generation + 1)
    with pytest.raises(PreconditionFailed):
        blob.download_as_bytes(if_generation_match=blob.generation + 1)
    with pytest.raises(PreconditionFailed):
        blob.delete(if_metageneration_match=9)
    blob.metadata = {"a": "1", "b": "2"}
    blob.patch(if_metageneration_match=1)
    blob.metadata = {"a": None}
    blob.patch()
    assert (blob.metageneration, blob.metadata) == (3, {"b": "2"})
    same = gcs_client._http.get(f"{blob.self_link}?ifGenerationNotMatch={blob.generation}")
    assert (same.status_code, same.content) == (304, b"")
    first = blob.generation
    bucket.blob("key").upload_from_string(b"2", if_generation_match=first)
    bucket.reload()
    assert bucket.get_blob("key").generation > first
    with pytest.raises(NotFound):
        bucket.blob("key", generation=first).download_as_bytes()


def test_precondition_holds_at_the_end_of_a_resumable_upload(
    bucket: Bucket, gcs_client: Client
) -> None:
    url = bucket.blob("key").create_resumable_upload_session(size=1, if_generation_match=0)
    bucket.blob("key").upload_from_string(b"other")
    assert gcs_client._http.put(url, data=b"x").status_code == 412
    assert bucket.blob("key").download_as_bytes() == b"other"


def test_versions(bucket: Bucket, gcs_client: Client) -> None:
    bucket.versioning_enabled = True
    bucket.patch()
    generations = []
    for body in (b"1", b"2"):
        blob = bucket.blob("key")
        blob.upload_from_string(body)
        generations.append(blob.generation)
    bucket.blob("key").delete()
    assert list(bucket.list_blobs()) == []
    with pytest.raises(NotFound):
        bucket.blob("key").download_as_bytes()
    every = list(bucket.list_blobs(versions=True))
    assert [blob.generation for blob in every] == generations
    assert all(blob.time_deleted for blob in every)
    assert bucket.blob("key", generation=generations[0]).download_as_bytes() == b"1"
    with pytest.raises(Conflict):
        bucket.delete()
    for generation in generations:
        bucket.blob("key", generation=generation).delete()
    bucket.delete()
    with pytest.raises(NotFound):
        gcs_client.get_bucket(bucket.name)


# --- holds and retention ----------------------------------------------------------------


@pytest.mark.parametrize("hold", ["temporary_hold", "event_based_hold"])
def test_holds(bucket: Bucket, hold: str) -> None:
    blob = bucket.blob("key")
    blob.upload_from_string(b"1")
    setattr(blob, hold, True)
    blob.patch()
    with pytest.raises(Forbidden) as error:
        blob.delete()
    assert reason(error) == "objectUnderActiveHold"
    with pytest.raises(Forbidden):
        bucket.blob("key").upload_from_string(b"2")
    setattr(blob, hold, False)
    blob.patch()
    blob.delete()


def test_a_bucket_retains_all(bucket: Bucket) -> None:
    bucket.retention_period = 3600
    bucket.patch()
    blob = bucket.blob("key")
    blob.upload_from_string(b"1")
    assert blob.retention_expiration_time - blob.time_created == timedelta(hours=1)
    with pytest.raises(Forbidden) as error:
        blob.delete()
    assert reason(error) == "retentionPolicyNotMet"
    bucket.lock_retention_policy()
    bucket.retention_period = 60
    with pytest.raises(Forbidden, match="locked Retention Policy"):
        bucket.patch()
    bucket.retention_period = 7200
    bucket.patch()
    assert bucket.retention_policy_locked


def test_retention_of_one_object(gcs_client: Client, gcs_bucket: str) -> None:
    bucket = gcs_client.create_bucket(f"{gcs_bucket}-r", enable_object_retention=True)
    assert bucket.object_retention_mode == "Enabled"
    soon = SystemClock().now() + timedelta(days=1)
    blob = bucket.blob("key")
    blob.retention.mode = "Unlocked"
    blob.retention.retain_until_time = soon
    blob.upload_from_string(b"1")

    def change(mode: str | None, days: int, **options: Any) -> None:
        blob.reload()
        blob.retention.mode = mode
        blob.retention.retain_until_time = soon + timedelta(days=days) if mode else None
        blob.patch(**options)

    for attempt in (blob.delete, lambda: bucket.blob("key").upload_from_string(b"2")):
        with pytest.raises(Forbidden, match="retention and cannot be deleted or overwritten"):
            attempt()
    change("Unlocked", 2)
    for worse in (("Unlocked", 1), ("Locked", 2), (None, 0)):
        with pytest.raises(Forbidden):
            change(*worse)
    change("Unlocked", 1, override_unlocked_retention=True)
    change("Locked", 1, override_unlocked_retention=True)
    for worse in (("Locked", 0), ("Unlocked", 1), (None, 0)):
        with pytest.raises(Forbidden):
            change(*worse, override_unlocked_retention=True)
    change("Locked", 3)
    blob.reload()
    assert blob.retention.retain_until_time == soon + timedelta(days=3)
    with pytest.raises(Forbidden):
        blob.delete()


def test_retention_wants_a_bucket_that_allows_it(bucket: Bucket) -> None:
    blob: Blob = bucket.blob("key")
    blob.retention.mode = "Unlocked"
    blob.retention.retain_until_time = SystemClock().now() + timedelta(days=1)
    with pytest.raises(BadRequest, match="not enabled"):
        blob.upload_from_string(b"1")


# --- what it doesn't do -----------------------------------------------------------------


def test_the_unknown_is_refused(bucket: Bucket, gcs_client: Client, gcs_endpoint: str) -> None:
    http, place = gcs_client._http, f"{gcs_endpoint}/storage/v1/b/{bucket.name}"
    assert http.get(f"{place}/o?matchGlob=*").status_code == 400
    assert http.patch(place, json={"website": {}}).status_code == 400
    assert http.get(f"{place}/o", headers={"X-Goog-User-Project": "p"}).status_code == 501
    reply = http.post(f"{place}/o/key/compose", json={})
    assert (reply.status_code, reply.json()["error"]["errors"][0]["reason"]) == (
        501,
        "notImplemented",
    )
