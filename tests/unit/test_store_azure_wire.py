"""The Azure libraries and a server that misbehaves: what each accident on the wire becomes;
and versions and locks as Azure documents them, which no emulator keeps."""

from __future__ import annotations

import base64
import hashlib
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from threading import Event, Thread
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from urllib3.connection import HTTPConnection
from urllib3.exceptions import NameResolutionError

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
from backups.model import Secret
from providers.access import Access
from providers.azure import AzureOptions, AzureStore, connect
from providers.azure_access import account_url
from providers.azure_errors import translate
from providers.retry import Pace, Retrying

CLOCK = SystemClock()
KEY = base64.b64encode(b"wJalrXUtnFEMI-secret" * 3).decode()
DATA = bytes(range(256)) * 16_000
DIGEST = hashlib.sha256(DATA).digest()
V1, V2 = "2026-11-02T10:00:00.0000001Z", "2026-11-02T10:00:00.0000002Z"
UNTIL = datetime(2030, 1, 2, 3, 4, 5, 600_000, UTC)
UNTIL_UP, UNTIL_TEXT = datetime(2030, 1, 2, 3, 4, 6, 0, UTC), "Wed, 02 Jan 2030 03:04:06 GMT"
Answer = Callable[["Handler", bytes], None]


class Server(ThreadingHTTPServer):
    """A create-only Azure in little; the answers in `script` come first, one per request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Answer] = []
        self.objects: dict[str, bytes] = {}
        self.seen: list[tuple[str, dict[str, str], dict[str, list[str]]]] = []
        self.closing = Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
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
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        self.server.seen.append((self.command, headers, query))
        answer = self.server.script.pop(0) if self.server.script else normal
        answer(self, data)

    do_GET = do_PUT = do_HEAD = do_DELETE = handle_any

    def reply(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        facts = {"Content_Length": str(len(data)), "x_ms_version": "2025-01-05", **headers}
        for name, value in facts.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @property
    def key(self) -> str:
        return urlsplit(self.path).path.removeprefix("/account/container/")


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def facts(data: bytes, **more: str) -> dict[str, str]:
    return {
        "Last_Modified": "Mon, 02 Nov 2026 10:00:00 GMT",
        "ETag": '"0x1"',
        "x_ms_blob_type": "BlockBlob",
        "x_ms_meta_sha256": hashlib.sha256(data).hexdigest(),
        **more,
    }


def normal(handler: Handler, data: bytes) -> None:
    objects, key = handler.server.objects, handler.key
    if handler.command == "PUT":
        if key in objects:
            return error(409, "BlobAlreadyExists")(handler, data)
        if handler.headers["Content-MD5"] != md5(data):
            return error(400, "Md5Mismatch")(handler, data)
        objects[key] = data
        return handler.reply(201, Content_MD5=md5(data))
    if key not in objects:
        return error(404, "BlobNotFound")(handler, data)
    stored = objects[key]
    if handler.command == "HEAD":
        return handler.reply(200, **facts(stored, Content_Length=str(len(stored))))
    wanted = handler.headers.get("Range", "bytes=0-").removeprefix("bytes=")
    first, _, last = wanted.partition("-")
    part = stored[int(first) : int(last) + 1 if last else None]
    where = f"bytes {first}-{int(first) + len(part) - 1}/{len(stored)}"
    return handler.reply(206, part, Content_Range=where, **facts(stored))


def error(status: int, code: str, message: str = "in words") -> Answer:
    body = (
        f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code>'
        f"<Message>{message}\nRequestId:1\nTime:now</Message></Error>"
    ).encode()
    return lambda handler, _: handler.reply(
        status, body, Content_Type="application/xml", x_ms_error_code=code
    )


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
    handler.reply(201, Content_MD5=md5(handler.server.objects[handler.key]))


def garbage(status: int = 200) -> Answer:
    """What a captive portal says: nothing of it is Azure's."""

    def answer(handler: Handler, _: bytes) -> None:
        page = b"<html><body>Please log in</body></html>"
        handler.send_response(status)
        handler.send_header("Content-Type", "text/html")
        handler.send_header("Content-Length", str(len(page)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(page)

    return answer


def cut_after(count: int) -> Answer:
    def answer(handler: Handler, _: bytes) -> None:
        stored = handler.server.objects[handler.key]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(stored)))
        handler.send_header("x-ms-version", "2025-01-05")
        handler.end_headers()
        handler.wfile.write(stored[:count])
        handler.close_connection = True

    return answer


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        left, server.script = server.script, []
        server.closing.set()
        server.shutdown()
        assert left == [], "an answer of the script was never asked for"


