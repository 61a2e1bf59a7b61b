"""Roles without a stored key, over the whole way: a federated token is exchanged for one of
the customer's application, that one for a key to sign with, and with it a SAS for the role.

The token server is ours and stands in for Microsoft Entra ID; Azurite takes any token whose
claims are right, grants its bearer everything, and enforces what the SAS grants.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest
from azure.storage.blob import BlobServiceClient, ContainerClient
from tls_kit import make_certificate

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import ConfigError, ObjectMissing, StoreDenied, StoreUnavailable
from providers.access import Access, Role
from providers.azure import AzureOptions, AzureStore, connect
from providers.network import Network

CLOCK = SystemClock()
ACCOUNT = "devstoreaccount1"
TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
CLIENT = "6731de76-14a6-49ae-97bc-6eba6914391e"
ASSERTION = "eyJhbGciOiJub25lIn0.federated-token.of-our-own"
Connect = Callable[..., AzureStore]


# --- a token server -------------------------------------------------------------------


class Authority(ThreadingHTTPServer):
    """Issues tokens for the client and tenant above to whoever shows our own token."""

    daemon_threads = True

    def __init__(self, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.issued = 0
        self.refusal: tuple[int, dict[str, str]] | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """Quiet."""


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Authority

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        base = f"{self.server.url}/{TENANT}"
        self.reply(
            200,
            {
                "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
            },
        )

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if self.server.refusal is not None:
            return self.reply(*self.server.refusal)
        asked = {name: form[name][0] for name in ("client_id", "client_assertion", "scope")}
        assert asked["client_id"] == CLIENT
        assert asked["client_assertion"] == ASSERTION
        assert "https://storage.azure.com/.default" in asked["scope"]
        self.server.issued += 1
        token = {"token_type": "Bearer", "expires_in": 3599, "access_token": jwt()}
        return self.reply(200, token)

    def reply(self, status: int, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def jwt() -> str:
    """An access token as Azure Storage wants its claims, unsigned."""
    now = int(CLOCK.now().timestamp())
    claims = {
        "aud": "https://storage.azure.com",
        "iss": f"https://sts.windows.net/{TENANT}/",
        "oid": CLIENT,
        "tid": TENANT,
        "iat": now - 60,
        "nbf": now - 60,
        "exp": now + 3600,
    }
    parts = ({"alg": "none", "typ": "JWT"}, claims, "signature")
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in parts
    )


# --- fixtures -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    if "BACKUPS_TEST_AZURE_CA" not in os.environ:
        pytest.fail("BACKUPS_TEST_AZURE_CA is not set: run localstack/test", pytrace=False)
    folder = tmp_path_factory.mktemp("authority")
    certificate, trusted = make_certificate(
        folder, Path(os.environ["BACKUPS_TEST_AZURE_CA"]).read_bytes()
    )
    (folder / "token").write_text(ASSERTION)
    with Authority(certificate) as server, pytest.MonkeyPatch.context() as patch:
        for variable in list(os.environ):
            if variable.startswith("AZURE_"):
                patch.delenv(variable)
        patch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
        patch.setenv("AZURE_AUTHORITY_HOST", server.url)
        patch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(folder / "token"))
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def container(authority: Authority) -> Iterator[ContainerClient]:
    # The emulator's own key, the same everywhere.
    key = (
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/"
        "K1SZFPTOtr/KBHBeksoGMGw=="
    )
    url = f"{os.environ['BACKUPS_TEST_AZURE_TLS_ENDPOINT']}/{ACCOUNT}"
    with BlobServiceClient(url, key) as account:
        name = "roles-" + SystemEntropy().bytes(6).hex()
        yield account.create_container(name)
        account.delete_container(name)


class Later:
    """A clock that can be put forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return CLOCK.now() + self.ahead

    monotonic = staticmethod(CLOCK.monotonic)
    sleep = staticmethod(CLOCK.sleep)


@pytest.fixture
def store(container: ContainerClient) -> Iterator[Connect]:
    with ExitStack() as stack:

        def make(role: Role, clock: Later | SystemClock = CLOCK, **options: Any) -> AzureStore:
            where = AzureOptions(
                ACCOUNT,
                str(container.container_name),
                "pre/fix",
                os.environ["BACKUPS_TEST_AZURE_TLS_ENDPOINT"],
                **{"tenant": TENANT, **options},
            )
            made = connect(where, Access(role, "acme", CLIENT), clock)
            stack.callback(made.close)
            return made

        yield make


# --- what each role may do ------------------------------------------------------------


