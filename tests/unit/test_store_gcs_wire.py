"""google-cloud-storage and a server that misbehaves: what each accident on the wire becomes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Network
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from threading import Event, Thread
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import (
    BucketMissing,
    CapabilityMissing,
    ObjectExists,
    ObjectLocked,
    ObjectMissing,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    TransferDamaged,
)
from backups.model import Secret
from providers.access import Access
from providers.gcs import GcsOptions, GcsStore, connect
from providers.network import Network
from providers.retry import Pace, Retrying

CLOCK = SystemClock()
DATA = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(DATA).digest()
TOKEN = "ya29.secret-token"
PRINCIPAL = "backups-writer@project.iam.gserviceaccount.com"
Answer = Callable[["Handler", bytes], None]


class Server(ThreadingHTTPServer):
    """A create-only GCS in little; the answers in `script` come first, one per request.
    Those in `tokens` come first where a token is asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Answer] = []
        self.tokens: list[Answer] = []
        self.objects: dict[str, bytes] = {}
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.closing = Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def methods(self) -> list[str]:
        return [method for method, _, _ in self.seen]

    def handle_error(self, *_: object) -> None:
        """A client that went away is part of the play."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        data = self.rfile.read(length)
        if len(data) < length:
            self.close_connection = True
            return
        if self.path == "/token" or self.path.endswith(":generateAccessToken"):
            tokens = self.server.tokens
            (tokens.pop(0) if tokens else give_token)(self, data)
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.command, self.path, headers))
        answer = self.server.script.pop(0) if self.server.script else normal
        answer(self, data)

    do_GET = do_POST = do_PATCH = do_DELETE = handle_any

    def reply(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def tell(self, document: object, status: int = 200) -> None:
        self.reply(status, json.dumps(document).encode(), Content_Type="application/json")

    @property
    def key(self) -> str:
        return unquote(urlsplit(self.path).path.partition("/o/")[2])


def give_token(handler: Handler, data: bytes) -> None:
    if handler.path == "/token":
        assert b"assertion=" in data
        return handler.tell({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
    assert handler.headers["Authorization"] == f"Bearer {TOKEN}"
    return handler.tell({"accessToken": f"{TOKEN}-2", "expireTime": "2099-01-01T00:00:00Z"})


def normal(handler: Handler, data: bytes) -> None:
    objects = handler.server.objects
    if handler.command == "POST":
        resource, stored = taken_apart(handler, data)
        if resource["name"] in objects:
            return error(412, "conditionNotMet")(handler, data)
        objects[resource["name"]] = stored
        return handler.tell(described(resource["name"], stored))
    key = handler.key
    if key not in objects:
        return error(404, "notFound", f"No such object: bucket/{key}")(handler, data)
    if "/download/" not in handler.path:
        return handler.tell(described(key, objects[key]))
    wanted = handler.headers.get("Range", "bytes=0-").removeprefix("bytes=")
    first, _, last = wanted.partition("-")
    part = objects[key][int(first) : int(last) + 1 if last else None]
    where = f"bytes {first}-{int(first) + len(part) - 1}/{len(objects[key])}"
    return handler.reply(206, part, Content_Range=where)


def taken_apart(handler: Handler, data: bytes) -> tuple[dict[str, str], bytes]:
    """The two parts of a multipart/related body."""
    boundary = handler.headers["Content-Type"].partition("boundary=")[2].encode()
    _, about, content, end = data.split(b"--" + boundary)
    assert end == b"--\r\n"
    resource: dict[str, str] = json.loads(about.partition(b"\r\n\r\n")[2])
    stored = content.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
    assert resource["crc32c"] == encoded(stored)
    return resource, stored


def described(key: str, stored: bytes) -> dict[str, object]:
    return {
        "name": key,
        "bucket": "bucket",
        "size": str(len(stored)),
        "generation": "1700000000000001",
        "timeCreated": "2026-11-02T10:00:00.000Z",
        "crc32c": encoded(stored),
        "metadata": {"sha256": hashlib.sha256(stored).hexdigest()},
    }


def encoded(data: bytes) -> str:
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def error(status: int, reason: str, message: str = "in words") -> Answer:
    item = {"domain": "global", "reason": reason, "message": message}
    document = {"error": {"code": status, "message": message, "errors": [item]}}
    return lambda handler, _: handler.tell(document, status)


def words(status: int, text: str) -> Answer:
    return lambda handler, _: handler.reply(status, text.encode(), Content_Type="text/html")


def says(document: object) -> Answer:
    return lambda handler, _: handler.tell(document)


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
    resource, stored = taken_apart(handler, data)
    handler.server.objects[resource["name"]] = stored
    handler.close_connection = True


def keep_other_bytes(handler: Handler, data: bytes) -> None:
    """A store that damaged what it keeps and reports so."""
    resource, stored = taken_apart(handler, data)
    spoiled = stored[:-1] + b"?"
    handler.server.objects[resource["name"]] = spoiled
    kept = described(resource["name"], spoiled)
    handler.tell({**kept, "metadata": {"sha256": hashlib.sha256(spoiled).hexdigest()}})


def cut_after(count: int) -> Answer:
    def answer(handler: Handler, _: bytes) -> None:
        stored = handler.server.objects[handler.key]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(stored)))
        handler.end_headers()
        handler.wfile.write(stored[:count])
        handler.close_connection = True

    return answer


# --- one server, one store ------------------------------------------------------------


@pytest.fixture(scope="module")
def pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    """One for all tests."""
    with Server() as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.closing.set()
        server.shutdown()


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    running.objects.clear()
    running.seen.clear()
    yield running
    left, running.script = running.script + running.tokens, []
    running.tokens = []
    assert left == [], "an answer of the script was never asked for"


@pytest.fixture(scope="module")
def key(running: Server, pem: str) -> Secret:
    document = {
        "type": "service_account",
        "client_email": "backups@ours.iam.gserviceaccount.com",
        "private_key": pem,
        "private_key_id": "1",
        "token_uri": f"{running.url}/token",
    }
    return Secret(json.dumps(document))


@pytest.fixture(scope="module")
def options(running: Server) -> GcsOptions:
    return GcsOptions("bucket", endpoint=running.url, read_timeout=0.3, lock="unlocked")


@pytest.fixture(scope="module")
def shared(options: GcsOptions, key: Secret) -> Iterator[GcsStore]:
    """Has its token already; reading a key takes longer than any test."""
    with closing(connect(options, Access("pruner", key=key))) as store:
        store.put("first", b"")
        yield store


@pytest.fixture
def gcs(shared: GcsStore, server: Server) -> GcsStore:
    return shared


@pytest.fixture
def fresh(options: GcsOptions, key: Secret, server: Server) -> Iterator[GcsStore]:
    """Asks for a token with its first call."""
    with closing(connect(options, Access("pruner", key=key))) as store:
        yield store


@pytest.fixture
def retrying(gcs: GcsStore) -> Retrying:
    return Retrying(gcs, CLOCK, SystemEntropy(), Pace(attempts=4, first=0.001))


# --- answers --------------------------------------------------------------------------

HELD = (
    "Object 'bucket/key' is under active Temporary hold and cannot be deleted, overwritten or "
    "archived until hold is removed."
)
NO_BUCKET = "The specified bucket does not exist."
DENIED = (
    "a@b.c does not have storage.objects.create access to the Google Cloud Storage object. "
    "Permission 'storage.objects.create' denied on resource (or it may not exist)."
)
CRC = 'Provided CRC32C "AAAAAA==" doesn\'t match calculated CRC32C "BBBBBB==".'

PUT_ACCIDENTS: list[tuple[str, Answer, type[StoreError]]] = [
    ("backend error", error(500, "backendError"), StoreUnavailable),
    ("unavailable", error(503, "backendError"), StoreUnavailable),
    ("broken on the way", error(503, "uploadBrokenConnection"), StoreUnavailable),
    ("bad gateway", words(502, "<html>Bad Gateway"), StoreUnavailable),
    ("gateway timeout", words(504, ""), StoreUnavailable),
    ("request timeout", words(408, ""), StoreUnavailable),
    ("too many", error(429, "rateLimitExceeded"), StoreUnavailable),
    ("too many, the old way", error(403, "rateLimitExceeded"), StoreUnavailable),
    ("conflict", error(409, "conflict"), StoreUnavailable),
    ("words behind a 200", words(200, "<html>hello"), StoreUnavailable),
    ("nothing behind a 200", words(200, ""), StoreUnavailable),
    ("a list behind a 200", says([]), StoreUnavailable),
    ("an object without facts", says({"name": "key"}), StoreUnavailable),
    ("nonsense as generation", says({**described("key", DATA), "generation": "?"}),
     StoreUnavailable),
    ("a list behind a 500", lambda h, _: h.tell([], 500), StoreUnavailable),
    ("an error that is none", lambda h, _: h.tell({"error": "x"}, 500), StoreUnavailable),
    ("hang", hang, StoreUnavailable),
    ("connection dropped", drop, StoreUnavailable),
    ("connection reset", reset, StoreUnavailable),
    ("taken", error(412, "conditionNotMet"), ObjectExists),
    ("organisation policy", error(412, "conditionNotMet", "Request violates constraint 'c'."),
     StoreDenied),
    ("no bucket", error(404, "notFound", NO_BUCKET), BucketMissing),
    ("no such name", error(400, "invalid", "Invalid bucket name: 'B'"), BucketMissing),
    ("denied", error(403, "forbidden", DENIED), StoreDenied),
    ("narrow scopes", error(403, "insufficientPermissions",
     "Request had insufficient authentication scopes."), StoreDenied),
    ("billing", error(403, "accountDisabled"), StoreDenied),
    ("API disabled", error(403, "UsageLimits.accessNotConfigured"), StoreDenied),
    ("damaged", error(400, "invalid", CRC), TransferDamaged),
    ("other bytes kept", keep_other_bytes, TransferDamaged),
    ("nonsense as checksum", says({**described("key", DATA), "crc32c": "?"}), TransferDamaged),
    ("no locks", error(400, "invalid", "Object retention is not enabled on the bucket."),
     CapabilityMissing),
    ("not implemented", error(501, "notImplemented"), CapabilityMissing),
    ("sent elsewhere", lambda h, _: h.reply(302, Location="http://127.0.0.1:1/x"), StoreError),
    ("sent nowhere", words(308, ""), StoreError),
    ("a status never heard of", words(418, "teapot"), StoreError),
]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "kind"),
    [accident[1:] for accident in PUT_ACCIDENTS],
    ids=[accident[0] for accident in PUT_ACCIDENTS],
)
def test_each_accident_of_a_put_is_one_error_of_ours(
    answer: Answer, kind: type[StoreError], server: Server, gcs: GcsStore
) -> None:
    server.script = [answer]
    with pytest.raises(StoreError, match=r"put gs://bucket/key|^key: ") as caught:
        gcs.put("key", DATA)
    assert type(caught.value) is kind
    assert_nothing_secret(caught.value)
    assert server.methods() == ["POST"]  # no SDK retries


def assert_nothing_secret(error: StoreError) -> None:
    text = f"{error} {error.hint}"
    assert TOKEN not in text
    assert "PRIVATE KEY" not in text
    assert "uploadType" not in text  # no URL: it would hide what matters


def test_what_is_sent_with_every_call(server: Server, gcs: GcsStore) -> None:
    gcs.put("a/key", DATA)
    gcs.stat("a/key", version_id="17")
    gcs.open("a/key", start=3, length=4, version_id="17").close()
    server.script = [lambda h, _: h.reply(204), says({"items": []})]
    gcs.delete("a/key", version_id="17")
    assert list(gcs.list("a/")) == []
    assert server.methods() == ["POST", "GET", "GET", "DELETE", "GET"]
    paths = [urlsplit(path).path for _, path, _ in server.seen]
    queries = [parse_qs(urlsplit(path).query) for _, path, _ in server.seen]
    headers = [headers for _, _, headers in server.seen]
    assert all(given["authorization"] == f"Bearer {TOKEN}" for given in headers)
    assert paths[0] == "/upload/storage/v1/b/bucket/o"
    assert paths[1] == paths[3] == "/storage/v1/b/bucket/o/a%2Fkey"
    assert paths[2] == "/download/storage/v1/b/bucket/o/a%2Fkey"
    assert queries[0] == {"uploadType": ["multipart"], "ifGenerationMatch": ["0"]}
    assert [query["generation"] for query in queries[1:4]] == [["17"]] * 3
    assert queries[4]["prefix"] == ["a/"]
    assert headers[2]["range"] == "bytes=3-6"


def test_a_put_is_one_request_of_known_length_whatever_its_size(
    server: Server, gcs: GcsStore
) -> None:
    big = DATA * 10  # above what the SDK sends at once
    for number, data in enumerate((b"", b"x", DATA, big)):
        gcs.put(f"key-{number}", data, sha256=hashlib.sha256(data).digest())
        assert server.objects[f"key-{number}"] == data
    assert server.methods() == ["POST"] * 4
    assert all("transfer-encoding" not in headers for _, _, headers in server.seen)


def test_bytes_that_are_not_those_of_the_digest_never_arrive_whole(
    server: Server, gcs: GcsStore
) -> None:
    with pytest.raises(TransferDamaged):
        gcs.put("key", DATA, sha256=hashlib.sha256(b"others").digest())
    gcs.put("next", DATA)
    assert list(server.objects) == ["next"]


def test_what_another_program_declared_to_be_compressed_is_read_as_it_is_stored(
    server: Server, gcs: GcsStore
) -> None:
    stored = gzip.compress(b"words")
    server.script = [lambda h, _: h.reply(200, stored, Content_Encoding="gzip")]
    with closing(gcs.open("key")) as body:
        assert body.read() == stored
    assert server.seen[0][2]["accept-encoding"] == "gzip"  # else Google unpacks it


def test_an_environment_variable_does_not_redirect_backups(
    server: Server, fresh: GcsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STORAGE_EMULATOR_HOST", "API_ENDPOINT_OVERRIDE"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    fresh.put("key", DATA)
    assert fresh.stat("key").size == len(DATA)
    server.script = [says({})]
    assert list(fresh.list("")) == []


# --- the other calls ------------------------------------------------------------------


def test_what_is_missing_is_told_apart(server: Server, gcs: GcsStore) -> None:
    calls: list[Callable[[], object]] = [
        lambda: gcs.stat("key"),
        lambda: gcs.open("key"),
        lambda: gcs.extend_retention("key", CLOCK.now()),
    ]
    for call in calls:
        with pytest.raises(ObjectMissing):
            call()
        server.script = [error(404, "notFound", NO_BUCKET)]
        with pytest.raises(BucketMissing):
            call()
    gcs.delete("key")
    server.script = [error(404, "notFound", NO_BUCKET)]
    with pytest.raises(BucketMissing):
        gcs.delete("key")


def test_a_download_is_refused_in_plain_text(server: Server, gcs: GcsStore) -> None:
    server.script = [words(404, "No such object: bucket/key"), words(404, NO_BUCKET)]
    with pytest.raises(ObjectMissing, match="No such object"):
        gcs.open("key")
    with pytest.raises(BucketMissing):
        gcs.open("key")
    server.script = [words(403, DENIED)]
    with pytest.raises(StoreDenied) as caught:
        gcs.open("key")
    assert "does not exist" in caught.value.hint


@pytest.mark.parametrize(
    "answer",
    [
        error(403, "forbidden", HELD),  # as Google was seen to answer
        error(403, "objectUnderActiveHold", HELD),  # as it is documented
        error(403, "retentionPolicyNotMet", "Object 'bucket/key' is subject to ..."),
    ],
)
def test_a_lock_refuses_deletion(answer: Answer, server: Server, gcs: GcsStore) -> None:
    server.script = [answer]
    with pytest.raises(ObjectLocked):
        gcs.delete("key", version_id="17")


def test_the_right_to_lock_is_not_a_lock(server: Server, gcs: GcsStore) -> None:
    server.script = [error(403, "forbidden", DENIED.replace("create", "setRetention"))]
    with pytest.raises(StoreDenied):
        gcs.put("key", DATA, retain_until=CLOCK.now())


def test_a_lock_that_the_store_ignored_is_not_passed_over(
    server: Server, gcs: GcsStore
) -> None:
    with pytest.raises(CapabilityMissing):
        gcs.put("key", DATA, retain_until=CLOCK.now() + timedelta(hours=1))


def test_a_lock_is_extended_without_the_right_to_see_who_has_access(
    server: Server, gcs: GcsStore
) -> None:
    server.objects["key"] = DATA
    server.script = [normal, says({})]
    gcs.extend_retention("key", CLOCK.now() + timedelta(hours=1))
    assert server.methods() == ["GET", "PATCH"]
    assert parse_qs(urlsplit(server.seen[1][1]).query)["projection"] == ["noAcl"]


@pytest.mark.parametrize(
    "document",
    [[], {"items": [{}]}, {"items": [{"name": "key", "size": "many"}]}, {"items": {}}, "text"],
)
def test_a_listing_that_makes_no_sense(document: object, server: Server, gcs: GcsStore) -> None:
    server.script = [says(document)]
    if document == {"items": {}}:
        assert list(gcs.list("")) == []
    else:
        with pytest.raises(StoreUnavailable):
            list(gcs.list(""))


def test_a_listing_breaks_on_its_second_page(server: Server, gcs: GcsStore) -> None:
    page = {"items": [described("a", b"x")], "nextPageToken": "more"}
    server.script = [says(page), error(503, "backendError")]
    found = []
    with pytest.raises(StoreUnavailable):
        found.extend(info.key for info in gcs.list(""))
    rest = {"items": [described("b", b"x")]}
    server.script = [says(page), error(503, "backendError"), says(page), says(rest)]
    listing = Retrying(gcs, CLOCK, SystemEntropy(), Pace(first=0.001)).list("")
    assert [info.key for info in listing] == ["a", "b"]
    assert "pageToken=more" in server.seen[-1][1]


# --- credentials ----------------------------------------------------------------------

GRANT = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
TOKEN_ACCIDENTS: list[tuple[str, Answer, type[StoreError]]] = [
    ("revoked", lambda h, _: h.tell(GRANT, 400), StoreDenied),
    ("words", words(403, "<html>go away"), StoreDenied),
    ("no token in it", says({}), StoreDenied),
    ("dropped", drop, StoreUnavailable),
    ("hang", hang, StoreUnavailable),
]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [accident[1:] for accident in TOKEN_ACCIDENTS],
    ids=[accident[0] for accident in TOKEN_ACCIDENTS],
)
def test_each_accident_of_a_token_is_one_error_of_ours(
    answer: Answer, kind: type[StoreError], server: Server, fresh: GcsStore
) -> None:
    server.tokens = [answer]
    with pytest.raises(StoreError, match=r"put gs://bucket/key.*token") as caught:
        fresh.put("key", DATA)
    assert type(caught.value) is kind
    assert_nothing_secret(caught.value)
    assert server.seen == []
    fresh.put("key", DATA)  # and nothing is remembered of it


IMPERSONATION: list[tuple[str, Answer, type[StoreError]]] = [
    ("not trusted", error(403, "forbidden", "Permission denied"), StoreDenied),
    ("no such account", error(404, "notFound", "Gone"), StoreDenied),
    ("unavailable", error(503, "backendError"), StoreUnavailable),
    ("too many", error(429, "rateLimitExceeded"), StoreUnavailable),
    ("no token in it", says({"secret": TOKEN}), StoreDenied),
]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [accident[1:] for accident in IMPERSONATION],
    ids=[accident[0] for accident in IMPERSONATION],
)
def test_each_accident_of_an_impersonation_is_one_error_of_ours(
    answer: Answer, kind: type[StoreError], server: Server, options: GcsOptions, key: Secret
) -> None:
    access = Access("writer", principal=PRINCIPAL, key=key)
    server.tokens = [give_token, answer]
    with closing(connect(options, access)) as store:
        with pytest.raises(StoreError, match=r"put gs://bucket/key.*token") as caught:
            store.put("key", DATA)
        assert type(caught.value) is kind
        assert_nothing_secret(caught.value)
        store.put("key", DATA)
    assert server.seen[0][2]["authorization"] == f"Bearer {TOKEN}-2"


def test_a_token_refused_midway_is_renewed_and_the_put_sent_again(
    server: Server, gcs: GcsStore
) -> None:
    server.script = [error(401, "authError", "Invalid Credentials")]
    gcs.put("key", DATA, sha256=DIGEST)
    assert server.objects == {"key": DATA}
    assert server.methods() == ["POST", "POST"]


def test_a_token_refused_again_and_again(server: Server, gcs: GcsStore) -> None:
    server.script = [error(401, "authError", "Invalid Credentials")] * 3
    with pytest.raises(StoreDenied) as caught:
        gcs.put("key", DATA)
    assert "expired" in caught.value.hint


def test_credentials_are_looked_for_at_the_first_call(
    options: GcsOptions, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with closing(connect(options, Access("writer"))) as store:
        with pytest.raises(StoreDenied) as caught:
            store.put("key", DATA)
        assert "GOOGLE_APPLICATION_CREDENTIALS" in caught.value.hint
        for name, text in (("none", None), ("bad", "{"), ("other", '{"type": "x"}')):
            if text is not None:
                (tmp_path / name).write_text(text)
            monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / name))
            with pytest.raises(StoreDenied):
                store.put("key", DATA)


def test_workload_identity_federation(
    options: GcsOptions, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An identity of another provider, exchanged for a token of Google's (RFC 8693)."""
    (tmp_path / "subject").write_text("an OpenID token")
    configuration = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{server.url}/token",
        "credential_source": {"file": str(tmp_path / "subject")},
    }
    (tmp_path / "federation.json").write_text(json.dumps(configuration))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "federation.json"))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "any")
    asked: list[dict[str, list[str]]] = []

    def exchange(handler: Handler, data: bytes) -> None:
        asked.append(parse_qs(data.decode()))
        kind = "urn:ietf:params:oauth:token-type:access_token"
        lent = {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}
        handler.tell({**lent, "issued_token_type": kind})

    server.tokens = [exchange]
    with closing(connect(options, Access("restorer"))) as store, pytest.raises(ObjectMissing):
        store.stat("key")
    (form,) = asked
    assert form["subject_token"] == ["an OpenID token"]
    assert form["scope"] == ["https://www.googleapis.com/auth/devstorage.read_only"]


