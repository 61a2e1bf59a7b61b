"""Key services on this machine, by the clouds' own documents: Google Cloud KMS and Azure Key
Vault, as far as wrapping a key goes. AWS KMS is the local cloud's.

What is not shown here: that Microsoft and Google issue tokens to us; IAM conditions; HSMs.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google_crc32c import value as crc32c

from backups.entropy import SystemEntropy

Answer = tuple[int, dict[str, Any]]


class Service:
    """One key; `refuse` makes it answer as its document says for that case."""

    def __init__(self) -> None:
        self.refuse: int | None = None
        self.calls: list[str] = []
        self.damage = False

    def handle(self, method: str, path: str, body: dict[str, Any], token: str) -> Answer:
        raise NotImplementedError


class GoogleKey(Service):
    """cloudkms v1, cryptoKeys.encrypt and .decrypt: bodies, checksums and additional data as in
    the REST reference."""

    NAME = "projects/p/locations/europe/keyRings/r/cryptoKeys/k"

    def __init__(self) -> None:
        super().__init__()
        self._key = AESGCM(AESGCM.generate_key(256))

    def handle(self, method: str, path: str, body: dict[str, Any], token: str) -> Answer:
        self.calls.append(path)
        if not token.startswith("Bearer "):
            return 401, {"error": {"status": "UNAUTHENTICATED"}}
        if self.refuse:
            return self.refuse, {"error": {"code": self.refuse}}
        name, _, verb = path.removeprefix("/v1/").rpartition(":")
        if name != self.NAME:
            return 404, {"error": {"status": "NOT_FOUND"}}
        aad = self._field(body, "additionalAuthenticatedData")
        if verb == "encrypt":
            nonce = SystemEntropy().bytes(12)
            sealed = nonce + self._key.encrypt(nonce, self._field(body, "plaintext"), aad)
            return 200, {
                "name": f"{name}/cryptoKeyVersions/1", **self._said("ciphertext", sealed),
                "verifiedPlaintextCrc32c": True,
                "verifiedAdditionalAuthenticatedDataCrc32c": True,
            }  # fmt: skip
        sealed = self._field(body, "ciphertext")
        try:
            plain = self._key.decrypt(sealed[:12], sealed[12:], aad)
        except InvalidTag:
            return 400, {"error": {"status": "INVALID_ARGUMENT"}}
        return 200, self._said("plaintext", plain)

    def _field(self, body: dict[str, Any], name: str) -> bytes:
        value = b64decode(body[name])
        assert int(body[f"{name}Crc32c"]) == crc32c(value)
        return value

    def _said(self, name: str, value: bytes) -> dict[str, Any]:
        sent = bytes([value[0] ^ 1]) + value[1:] if self.damage else value
        return {name: b64encode(sent).decode(), f"{name}Crc32c": str(crc32c(value))}


class AzureKey(Service):
    """Key Vault 7.x, "Get Key", "Wrap Key" and "Unwrap Key", and its challenge: a first call
    without a token is told whom to ask for one."""

    PATH = "/keys/backups/0123abcd"

    def __init__(self) -> None:
        super().__init__()
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.host = ""

    def handle(self, method: str, path: str, body: dict[str, Any], token: str) -> Answer:
        self.calls.append(path)
        if not token.startswith("Bearer "):
            return 401, {"error": {"code": "Unauthorized"}}
        if self.refuse:
            return self.refuse, {"error": {"code": "Forbidden", "message": "no"}}
        numbers = self._key.public_key().public_numbers()
        if method == "GET":
            return 200, {
                "key": {"kid": f"https://{self.host}{self.PATH}", "kty": "RSA",
                        "key_ops": ["wrapKey", "unwrapKey"],
                        "n": _url64(numbers.n.to_bytes(256, "big")), "e": _url64(b"\1\0\1")},
                "attributes": {"enabled": True},
            }  # fmt: skip
        assert body["alg"] == "RSA-OAEP-256"
        value = urlsafe_b64decode(body["value"] + "==")
        if path.endswith("/wrapkey"):
            done = self._key.public_key().encrypt(value, _OAEP)
        else:
            try:
                done = self._key.decrypt(value, _OAEP)
            except ValueError:
                return 400, {"error": {"code": "BadParameter", "message": "no"}}
        return 200, {"kid": f"https://{self.host}{self.PATH}", "value": _url64(done)}


_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


def _url64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@contextmanager
def served(service: Service, tls: Callable[[], Path] | None = None) -> Iterator[str]:
    """Its address; over TLS with a certificate in the file that `tls` gives."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length)
            body = json.loads(text) if text else {}
            path = self.path.partition("?")[0]
            token = self.headers.get("Authorization", "")
            status, answer = service.handle(self.command, path, body, token)
            data = json.dumps(answer).encode()
            self.send_response(status)
            if status == 401:
                self.send_header(
                    "WWW-Authenticate",
                    'Bearer authorization="https://login.microsoftonline.com/t", '
                    'resource="https://vault.azure.net"',
                )
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _do

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls())
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
