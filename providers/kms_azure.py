"""Azure Key Vault (REST API, "Wrap Key" and "Unwrap Key"; RSA-OAEP-256).

    azure-kv://VAULT.vault.azure.net/NAME/VERSION

Key Vault authenticates no context of its own for RSA keys: the context's SHA-256 is wrapped
with the secret and compared after. A version is asked for, so that a new one, made by the
vault's own rotation, does not leave us with what it can't open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from azure.core import exceptions as sdk
from azure.identity import DefaultAzureCredential
from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm

from backups.errors import BackupsError, ConfigError, KeyRefused, KeyServiceUnavailable
from providers.kms_context import bound

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

_HOW = KeyWrapAlgorithm.rsa_oaep_256
_REFUSED = {
    400: "it did not seal this, or is not for wrapping",
    401: "our credentials are not accepted",
    403: "our principal may not use it, or it is disabled",
    404: "there is no such key or version",
}


class AzureKeyVault:
    """Adapter of `ports.KeyWrapper`."""

    def __init__(
        self, key: str, options: Mapping[str, str], credential: TokenCredential | None = None
    ) -> None:
        """`key`: vault's host, name and version. Raises ConfigError."""
        host, _, rest = key.partition("/")
        name, _, version = rest.partition("/")
        if not (host and name and version):
            raise ConfigError(
                f"azure-kv://{key} names no version of a key",
                hint="Such as azure-kv://our-vault.vault.azure.net/backups/0123abcd.",
            )
        self._key = key
        self._client = CryptographyClient(
            f"https://{host}/keys/{name}/{version}",
            credential or DefaultAzureCredential(),
            verify_challenge_resource="endpoint" not in options,
            retry_total=1,
            connection_timeout=5,
            read_timeout=10,
        )

    def wrap(self, secret: bytes, context: Mapping[str, str]) -> bytes:
        """See the port."""
        try:
            return self._client.wrap_key(_HOW, secret + _digest(context)).encrypted_key
        except (sdk.AzureError, ValueError) as error:
            raise self._translated(error) from None

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """See the port."""
        try:
            found = self._client.unwrap_key(_HOW, wrapped).key
        except (sdk.AzureError, ValueError) as error:
            raise self._translated(error) from None
        if found[-32:] != _digest(context):
            raise KeyRefused(f"the key azure-kv://{self._key} sealed this for another use")
        return found[:-32]

    def close(self) -> None:
        """See the port."""
        self._client.close()

    def _translated(self, error: Exception) -> BackupsError:
        key = f"the key azure-kv://{self._key}"
        status = getattr(error, "status_code", None)
        if isinstance(error, sdk.ClientAuthenticationError):
            return KeyRefused(f"{key} is not given to us: {_REFUSED[401]}")
        if status in _REFUSED:
            return KeyRefused(f"{key} is not given to us: {_REFUSED[status]}")
        if isinstance(error, sdk.ServiceRequestError | sdk.ServiceResponseError) or status:
            why = f"status {status}" if status else "Key Vault gave no answer"
            return KeyServiceUnavailable(f"{key} can't be used now: {why}")
        return KeyRefused(f"{key} can't be used: it is not a key for wrapping")


def _digest(context: Mapping[str, str]) -> bytes:
    return hashlib.sha256(bound(context)).digest()