def test_hosted_a_key_leads_to_no_private_address_and_neither_does_its_store(
    server: Server, options: GcsOptions, key: Secret
) -> None:
    hosted = Network(hosted=True)
    access = Access("writer", key=key, network=hosted)
    with (
        closing(connect(GcsOptions("bucket"), access)) as store,  # Google's own endpoint
        pytest.raises(StoreDenied, match=r"127\.0\.0\.1, which is not a public"),
    ):
        store.put("key", DATA)
    here = (IPv4Network("127.0.0.1/32"),)
    with closing(connect(options, replace(access, network=Network(True, here)))) as store:
        store.put("key", DATA)
    elsewhere = Network(True, here, lambda host, _: [host.replace("store.test", "10.0.0.1")])
    options = replace(options, endpoint="http://store.test:9")
    with (
        closing(connect(options, replace(access, network=elsewhere))) as store,
        pytest.raises(StoreDenied, match=r"store\.test leads to 10\.0\.0\.1"),
    ):
        store.put("key", DATA)


# --- with retries ---------------------------------------------------------------------


def test_no_server_at_all(options: GcsOptions, key: Secret) -> None:
    with Server() as gone:
        url = gone.url
    options = GcsOptions("bucket", endpoint=url)
    with (
        closing(connect(options, Access("writer", key=key))) as store,
        pytest.raises(StoreUnavailable, match="Connection refused"),
    ):
        store.put("key", DATA)