@pytest.fixture
def azure(server: Server) -> Iterator[AzureStore]:
    with closing(open_at(server)) as store:
        yield store


def open_at(server: Server | str, access: Access | None = None, **more: object) -> AzureStore:
    url = server if isinstance(server, str) else server.url
    options = {"read_timeout": 0.3, **more}
    where = AzureOptions("account", "container", endpoint=url, **options)  # type: ignore[arg-type]
    return connect(where, access or Access("pruner", key=Secret(KEY)), CLOCK)


@pytest.fixture
def locking(server: Server) -> Iterator[AzureStore]:
    with closing(open_at(server, lock="unlocked", page=2)) as store:
        yield store


@pytest.fixture
def retrying(azure: AzureStore) -> Retrying:
    return Retrying(azure, CLOCK, SystemEntropy(), Pace(attempts=4, first=0.001))


def reveals(error: StoreError) -> str:
    return "".join(traceback.format_exception(error)) + error.hint


# --- single calls ---------------------------------------------------------------------

# What any call may meet.
ACCIDENTS: list[tuple[str, Answer, type[StoreError]]] = [
    ("internal error", error(500, "InternalError"), StoreUnavailable),
    ("timed out there", error(500, "OperationTimedOut"), StoreUnavailable),
    ("busy", error(503, "ServerBusy"), StoreUnavailable),
    ("bad gateway", garbage(502), StoreUnavailable),
    ("too many", garbage(429), StoreUnavailable),
    ("hang", hang, StoreUnavailable),
    ("connection dropped", drop, StoreUnavailable),
    ("connection reset", reset, StoreUnavailable),
    ("a page instead", garbage(), StoreUnavailable),
    ("no container", error(404, "ContainerNotFound"), BucketMissing),
    ("container going", error(409, "ContainerBeingDeleted"), BucketMissing),
    ("nothing of Azure's", garbage(404), BucketMissing),
    ("account disabled", error(403, "AccountIsDisabled"), StoreDenied),
    ("bad signature", error(403, "AuthenticationFailed"), StoreDenied),
    ("no signature", error(401, "NoAuthenticationInformation"), StoreDenied),
    ("firewall", error(403, "AuthorizationFailure"), StoreDenied),
    ("no right", error(403, "AuthorizationPermissionMismatch"), StoreDenied),
    ("no keys here", error(403, "KeyBasedAuthenticationNotPermitted"), StoreDenied),
    ("a 403 without a code", garbage(403), StoreDenied),
    ("unknown header", error(400, "UnsupportedHeader"), CapabilityMissing),
    ("not emulated", error(501, "APINotImplemented"), CapabilityMissing),
    ("sent elsewhere", garbage(302), StoreError),
    ("a code never heard of", error(418, "Teapot"), StoreError),
]
CALLS: dict[str, Callable[[AzureStore], object]] = {
    "put": lambda store: store.put("key", DATA),
    "open": lambda store: store.open("key"),
    "stat": lambda store: store.stat("key"),
    "list": lambda store: list(store.list("")),
    "delete": lambda store: store.delete("key"),
    "extend": lambda store: store.extend_retention("key", UNTIL),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("answer", "kind"), [a[1:] for a in ACCIDENTS], ids=[a[0] for a in ACCIDENTS]
)
def test_each_accident_of_each_call_is_one_error_of_ours(
    call: str, answer: Answer, kind: type[StoreError], server: Server, locking: AzureStore
) -> None:
    server.script = [answer]
    with pytest.raises(StoreError) as caught:
        CALLS[call](locking)
    assert type(caught.value) is kind
    assert len(server.seen) == 1  # no second attempt of the SDK's
    told = reveals(caught.value)
    assert "sig=" not in told
    assert KEY not in told


