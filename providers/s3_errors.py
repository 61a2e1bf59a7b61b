"""What S3 and botocore say, in our words: one table, used by `providers.s3` alone.

Codes: Amazon S3 API Reference, "Error Responses"; HEAD answers have no body, so botocore
gives their status as the code.
"""

from __future__ import annotations

import re

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

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

_EXPIRED = "The credentials have expired: renew the session or role."
_REGION = "The bucket is in another region: put the right one into the URL, ?region=..."
_CLOCK = "This machine's clock is wrong; synchronise it."

_CODES: dict[str, tuple[type[StoreError], str]] = {
    "PreconditionFailed": (ObjectExists, ""),
    "412": (ObjectExists, ""),
    # Another conditional write of the key is under way: whoever tries again learns its end.
    "ConditionalRequestConflict": (StoreUnavailable, ""),
    "OperationAborted": (StoreUnavailable, ""),
    "NoSuchKey": (ObjectMissing, ""),
    "NoSuchVersion": (ObjectMissing, ""),
    "404": (ObjectMissing, ""),
    "NoSuchBucket": (BucketMissing, ""),
    "InvalidBucketName": (BucketMissing, ""),
    "PermanentRedirect": (BucketMissing, _REGION),
    "301": (BucketMissing, _REGION),
    "AuthorizationHeaderMalformed": (BucketMissing, _REGION),
    "IllegalLocationConstraintException": (BucketMissing, _REGION),
    "AccessDenied": (StoreDenied, ""),
    "403": (StoreDenied, ""),
    # A HEAD with an expired token answers a bare 400.
    "400": (StoreDenied, _EXPIRED),
    "ExpiredToken": (StoreDenied, _EXPIRED),
    "TokenRefreshRequired": (StoreDenied, _EXPIRED),
    "InvalidToken": (StoreDenied, _EXPIRED),
    "InvalidAccessKeyId": (StoreDenied, ""),
    "SignatureDoesNotMatch": (StoreDenied, "The secret key is not the access key's own."),
    "RequestTimeTooSkewed": (StoreDenied, _CLOCK),
    "AccountProblem": (StoreDenied, ""),
    "AllAccessDisabled": (StoreDenied, ""),
    "InvalidObjectState": (StoreDenied, "The object is archived; bring it back first."),
    "KMS.DisabledException": (StoreDenied, "The bucket's KMS key is disabled."),
    "KMS.NotFoundException": (StoreDenied, "The bucket's KMS key is gone."),
    "BadDigest": (TransferDamaged, ""),
    "InvalidDigest": (TransferDamaged, ""),
    "XAmzContentSHA256Mismatch": (TransferDamaged, ""),
    "XAmzContentChecksumMismatch": (TransferDamaged, ""),
    "IncompleteBody": (StoreUnavailable, ""),
    "RequestTimeout": (StoreUnavailable, ""),
    "SlowDown": (StoreUnavailable, ""),
    "Throttling": (StoreUnavailable, ""),
    "ThrottlingException": (StoreUnavailable, ""),
    "RequestLimitExceeded": (StoreUnavailable, ""),
    "TooManyRequests": (StoreUnavailable, ""),
    "InternalError": (StoreUnavailable, ""),
    "ServiceUnavailable": (StoreUnavailable, ""),
    "TemporaryRedirect": (StoreUnavailable, ""),
    "429": (StoreUnavailable, ""),
    "NotImplemented": (CapabilityMissing, "This store does not speak all of S3 we need."),
    "ObjectLockConfigurationNotFoundError": (CapabilityMissing, ""),
    "NoSuchObjectLockConfiguration": (CapabilityMissing, ""),
}

_EXCEPTIONS: tuple[tuple[type[Exception], type[StoreError], str], ...] = (
    (
        sdk.NoCredentialsError,
        StoreDenied,
        "Give AWS credentials: environment, profile or role.",
    ),
    (sdk.PartialCredentialsError, StoreDenied, ""),
    (sdk.CredentialRetrievalError, StoreDenied, ""),
    (sdk.TokenRetrievalError, StoreDenied, _EXPIRED),
    (sdk.SSOError, StoreDenied, _EXPIRED),
    (sdk.LoginError, StoreDenied, _EXPIRED),
    (sdk.ConnectionError, StoreUnavailable, ""),  # refused, no such host, timed out
    (sdk.HTTPClientError, StoreUnavailable, ""),  # reset, timed out later, cut
    (sdk.IncompleteReadError, StoreUnavailable, ""),
)

SDK_ERRORS = (sdk.BotoCoreError, sdk.ClientError, ResponseParserError, ValueError)
"""What leaves a call of botocore, ValueError when a header makes no sense."""


def translate(error: Exception, what: str) -> StoreError:
    """Our error for what boto3 raised during `what` (an operation on a bucket and key)."""
    if isinstance(error, sdk.ClientError):
        return _of_response(error, what)
    if isinstance(refused := error.__context__, StoreDenied):  # by `providers.guard`
        return StoreDenied(f"{what}: {refused}", hint=refused.hint)
    text = _short(str(error))
    if isinstance(error, sdk.SSLError) and re.search("VERIFY_FAILED|doesn't match", text):
        return StoreError(
            f"{what}: the endpoint's certificate is not trusted",
            hint="Set AWS_CA_BUNDLE to the authority's certificate, or correct the endpoint.",
        )
    for kind, ours, hint in _EXCEPTIONS:
        if isinstance(error, kind):
            return ours(f"{what}: {text}", hint=hint)
    if isinstance(error, ValueError | ResponseParserError):  # botocore could not read it
        return StoreUnavailable(f"{what}: the answer is not one of an S3 endpoint")
    return StoreError(f"{what}: {text}")


def _of_response(error: sdk.ClientError, what: str) -> StoreError:
    code = error.response.get("Error", {}).get("Code", "")
    message = _short(error.response.get("Error", {}).get("Message", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    sentence = f"{what}: {code} {message}".rstrip()
    lowered = message.lower()
    if "object lock" in lowered or "object-lock" in lowered:
        # The same words come with AccessDenied (deletion refused) and with
        # InvalidRequest ("Bucket is missing Object Lock Configuration").
        return (ObjectLocked if status == 403 else CapabilityMissing)(sentence)
    kind, hint = _CODES.get(code, (None, ""))
    if kind is None:
        kind = StoreUnavailable if status >= 500 else StoreError
    return kind(sentence, hint=hint)


def _short(text: str) -> str:
    return " ".join(text.split())[:300]
