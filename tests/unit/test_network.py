"""Hosted, no SDK reaches a private address: not by a name, a number, a redirect or a token."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from socket import AF_INET6, gaierror
from threading import Thread
from typing import Any

import boto3
import pytest
import requests
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import BlobServiceClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Client as GoogleClient
from hypothesis import given
from hypothesis import strategies as st

from backups.clock import SystemClock
from backups.errors import BackupsError, StoreDenied, StoreError, StoreUnavailable
from backups.model import Secret
from backups.ports import ObjectStore
from providers.access import Access
from providers.guard import guard_boto3, requests_adapter
from providers.network import ANYWHERE, Network
from providers.registry import ADAPTERS
from providers.urls import parse_store_url

CLOCK = SystemClock()
NAME = "store.example"
ALLOWED = (ip_network("127.0.0.2/32"),)
HOSTED = Network(hosted=True)
TRUSTING = Network(hosted=True, allowed=ALLOWED)
"""Reaches the server at 127.0.0.2, and not the one at 127.0.0.1."""
Answer = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """Answers everything alike, and counts who knocks."""

    daemon_threads = True

    def __init__(self, host: str, answer: Answer) -> None:
        self.answer = answer
        self.connections = 0
        self.hosts: list[str | None] = []
        super().__init__((host, 0), Handler)

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.port}"

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def verify_request(self, *_: object) -> bool:
        self.connections += 1
        return True


class ServerV6(Server):
    address_family = AF_INET6


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def handle_any(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.hosts.append(self.headers.get("Host"))
        self.server.answer(self)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = do_CONNECT = handle_any


def reply(status: int, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Length": "0", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    return answer


NOTHING = reply(404)
Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(host, answer)`: a server on that address of this machine."""
    running: list[tuple[Server, Thread]] = []

    def start(
        host: str = "127.0.0.2",
        answer: Answer = NOTHING,
        kind: type[Server] = Server,
        tls: ssl.SSLContext | None = None,
    ) -> Server:
        server = kind(host, answer)
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


OpenStore = Callable[..., ObjectStore]