PUT_ACCIDENTS: list[tuple[str, Answer, type[StoreError]]] = [
    ("taken", error(409, "BlobAlreadyExists"), ObjectExists),
    ("taken, as a condition", error(412, "ConditionNotMet"), ObjectExists),
    ("taken, to who may only create", error(403, "UnauthorizedBlobOverwrite"), ObjectExists),
    ("damaged", error(400, "Md5Mismatch"), TransferDamaged),
    ("damaged by a checksum", error(400, "Crc64Mismatch"), TransferDamaged),
    ("other bytes kept", keep_other_bytes, TransferDamaged),
    ("nonsense as checksum", lambda h, _: h.reply(201, Content_MD5="?"), TransferDamaged),
    ("not created", lambda h, _: h.reply(200), StoreUnavailable),
    ("words before the end", lambda h, _: h.wfile.write(b"SSH-2.0\r\n"), StoreUnavailable),
]


@pytest.mark.parametrize(
    ("answer", "kind"), [a[1:] for a in PUT_ACCIDENTS], ids=[a[0] for a in PUT_ACCIDENTS]
)
def test_accidents_of_a_put(
    answer: Answer, kind: type[StoreError], server: Server, azure: AzureStore
) -> None:
    server.script = [answer]
    with pytest.raises(StoreError) as caught:
        azure.put("key", DATA)
    assert type(caught.value) is kind
    assert server.methods == ["PUT"]


def test_what_is_sent_with_a_put(server: Server, azure: AzureStore) -> None:
    azure.put("key", DATA, sha256=DIGEST)
    ((_, put, query),) = server.seen
    assert put["if-none-match"] == "*"
    assert put["content-md5"] == md5(DATA)
    assert put["content-length"] == str(len(DATA))
    assert put["x-ms-blob-type"] == "BlockBlob"
    assert put["x-ms-meta-sha256"] == DIGEST.hex()
    assert "transfer-encoding" not in put
    assert not any("immutab" in name for name in put)
    assert query["sr"] == ["c"]
    assert server.objects == {"key": DATA}


def test_bytes_of_another_digest_are_never_sent(server: Server, azure: AzureStore) -> None:
    with pytest.raises(TransferDamaged):
        azure.put("key", DATA + b"?", sha256=DIGEST)
    assert server.seen == []


@pytest.mark.parametrize(
    "answer",
    [
        lambda h, _: h.reply(200, b"<?xml version='1.0'?><EnumerationResults><Blobs>"),
        lambda h, _: h.reply(200, b"<EnumerationResults></EnumerationResults>"),
        lambda h, _: h.reply(200, b"nothing of the kind", Content_Type="text/plain"),
        lambda h, _: h.reply(
            200,
            b"<EnumerationResults><Blobs><Blob><Name>key</Name></Blob></Blobs>"
            b"<NextMarker/></EnumerationResults>",
            Content_Type="application/xml",
        ),
    ],
    ids=["cut short", "no list in it", "no XML", "a blob without facts"],
)
def test_a_listing_that_makes_no_sense(
    answer: Answer, server: Server, azure: AzureStore
) -> None:
    server.script = [answer]
    with pytest.raises(StoreUnavailable):
        list(azure.list(""))


def test_nonsense_in_a_header_of_a_stat(server: Server, azure: AzureStore) -> None:
    server.script = [lambda h, _: h.reply(200, **facts(b"x", Last_Modified="yesterday"))]
    with pytest.raises(StoreUnavailable):
        azure.stat("key")


def test_a_store_that_ignores_ranges_is_found_out(server: Server, azure: AzureStore) -> None:
    server.objects["key"] = DATA
    server.script = [cut_after(len(DATA))]  # 200 and everything
    with pytest.raises(CapabilityMissing):
        azure.open("key", start=10)


