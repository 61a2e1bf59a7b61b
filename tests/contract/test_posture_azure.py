"""How a container of Azure is set up, looked at on Azurite; what that does not know (locks)
is answered on the wire."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest
from azure.storage.blob import BlobServiceClient, generate_container_sas

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import ConfigError
from backups.model import Outcome, Secret
from backups.ports import Clock
from providers.access import Access, Role
from providers.network import Network
from providers.posture import View, looking
from providers.urls import parse_store_url

CLOCK = SystemClock()
ACCOUNT = "devstoreaccount1"
ROLES: tuple[Role, ...] = ("writer", "restorer", "pruner")
MakeView = Callable[..., View]


@dataclass(frozen=True)
class Off(SystemClock):
    """A clock that is wrong."""

    seconds: int

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.seconds)


def view_of(endpoint: str, container: str, clock: Clock = CLOCK, query: str = "") -> View:
    where = quote(endpoint, safe="")
    url = parse_store_url(f"az://{ACCOUNT}/{container}/pre?endpoint={where}{query}")
    access: dict[Role, Access] = {role: Access(role, "acme") for role in ROLES}
    return View(url, access, clock, timedelta(days=30))


def found(view: View) -> dict[str, Outcome]:
    with looking(view) as looks:
        return {name: judge()[0] for name, judge in looks.items()}


def keyed(view: View, secret: str) -> View:
    access = {role: replace(one, key=Secret(secret)) for role, one in view.access.items()}
    return replace(view, access=access)


@pytest.fixture
def account(azure_endpoint: str) -> Iterator[BlobServiceClient]:
    client = BlobServiceClient(f"{azure_endpoint}/{ACCOUNT}", os.environ["AZURE_STORAGE_KEY"])
    yield client
    client.close()


@pytest.fixture
def container(account: BlobServiceClient) -> Iterator[str]:
    name = "test-" + SystemEntropy().bytes(6).hex()
    account.create_container(name)
    yield name
    account.delete_container(name)


AS_MADE = {
    "region": "unproven",
    "clock": "passed",
    "versioning": "unproven",
    "lock": "warning",
    "public_access": "passed",
    "lifecycle": "unproven",
    "credentials": "warning",
}


def test_a_container_as_it_is_made(azure_endpoint: str, container: str) -> None:
    view = view_of(azure_endpoint, container)
    assert found(view) == AS_MADE
    with looking(view) as looks:
        for name in ("region", "versioning", "lifecycle"):
            assert f" {ACCOUNT} " in looks[name]()[1]
            assert "az storage account " in looks[name]()[1]


@pytest.mark.parametrize("level", ["blob", "container"])
def test_a_public_container(
    level: Any, account: BlobServiceClient, azure_endpoint: str, container: str
) -> None:
    account.get_container_client(container).set_container_access_policy({}, public_access=level)
    assert found(view_of(azure_endpoint, container))["public_access"] == "failed"


def test_a_clock_that_is_wrong(azure_endpoint: str, container: str) -> None:
    assert found(view_of(azure_endpoint, container, Off(400)))["clock"] == "failed"


def test_a_signature_for_the_container_shows_nothing_of_it(
    azure_endpoint: str, container: str
) -> None:
    sas = generate_container_sas(
        ACCOUNT, container, os.environ["AZURE_STORAGE_KEY"], permission="rcdl",
        expiry=CLOCK.now() + timedelta(hours=1),
    )  # fmt: skip
    with looking(keyed(view_of(azure_endpoint, container), sas)) as looks:
        for name in ("clock", "lock", "public_access"):
            outcome, words = looks[name]()
            assert (outcome, "containers/read" in words) == ("unproven", True)
            assert "sig=" not in words
        assert looks["credentials"]() == ("warning", "a stored SAS: name principals instead")


def test_credentials_without_a_stored_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    view = view_of("https://127.0.0.1:1", "any-container", query="&tenant=" + "-".join(
        ["72f988bf", "86f1", "41af", "91ab", "2d7cd011db47"]))  # fmt: skip

    def credentials(it: View) -> Outcome:
        with looking(it) as looks:
            return looks["credentials"]()[0]

    assert credentials(view) == "passed"
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.setenv(name, "stored")
    assert credentials(view) == "warning"
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
    client = "6731de76-14a6-49ae-97bc-6eba6914391e"
    federated = {role: replace(one, principal=client) for role, one in view.access.items()}
    assert credentials(replace(view, access=federated)) == "passed"
    hosted = {role: replace(one, network=Network(True)) for role, one in view.access.items()}
    with pytest.raises(ConfigError, match="not Azure's own"):
        found(replace(view, access=hosted))


# --- on the wire ----------------------------------------------------------------------


@pytest.fixture
def wire() -> Iterator[tuple[str, dict[str, str]]]:
    """URL of an endpoint, and the headers that it answers everything with."""
    headers: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            now = formatdate(CLOCK.now().timestamp(), usegmt=True)
            for name, value in {"Last-Modified": now, "ETag": '"1"', **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", headers
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("header", "query", "outcome"),
    [
        ("x-ms-immutable-storage-with-versioning-enabled", "&lock=locked", "passed"),
        ("x-ms-immutable-storage-with-versioning-enabled", "", "warning"),
        ("x-ms-other", "&lock=locked", "failed"),
        ("x-ms-has-immutability-policy", "&lock=locked", "failed"),
        ("x-ms-has-legal-hold", "", "failed"),
    ],
)
def test_locks(header: str, query: str, outcome: str, wire: tuple[str, dict[str, str]]) -> None:
    endpoint, headers = wire
    headers[header] = "true"
    looks = found(view_of(endpoint, "any-container", query=query))
    assert looks["lock"] == outcome
    assert looks["clock"] == "unproven"  # this endpoint does not say what time it has
