"""Google Cloud KMS over its REST API (v1: projects.locations.keyRings.cryptoKeys.encrypt and
.decrypt, "additionalAuthenticatedData", and "Data integrity guidelines" for the checksums).

    gcp-kms://projects/P/locations/L/keyRings/R/cryptoKeys/K

The context is authenticated as additional data. Credentials are Application Default ones.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

import google.auth
import requests
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession
from google_crc32c import value as crc32c

from backups.errors import BackupsError, ConfigError, KeyRefused, KeyServiceUnavailable
from providers.kms_context import bound

GOOGLE = "https://cloudkms.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/cloudkms"
_WAIT = (5, 10)
"""Seconds to connect, and to wait for an answer."""
_REFUSED = {
    400: "it did not seal this, or for another use, or is disabled",
    401: "our credentials are not accepted",
    403: "our principal may not use it",
    404: "there is no such key",
}


class GoogleKms:
    """Adapter of `ports.KeyWrapper`."""

    def __init__(self, key: str, options: Mapping[str, str]) -> None:
        """`key`: its resource name. Raises ConfigError without credentials."""
        self._key = key
        self._url = f"{options.get('endpoint', GOOGLE)}/v1/{key}"
        try:
            credentials, _ = google.auth.default(scopes=[_SCOPE])
        except GoogleAuthError as error:
            raise ConfigError(
                f"there are no Google credentials for gcp-kms://{key}",
                hint="Run on Google Cloud, or set GOOGLE_APPLICATION_CREDENTIALS.",
            ) from error
        self._session: requests.Session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]

    def wrap(self, secret: bytes, context: Mapping[str, str]) -> bytes:
        """See the port."""
        answer = self._call("encrypt", {"plaintext": secret}, context)
        if not answer.get("verifiedPlaintextCrc32c"):
            raise self._damaged()
        return self._checked(answer, "ciphertext")

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """See the port."""
        return self._checked(
            self._call("decrypt", {"ciphertext": wrapped}, context), "plaintext"
        )

    def close(self) -> None:
        """See the port."""
        self._session.close()

    def _call(
        self, name: str, content: Mapping[str, bytes], context: Mapping[str, str]
    ) -> dict[str, Any]:
        body: dict[str, str] = {}
        for field, value in {**content, "additionalAuthenticatedData": bound(context)}.items():
            body[field] = b64encode(value).decode()
            body[f"{field}Crc32c"] = str(crc32c(value))
        try:
            answer = self._session.post(f"{self._url}:{name}", json=body, timeout=_WAIT)
        except (requests.RequestException, GoogleAuthError):
            # Not chained: it may carry the request.
            raise self._silent("Google Cloud KMS gave no answer") from None
        if answer.status_code != requests.codes.ok:
            raise self._translated(answer)
        found: dict[str, Any] = answer.json()
        return found

    def _checked(self, answer: Mapping[str, Any], field: str) -> bytes:
        value = b64decode(answer.get(field, ""))
        if str(crc32c(value)) != str(answer.get(f"{field}Crc32c")):
            raise self._damaged()
        return value

    def _translated(self, answer: requests.Response) -> BackupsError:
        if answer.status_code in _REFUSED:
            words = _REFUSED[answer.status_code]
            return KeyRefused(f"the key gcp-kms://{self._key} is not given to us: {words}")
        return self._silent(f"status {answer.status_code}")

    def _damaged(self) -> KeyServiceUnavailable:
        return self._silent("bytes changed on their way")

    def _silent(self, why: str) -> KeyServiceUnavailable:
        return KeyServiceUnavailable(f"the key gcp-kms://{self._key} can't be used now: {why}")