def test_a_cut_body_is_an_error_without_retries(server: Server, azure: AzureStore) -> None:
    server.objects["key"] = DATA
    for read in (lambda b: b.read(), lambda b: list(iter(lambda: b.read(4096), b""))):
        server.script = [cut_after(300_000)]
        with closing(azure.open("key")) as body, pytest.raises(StoreUnavailable) as caught:
            read(body)
        assert "sig=" not in reveals(caught.value)


def test_a_body_that_stops_coming_times_out(server: Server, azure: AzureStore) -> None:
    server.objects["key"] = DATA

    def stall(handler: Handler, data: bytes) -> None:
        cut_after(300_000)(handler, data)
        hang(handler, data)

    server.script = [stall]
    with closing(azure.open("key")) as body, pytest.raises(StoreUnavailable):
        body.read()


def test_no_server_at_all() -> None:
    with Server() as gone:
        url = gone.url
    for call in CALLS.values():
        with (
            closing(open_at(url, lock="locked")) as store,
            pytest.raises(StoreUnavailable) as caught,
        ):
            call(store)
        assert "sig=" not in reveals(caught.value)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(socket.EAI_NONAME, BucketMissing), (socket.EAI_AGAIN, StoreUnavailable)],
)
def test_a_name_that_nobody_has_is_no_account(number: int, kind: type[StoreError]) -> None:
    """As requests and urllib3 wrap it; a resolver that does not answer is another matter."""
    host = "account.blob.core.windows.net"
    reason = socket.gaierror(number, "no such name")
    wrapped = NameResolutionError(host, HTTPConnection(host), reason)
    wrapped.__cause__ = reason
    assert type(translate(requests.ConnectionError(wrapped), "stat")) is kind


# --- versions, as Azure documents them ------------------------------------------------


def blob(name: str, version: str, *, current: bool, size: int = 1) -> str:
    now = "<IsCurrentVersion>true</IsCurrentVersion>" if current else ""
    return (
        f"<Blob><Name>{name}</Name><VersionId>{version}</VersionId>{now}<Properties>"
        "<Last-Modified>Mon, 02 Nov 2026 10:00:00 GMT</Last-Modified><Etag>0x1</Etag>"
        f"<Content-Length>{size}</Content-Length><BlobType>BlockBlob</BlobType>"
        f"<ImmutabilityPolicyUntilDate>{UNTIL_TEXT}</ImmutabilityPolicyUntilDate>"
        "<ImmutabilityPolicyMode>unlocked</ImmutabilityPolicyMode></Properties>"
        f"<Metadata><sha256>{'ab' * 32}</sha256></Metadata></Blob>"
    )


def page(*blobs: str, marker: str = "") -> Answer:
    text = (
        '<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="container">'
        "<MaxResults>2</MaxResults>"
        f"<Blobs>{''.join(blobs)}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
    )
    return lambda h, _: h.reply(200, text.encode(), Content_Type="application/xml")


def extended(handler: Handler, _: bytes) -> None:
    """What is set is told (Set Blob Immutability Policy, "Response headers")."""
    names = ("x-ms-immutability-policy-until-date", "x-ms-immutability-policy-mode")
    handler.reply(200, **{name: handler.headers[name] for name in names})


def test_a_listing_shows_the_newest_versions_over_all_pages(
    server: Server, locking: AzureStore
) -> None:
    server.script = [
        page(blob("a", V1, current=False), blob("a", V2, current=True), marker="2!more"),
        page(blob("hidden", V1, current=False), marker="3!more"),
        page(blob("z", V1, current=True, size=7)),
    ]
    found = list(locking.list(""))
    assert [(info.key, info.version_id, info.size) for info in found] == [
        ("a", V2, 1),
        ("z", V1, 7),
    ]
    assert {info.retain_until for info in found} == {UNTIL_UP}
    assert {info.checksum for info in found} == {f"sha256:{'ab' * 32}"}
    queries = [query for _, _, query in server.seen]
    assert [query.get("marker") for query in queries] == [None, ["2!more"], ["3!more"]]
    assert {tuple(query["maxresults"]) for query in queries} == {("2",)}
    assert set(queries[0]["include"][0].split(",")) == {
        "metadata",
        "versions",
        "immutabilitypolicy",
    }