@pytest.fixture
def open_bare(private_key: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenStore]:
    """`open_bare(scheme, endpoint, network)`: a cloud's adapter, with a customer's own key
    where the cloud has such; Google's says `token_uri`."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    opened: list[ObjectStore] = []

    def make(
        scheme: str,
        endpoint: str,
        network: Network,
        token_uri: str | None = None,
        principal: str | None = None,
    ) -> ObjectStore:
        account = {
            "type": "service_account",
            "private_key": private_key,
            "private_key_id": "1",
            "client_email": "writer@project.iam.gserviceaccount.com",
            "token_uri": token_uri or f"{endpoint}/token",
        }
        key = {"gs": json.dumps(account), "az": "a2V5"}.get(scheme)
        place = {"s3": "s3://bucket", "gs": "gs://bucket", "az": "az://account/container"}
        secret = Secret(key) if key else None
        access = Access("restorer", principal=principal, key=secret, network=network)
        url = parse_store_url(f"{place[scheme]}?endpoint={endpoint}")
        opened.append(store := ADAPTERS[scheme](url, access, CLOCK))
        return store

    yield make
    for store in opened:
        store.close()


def denied(store: ObjectStore) -> StoreDenied:
    with pytest.raises(StoreDenied) as caught:
        store.stat("key")
    assert not caught.value.retryable
    return caught.value


def reached(store: ObjectStore) -> None:
    """The server was asked; it has nothing, whatever each cloud makes of that."""
    with pytest.raises(StoreError) as caught:
        store.stat("key")
    assert "public address" not in str(caught.value)


every_cloud = pytest.mark.parametrize("scheme", ["s3", "gs", "az"])


# --- on every SDK ---------------------------------------------------------------------


@every_cloud
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "LOCALHOST", "2130706433", "0177.0.0.1",
        "0x7f.1", "127.1", "0.0.0.0", "[::ffff:7f00:1]", "[::1]",
    ],
)  # fmt: skip
def test_a_private_address_is_refused_however_it_is_written(
    host: str, scheme: str, serve: Serve, open_bare: OpenStore
) -> None:
    server = serve("::", kind=ServerV6)  # of both families
    refusal = denied(open_bare(scheme, f"http://{host}:{server.port}", HOSTED))
    assert "which is not a public address" in str(refusal)
    assert "hosted_allow" in refusal.hint
    assert server.connections == 0


@every_cloud
def test_not_hosted_nothing_is_refused(scheme: str, serve: Serve, open_bare: OpenStore) -> None:
    server = serve("127.0.0.1")
    reached(open_bare(scheme, f"http://localhost:{server.port}", ANYWHERE))
    assert server.connections >= 1


@every_cloud
def test_what_the_operator_allows_is_reached_under_its_name(
    scheme: str, serve: Serve, open_bare: OpenStore
) -> None:
    """By the name in the Host header, and resolved once for each connection."""
    server = serve()
    asked = []

    def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.2"]

    network = Network(True, ALLOWED, resolve)
    reached(open_bare(scheme, f"http://{NAME}:{server.port}", network))
    assert server.connections == len(asked) >= 1
    assert set(asked) == {NAME}
    assert set(server.hosts) == {f"{NAME}:{server.port}"}


@every_cloud
@pytest.mark.parametrize("order", [1, -1])
def test_one_private_answer_among_others_is_enough_to_refuse(
    order: int, scheme: str, serve: Serve, open_bare: OpenStore
) -> None:
    server = serve()
    answers = ["127.0.0.2", "10.1.2.3"][::order]
    network = Network(True, ALLOWED, lambda host, port: answers)
    refusal = denied(open_bare(scheme, f"http://{NAME}:{server.port}", network))
    assert f"{NAME} leads to 10.1.2.3," in str(refusal)
    assert server.connections == 0


@every_cloud
def test_a_name_that_changes_its_address_is_not_followed(
    scheme: str, serve: Serve, open_bare: OpenStore
) -> None:
    """DNS rebinding: the second answer is private, and checked like the first."""
    inside = serve("127.0.0.1")
    outside = serve("127.0.0.2", reply(404, Connection="close"))
    answers = iter([["127.0.0.2"]])
    network = Network(True, ALLOWED, lambda host, port: next(answers, ["127.0.0.1"]))
    store = open_bare(scheme, f"http://{NAME}:{outside.port}", network)
    with pytest.raises(StoreError):
        store.stat("key")
    denied(store)
    assert outside.connections == 1
    assert inside.connections == 0


@every_cloud
def test_the_next_address_is_tried_when_one_does_not_answer(
    scheme: str, serve: Serve, open_bare: OpenStore
) -> None:
    server = serve()
    both = (*ALLOWED, ip_network("127.0.0.3/32"))
    network = Network(True, both, lambda host, port: ["127.0.0.3", "127.0.0.2"])
    reached(open_bare(scheme, f"http://{NAME}:{server.port}", network))
    assert server.connections >= 1


@every_cloud
@pytest.mark.parametrize("answers", [["127.0.0.3"], [], None])
def test_what_does_not_answer_may_be_tried_later(
    answers: list[str] | None, scheme: str, open_bare: OpenStore
) -> None:
    def resolve(host: str, port: int) -> Sequence[str]:
        if answers is None:
            raise gaierror(-3, "Temporary failure in name resolution")
        return answers

    network = Network(True, (ip_network("127.0.0.3/32"),), resolve)
    with pytest.raises(StoreUnavailable):
        open_bare(scheme, f"http://{NAME}:9", network).stat("key")


@every_cloud
def test_a_name_that_cannot_be_one(scheme: str, open_bare: OpenStore) -> None:
    with pytest.raises(BackupsError):  # ConfigError, where the SDK looks at it before
        open_bare(scheme, f"http://{'a' * 64}.example", HOSTED).stat("key")


@every_cloud
def test_a_proxy_which_would_resolve_names_itself_is_refused(
    scheme: str, serve: Serve, open_bare: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve()
    monkeypatch.setenv("http_proxy", proxy.url)
    refusal = denied(open_bare(scheme, f"http://{NAME}", TRUSTING))
    assert "a proxy, 127.0.0.2" in str(refusal)
    assert "HTTP_PROXY" in refusal.hint
    assert proxy.connections == 0


@every_cloud
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_a_private_address_is_not_followed(
    status: int, scheme: str, serve: Serve, open_bare: OpenStore
) -> None:
    inside = serve("127.0.0.1")
    location = f"{inside.url}/latest/meta-data"
    outside = serve("127.0.0.2", reply(status, Location=location, x_amz_bucket_region="x"))
    store = open_bare(scheme, outside.url, TRUSTING)
    for call in (
        lambda: store.stat("key"),
        lambda: store.open("key"),
        lambda: store.put("key", b"x"),
    ):
        with pytest.raises(StoreError):
            call()
    assert outside.connections >= 1
    assert inside.connections == 0


def test_a_token_is_not_asked_for_at_a_private_address(
    serve: Serve, open_bare: OpenStore
) -> None:
    """The key is the customer's, and it names the server that gives tokens for it."""
    inside, outside = serve("127.0.0.1"), serve()
    for token_uri in (inside.url, f"http://localhost:{inside.port}", "http://169.254.169.254/"):
        denied(open_bare("gs", outside.url, TRUSTING, token_uri=token_uri))
    assert (inside.connections, outside.connections) == (0, 0)


