"""Secrets by name from AWS Secrets Manager (its API Reference, GetSecretValue).

`SECRET-ID` is a name or an ARN; `SECRET-ID#KEY` takes one member of a secret that is a JSON
object, as the console and RDS store them. Credentials are the machine's own; the endpoint may
be another by AWS_ENDPOINT_URL_SECRETS_MANAGER, which the SDK reads itself.
"""

from __future__ import annotations

import json
from typing import Any

from botocore import exceptions as sdk
from botocore.config import Config

from backups.errors import BackupsError, ConfigError, StoreUnavailable
from providers.aws_sdk import new_session

_REFUSED = {
    "ResourceNotFoundException": "there is none; see its name, and AWS_REGION",
    "AccessDeniedException": "our credentials may not read it: secretsmanager:GetSecretValue",
    "UnrecognizedClientException": "our credentials are not accepted",
    "InvalidSignatureException": "our credentials are not accepted",
    "ExpiredTokenException": "our credentials have expired",
    "InvalidRequestException": "it is about to be deleted",
    "DecryptionFailure": "its KMS key can't be used by us: kms:Decrypt",
    "InvalidParameterException": "this is not a secret's name",
    "ValidationException": "this is not a secret's name",
}
"""Error codes that asking again does not change, in words."""

_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 2},  # reading may be repeated
    connect_timeout=5,
    read_timeout=10,
)


def read_secret(name: str, what: str) -> str:
    """The text of a secret, or of one member of it; adapter of `ports.Vault`.

    Raises ConfigError when there is none or we may not read it, StoreUnavailable when the
    service gives no answer. No message repeats what is in it.
    """
    secret_id, _, member = name.partition("#")
    text = _text(secret_id, what)
    return _member(text, secret_id, member, what) if member else text


def _text(secret_id: str, what: str) -> str:
    try:
        session = new_session()
        client = session.client(
            "secretsmanager", region_name=_region(secret_id), config=_CONFIG
        )
        try:
            answer = client.get_secret_value(SecretId=secret_id)
        finally:
            client.close()
    except (sdk.BotoCoreError, sdk.ClientError) as error:
        # Not chained: an SDK's exception may carry the answer's body.
        raise _translated(error, secret_id, what) from None
    text = answer.get("SecretString")
    if not text:
        raise ConfigError(
            f"the secret {secret_id} holds no {what} as text",
            hint="Store it as text, not as binary.",
        )
    return str(text)


def _region(secret_id: str) -> str | None:
    """An ARN says where its secret lies; for a name, the environment does."""
    parts = secret_id.split(":")
    return parts[3] if parts[0] == "arn" and len(parts) > 6 else None


def _member(text: str, secret_id: str, member: str, what: str) -> str:
    try:
        document: Any = json.loads(text)
    except ValueError:
        document = None
    value = document.get(member) if isinstance(document, dict) else None
    if not isinstance(value, str) or not value:
        raise ConfigError(
            f"the secret {secret_id} is no JSON object with a {what} under {member!r}",
            hint="After the # stands the name of a member whose value is text.",
        )
    return value


def _translated(
    error: sdk.BotoCoreError | sdk.ClientError, secret_id: str, what: str
) -> BackupsError:
    sentence = f"the {what} can't be read from the secret {secret_id}"
    if isinstance(error, sdk.ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        if code in _REFUSED:
            return ConfigError(f"{sentence}: {_REFUSED[code]}", hint=_HINT)
        return StoreUnavailable(f"{sentence}: {code}")
    if isinstance(error, sdk.HTTPClientError | sdk.ConnectionError):  # none, or not whole
        return StoreUnavailable(f"{sentence}: AWS Secrets Manager gave no answer")
    return ConfigError(f"{sentence}: {error}", hint=_HINT)


_HINT = "`aws secretsmanager get-secret-value` with the same credentials says more."