def test_every_call_carries_the_version(server: Server, locking: AzureStore) -> None:
    server.objects["key"] = DATA
    locking.open("key", version_id=V1).close()
    locking.stat("key", version_id=V1)
    server.script = [lambda h, _: h.reply(202)]
    locking.delete("key", version_id=V1)
    server.script = [normal, extended]
    locking.extend_retention("key", UNTIL, version_id=V1)
    assert server.methods == ["GET", "HEAD", "DELETE", "HEAD", "PUT"]
    assert [query["versionid"] for _, _, query in server.seen] == [[V1]] * 5


def test_version_ids_are_passed_over_unless_declared(server: Server, azure: AzureStore) -> None:
    server.script = [lambda h, _: h.reply(201, x_ms_version_id=V1)]
    assert azure.put("key", b"").version_id is None


def test_the_newest_version_is_deleted_by_name_first(
    server: Server, locking: AzureStore
) -> None:
    server.script = [
        error(403, "OperationNotAllowedOnRootBlob"),
        lambda h, _: h.reply(200, **facts(b"x", x_ms_version_id=V1)),
        lambda h, _: h.reply(202),
        lambda h, _: h.reply(202),
    ]
    locking.delete("key", version_id=V1)
    assert server.methods == ["DELETE", "HEAD", "DELETE", "DELETE"]
    by_name = server.seen[2]
    assert "versionid" not in by_name[2]
    assert by_name[1]["if-match"] == '"0x1"'  # none that came since loses its name
    assert server.seen[3][2]["versionid"] == [V1]


@pytest.mark.parametrize(
    "lock",
    [
        {"x_ms_immutability_policy_until_date": UNTIL_TEXT},
        {"x_ms_legal_hold": "true"},
    ],
)
def test_a_locked_version_does_not_even_lose_its_name(
    lock: dict[str, str], server: Server, locking: AzureStore
) -> None:
    server.script = [
        error(403, "OperationNotAllowedOnRootBlob"),
        lambda h, _: h.reply(200, **facts(b"x", **lock)),
    ]
    with pytest.raises(ObjectLocked):
        locking.delete("key", version_id=V1)
    assert server.methods == ["DELETE", "HEAD"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("BlobImmutableDueToPolicy", "the blob is immutable due to a policy."),
        ("BlobImmutableDueToLegalHold", "the blob is immutable due to a legal hold."),
        ("LeaseIdMissing", "There is currently a lease on the blob."),
    ],
)
def test_a_lock_refuses_deletion(
    code: str, words: str, server: Server, locking: AzureStore
) -> None:
    server.script = [error(412 if code.startswith("Lease") else 409, code, words)]
    with pytest.raises(ObjectLocked):
        locking.delete("key", version_id=V1)


# --- locks, as Azure documents them ---------------------------------------------------


def locked_put(**more: str) -> Answer:
    return lambda h, data: h.reply(201, Content_MD5=md5(data), **more)


def policy(until: str, mode: str = "unlocked") -> Answer:
    lock = {
        "x_ms_immutability_policy_until_date": until,
        "x_ms_immutability_policy_mode": mode,
    }
    return lambda h, _: h.reply(200, **facts(b"x", x_ms_version_id=V1, **lock))


def test_a_lock_rides_on_the_put_and_the_first_is_looked_at(
    server: Server, locking: AzureStore
) -> None:
    server.script = [
        locked_put(x_ms_version_id=V1),
        policy(UNTIL_TEXT),
        locked_put(x_ms_version_id=V2),
    ]
    assert locking.put("a", b"", retain_until=UNTIL).version_id == V1
    assert locking.put("b", b"", retain_until=UNTIL).version_id == V2
    assert server.methods == ["PUT", "HEAD", "PUT"]
    sent = server.seen[0][1]
    assert sent["x-ms-immutability-policy-mode"] == "Unlocked"
    assert sent["x-ms-immutability-policy-until-date"] == UNTIL_TEXT
    assert server.seen[1][2]["versionid"] == [V1]


