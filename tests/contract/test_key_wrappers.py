"""One contract for every key service: AWS KMS, Google Cloud KMS, Azure Key Vault, a passphrase,
a key file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from azure.core.credentials import AccessToken
from kms_kit import AzureKey, GoogleKey, Service, served
from tls_kit import make_certificate

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import ConfigError, Damaged, KeyRefused, KeyServiceUnavailable
from backups.format import sealed
from backups.format.sealed import context_for
from backups.model import Secret
from backups.ports import KeyWrapper
from providers.kms_azure import AzureKeyVault
from providers.kms_registry import WRAPPERS, open_wrapper

ENTROPY = SystemEntropy()
SECRET = bytes(range(32))
HERE, THERE = context_for("acme"), context_for("birch")


@dataclass
class Kind:
    """A key, and another one of the same kind."""

    url: str
    other: str
    open: Callable[[str], KeyWrapper]
    service: Service | None = None
    disable: Callable[[], Any] | None = None


class OurToken:
    """Whom we are to Azure: that Microsoft gives one is not shown here."""

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        assert scopes == ("https://vault.azure.net/.default",)
        return AccessToken("token", int(SystemClock().now().timestamp()) + 3600)


def plain(url: str) -> KeyWrapper:
    return open_wrapper(url, ENTROPY, lambda _: Secret("correct horse battery"))


@pytest.fixture(params=sorted(WRAPPERS))
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    name = request.param.replace("-", "_")
    yield from MAKERS[name](request, tmp_path)


def aws_kms(request: pytest.FixtureRequest, _: Path) -> Iterator[Kind]:
    endpoint = request.getfixturevalue("s3_endpoint")
    client: Any = boto3.client("kms", endpoint_url=endpoint, region_name="us-east-1")  # type: ignore[call-overload]
    keys = [client.create_key()["KeyMetadata"]["KeyId"] for _ in range(2)]
    query = f"?region=us-east-1&endpoint={quote(endpoint, safe='')}"
    yield Kind(
        f"aws-kms://{keys[0]}{query}",
        f"aws-kms://{keys[1]}{query}",
        plain,
        disable=lambda: client.disable_key(KeyId=keys[0]),
    )


def gcp_kms(request: pytest.FixtureRequest, _: Path) -> Iterator[Kind]:
    request.getfixturevalue("gcs_endpoint")  # whose token server we show our key to
    service = GoogleKey()
    with served(service) as place, served(GoogleKey()) as other:
        urls = (
            f"gcp-kms://{GoogleKey.NAME}?endpoint={quote(at, safe='')}" for at in (place, other)
        )
        yield Kind(*urls, plain, service, lambda: setattr(service, "refuse", 403))


def azure_kv(request: pytest.FixtureRequest, folder: Path) -> Iterator[Kind]:
    certificate, trusted = make_certificate(folder)
    patch = request.getfixturevalue("monkeypatch")
    patch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    services = (AzureKey(), AzureKey())
    with (
        served(services[0], lambda: certificate) as one,
        served(services[1], lambda: certificate) as two,
    ):
        for service, place in zip(services, (one, two), strict=True):
            service.host = place.removeprefix("https://")

        def open_(url: str) -> KeyWrapper:
            path, _, query = url.removeprefix("azure-kv://").partition("?")
            return AzureKeyVault(path, {"endpoint": query}, OurToken())

        urls = (f"azure-kv://{each.host}/backups/0123abcd?endpoint=local" for each in services)
        yield Kind(*urls, open_, services[0], lambda: setattr(services[0], "refuse", 403))


def passphrase(_: pytest.FixtureRequest, __: Path) -> Iterator[Kind]:
    words = {"env:ONE": "correct horse battery", "env:TWO": "staple that is another"}
    yield Kind(
        "passphrase:env:ONE",
        "passphrase:env:TWO",
        lambda url: open_wrapper(url, ENTROPY, lambda reference: Secret(words[reference])),
    )


def keyfile(_: pytest.FixtureRequest, folder: Path) -> Iterator[Kind]:
    paths = []
    for name in ("one", "two"):
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(ENTROPY.bytes(32).hex())
        paths.append(f"keyfile:{path}")
    yield Kind(*paths, plain)


MAKERS: dict[str, Callable[[pytest.FixtureRequest, Path], Iterator[Kind]]] = {
    each.__name__: each for each in (aws_kms, gcp_kms, azure_kv, passphrase, keyfile)
}


def test_what_is_wrapped_comes_back(kind: Kind) -> None:
    wrapper = kind.open(kind.url)
    wrapped = wrapper.wrap(SECRET, HERE)
    assert SECRET not in wrapped
    assert wrapped != wrapper.wrap(SECRET, HERE)
    assert wrapper.unwrap(wrapped, HERE) == SECRET
    wrapper.close()
    wrapper.close()
    again = kind.open(kind.url)
    assert again.unwrap(wrapped, HERE) == SECRET
    again.close()


def test_not_in_another_context(kind: Kind) -> None:
    wrapper = kind.open(kind.url)
    wrapped = wrapper.wrap(SECRET, HERE)
    for context in (THERE, {}, {**HERE, "more": "yes"}):
        with pytest.raises(KeyRefused):
            wrapper.unwrap(wrapped, context)
    wrapper.close()


def test_not_with_another_key_nor_when_damaged(kind: Kind) -> None:
    wrapper, other = kind.open(kind.url), kind.open(kind.other)
    wrapped = wrapper.wrap(SECRET, HERE)
    try:
        assert other.unwrap(wrapped, HERE) == SECRET  # AWS finds the key by itself
        assert kind.url.startswith("aws-kms")
    except KeyRefused:
        pass
    for broken in (b"", wrapped[:-1], bytes([wrapped[0] ^ 1]) + wrapped[1:]):
        with pytest.raises((KeyRefused, KeyServiceUnavailable)):
            wrapper.unwrap(broken, HERE)
    wrapper.close()
    other.close()


def test_a_key_that_was_taken_away(kind: Kind) -> None:
    if kind.disable is None:
        with pytest.raises(ConfigError):
            open_wrapper("keyfile:/nowhere", ENTROPY, lambda _: Secret("short"))
        with pytest.raises(ConfigError, match="fewer than"):
            open_wrapper("passphrase:env:X", ENTROPY, lambda _: Secret("short"))
        return
    wrapper = kind.open(kind.url)
    wrapped = wrapper.wrap(SECRET, HERE)
    kind.disable()
    with pytest.raises(KeyRefused, match="not given to us"):
        wrapper.unwrap(wrapped, HERE)
    with pytest.raises(KeyRefused):
        kind.open(kind.url).wrap(SECRET, HERE)
    wrapper.close()


def test_a_service_that_is_out_of_order(kind: Kind) -> None:
    if kind.service is None:
        return
    wrapper = kind.open(kind.url)
    wrapped = wrapper.wrap(SECRET, HERE)
    kind.service.refuse = 503
    with pytest.raises(KeyServiceUnavailable, match="503"):
        wrapper.unwrap(wrapped, HERE)
    kind.service.refuse = None
    assert wrapper.unwrap(wrapped, HERE) == SECRET
    wrapper.close()


def test_a_service_that_is_not_there(tmp_path: Path, gcs_endpoint: str) -> None:
    nowhere = "endpoint=http%3A%2F%2F127.0.0.1%3A1"
    for url in (f"aws-kms://k?region=us-east-1&{nowhere}", f"gcp-kms://projects/p?{nowhere}"):
        wrapper = plain(url)
        with pytest.raises(KeyServiceUnavailable, match="no answer"):
            wrapper.wrap(SECRET, HERE)
        wrapper.close()
    silent = AzureKeyVault("127.0.0.1:1/n/v", {"endpoint": "x"}, OurToken())
    with pytest.raises(KeyServiceUnavailable, match="no answer"):
        silent.unwrap(b"x" * 256, HERE)


def test_bytes_that_change_on_their_way_are_noticed(gcs_endpoint: str) -> None:
    service = GoogleKey()
    with served(service) as place:
        wrapper = plain(f"gcp-kms://{GoogleKey.NAME}?endpoint={quote(place, safe='')}")
        wrapped = wrapper.wrap(SECRET, HERE)
        service.damage = True
        with pytest.raises(KeyServiceUnavailable, match="changed on their way"):
            wrapper.unwrap(wrapped, HERE)
        wrapper.close()


@pytest.mark.parametrize(
    "url", ["", "aws-kms", "aws-kms://", "vault://x", "AGE-SECRET-KEY-1X", "azure-kv://v/name"]
)
def test_what_names_no_service(url: str) -> None:
    with pytest.raises(ConfigError):
        plain(url)


# --- the sealed file ------------------------------------------------------------------


def test_a_sealed_file(kind: Kind) -> None:
    wrapper = kind.open(kind.url)
    data = sealed.seal(b"AGE-SECRET-KEY-1...", kind.url, wrapper, HERE, ENTROPY).encode()
    assert b"AGE-SECRET" not in data
    found = sealed.read(data)
    assert found.wrapper == kind.url
    assert sealed.unseal(found, wrapper, HERE) == b"AGE-SECRET-KEY-1..."
    with pytest.raises(KeyRefused, match="another customer"):
        sealed.unseal(found, wrapper, THERE)
    wrapper.close()


def test_a_sealed_file_that_was_touched() -> None:
    wrapper = open_wrapper(
        "passphrase:env:X", ENTROPY, lambda _: Secret("correct horse battery")
    )
    data = sealed.seal(b"secret", "passphrase:env:X", wrapper, HERE, ENTROPY).encode()
    with pytest.raises(Damaged):
        sealed.read(data + b" ")
    with pytest.raises(Damaged):
        sealed.read(data[:40])
    other = sealed.read(data.replace(b"passphrase:env:X", b"passphrase:env:Y"))
    with pytest.raises(Damaged):
        sealed.unseal(other, wrapper, HERE)