def test_the_writer_creates_and_nothing_else(
    store: Connect, container: ContainerClient
) -> None:
    writer = store("writer")
    writer.put("key", b"bytes")
    calls: list[Callable[[], object]] = [
        lambda: writer.open("key"),
        lambda: writer.stat("key"),
        lambda: list(writer.list("")),
        lambda: writer.delete("key"),
        lambda: writer.put("key", b"other"),  # Azure calls it taken, the emulator denied
    ]
    for call in calls:
        with pytest.raises(StoreDenied) as caught:
            call()
        assert "sig=" not in "".join(traceback.format_exception(caught.value))
    assert container.download_blob("pre/fix/key").readall() == b"bytes"


def test_the_restorer_reads_and_nothing_else(
    store: Connect, container: ContainerClient
) -> None:
    container.upload_blob("pre/fix/key", b"bytes")
    restorer = store("restorer")
    assert restorer.open("key").read() == b"bytes"
    assert restorer.stat("key").size == 5
    assert [info.key for info in restorer.list("")] == ["key"]
    for call in (lambda: restorer.put("new", b"x"), lambda: restorer.delete("key")):
        with pytest.raises(StoreDenied):
            call()


def test_the_pruner_marks_lists_and_deletes(store: Connect, container: ContainerClient) -> None:
    container.upload_blob("pre/fix/key", b"bytes")
    pruner = store("pruner")
    pruner.put("tombstone", b"x")
    assert [info.key for info in pruner.list("")] == ["key", "tombstone"]
    pruner.delete("key")
    with pytest.raises(ObjectMissing):
        pruner.stat("key")
    with pytest.raises(StoreDenied):
        pruner.put("tombstone", b"other")


def test_what_is_signed_is_no_good_elsewhere(
    store: Connect, container: ContainerClient
) -> None:
    sas = store("pruner")._sas.signature
    other = f"{container.container_name}-other"
    url = container.url.replace(str(container.container_name), other)
    with pytest.raises(Exception, match="failed to authenticate"):
        list(ContainerClient.from_container_url(f"{url}?{sas}").list_blobs())


# --- when it is asked for -------------------------------------------------------------


def test_asked_for_when_needed_and_again_before_it_ends(
    store: Connect, authority: Authority
) -> None:
    before = authority.issued
    clock = Later()
    pruner = store("pruner", clock)
    assert authority.issued == before
    pruner.put("a", b"x")
    pruner.put("b", b"x")
    assert authority.issued == before + 1
    clock.ahead = timedelta(minutes=49)
    pruner.stat("a")
    assert authority.issued == before + 1
    clock.ahead = timedelta(minutes=51)
    # It is renewed, to what the emulator finds too early: the account's clock is the judge.
    with pytest.raises(StoreDenied):
        pruner.stat("a")
    assert authority.issued == before + 2
    clock.ahead = timedelta()
    assert pruner.stat("a").size == 1  # what was refused is not used again
    assert authority.issued == before + 3


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (401, "invalid_client", StoreDenied),
        (400, "unauthorized_client", StoreDenied),
        (503, "temporarily_unavailable", StoreUnavailable),
    ],
)
def test_no_token_is_an_error_of_ours(
    status: int,
    error: str,
    kind: type[Exception],
    store: Connect,
    authority: Authority,
) -> None:
    words = "AADSTS700213: No matching federated identity record found"
    authority.refusal = (status, {"error": error, "error_description": words})
    try:
        for call in (lambda s: s.put("key", b"x"), lambda s: s.stat("key")):
            with pytest.raises(kind) as caught:
                call(store("writer"))
            assert ASSERTION not in "".join(traceback.format_exception(caught.value))
    finally:
        authority.refusal = None


def test_a_token_file_that_is_gone(store: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent/token")
    with pytest.raises(StoreDenied, match="/nonexistent/token"):
        store("writer").put("key", b"x")


def test_an_application_needs_its_tenant(store: Connect) -> None:
    with pytest.raises(ConfigError, match="tenant"):
        store("writer", tenant=None)


def test_no_token_is_sent_without_tls(authority: Authority) -> None:
    where = AzureOptions(ACCOUNT, "any", endpoint="http://127.0.0.1:1", tenant=TENANT)
    with pytest.raises(ConfigError, match="without TLS"):
        connect(where, Access("writer", "acme", CLIENT), CLOCK)


def test_no_token_is_shown_to_a_customers_endpoint(authority: Authority) -> None:
    hosted = Access("writer", "acme", CLIENT, network=Network(hosted=True))
    where = AzureOptions(ACCOUNT, "any", endpoint="https://blobs.example.org", tenant=TENANT)
    with pytest.raises(ConfigError, match="not Azure's own"):
        connect(where, hosted, CLOCK)
    connect(AzureOptions(ACCOUNT, "any", tenant=TENANT), hosted, CLOCK).close()