def test_a_writer_that_may_not_look_relies_on_the_answer(
    server: Server, locking: AzureStore
) -> None:
    server.script = [
        locked_put(x_ms_version_id=V1),
        error(403, "AuthorizationPermissionMismatch"),
        locked_put(x_ms_version_id=V2),
    ]
    locking.put("a", b"", retain_until=UNTIL)
    locking.put("b", b"", retain_until=UNTIL)
    assert server.methods == ["PUT", "HEAD", "PUT"]


@pytest.mark.parametrize(
    "script",
    [
        [locked_put()],  # Azurite: stored, no version, no lock
        [locked_put(x_ms_version_id=V1), lambda h, _: h.reply(200, **facts(b""))],
        [locked_put(x_ms_version_id=V1), policy("Wed, 02 Jan 2030 03:04:05 GMT")],
        [error(400, "InvalidHeaderValue", "Immutability policy is not supported here.")],
        [error(409, "Conflict", "Immutable storage with versioning is not enabled.")],
    ],
    ids=["no version", "no policy kept", "a shorter one kept", "refused", "not enabled"],
)
def test_a_lock_that_is_not_kept_is_never_passed_over(
    script: list[Answer], server: Server, locking: AzureStore
) -> None:
    server.script = list(script)
    with pytest.raises(CapabilityMissing):
        locking.put("key", b"", retain_until=UNTIL)


@pytest.mark.parametrize("held", ["locked", "unlocked"])
def test_a_lock_is_extended_in_its_own_mode(
    held: str, server: Server, locking: AzureStore
) -> None:
    server.script = [policy("Tue, 01 Jan 2030 00:00:00 GMT", held), extended]
    locking.extend_retention("key", UNTIL, version_id=V1)
    _, headers, query = server.seen[1]
    assert query["comp"] == ["immutabilityPolicies"]
    assert headers["x-ms-immutability-policy-mode"] == held.capitalize()
    assert headers["x-ms-immutability-policy-until-date"] == UNTIL_TEXT


def test_an_extension_that_nobody_made_is_no_success(
    server: Server, locking: AzureStore
) -> None:
    server.script = [policy("Tue, 01 Jan 2030 00:00:00 GMT"), garbage()]
    with pytest.raises(StoreUnavailable):
        locking.extend_retention("key", UNTIL, version_id=V1)


def test_a_blob_without_a_lock_is_given_one(server: Server, locking: AzureStore) -> None:
    server.script = [
        lambda h, _: h.reply(200, **facts(b"", x_ms_immutability_policy_mode="mutable")),
        extended,
    ]
    locking.extend_retention("key", UNTIL)
    assert server.seen[1][1]["x-ms-immutability-policy-mode"] == "Unlocked"


def test_a_lock_is_never_shortened(server: Server, locking: AzureStore) -> None:
    server.script = [policy(UNTIL_TEXT, "locked")] * 2
    locking.extend_retention("key", UNTIL_UP)
    locking.extend_retention("key", UNTIL - timedelta(days=1))
    assert server.methods == ["HEAD", "HEAD"]


def test_a_lock_on_what_is_missing(server: Server, locking: AzureStore) -> None:
    with pytest.raises(ObjectMissing):
        locking.extend_retention("key", UNTIL)
    assert server.methods == ["HEAD"]


def test_a_lock_that_was_not_declared_is_not_asked_for(
    server: Server, azure: AzureStore
) -> None:
    with pytest.raises(CapabilityMissing):
        azure.put("key", b"", retain_until=UNTIL)
    with pytest.raises(CapabilityMissing):
        azure.extend_retention("key", UNTIL)
    assert server.seen == []


# --- credentials ----------------------------------------------------------------------


