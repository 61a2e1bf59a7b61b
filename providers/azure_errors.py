"""What Azure Blob Storage and its libraries say, in our words: used by `providers.azure*`.

Codes: learn.microsoft.com/rest/api/storageservices, "Common REST API error codes" and "Blob
Storage error codes"; they come as `x-ms-error-code` too, since a HEAD has no body.

Our errors are raised `from None`: what the libraries say may hold a URL, and a URL holds the
shared access signature.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import requests.exceptions as http
import urllib3.exceptions as wire
from azure.core import exceptions as sdk

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

_ARCHIVED = "The blob is archived; bring it back to an online tier first."
_DISABLED = "The storage account is disabled, often over an unpaid subscription."
_FIREWALL = "Check the account's rights, and that its firewall admits this machine."
_KEYLESS = "The account forbids its keys: name an application or managed identity instead."
_LEASE = "Somebody holds a lease on it: break the lease."
_LOCKS = (
    "Locks need a container with version-level immutability, on an account that keeps "
    "versions; or leave ?lock= out."
)
_NONE = (
    "Give Azure credentials: a federated token (AZURE_FEDERATED_TOKEN_FILE), `az login`, the "
    "machine's managed identity, or AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY."
)
_NOT_OURS = "The endpoint is not one of Azure Blob Storage, or something stands before it."
_RIGHTS = "The role lacks a right in this container: see `backups store policy`."
_SIGNATURE = (
    "The key or SAS has ended or is not this account's, or this machine's clock is wrong."
)
_SPEAKS = "This store does not speak all of Azure's protocol we need."
_TRUST = "The application must trust our tokens: see `backups store policy`."
_UNTRUSTED = "Set REQUESTS_CA_BUNDLE to the authority's certificate, or correct the endpoint."

Meaning = tuple[type[StoreError], str]

_CODES: dict[str, Meaning] = {
    "BlobAlreadyExists": (ObjectExists, ""),
    "ConditionNotMet": (ObjectExists, ""),
    # To those who may create and not overwrite, Azure says this before it looks at conditions.
    "UnauthorizedBlobOverwrite": (ObjectExists, ""),
    "BlobNotFound": (ObjectMissing, ""),
    "AccountNotFound": (BucketMissing, ""),
    "ContainerBeingDeleted": (BucketMissing, "It is being deleted."),
    "ContainerDisabled": (BucketMissing, ""),
    "ContainerNotFound": (BucketMissing, ""),
    "InvalidResourceName": (BucketMissing, ""),
    "ResourceNotFound": (BucketMissing, ""),
    "AccountIsDisabled": (StoreDenied, _DISABLED),
    "AuthenticationFailed": (StoreDenied, _SIGNATURE),
    "AuthorizationFailure": (StoreDenied, _FIREWALL),
    "AuthorizationPermissionMismatch": (StoreDenied, _RIGHTS),
    "AuthorizationProtocolMismatch": (StoreDenied, _RIGHTS),
    "AuthorizationResourceTypeMismatch": (StoreDenied, _RIGHTS),
    "AuthorizationServiceMismatch": (StoreDenied, _RIGHTS),
    "AuthorizationSourceIPMismatch": (StoreDenied, _FIREWALL),
    "InsufficientAccountPermissions": (StoreDenied, _RIGHTS),
    "InvalidAuthenticationInfo": (StoreDenied, _SIGNATURE),
    "KeyBasedAuthenticationNotPermitted": (StoreDenied, _KEYLESS),
    "NoAuthenticationInformation": (StoreDenied, _SIGNATURE),
    "BlobArchived": (StoreDenied, _ARCHIVED),
    "BlobBeingRehydrated": (StoreDenied, _ARCHIVED),
    "LeaseIdMissing": (ObjectLocked, _LEASE),
    "Crc64Mismatch": (TransferDamaged, ""),
    "InvalidMd5": (TransferDamaged, ""),
    "Md5Mismatch": (TransferDamaged, ""),
    "InternalError": (StoreUnavailable, ""),
    "OperationTimedOut": (StoreUnavailable, ""),
    "ServerBusy": (StoreUnavailable, ""),
    "SystemInUse": (StoreUnavailable, ""),
    "ConditionHeadersNotSupported": (CapabilityMissing, _SPEAKS),
    "FeatureNotSupported": (CapabilityMissing, _SPEAKS),
    "FeatureVersionMismatch": (CapabilityMissing, _SPEAKS),
    "UnsupportedHeader": (CapabilityMissing, _SPEAKS),
    "UnsupportedQueryParameter": (CapabilityMissing, _SPEAKS),
}

_STATUSES: dict[int, Meaning] = {
    401: (StoreDenied, _SIGNATURE),
    403: (StoreDenied, ""),
    404: (BucketMissing, _NOT_OURS),  # Azure gives a code whenever it is Azure that answers
    408: (StoreUnavailable, ""),
    429: (StoreUnavailable, ""),
    501: (CapabilityMissing, _SPEAKS),
}

_EXCEPTIONS: tuple[tuple[type[Exception], Meaning], ...] = (
    (sdk.ClientAuthenticationError, (StoreDenied, _NONE)),  # nobody was asked
    (sdk.DecodeError, (StoreUnavailable, _NOT_OURS)),
    (sdk.TooManyRedirectsError, (StoreError, _NOT_OURS)),
    (sdk.AzureError, (StoreUnavailable, "")),  # refused, no such host, reset, timed out
    (http.InvalidSchema, (StoreError, _NOT_OURS)),
    (http.InvalidURL, (StoreError, _NOT_OURS)),
    (http.RequestException, (StoreUnavailable, "")),
    (wire.HTTPError, (StoreUnavailable, "")),  # the same, while a body is read
    (OSError, (StoreUnavailable, "")),
    # An answer without what every answer of Azure's has.
    (ValueError, (StoreUnavailable, _NOT_OURS)),
    (LookupError, (StoreUnavailable, _NOT_OURS)),
    (TypeError, (StoreUnavailable, _NOT_OURS)),
    (AttributeError, (StoreUnavailable, _NOT_OURS)),
)

SDK_ERRORS: tuple[type[Exception], ...] = tuple(kind for kind, _ in _EXCEPTIONS)
"""What leaves the SDK, azure-core, azure-identity, requests and urllib3."""


def code_of(error: BaseException) -> str:
    """Azure's own error code, empty where it gave none."""
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", None) or {}
    code = headers.get("x-ms-error-code") or getattr(error, "error_code", "")
    return str(getattr(code, "value", code) or "")


