"""What Google Cloud Storage and its libraries say, in our words: used by `providers.gcs*`.

Reasons and statuses: Cloud Storage JSON API, "HTTP status and error codes"
(cloud.google.com/storage/docs/json_api/v1/status-codes). One status often means several
things; then the reason decides, then the words.
"""

from __future__ import annotations

import contextlib
import json

import requests.exceptions as http
import urllib3.exceptions as wire
from google.api_core.exceptions import GoogleAPICallError
from google.auth import exceptions as auth

from backups.errors import (
    BucketMissing,
    CapabilityMissing,
    ObjectExists,
    ObjectLocked,
    ObjectMissing,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    TransferDamaged,
)

_CREATOR = "Check the account, and who may ask for its tokens (Token Creator)."
_EXPIRED = "The credentials have expired or were revoked: renew them."
_GRANT = "The key is revoked or not the account's own, or this machine's clock is wrong."
_NONE = (
    "Give Google credentials: GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth "
    "application-default login`, or the machine's own service account."
)
_NOT_OURS = "The endpoint is not one of Google Cloud Storage, or something stands before it."
_RETENTION = "A bucket is given object retention when it is made; or leave ?lock= out."
_UNTRUSTED = "Set REQUESTS_CA_BUNDLE to the authority's certificate, or correct the endpoint."

Meaning = tuple[type[StoreError], str]

_WORDS: tuple[tuple[int, str, Meaning], ...] = (
    (404, "bucket does not exist", (BucketMissing, "")),
    (400, "invalid bucket name", (BucketMissing, "")),
    (400, "crc32c", (TransferDamaged, "")),
    (400, "md5", (TransferDamaged, "")),
    (400, "retention is not enabled", (CapabilityMissing, _RETENTION)),
    (403, "hold and cannot be deleted", (ObjectLocked, "")),
    (
        403,
        "insufficient authentication scopes",
        (StoreDenied, "The token's scopes are narrow."),
    ),
    (412, "constraint", (StoreDenied, "A policy of the Google Cloud organisation forbids it.")),
)
"""Status and a part of the message, in lower case, where the reason does not tell."""

_REASONS: dict[str, Meaning] = {
    "retentionPolicyNotMet": (ObjectLocked, ""),
    "objectUnderActiveHold": (ObjectLocked, ""),
    "rateLimitExceeded": (StoreUnavailable, ""),  # also with 403
    "userRateLimitExceeded": (StoreUnavailable, ""),
    "quotaExceeded": (StoreUnavailable, "A quota of the Google Cloud project is used up."),
    "accountDisabled": (StoreDenied, "The account, or its project's billing, is disabled."),
    "accessNotConfigured": (StoreDenied, "Enable the Cloud Storage JSON API of the project."),
}

_STATUSES: dict[int, Meaning] = {
    401: (StoreDenied, _EXPIRED),
    403: (StoreDenied, ""),
    404: (ObjectMissing, ""),
    408: (StoreUnavailable, ""),
    409: (StoreUnavailable, ""),  # another write of the key is under way
    412: (ObjectExists, ""),
    429: (StoreUnavailable, ""),
    501: (CapabilityMissing, "This store does not speak all of the JSON API we need."),
}

_EXCEPTIONS: tuple[tuple[type[Exception], Meaning], ...] = (
    (auth.DefaultCredentialsError, (StoreDenied, _NONE)),
    (auth.TransportError, (StoreUnavailable, "")),
    (auth.TimeoutError, (StoreUnavailable, "")),
    (auth.ResponseError, (StoreUnavailable, "")),
    (auth.GoogleAuthError, (StoreDenied, "")),
    (http.TooManyRedirects, (StoreError, _NOT_OURS)),
    (http.InvalidSchema, (StoreError, _NOT_OURS)),
    (http.InvalidURL, (StoreError, _NOT_OURS)),
    (http.InvalidJSONError, (StoreUnavailable, _NOT_OURS)),
    (http.RequestException, (StoreUnavailable, "")),  # refused, no such host, reset, timed out
    (wire.HTTPError, (StoreUnavailable, "")),  # the same, while a body is read
    (OSError, (StoreUnavailable, "")),
    # An answer without what every answer of Google's has.
    (ValueError, (StoreUnavailable, _NOT_OURS)),
    (LookupError, (StoreUnavailable, _NOT_OURS)),
    (TypeError, (StoreUnavailable, _NOT_OURS)),
    (AttributeError, (StoreUnavailable, _NOT_OURS)),
)

SDK_ERRORS: tuple[type[Exception], ...] = (
    GoogleAPICallError,
    *(kind for kind, _ in _EXCEPTIONS),
)
"""What leaves the SDK, google-auth, requests and urllib3."""


def translate(error: BaseException, what: str) -> StoreError:
    """Our error for what was raised during `what` (an operation on a bucket and key)."""
    if isinstance(error, GoogleAPICallError):
        return _of_response(error, what)
    if isinstance(error, auth.RefreshError):
        return _of_refresh(error, what)
    if isinstance(error, auth.TransportError) and isinstance(error.args[0], Exception):
        return translate(error.args[0], f"{what}: asking for a token")
    if "certificate" in (text := _short(str(error)).lower()) and (
        isinstance(error, http.SSLError) or "ca certificate bundle" in text
    ):
        return StoreError(f"{what}: the endpoint's certificate is not trusted", hint=_UNTRUSTED)
    for kind, (ours, hint) in _EXCEPTIONS:
        if isinstance(error, kind):
            if hint == _NOT_OURS:
                said = "the answer is not one of Google Cloud Storage"
            else:
                said = _root(error)
            return ours(f"{what}: {said}", hint=hint)
    return StoreError(f"{what}: {type(error).__name__}")


def _of_response(error: GoogleAPICallError, what: str) -> StoreError:
    status = int(error.code or 0)
    first = error.errors[0] if error.errors and isinstance(error.errors[0], dict) else {}
    reason = str(first.get("reason", "")).removeprefix("UsageLimits.")
    # A download is refused in plain text; api_core puts the request's URL before it.
    message = str(first.get("message") or str(error.message).partition(": ")[2])
    sentence = f"{what}: {status} {_short(message)}".rstrip()
    for of_status, words, (kind, hint) in _WORDS:
        if status == of_status and words in message.lower():
            return kind(sentence, hint=hint)
    by_status: Meaning = (StoreUnavailable if status >= 500 else StoreError, "")
    kind, hint = _REASONS.get(reason) or _STATUSES.get(status) or by_status
    if kind is StoreDenied and "may not exist" in message:
        hint = "The account may not do this, or what it is about does not exist."
    return kind(sentence, hint=hint)


def _of_refresh(error: auth.RefreshError, what: str) -> StoreError:
    """No token. What the server said in full is left out: it may be about secrets."""
    said = _short(str(error.args[0])) if error.args else "no reason given"
    status = 0
    # Impersonation gives the answer's text, and does not say whether it may pass.
    with contextlib.suppress(LookupError, TypeError, ValueError):
        status = int(json.loads(error.args[1])["error"]["code"])
    if error.retryable or status == 429 or status >= 500:
        return StoreUnavailable(f"{what}: no token: {said}")
    return StoreDenied(
        f"{what}: no token: {said}", hint=_GRANT if "invalid_grant" in said else _CREATOR
    )


def _root(error: BaseException) -> str:
    """The innermost reason: requests and urllib3 wrap it in layers of addresses and URLs."""
    while error.__context__ is not None:
        error = error.__context__
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return _short(text) or type(error).__name__


def _short(text: str) -> str:
    return " ".join(text.split())[:300]
