"""boto3 and a server that misbehaves: what each accident on the wire becomes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from threading import Event, Thread
from urllib.parse import urlsplit

import pytest

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import (
    BucketMissing,
    CapabilityMissing,
    ConfigError,
    ObjectExists,
    ObjectLocked,
    ObjectMissing,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    TransferDamaged,
)
from providers.retry import Pace, Retrying
from providers.s3 import S3Store, connect
from providers.s3_client import S3Options

OWNER = "111122223333"
DATA = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(DATA).digest()
Answer = Callable[["Handler", bytes], None]


class Server(ThreadingHTTPServer):
    """A create-only S3 in little; the answers in `script` come first, one per request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Answer] = []
        self.objects: dict[str, bytes] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.closing = Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """A client that went away is part of the play."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def handle_any(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.command, headers))
        answer = self.server.script.pop(0) if self.server.script else normal
        answer(self, data)

    do_GET = do_PUT = do_HEAD = do_DELETE = handle_any

    def reply(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @property
    def key(self) -> str:
        return urlsplit(self.path).path.removeprefix("/bucket/")


def normal(handler: Handler, data: bytes) -> None:
    objects, key = handler.server.objects, handler.key
    if handler.command == "PUT":
        if key in objects:
            return error(412, "PreconditionFailed")(handler, data)
        objects[key] = data
        return handler.reply(200, x_amz_checksum_sha256=encoded(data))
    if key not in objects:
        return error(404, "NoSuchKey")(handler, data)
    stored = objects[key]
    facts = {
        "Last_Modified": "Mon, 02 Nov 2026 10:00:00 GMT",
        "x_amz_checksum_sha256": encoded(stored),
    }
    if handler.command == "HEAD":
        return handler.reply(200, Content_Length=str(len(stored)), **facts)
    wanted = handler.headers.get("Range", "bytes=0-").removeprefix("bytes=")
    first, _, last = wanted.partition("-")
    part = stored[int(first) : int(last) + 1 if last else None]
    where = f"bytes {first}-{int(first) + len(part) - 1}/{len(stored)}"
    return handler.reply(206, part, Content_Range=where, **facts)


def error(status: int, code: str, message: str = "in words") -> Answer:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return lambda handler, _: handler.reply(status, body, Content_Type="application/xml")


def hang(handler: Handler, _: bytes) -> None:
    handler.server.closing.wait(30)
    handler.close_connection = True


def drop(handler: Handler, _: bytes) -> None:
    handler.close_connection = True


def reset(handler: Handler, _: bytes) -> None:
    handler.connection.setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
    handler.close_connection = True


def lose_reply(handler: Handler, data: bytes) -> None:
    """Stored; nobody is told."""
    handler.server.objects[handler.key] = data
    handler.close_connection = True


def keep_other_bytes(handler: Handler, data: bytes) -> None:
    """A store that damaged what it keeps and reports so."""
    handler.server.objects[handler.key] = data[:-1] + b"?"
    handler.reply(200, x_amz_checksum_sha256=encoded(handler.server.objects[handler.key]))


def cut_after(count: int) -> Answer:
    def answer(handler: Handler, _: bytes) -> None:
        stored = handler.server.objects[handler.key]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(stored)))
        handler.end_headers()
        handler.wfile.write(stored[:count])
        handler.close_connection = True

    return answer


def encoded(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Server, S3Store]]:
    """One of each for all tests: making a client takes boto3 longer than any test."""
    with Server() as server, pytest.MonkeyPatch.context() as patch:
        with_keys(patch)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        options = S3Options(
            "bucket", endpoint=server.url, owner=OWNER, lock="governance", read_timeout=0.3
        )
        with closing(connect(options)) as store:
            store.put("first", b"")  # credentials are looked up now and kept
            yield server, store
        server.closing.set()
        server.shutdown()


@pytest.fixture
def server(running: tuple[Server, S3Store]) -> Iterator[Server]:
    server, _ = running
    server.objects.clear()
    server.seen.clear()
    yield server
    left, server.script = server.script, []
    assert left == [], "an answer of the script was never asked for"


@pytest.fixture
def s3(running: tuple[Server, S3Store]) -> S3Store:
    return running[1]


@pytest.fixture
def retrying(s3: S3Store) -> Retrying:
    return Retrying(s3, SystemClock(), SystemEntropy(), Pace(attempts=4, first=0.001))


def with_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI-secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def head_only(status: int) -> Answer:
    return lambda handler, _: handler.reply(status)


PUT_ACCIDENTS: list[tuple[str, list[Answer], type[StoreError]]] = [
    ("internal error", [error(500, "InternalError")], StoreUnavailable),
    ("slow down", [error(503, "SlowDown")], StoreUnavailable),
    ("bad gateway", [head_only(502)], StoreUnavailable),
    ("too many", [error(429, "TooManyRequests")], StoreUnavailable),
    ("error behind a 200", [error(200, "InternalError")], StoreUnavailable),
    ("words behind a 200", [lambda h, _: h.reply(200, b"<html>hello")], StoreUnavailable),
    ("hang", [hang], StoreUnavailable),
    ("connection dropped", [drop], StoreUnavailable),
    ("connection reset", [reset], StoreUnavailable),
    ("conflict", [error(409, "ConditionalRequestConflict")], StoreUnavailable),
    ("taken", [error(412, "PreconditionFailed")], ObjectExists),
    ("no bucket", [error(404, "NoSuchBucket")], BucketMissing),
    ("wrong region", [error(301, "PermanentRedirect"), head_only(404)], BucketMissing),
    ("wrong signing region", [error(400, "AuthorizationHeaderMalformed")], BucketMissing),
    ("denied", [error(403, "AccessDenied"), head_only(403)], StoreDenied),
    ("another owner's", [error(403, "AccessDenied"), head_only(200)], BucketMissing),
    ("expired", [error(400, "ExpiredToken")], StoreDenied),
    ("bad signature", [error(403, "SignatureDoesNotMatch")], StoreDenied),
    ("clock skew", [error(403, "RequestTimeTooSkewed")], StoreDenied),
    ("damaged", [error(400, "BadDigest")], TransferDamaged),
    ("other bytes kept", [keep_other_bytes], TransferDamaged),
    ("no locks", [error(400, "InvalidRequest", "Bucket is missing Object Lock Configuration")],
     CapabilityMissing),
    ("no conditional writes", [error(501, "NotImplemented")], CapabilityMissing),
    ("nonsense in a header", [lambda h, _: h.reply(200, x_amz_object_size="many")],
     StoreUnavailable),
    ("nonsense as checksum", [lambda h, _: h.reply(200, x_amz_checksum_sha256="?")],
     TransferDamaged),
    ("a code never heard of", [error(418, "Teapot")], StoreError),
]  # fmt: skip


@pytest.mark.parametrize(
    ("script", "kind"),
    [accident[1:] for accident in PUT_ACCIDENTS],
    ids=[accident[0] for accident in PUT_ACCIDENTS],
)
def test_each_accident_of_a_put_is_one_error_of_ours(
    script: list[Answer], kind: type[StoreError], server: Server, s3: S3Store
) -> None:
    server.script = list(script)
    with pytest.raises(StoreError) as caught:
        s3.put("key", DATA)
    assert type(caught.value) is kind
    text = f"{caught.value} {caught.value.hint}"
    assert "wJalr" not in text
    assert "AKID" not in text
    assert len([method for method, _ in server.seen if method == "PUT"]) == 1  # no SDK retries


def test_what_is_sent_with_every_call(server: Server, s3: S3Store) -> None:
    s3.put("key", DATA)
    s3.stat("key")
    s3.open("key", start=3, length=4).close()
    server.script = [head_only(204), lambda h, _: h.reply(200, b"<ListVersionsResult/>")]
    s3.delete("key", version_id="v1")
    list(s3.list(""))
    assert [method for method, _ in server.seen] == ["PUT", "HEAD", "GET", "DELETE", "GET"]
    assert all(headers["x-amz-expected-bucket-owner"] == OWNER for _, headers in server.seen)
    put = server.seen[0][1]
    assert put["if-none-match"] == "*"
    assert put["x-amz-checksum-sha256"] == encoded(DATA)
    assert put["content-length"] == str(len(DATA))
    assert put["x-amz-content-sha256"] == DIGEST.hex()  # signed, as this is plain HTTP
    assert "x-amz-trailer" not in put


def test_under_tls_the_payload_is_not_hashed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    with_keys(monkeypatch)
    signed: list[dict[str, bytes]] = []
    with closing(connect(S3Options("bucket", endpoint="https://127.0.0.1:1"))) as store:
        events = store._client.meta.events
        events.register("before-send.s3", lambda request, **_: signed.append(request.headers))
        with pytest.raises(StoreUnavailable):
            store.put("key", DATA)
    (headers,) = signed
    assert headers["X-Amz-Content-SHA256"] == b"UNSIGNED-PAYLOAD"
    assert headers["x-amz-checksum-sha256"] == encoded(DATA).encode()
    assert b"x-amz-checksum-sha256" in headers["Authorization"]  # the digest itself is signed


def test_accidents_of_a_stat(server: Server, s3: S3Store) -> None:
    server.script = [head_only(404), head_only(404)]
    with pytest.raises(BucketMissing):
        s3.stat("key")
    server.script = [head_only(404), head_only(403)]  # no right to look at the bucket
    with pytest.raises(ObjectMissing):
        s3.stat("key")
    server.script = [head_only(403), head_only(403)]
    with pytest.raises(StoreDenied, match="head_object") as caught:
        s3.stat("key")
    assert OWNER in caught.value.hint


def test_a_lock_refuses_deletion(server: Server, s3: S3Store) -> None:
    words = "Access Denied because object protected by object lock."
    server.script = [error(403, "AccessDenied", words)]
    with pytest.raises(ObjectLocked):
        s3.delete("key", version_id="v1")


def test_a_lock_that_the_store_ignored_is_not_passed_over(server: Server, s3: S3Store) -> None:
    with pytest.raises(CapabilityMissing):
        s3.put("key", DATA, retain_until=SystemClock().now())
    assert "x-amz-object-lock-retain-until-date" in server.seen[0][1]


def test_no_server_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with_keys(monkeypatch)
    with Server() as gone:
        url = gone.url
    with (
        closing(connect(S3Options("bucket", endpoint=url))) as store,
        pytest.raises(StoreUnavailable),
    ):
        store.put("key", DATA)


def test_no_credentials(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    with_keys(monkeypatch)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with (
        closing(connect(S3Options("bucket", endpoint=server.url))) as store,
        pytest.raises(StoreDenied) as caught,
    ):
        store.put("key", DATA)
    assert "credentials" in caught.value.hint


def test_an_unknown_profile_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with_keys(monkeypatch)
    with pytest.raises(ConfigError, match="no-such-profile"):
        connect(S3Options("bucket", profile="no-such-profile"))


def test_an_environment_variable_does_not_redirect_backups(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    with_keys(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    with closing(connect(S3Options("bucket", endpoint=server.url))) as store:
        store.put("key", DATA)
    assert server.objects == {"key": DATA}


# --- with retries ---------------------------------------------------------------------


@pytest.mark.parametrize("accident", [error(503, "SlowDown"), hang, drop, reset, lose_reply])
def test_a_put_survives_two_accidents(
    accident: Answer, server: Server, retrying: Retrying
) -> None:
    server.script = [accident, accident]
    receipt = retrying.put("key", DATA, sha256=DIGEST)
    assert receipt.checksum == f"sha256:{DIGEST.hex()}"
    assert server.objects == {"key": DATA}


def test_a_lost_reply_is_settled_by_one_look(server: Server, retrying: Retrying) -> None:
    server.script = [lose_reply]
    retrying.put("key", DATA)
    assert [method for method, _ in server.seen] == ["PUT", "PUT", "HEAD"]


def test_a_lost_reply_without_the_right_to_look_is_a_taken_key(
    server: Server, retrying: Retrying
) -> None:
    server.script = [lose_reply, normal, head_only(403), head_only(403)]
    with pytest.raises(ObjectExists):
        retrying.put("key", DATA)


def test_a_lost_reply_where_the_store_keeps_no_digest_is_settled_by_reading(
    server: Server, retrying: Retrying
) -> None:
    facts = {"Content_Length": str(len(DATA)), "Last_Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}
    server.script = [lose_reply, normal, lambda h, _: h.reply(200, **facts), cut_after(5000)]
    assert retrying.put("key", DATA).checksum == f"sha256:{DIGEST.hex()}"


def test_damage_that_the_store_kept_is_never_called_a_success(
    server: Server, retrying: Retrying
) -> None:
    server.script = [keep_other_bytes]
    with pytest.raises(ObjectExists):
        retrying.put("key", DATA)


@pytest.mark.parametrize("size", [-1, 1000, 1 << 20])
def test_a_body_goes_on_where_it_was_cut(size: int, server: Server, retrying: Retrying) -> None:
    server.objects["key"] = DATA
    server.script = [cut_after(300_000), hang, error(503, "SlowDown")]
    with closing(retrying.open("key")) as body:
        if size < 0:
            assert body.read() == DATA
        else:
            assert b"".join(iter(lambda: body.read(size), b"")) == DATA


def test_a_cut_body_is_an_error_without_retries(server: Server, s3: S3Store) -> None:
    server.objects["key"] = DATA
    for read in (lambda b: b.read(), lambda b: list(iter(lambda: b.read(4096), b""))):
        server.script = [cut_after(300_000)]
        with closing(s3.open("key")) as body, pytest.raises(StoreUnavailable):
            read(body)


def test_a_store_that_ignores_ranges_is_found_out(server: Server, s3: S3Store) -> None:
    server.objects["key"] = DATA
    server.script = [cut_after(len(DATA))]  # 200 and everything
    with pytest.raises(CapabilityMissing):
        s3.open("key", start=10)