def translate(error: BaseException, what: str) -> StoreError:
    """Our error for what was raised during `what` (an operation on a container and key)."""
    if isinstance(error, sdk.HttpResponseError) and error.status_code:
        return _of_answer(error, error.status_code, what)
    causes = list(_causes(error))
    said = _short(_text(causes[-1])) or type(causes[-1]).__name__
    if any("certificate" in _text(cause).lower() for cause in causes):
        return StoreError(f"{what}: the endpoint's certificate is not trusted", hint=_UNTRUSTED)
    if any(
        isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME
        for cause in causes
    ):
        return BucketMissing(f"{what}: {said}", hint="No storage account has this name.")
    for kind, (meant, hint) in _EXCEPTIONS:
        if isinstance(error, kind):
            if hint == _NOT_OURS:
                said = "the answer is not one of Azure Blob Storage"
            return meant(f"{what}: {said}", hint=hint)
    return StoreError(f"{what}: {type(error).__name__}")


def _of_answer(error: sdk.HttpResponseError, status: int, what: str) -> StoreError:
    if status < 300:  # a success that the SDK could not read
        return not_ours(what)
    code = code_of(error)
    ours = refused(status, code, error.message, what)
    if isinstance(error, sdk.ClientAuthenticationError) and not code and not ours.retryable:
        return StoreDenied(str(ours), hint=_TRUST)  # Entra ID, which has its own codes
    return ours


def refused(status: int, code: str, message: str, what: str) -> StoreError:
    """Our error for an answer that is not a success."""
    words = _short(re.split(r"\s*(?:RequestId:|ErrorCode:|\n)", message)[0])
    sentence = f"{what}: {status} {code} {words}".rstrip()
    if "immutab" in f"{code} {words}".lower():
        # A policy in force; or a container that cannot have one, in Azure's many words for it.
        lacks = re.search(r"not (?:enabled|supported|allowed)|NotEnabled", f"{code} {words}")
        kind: type[StoreError] = CapabilityMissing if lacks else ObjectLocked
        return kind(sentence, hint=_LOCKS if lacks else "")
    if code.startswith("Lease") and code not in _CODES:
        return ObjectLocked(sentence, hint=_LEASE)
    by_status: Meaning = (StoreUnavailable if status >= 500 else StoreError, "")
    kind, hint = _CODES.get(code) or _STATUSES.get(status) or by_status
    return kind(sentence, hint=hint)


def not_ours(what: str) -> StoreUnavailable:
    """For an answer that lacks what every answer of Azure's has."""
    return StoreUnavailable(f"{what}: the answer is not one of Azure's", hint=_NOT_OURS)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it wraps, innermost last; each library has its own way."""
    seen: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        yield inner
        wrapped = (
            getattr(inner, "inner_exception", None),
            getattr(inner, "reason", None),
            *inner.args[:1],
            inner.__cause__,
            inner.__context__,
        )
        inner = next((one for one in wrapped if isinstance(one, BaseException)), None)


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def _short(text: str) -> str:
    """Without the query of any URL: a SAS is one."""
    return " ".join(re.sub(r"\?\S+", "?...", text).split())[:300]