@pytest.mark.parametrize(
    "accident", [error(503, "backendError"), hang, drop, reset, lose_reply]
)
def test_a_put_survives_two_accidents(
    accident: Answer, server: Server, retrying: Retrying
) -> None:
    server.script = [accident, accident]
    receipt = retrying.put("key", DATA, sha256=DIGEST)
    if accident is lose_reply:
        assert receipt.checksum == f"sha256:{DIGEST.hex()}"
    else:
        assert receipt.checksum == f"crc32c:{google_crc32c.value(DATA):08x}"
    assert server.objects == {"key": DATA}


def test_a_storm_of_throttling_is_waited_out_or_given_up(
    server: Server, retrying: Retrying
) -> None:
    server.script = [error(429, "rateLimitExceeded")] * 3
    retrying.put("key", DATA)
    server.script = [error(429, "rateLimitExceeded")] * 4
    with pytest.raises(StoreUnavailable):
        retrying.put("other", DATA)


def test_a_lost_reply_is_settled_by_one_look(server: Server, retrying: Retrying) -> None:
    server.script = [lose_reply]
    retrying.put("key", DATA)
    assert server.methods() == ["POST", "POST", "GET"]


def test_a_lost_reply_without_the_right_to_look_is_a_taken_key(
    server: Server, retrying: Retrying
) -> None:
    server.script = [lose_reply, normal, error(403, "forbidden", DENIED)]
    with pytest.raises(ObjectExists):
        retrying.put("key", DATA)