def test_a_role_is_not_asked_for_at_a_private_address(
    serve: Serve, open_bare: OpenStore
) -> None:
    """Servers that stand in for Amazon lend their own credentials."""
    inside = serve("127.0.0.1")
    role = "arn:aws:iam::123456789012:role/backups"
    store = open_bare("s3", f"http://localhost:{inside.port}", HOSTED, principal=role)
    assert f"assuming {role}: localhost leads to" in str(denied(store))
    assert inside.connections == 0


# --- the SDKs' own habits, where an adapter of ours does not switch them off ------------


def google(endpoint: str, network: Network) -> None:
    session = AuthorizedSession(AnonymousCredentials())
    session.mount("http://", requests_adapter(network))
    options = {"api_endpoint": endpoint}
    with closing(
        GoogleClient("p", session.credentials, _http=session, client_options=options)
    ) as client:
        client.bucket("b").get_blob("key", retry=None)


def azure(endpoint: str, network: Network) -> None:
    session = requests.Session()
    session.mount("http://", requests_adapter(network))
    transport = RequestsTransport(session=session)
    with BlobServiceClient(f"{endpoint}/account", transport=transport, retry_total=0) as client:
        client.get_blob_client("container", "key").exists()


def amazon(endpoint: str, network: Network) -> None:
    with closing(boto3.client("s3", "us-east-1", endpoint_url=endpoint)) as client:
        guard_boto3(client, network)
        client.head_object(Bucket="bucket", Key="key")


def plainly(endpoint: str, network: Network) -> None:
    with requests.Session() as session:
        session.mount("http://", requests_adapter(network))
        session.get(endpoint)


@pytest.mark.parametrize("ask", [google, azure, plainly])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433"])
def test_libraries_that_follow_redirects_are_stopped(
    host: str, ask: Callable[[str, Network], None], serve: Serve
) -> None:
    inside = serve("127.0.0.1")
    redirect = reply(302, Location=f"http://{host}:{inside.port}/latest/meta-data")
    outside = serve("127.0.0.2", redirect)
    with pytest.raises(StoreDenied):
        ask(outside.url, TRUSTING)
    assert (outside.connections, inside.connections) == (1, 0)
    ask(outside.url, ANYWHERE)
    assert inside.connections == 1


def test_botocore_itself_is_stopped(open_bare: OpenStore, serve: Serve) -> None:
    server = serve("127.0.0.1")
    with pytest.raises(Exception, match="which is not a public address"):
        amazon(server.url, HOSTED)
    assert server.connections == 0
    with pytest.raises(Exception, match="404"):
        amazon(server.url, ANYWHERE)
    assert server.connections == 1


# --- TLS ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `store.example`, and of nobody else; with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = CLOCK.now()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(made.public_bytes(Encoding.PEM) + secret)
    return path