def test_a_signature_is_made_once_and_anew_when_it_was_refused(
    server: Server, azure: AzureStore
) -> None:
    server.objects["key"] = b"x"
    server.script = [normal, normal, error(403, "AuthenticationFailed")]
    azure.stat("key")
    azure.open("key").close()
    with pytest.raises(StoreDenied):
        azure.stat("key")
    before = azure._sas._made
    azure.stat("key")
    assert before is None
    signatures = [query["sig"] for _, _, query in server.seen]
    assert signatures[0] == signatures[1] == signatures[2]


@pytest.mark.parametrize("call", ["put", "open", "stat", "list", "delete"])
def test_credentials_revoked_midway_end_the_retries(
    call: str, server: Server, retrying: Retrying
) -> None:
    server.script = [error(503, "ServerBusy"), error(403, "AuthenticationFailed")]
    with pytest.raises(StoreDenied):
        CALLS[call](retrying)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["", "not base64!", "sv=2022-11-02&sp=r", "c2hvcnQ=x"])
def test_a_key_that_is_none_is_a_configuration_error(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_at("http://127.0.0.1:1", Access("writer", key=Secret(key)))
    assert not key or key not in str(caught.value)


def test_a_key_of_the_environment_is_for_its_own_account(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "account")
    with closing(open_at(server, Access("writer"))) as store:
        store.put("key", b"x")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "another")
    with pytest.raises(ConfigError, match="without TLS"):  # so a token is what is left
        open_at(server, Access("writer"))


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (None, "https://acme.blob.core.windows.net"),
        ("https://acme.blob.core.chinacloudapi.cn/", "https://acme.blob.core.chinacloudapi.cn"),
        ("https://acme.z01.blob.storage.azure.net", "https://acme.z01.blob.storage.azure.net"),
        ("http://127.0.0.1:10000", "http://127.0.0.1:10000/acme"),
        ("https://gateway.example.org/", "https://gateway.example.org/acme"),
        ("https://acmex.blob.core.windows.net", "https://acmex.blob.core.windows.net/acme"),
    ],
)
def test_where_an_account_is(endpoint: str | None, url: str) -> None:
    assert account_url(AzureOptions("acme", "backups", endpoint=endpoint)) == url


# --- with retries ---------------------------------------------------------------------


@pytest.mark.parametrize("accident", [error(503, "ServerBusy"), hang, drop, reset, lose_reply])
def test_a_put_survives_two_accidents(
    accident: Answer, server: Server, retrying: Retrying
) -> None:
    server.script = [accident, accident]
    retrying.put("key", DATA, sha256=DIGEST)
    assert server.objects == {"key": DATA}


def test_a_storm_of_throttling_has_an_end(server: Server, retrying: Retrying) -> None:
    server.script = [error(503, "ServerBusy")] * 4
    with pytest.raises(StoreUnavailable):
        retrying.put("key", DATA)
    assert server.methods == ["PUT"] * 4


def test_a_lost_reply_is_settled_by_one_look(server: Server, retrying: Retrying) -> None:
    server.script = [lose_reply]
    assert retrying.put("key", DATA).checksum == f"sha256:{DIGEST.hex()}"
    assert server.methods == ["PUT", "PUT", "HEAD"]


def test_a_lost_reply_without_the_right_to_look_is_a_taken_key(
    server: Server, retrying: Retrying
) -> None:
    server.script = [
        lose_reply,
        error(403, "UnauthorizedBlobOverwrite"),
        error(403, "AuthorizationPermissionMismatch"),
    ]
    with pytest.raises(ObjectExists):
        retrying.put("key", DATA)


def test_damage_on_the_way_is_healed_by_a_retry(server: Server, retrying: Retrying) -> None:
    server.script = [error(400, "Md5Mismatch")]
    retrying.put("key", DATA)
    assert server.objects == {"key": DATA}


@pytest.mark.parametrize("size", [-1, 1000, 1 << 20])
def test_a_body_goes_on_where_it_was_cut(size: int, server: Server, retrying: Retrying) -> None:
    server.objects["key"] = DATA
    server.script = [cut_after(300_000), hang, error(503, "ServerBusy")]
    with closing(retrying.open("key")) as body:
        if size < 0:
            assert body.read() == DATA
        else:
            assert b"".join(iter(lambda: body.read(size), b"")) == DATA