def test_damage_that_the_store_kept_is_never_called_a_success(
    server: Server, retrying: Retrying
) -> None:
    server.script = [keep_other_bytes]
    with pytest.raises(ObjectExists):
        retrying.put("key", DATA)


@pytest.mark.parametrize("size", [-1, 1000, 1 << 20])
def test_a_body_goes_on_where_it_was_cut(size: int, server: Server, retrying: Retrying) -> None:
    server.objects["key"] = DATA
    server.script = [cut_after(300_000), hang, error(503, "backendError")]
    with closing(retrying.open("key")) as body:
        if size < 0:
            assert body.read() == DATA
        else:
            assert b"".join(iter(lambda: body.read(size), b"")) == DATA


def hang_after(count: int) -> Answer:
    def answer(handler: Handler, data: bytes) -> None:
        stored = handler.server.objects[handler.key]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(stored)))
        handler.end_headers()
        handler.wfile.write(stored[:count])
        hang(handler, data)

    return answer


def reset_after(count: int) -> Answer:
    def answer(handler: Handler, data: bytes) -> None:
        cut_after(count)(handler, data)
        reset(handler, data)

    return answer


@pytest.mark.parametrize("accident", [cut_after(300_000), hang_after(300_000), reset_after(9)])
@pytest.mark.parametrize("size", [-1, 4096])
def test_a_broken_body_is_an_error_without_retries(
    accident: Answer, size: int, server: Server, gcs: GcsStore
) -> None:
    server.objects["key"] = DATA
    server.script = [accident]
    with closing(gcs.open("key")) as body, pytest.raises(StoreUnavailable, match="reading gs:"):
        list(iter(lambda: body.read(size), b""))


def test_a_store_that_ignores_ranges_is_found_out(server: Server, gcs: GcsStore) -> None:
    server.objects["key"] = DATA
    server.script = [cut_after(len(DATA))]  # 200 and everything
    with pytest.raises(CapabilityMissing):
        gcs.open("key", start=10)
