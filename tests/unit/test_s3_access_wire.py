"""Becoming a role, on the wire: what STS is asked, when, and what its refusals become."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs

import pytest

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import (
    ConfigError,
    ObjectMissing,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from backups.model import Secret
from providers.access import Access
from providers.policies.aws import Reach, permissions, session_policy
from providers.registry import open_store
from providers.retry import Pace, Retrying
from providers.s3 import S3Store, connect
from providers.s3_access import AssumedRole, session_name
from providers.s3_client import S3Options

CLOCK = SystemClock()
ROLE = "arn:aws:iam::123456789012:role/backups-acme-writer"
EXTERNAL = "Zk3-external/id=of+acme"
ACCESS = Access("writer", "acme", ROLE, EXTERNAL)
HOUR = timedelta(hours=1)
Answer = Callable[["Handler"], None]


class Server(ThreadingHTTPServer):
    """STS and S3 at one address; each plays its script first, then says yes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sts: list[Answer] = []
        self.s3: list[Answer] = []
        self.asked: list[dict[str, str]] = []
        self.seen: list[dict[str, str]] = []

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
        server = self.server
        headers = {name.lower(): value for name, value in self.headers.items()}
        if self.command == "POST":
            form = {name: values[0] for name, values in parse_qs(data.decode()).items()}
            server.asked.append(form | {"authorization": headers["authorization"]})
            (server.sts.pop(0) if server.sts else lend(HOUR))(self)
        else:
            server.seen.append(headers)
            (server.s3.pop(0) if server.s3 else yes)(self)

    do_GET = do_PUT = do_HEAD = do_POST = handle_any

    def reply(self, status: int, data: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "text/xml")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def yes(handler: Handler) -> None:
    handler.reply(200)


