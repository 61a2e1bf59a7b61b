"""Secrets from AWS Secrets Manager: against an endpoint that keeps them, and on the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import boto3
import pytest
from server_kit import unique

from backups.errors import ConfigError, StoreUnavailable
from backups.fleet import resolve_key, resolve_password


@pytest.fixture
def manager(iam_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", iam_endpoint)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("secretsmanager")
    yield client
    client.close()


def test_a_password_that_is_the_whole_secret(manager: Any) -> None:
    name = unique("acme/main-")
    arn = manager.create_secret(Name=name, SecretString="hunter2")["ARN"]
    assert resolve_password(f"aws-sm:{name}").reveal() == "hunter2"
    assert resolve_password(f"aws-sm:{arn}").reveal() == "hunter2"
    manager.put_secret_value(SecretId=name, SecretString="hunter3")
    assert resolve_password(f"aws-sm:{name}").reveal() == "hunter3"


def test_an_arn_says_the_region(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = manager.create_secret(Name=unique("acme-"), SecretString="hunter2")["ARN"]
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert resolve_password(f"aws-sm:{arn}").reveal() == "hunter2"


def test_a_password_that_is_a_member_of_the_secret(manager: Any) -> None:
    name = unique("acme-")
    fields = {"username": "backup", "password": "hunter2", "port": 5432, "empty": ""}
    manager.create_secret(Name=name, SecretString=json.dumps(fields))
    assert resolve_password(f"aws-sm:{name}#password").reveal() == "hunter2"
    assert json.loads(resolve_key(f"aws-sm:{name}").reveal()) == fields
    for member in ("Password", "port", "empty"):
        with pytest.raises(ConfigError, match="no JSON object") as caught:
            resolve_password(f"aws-sm:{name}#{member}")
        assert "hunter2" not in str(caught.value)


def test_secrets_that_can_not_be_used(manager: Any) -> None:
    name = unique("acme-")
    with pytest.raises(ConfigError, match="there is none"):
        resolve_password(f"aws-sm:{name}")
    manager.create_secret(Name=name, SecretBinary=b"hunter2")
    with pytest.raises(ConfigError, match="as text"):
        resolve_password(f"aws-sm:{name}")
    two = unique("acme-")
    manager.create_secret(Name=two, SecretString="hunter2\nhunter3")
    with pytest.raises(ConfigError, match="line breaks") as caught:
        resolve_password(f"aws-sm:{two}")
    assert "hunter" not in str(caught.value)
    with pytest.raises(ConfigError, match="no JSON object") as caught:
        resolve_password(f"aws-sm:{two}#password")
    assert "hunter" not in str(caught.value)
    manager.delete_secret(SecretId=two)
    with pytest.raises(ConfigError, match="deleted"):
        resolve_password(f"aws-sm:{two}")


# --- on the wire ----------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Says the same to every call, and remembers the calls."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: tuple[int, dict[str, str]] = (200, {})
        self.asked: list[tuple[str, dict[str, str]]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.headers["X-Amz-Target"], body))
        status, document = self.server.answer
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", url)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_asks_for_that_secret_and_no_other(server: Server) -> None:
    server.answer = (200, {"SecretString": "hunter2"})
    assert resolve_password("aws-sm:acme/main").reveal() == "hunter2"
    assert server.asked == [("secretsmanager.GetSecretValue", {"SecretId": "acme/main"})]


@pytest.mark.parametrize(
    ("status", "code", "kind", "calls"),
    [
        (400, "AccessDeniedException", ConfigError, 1),
        (400, "DecryptionFailure", ConfigError, 1),
        (400, "UnrecognizedClientException", ConfigError, 1),
        (400, "ThrottlingException", StoreUnavailable, 2),
        (500, "InternalServiceError", StoreUnavailable, 2),
    ],
)
def test_what_it_refuses(
    server: Server, status: int, code: str, kind: type[Exception], calls: int
) -> None:
    server.answer = (status, {"__type": code, "Message": "hunter2"})
    with pytest.raises(kind) as caught:
        resolve_password("aws-sm:acme/main")
    assert "hunter2" not in str(caught.value)
    assert len(server.asked) == calls


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:9")
    with pytest.raises(StoreUnavailable, match="no answer"):
        resolve_password("aws-sm:acme/main")
