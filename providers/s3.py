"""Amazon S3 and every store that speaks its protocol.

Objects are put whole with `If-None-Match: *` and `x-amz-checksum-sha256` (Amazon S3 API
Reference, PutObject): the store refuses a taken key and bytes that differ from the digest.
Credentials are those of a role in the customer's account (`providers.s3_access`), or of
boto3's own chain: environment, profile, or the machine's role.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from backups.errors import (
    BucketMissing,
    CapabilityMissing,
    ObjectMissing,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    TransferDamaged,
)
from backups.model import Capabilities, ObjectInfo, Receipt
from backups.ports import Body, Clock
from providers.access import Access
from providers.keys import check_key, check_prefix
from providers.s3_client import S3Options, client_for
from providers.s3_errors import SDK_ERRORS, translate

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def connect(
    options: S3Options, access: Access | None = None, clock: Clock | None = None
) -> S3Store:
    """Make a store; no call to the network. Raises ConfigError, as for an unknown profile.

    Without `access` and `clock` the credentials are those that boto3 finds by itself.
    """
    return S3Store(client_for(options, access, clock), options)


class S3Store:
    """Adapter of `ports.ObjectStore`; safe to share between threads."""

    def __init__(self, client: S3Client, options: S3Options) -> None:
        self._client = client
        self._options = options
        self._above = f"{options.prefix}/" if options.prefix else ""

    def put(
        self,
        key: str,
        data: bytes,
        *,
        sha256: bytes | None = None,
        retain_until: datetime | None = None,
    ) -> Receipt:
        """See `ports.ObjectStore.put`."""
        digest = sha256 or hashlib.sha256(data).digest()
        arguments: dict[str, Any] = {}
        if retain_until is not None:
            arguments["ObjectLockMode"] = self._lock_mode()
            arguments["ObjectLockRetainUntilDate"] = retain_until
            # The API Reference wants this header with a lock, beside the digest itself.
            arguments["ChecksumAlgorithm"] = "SHA256"
        answer = self._call(
            "put_object",
            key,
            Body=data,
            ContentLength=len(data),
            ContentType="application/octet-stream",
            IfNoneMatch="*",
            ChecksumSHA256=base64.b64encode(digest).decode(),
            **arguments,
        )
        if retain_until is not None and "VersionId" not in answer:
            # Amazon refuses the put then; some compatible stores ignore the lock instead.
            raise CapabilityMissing(f"{key}: stored, but the bucket has no object lock")
        checksum = _checksum(answer)
        if checksum and checksum != f"sha256:{digest.hex()}":
            raise TransferDamaged(f"{key}: the store received other bytes than were sent")
        return Receipt(key, len(data), checksum, _version(answer))

    def open(
        self,
        key: str,
        *,
        start: int = 0,
        length: int | None = None,
        version_id: str | None = None,
    ) -> Body:
        """See `ports.ObjectStore.open`."""
        if length == 0:  # HTTP has no empty range
            self.stat(key, version_id=version_id)
            return BytesIO()
        arguments = _versioned(version_id)
        if start or length is not None:
            end = "" if length is None else start + length - 1
            arguments["Range"] = f"bytes={start}-{end}"
        try:
            answer = self._call("get_object", key, **arguments)
        except _BeyondEnd:
            return BytesIO()
        if "Range" in arguments and not answer.get("ContentRange", "").startswith(
            f"bytes {start}-"
        ):
            answer["Body"].close()
            raise CapabilityMissing("the store does not answer ranged reads")
        return _S3Body(answer["Body"], self._name(key))

    def stat(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """See `ports.ObjectStore.stat`."""
        answer = self._head(key, version_id)
        return ObjectInfo(
            key,
            answer["ContentLength"],
            answer["LastModified"].astimezone(UTC),
            _version(answer),
            _checksum(answer),
            answer.get("ObjectLockRetainUntilDate"),
        )

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ports.ObjectStore.list`."""
        versions = self.capabilities().versions
        arguments: dict[str, Any] = {
            "Prefix": self._above + check_prefix(prefix),
            "MaxKeys": self._options.page,
        }
        while True:
            page = self._call(
                "list_object_versions" if versions else "list_objects_v2", None, **arguments
            )
            for entry in page.get("Versions" if versions else "Contents", ()):
                if entry.get("IsLatest", True):
                    yield ObjectInfo(
                        entry["Key"].removeprefix(self._above),
                        entry["Size"],
                        entry["LastModified"].astimezone(UTC),
                        _version(entry),
                    )
            if not page.get("IsTruncated"):
                return
            if versions:
                arguments["KeyMarker"] = page["NextKeyMarker"]
                arguments["VersionIdMarker"] = page["NextVersionIdMarker"]
            else:
                arguments["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, key: str, *, version_id: str | None = None) -> None:
        """See `ports.ObjectStore.delete`."""
        try:
            self._call("delete_object", key, **_versioned(version_id))
        except ObjectMissing:  # Amazon answers 204, others 404
            return

    def extend_retention(
        self, key: str, until: datetime, *, version_id: str | None = None
    ) -> None:
        """See `ports.ObjectStore.extend_retention`."""
        mode = self._lock_mode()
        now = self._head(key, version_id)
        held = now.get("ObjectLockRetainUntilDate")
        if held is not None and held >= until:
            return
        self._call(
            "put_object_retention",
            key,
            # A lock's mode is never weakened: S3 refuses that, and we do not ask.
            Retention={"Mode": now.get("ObjectLockMode", mode), "RetainUntilDate": until},
            **_versioned(version_id),
        )

    def capabilities(self) -> Capabilities:
        """As the store's URL declares them; `backups store check` proves them."""
        lock = self._options.lock is not None
        return Capabilities("sha256", versions=lock or self._options.versions, retention=lock)

    def close(self) -> None:
        """See `ports.ObjectStore.close`."""
        self._client.close()

    # --- one way to the network -------------------------------------------------------

    def _call(self, operation: str, key: str | None, **arguments: Any) -> dict[str, Any]:
        arguments["Bucket"] = self._options.bucket
        if key is not None:
            arguments["Key"] = self._above + check_key(key)
        if self._options.owner:
            arguments["ExpectedBucketOwner"] = self._options.owner
        try:
            answer: dict[str, Any] = getattr(self._client, operation)(**arguments)
        except SDK_ERRORS as error:
            if _code(error) in ("InvalidRange", "416"):
                raise _BeyondEnd("the range starts beyond the object's end") from error
            ours = translate(error, f"{operation} {self._name(key)}")
            reading = operation in ("get_object", "head_object")
            if reading and isinstance(ours, StoreDenied) and self._absent(arguments):
                raise ObjectMissing(f"there is no {self._name(key)}") from error
            raise self._explain(ours, _code(error)) from error
        return answer

    def _head(self, key: str, version_id: str | None) -> dict[str, Any]:
        return self._call("head_object", key, ChecksumMode="ENABLED", **_versioned(version_id))

    def _explain(self, error: StoreError, code: str) -> StoreError:
        """Ask once more where an answer can mean two things; S3 says too little then."""
        bucket, owner = self._options.bucket, self._options.owner
        if isinstance(error, ObjectMissing) and code == "404" and self._probe() == "404":
            return BucketMissing(f"there is no bucket {bucket}")
        if isinstance(error, StoreDenied) and owner and code in ("AccessDenied", "403"):
            if self._probe() == "":
                return BucketMissing(f"the bucket {bucket} does not belong to {owner}")
            error.hint = f"The role may not do this, or {bucket} does not belong to {owner}."
        return error

    def _absent(self, read: Mapping[str, Any]) -> bool:
        """Whether a listing shows that what a read was refused is not there.

        To those who may list below a prefix only, S3 refuses a read of a missing key
        (403) as if it were there (API Reference, GetObject, "Permissions").
        """
        name, version = read["Key"], read.get("VersionId")
        owner = {k: v for k, v in read.items() if k in ("Bucket", "ExpectedBucketOwner")}
        try:
            if version is None:
                page: Any = self._client.list_objects_v2(**owner, Prefix=name, MaxKeys=1)
            else:
                page = self._client.list_object_versions(**owner, Prefix=name)
        except SDK_ERRORS:
            return False
        found = [*page.get("Contents", ()), *page.get("Versions", ())]
        there = any((e["Key"], e.get("VersionId")) == (name, version) for e in found)
        return not there and (version is None or not page.get("IsTruncated"))

    def _probe(self) -> str:
        """HEAD on the bucket, whoever owns it: empty when it answers, else the code."""
        try:
            self._client.head_bucket(Bucket=self._options.bucket)
        except SDK_ERRORS as error:
            return _code(error) or "unknown"
        return ""

    def _name(self, key: str | None) -> str:
        return f"s3://{self._options.bucket}/{self._above}{key or ''}"

    def _lock_mode(self) -> str:
        if self._options.lock is None:
            raise CapabilityMissing(
                f"the bucket {self._options.bucket} is not declared to have object lock",
                hint="If it has, say so in the store URL: ?lock=governance or compliance.",
            )
        return self._options.lock.upper()


class _BeyondEnd(Exception):
    """A range that starts after the last byte; never leaves this module."""


class _S3Body:
    """`ports.Body` over the HTTP answer."""

    def __init__(self, stream: Any, name: str) -> None:
        self._stream = stream
        self._name = name

    def read(self, size: int = -1, /) -> bytes:
        try:
            data: bytes = self._stream.read(None if size < 0 else size)
        except BotoCoreError as error:
            raise translate(error, f"reading {self._name}") from error
        except OSError as error:  # a reset below urllib3
            raise StoreUnavailable(f"reading {self._name}: {error.strerror}") from error
        return data

    def close(self) -> None:
        self._stream.close()


def _versioned(version_id: str | None) -> dict[str, Any]:
    return {} if version_id is None else {"VersionId": version_id}


def _version(answer: dict[str, Any]) -> str | None:
    version: str | None = answer.get("VersionId")
    return None if version == "null" else version


def _checksum(answer: dict[str, Any]) -> str:
    """`sha256:<hex>` of a whole object; S3 says it in base64, with `-n` for n parts."""
    encoded: str = answer.get("ChecksumSHA256", "")
    if not encoded or "-" in encoded:
        return ""
    try:
        return f"sha256:{base64.b64decode(encoded).hex()}"
    except binascii.Error:
        return "sha256:unreadable"


def _code(error: Exception) -> str:
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return ""