def lend(lifetime: timedelta) -> Answer:
    """Credentials whose names count how many were lent."""

    def answer(handler: Handler) -> None:
        count = len(handler.server.asked)
        ends = (CLOCK.now() + lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
        handler.reply(
            200,
            f"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
            <AssumeRoleResult><Credentials><AccessKeyId>ASIALENT{count}</AccessKeyId>
            <SecretAccessKey>lent-secret-{count}</SecretAccessKey>
            <SessionToken>token-{count}</SessionToken><Expiration>{ends}</Expiration>
            </Credentials></AssumeRoleResult></AssumeRoleResponse>""".encode(),
        )

    return answer


def refuse(status: int, code: str, message: str = "in words") -> Answer:
    text = f"<Code>{code}</Code><Message>{message}</Message>"
    body = f"<ErrorResponse><Error>{text}</Error></ErrorResponse>".encode()
    return lambda handler: handler.reply(status, body)


def s3_error(status: int, code: str) -> Answer:
    return lambda handler: handler.reply(status, f"<Error><Code>{code}</Code></Error>".encode())


def drop(handler: Handler) -> None:
    handler.close_connection = True


@pytest.fixture(autouse=True)
def our_own_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOURS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI-secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with Server() as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    running.asked.clear()
    running.seen.clear()
    yield running
    left = [*running.sts, *running.s3]
    running.sts, running.s3 = [], []
    assert left == [], "an answer of the script was never asked for"


def options(server: Server) -> S3Options:
    return S3Options("bucket", "pre/fix", server.url, "eu-central-1", lock="governance")


@pytest.fixture
def store(server: Server) -> Iterator[S3Store]:
    with closing(connect(options(server), ACCESS, CLOCK)) as store:
        assert server.asked == []  # connecting asks nothing
        yield store


def test_what_sts_is_asked_and_what_is_done_with_its_answer(
    server: Server, store: S3Store
) -> None:
    store.put("key", b"x")
    (asked,) = server.asked
    assert asked["Action"] == "AssumeRole"
    assert asked["RoleArn"] == ROLE
    assert asked["RoleSessionName"] == "backups-writer-acme"
    assert asked["ExternalId"] == EXTERNAL
    assert asked["DurationSeconds"] == "3600"
    assert "AKIDOURS/" in asked["authorization"]
    assert "/eu-central-1/sts/" in asked["authorization"]
    policy = json.loads(asked["Policy"])
    reach = Reach("bucket", "pre/fix", locks=True, amazon=False)
    assert policy["Statement"] == permissions("writer", reach)
    assert [statement["Action"] for statement in policy["Statement"]] == [
        "s3:PutObject",
        "s3:PutObjectRetention",
    ]
    assert {s["Resource"] for s in policy["Statement"]} == {"arn:aws:s3:::bucket/pre/fix/*"}
    (seen,) = server.seen
    assert "ASIALENT1/" in seen["authorization"]
    assert seen["x-amz-security-token"] == "token-1"


def test_opened_by_its_url_each_role_asks_for_its_own_rights(server: Server) -> None:
    url = f"s3://bucket/p?endpoint={server.url}&region=eu-central-1"
    for role in ("writer", "pruner"):
        access = Access(role, "acme", ROLE, EXTERNAL)  # type: ignore[arg-type]
        store = open_store(url, clock=CLOCK, entropy=SystemEntropy(), access=access)
        with closing(store):
            store.put("key", b"x")
    policies = [asked["Policy"] for asked in server.asked]
    reach = Reach("bucket", "p", amazon=False)
    assert policies == [session_policy("writer", reach), session_policy("pruner", reach)]


def test_new_credentials_are_asked_for_well_before_the_old_ones_end(
    server: Server, store: S3Store
) -> None:
    server.sts = [lend(timedelta(minutes=9)), lend(HOUR)]
    for number in range(4):
        store.put(f"key-{number}", b"x")
    assert len(server.asked) == 2
    tokens = [seen["x-amz-security-token"] for seen in server.seen]
    assert tokens == ["token-1", "token-2", "token-2", "token-2"]


def test_a_refresh_that_fails_early_disturbs_nobody(server: Server, store: S3Store) -> None:
    server.sts = [lend(timedelta(minutes=14)), refuse(503, "ServiceUnavailable"), lend(HOUR)]
    for number in range(3):
        store.put(f"key-{number}", b"x")
    tokens = [seen["x-amz-security-token"] for seen in server.seen]
    assert tokens == ["token-1", "token-1", "token-3"]


def test_a_refresh_refused_when_the_end_is_near_is_an_error(
    server: Server, store: S3Store
) -> None:
    server.sts = [lend(timedelta(minutes=9)), refuse(403, "AccessDenied")]
    store.put("key", b"x")
    with pytest.raises(StoreDenied, match="assuming") as caught:
        store.put("other", b"x")
    assert "trust policy" in caught.value.hint
    assert len(server.seen) == 1


def test_many_threads_become_the_role_once(server: Server, store: S3Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.put(f"key-{number}", b"x"), range(24)))
    assert (len(server.asked), len(server.seen)) == (1, 24)


REFUSALS = [
    ("AccessDenied", 403, "in words", StoreDenied, "external id"),
    ("ExpiredToken", 403, "in words", StoreDenied, "Our own credentials"),
    ("ExpiredTokenException", 400, "in words", StoreDenied, "Our own credentials"),
    ("InvalidClientTokenId", 403, "in words", StoreDenied, "Our own credentials"),
    (
        "SignatureDoesNotMatch",
        403,
        "Signature expired: 2026 is now earlier",
        StoreDenied,
        "clock",
    ),
    ("SignatureDoesNotMatch", 403, "Signature not yet current: 2026", StoreDenied, "clock"),
    ("SignatureDoesNotMatch", 403, "in words", StoreDenied, "secret key"),
    ("RequestExpired", 400, "in words", StoreDenied, "clock"),
    ("RegionDisabledException", 403, "in words", StoreDenied, "region"),
    ("PackedPolicyTooLarge", 400, "in words", StoreDenied, "prefix"),
    ("MalformedPolicyDocument", 400, "in words", StoreDenied, "policy"),
    ("ValidationError", 400, "in words", StoreDenied, "3600"),
    ("Throttling", 400, "Rate exceeded", StoreUnavailable, ""),
    ("ServiceUnavailable", 503, "in words", StoreUnavailable, ""),
    ("InternalFailure", 500, "in words", StoreUnavailable, ""),
    ("Teapot", 418, "in words", StoreError, ""),
]


@pytest.mark.parametrize(
    ("code", "status", "message", "kind", "hint"),
    REFUSALS,
    ids=[f"{code}-{message[:16]}" for code, _, message, *_ in REFUSALS],
)
def test_each_refusal_is_one_error_of_ours(
    code: str, status: int, message: str, kind: type[StoreError], hint: str,
    server: Server, store: S3Store, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    server.sts = [refuse(status, code, message)]
    with caplog.at_level(logging.WARNING), pytest.raises(StoreError) as caught:
        store.put("key", b"x")
    assert type(caught.value) is kind
    assert ROLE in str(caught.value)
    assert hint in caught.value.hint
    assert len(server.asked) == 1  # retry.py retries, not the SDK
    assert server.seen == []
    said = f"{caught.value} {caught.value.hint} {caplog.text}"
    for secret in ("wJalr", EXTERNAL):
        assert secret not in said


def test_sts_out_of_reach_is_retried(server: Server, store: S3Store) -> None:
    server.sts = [drop]
    with pytest.raises(StoreUnavailable):
        store.put("key", b"x")
    server.sts = [drop, refuse(503, "ServiceUnavailable"), lend(HOUR)]
    Retrying(store, CLOCK, SystemEntropy(), Pace(first=0.001)).put("key", b"x")
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "ExpiredToken"), (403, "InvalidAccessKeyId"), (403, "AccessDenied")],
)
def test_a_session_revoked_midway_is_a_denial(
    status: int, code: str, server: Server, store: S3Store
) -> None:
    store.put("key", b"x")
    server.s3 = [s3_error(status, code)]
    with pytest.raises(StoreDenied, match=code):
        store.put("other", b"x")


def test_credentials_that_had_ended_when_they_came(server: Server, store: S3Store) -> None:
    server.sts = [lend(timedelta(minutes=-1))]
    with pytest.raises(StoreDenied, match="expired on arrival") as caught:
        store.put("key", b"x")
    assert "clock" in caught.value.hint


def test_no_credentials_of_our_own(
    server: Server, store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(StoreDenied) as caught:
        store.put("key", b"x")
    assert "credentials" in caught.value.hint
    assert server.asked == []
    # Keys that come later are found: nothing was kept.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDLATER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "later")
    store.put("key", b"x")
    assert "AKIDLATER/" in server.asked[0]["authorization"]


@pytest.mark.parametrize(
    ("endpoint", "region", "asked"),
    [
        (None, "eu-central-1", "https://sts.eu-central-1.amazonaws.com"),
        (None, "us-east-1", "https://sts.us-east-1.amazonaws.com"),
        (None, "cn-north-1", "https://sts.cn-north-1.amazonaws.com.cn"),
        (
            "https://bucket.vpce-1a2b.s3.eu-west-1.vpce.amazonaws.com",
            "eu-west-1",
            "https://sts.eu-west-1.amazonaws.com",
        ),
        ("https://minio.example:9000", "eu-west-1", "https://minio.example:9000"),
        ("https://amazonaws.com.example", "eu-west-1", "https://amazonaws.com.example"),
    ],
)
def test_which_sts_is_asked(
    endpoint: str | None, region: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_STS_REGIONAL_ENDPOINTS", "legacy")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    where = S3Options("bucket", endpoint=endpoint, region=region)
    with closing(AssumedRole(where, ACCESS, CLOCK)._client()) as client:
        assert client.meta.endpoint_url == asked


@pytest.mark.parametrize(
    "access",
    [
        Access("writer", "acme", key=Secret("stored")),
        Access("writer", "acme", ROLE, EXTERNAL, key=Secret("stored")),
        Access("writer", "acme", "arn:aws:iam::123456789012:user/somebody", EXTERNAL),
        Access("writer", "acme", "somebody", EXTERNAL),
        Access("writer", "acme", ROLE, "x"),
        Access("writer", "acme", ROLE, "with spaces"),
    ],
)
def test_what_no_role_can_be_assumed_with(access: Access) -> None:
    with pytest.raises(ConfigError) as caught:
        connect(S3Options("bucket"), access, CLOCK)
    assert "stored" not in str(caught.value)


def test_names_of_sessions_are_sts_names_and_stay_apart() -> None:
    customers = ["acme", "a" * 47, "a" * 48, "a" * 60 + "b", "a" * 60 + "c", "ä b", "ä;b"]
    names = [session_name("restorer", customer) for customer in customers]
    assert all(2 <= len(name) <= 64 for name in names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in names)
    assert len(set(names)) == len(names)
    assert names[:2] == ["backups-restorer-acme", "backups-restorer-" + "a" * 47]


# --- a missing object, to those who may list below a prefix only ----------------------

LISTED = b"<ListBucketResult><Contents><Key>pre/fix/key</Key></Contents></ListBucketResult>"
OTHER = b"<ListBucketResult><Contents><Key>pre/fix/key2</Key></Contents></ListBucketResult>"
VERSION = (
    b"<ListVersionsResult><Version><Key>pre/fix/key</Key><VersionId>v1</VersionId>"
    b"</Version></ListVersionsResult>"
)


@pytest.mark.parametrize(
    ("version", "listing", "kind"),
    [
        (None, b"<ListBucketResult/>", ObjectMissing),
        (None, OTHER, ObjectMissing),
        (None, LISTED, StoreDenied),
        ("v1", VERSION, StoreDenied),
        ("v2", VERSION, ObjectMissing),
    ],
)
def test_a_refused_read_of_what_is_not_there_is_a_missing_object(
    version: str | None, listing: bytes, kind: type[StoreError], server: Server, store: S3Store
) -> None:
    for read in (store.open, store.stat):
        server.s3 = [s3_error(403, "AccessDenied"), lambda handler: handler.reply(200, listing)]
        with pytest.raises(StoreError) as caught:
            read("key", version_id=version)
        assert type(caught.value) is kind


def test_a_refused_read_stays_one_where_listing_is_refused_too(
    server: Server, store: S3Store
) -> None:
    server.s3 = [s3_error(403, "AccessDenied"), s3_error(403, "AccessDenied")]
    with pytest.raises(StoreDenied):
        store.open("key")
