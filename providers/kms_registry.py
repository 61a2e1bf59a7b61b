"""Which key services there are: one table by the URL's scheme."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import parse_qsl

from backups.errors import ConfigError
from backups.model import Secret
from backups.ports import Entropy, KeyWrapper

Resolve = Callable[[str], Secret]
"""What a reference to a passphrase leads to."""
Make = Callable[[str, Mapping[str, str], Entropy, Resolve], KeyWrapper]


def open_wrapper(url: str, entropy: Entropy, resolve: Resolve) -> KeyWrapper:
    """The key service that a URL names. Raises ConfigError."""
    scheme, _, rest = url.partition(":")
    if scheme not in WRAPPERS or not rest.strip("/"):
        raise ConfigError(f"{url[:80]!r} names no key service", hint=f"Use {FORMS}.")
    path, _, query = rest.removeprefix("//").partition("?")
    try:
        return WRAPPERS[scheme](path, dict(parse_qsl(query)), entropy, resolve)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{scheme} needs the package {error.name}",
            hint="Install it with the extra of that cloud: 'bloomneo-backups[gcs]', [azure].",
        ) from None


def _aws(path: str, options: Mapping[str, str], _: Entropy, __: Resolve) -> KeyWrapper:
    from providers.kms_aws import AwsKms

    return AwsKms(path, options)


def _gcp(path: str, options: Mapping[str, str], _: Entropy, __: Resolve) -> KeyWrapper:
    from providers.kms_gcp import GoogleKms

    return GoogleKms(path, options)


def _azure(path: str, options: Mapping[str, str], _: Entropy, __: Resolve) -> KeyWrapper:
    from providers.kms_azure import AzureKeyVault

    return AzureKeyVault(path, options)


def _passphrase(
    path: str, _: Mapping[str, str], entropy: Entropy, resolve: Resolve
) -> KeyWrapper:
    from providers.kms_local import passphrase

    return passphrase(resolve(path), entropy)


def _key_file(path: str, _: Mapping[str, str], entropy: Entropy, __: Resolve) -> KeyWrapper:
    from providers.kms_local import key_file

    return key_file(Path(path), entropy)


WRAPPERS: Mapping[str, Make] = MappingProxyType(
    {
        "aws-kms": _aws,
        "gcp-kms": _gcp,
        "azure-kv": _azure,
        "passphrase": _passphrase,
        "keyfile": _key_file,
    }
)
FORMS = (
    "aws-kms://KEY, gcp-kms://projects/..., azure-kv://VAULT/NAME/VERSION, "
    "passphrase:env:NAME, passphrase:file:PATH or keyfile:PATH"
)
