"""AWS Key Management Service (its API Reference: Encrypt, Decrypt).

    aws-kms://alias/backups?region=eu-central-1
    aws-kms://arn:aws:kms:eu-central-1:123456789012:key/1234abcd-...

The context is KMS's encryption context: it is authenticated, and stands in the owner's own
CloudTrail with every use. A key may be a customer's: its policy, or a grant that is retired
again, lets our principal Decrypt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore import exceptions as sdk
from botocore.config import Config

from backups.errors import BackupsError, ConfigError, KeyRefused, KeyServiceUnavailable
from providers.aws_sdk import new_session

_REFUSED = {
    "AccessDeniedException": "our principal may not use it",
    "DisabledException": "it is disabled",
    "KMSInvalidStateException": "it is about to be deleted, or not ready",
    "NotFoundException": "there is no such key",
    "InvalidCiphertextException": "it did not seal this, or for another use",
    "IncorrectKeyException": "another key sealed this",
    "InvalidGrantTokenException": "the grant is over",
    "InvalidKeyUsageException": "it is not a key for encryption",
    "UnrecognizedClientException": "our credentials are not accepted",
    "InvalidSignatureException": "our credentials are not accepted",
    "ExpiredTokenException": "our credentials have expired",
}
"""Error codes that asking again does not change, in words."""
_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 3},
    connect_timeout=5,
    read_timeout=10,
)


class AwsKms:
    """Adapter of `ports.KeyWrapper`."""

    def __init__(self, key: str, options: Mapping[str, str]) -> None:
        """`key`: an id, alias or ARN. Raises ConfigError when no region is known."""
        parts = key.split(":")
        region = parts[3] if parts[0] == "arn" and len(parts) > 5 else options.get("region")
        self._key = key
        try:
            self._client: Any = new_session().client(
                "kms",
                region_name=region,
                endpoint_url=options.get("endpoint"),
                config=_CONFIG,
            )
        except (sdk.BotoCoreError, ValueError) as error:
            raise ConfigError(
                f"aws-kms://{key} can't be used: {error}", hint="Add ?region=..."
            ) from None

    def wrap(self, secret: bytes, context: Mapping[str, str]) -> bytes:
        """See the port."""
        answer = self._call(
            "encrypt", KeyId=self._key, Plaintext=secret, EncryptionContext=_said(context)
        )
        return bytes(answer["CiphertextBlob"])

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """See the port."""
        answer = self._call(
            "decrypt", KeyId=self._key, CiphertextBlob=wrapped, EncryptionContext=_said(context)
        )
        return bytes(answer["Plaintext"])

    def close(self) -> None:
        """See the port."""
        self._client.close()

    def _call(self, name: str, **arguments: Any) -> Mapping[str, Any]:
        try:
            answer: Mapping[str, Any] = getattr(self._client, name)(**arguments)
        except (sdk.BotoCoreError, sdk.ClientError) as error:
            # Not chained: an SDK's exception may carry the answer's body.
            raise self._translated(error) from None
        return answer

    def _translated(self, error: sdk.BotoCoreError | sdk.ClientError) -> BackupsError:
        key = f"the key aws-kms://{self._key}"
        if isinstance(error, sdk.ClientError):
            code = error.response.get("Error", {}).get("Code", "")
            if code in _REFUSED:
                return KeyRefused(f"{key} is not given to us: {_REFUSED[code]}")
            return KeyServiceUnavailable(f"{key} can't be used now: {code}")
        if isinstance(error, sdk.HTTPClientError | sdk.ConnectionError):
            return KeyServiceUnavailable(f"{key} can't be used now: AWS KMS gave no answer")
        return KeyRefused(f"{key} can't be used: {error}")


def _said(context: Mapping[str, str]) -> dict[str, str]:
    # Amazon takes no empty value.
    return {name: value for name, value in context.items() if value}