@every_cloud
def test_certificates_are_checked_by_name(
    scheme: str,
    certificate: Path,
    serve: Serve,
    open_bare: OpenStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name goes to the server (SNI) and the certificate must be its own."""
    asked = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    tls.sni_callback = lambda _socket, name, _context: asked.append(name)
    server = serve(tls=tls)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    network = Network(True, ALLOWED, lambda host, port: ["127.0.0.2"])
    reached(open_bare(scheme, f"https://{NAME}:{server.port}", network))
    assert set(asked) == {NAME}
    hosts = len(server.hosts)
    assert hosts >= 1
    with pytest.raises(StoreError, match="certificate is not trusted"):
        open_bare(scheme, f"https://another.example:{server.port}", network).stat("key")
    assert len(server.hosts) == hosts


# --- which addresses ------------------------------------------------------------------

REFUSED_V4 = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
    "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
]  # fmt: skip
REFUSED_V6 = [
    "::/128", "::1/128", "::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:2::/48",
    "2001:10::/28", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7",
    "fe80::/10", "fec0::/10", "ff00::/8",
]  # fmt: skip
METADATA = [
    "169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23",
    "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16",
]  # fmt: skip


def within(networks: list[str]) -> st.SearchStrategy[Any]:
    return st.sampled_from(networks).flatmap(lambda text: st.ip_addresses(network=text))


def forms(address: IPv4Address | IPv6Address) -> list[str]:
    """Every address that could lead to this one."""
    if isinstance(address, IPv6Address):
        return [str(address), f"{address}%lo"]
    number = int(address)
    return [
        str(address),
        str(IPv6Address((0xFFFF << 32) | number)),
        str(IPv6Address((0x64FF9B << 96) | number)),
        str(IPv6Address((0x2002 << 112) | (number << 80))),
        str(IPv6Address(number)),
    ]


def passes(network: Network, address: str) -> bool:
    try:
        network.check(address, NAME)
    except StoreDenied:
        return False
    return True


@given(within(REFUSED_V4 + REFUSED_V6))
def test_no_address_that_is_not_public_passes(address: IPv4Address | IPv6Address) -> None:
    for form in forms(address):
        assert not passes(HOSTED, form), form


@pytest.mark.parametrize("address", METADATA)
def test_no_metadata_service_passes(address: str) -> None:
    test_no_address_that_is_not_public_passes.hypothesis.inner_test(  # type: ignore[attr-defined]
        IPv6Address(address) if ":" in address else IPv4Address(address)
    )


@given(st.ip_addresses())
def test_public_addresses_pass_and_python_agrees(address: IPv4Address | IPv6Address) -> None:
    if passes(HOSTED, str(address)):
        mapped = int(address) & 0xFFFFFFFF
        inner = (
            IPv4Address(mapped) if str(address).startswith(("::ffff:", "64:ff9b:")) else address
        )
        assert inner.is_global
        assert not inner.is_multicast


@pytest.mark.parametrize(
    "address",
    [
        "52.216.0.1", "142.250.1.207", "20.60.0.1", "2a05:d018::1", "2600:1f18::1",
        "::ffff:52.216.0.1", "64:ff9b::34d8:1",
    ],
)  # fmt: skip
def test_the_clouds_own_addresses_pass(address: str) -> None:
    assert passes(HOSTED, address)


@given(st.ip_addresses())
def test_not_hosted_every_address_passes(address: IPv4Address | IPv6Address) -> None:
    assert passes(ANYWHERE, str(address))


@given(within(["10.8.0.0/16", "fd12:3456::/32"]), within(["10.9.0.0/16", "fd13::/16"]))
def test_an_allowed_network_passes_and_its_neighbours_do_not(
    inside: IPv4Address | IPv6Address, outside: IPv4Address | IPv6Address
) -> None:
    allowed = (IPv4Network("10.8.0.0/16"), IPv6Network("fd12:3456::/32"))
    network = Network(hosted=True, allowed=allowed)
    assert passes(network, str(inside))
    assert not passes(network, str(outside))
    if isinstance(inside, IPv4Address):
        assert passes(network, f"::ffff:{inside}")
