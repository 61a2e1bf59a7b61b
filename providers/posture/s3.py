"""A bucket of Amazon S3, or of what speaks its protocol, as it is set up.

Source of every field: Amazon S3 API Reference, the operation that the look names. The pruner
looks: its printed policy grants the rights to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from backups.errors import StoreDenied, StoreUnavailable
from backups.ports import Clock
from providers.access import Access
from providers.posture.looking import (
    Judge,
    Judged,
    Upload,
    View,
    judge_clock,
    permitted,
)
from providers.posture.s3_answers import judge_lock, judge_rules, judge_versioning
from providers.s3_access import AssumedRole, session_for
from providers.s3_client import S3Options, client_for, options_of
from providers.s3_errors import SDK_ERRORS, translate
from providers.urls import StoreUrl

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_STRANGER = "000000000001"
"""An account that owns no bucket."""
_WRONG = "bloomneo-of-another-customer"


@contextmanager
def looking(view: View) -> Iterator[Mapping[str, Judge]]:
    """Every look by name, while the context lasts."""
    options = options_of(view.url)
    client = client_for(options, view.access["pruner"], view.clock)
    with closing(client):
        bucket = _Bucket(client, options, view)
        yield {
            "region": permitted(bucket.region, "s3:GetBucketLocation"),
            "clock": permitted(bucket.clock, "s3:ListBucket"),
            "owner": permitted(bucket.owner, "s3:ListBucket"),
            "versioning": permitted(bucket.versioning, "s3:GetBucketVersioning"),
            "lock": permitted(bucket.lock, "s3:GetBucketObjectLockConfiguration"),
            "public_access": permitted(
                bucket.public_access, "s3:GetBucketPublicAccessBlock, s3:GetBucketPolicyStatus"
            ),
            "lifecycle": permitted(bucket.lifecycle, "s3:GetLifecycleConfiguration"),
            "encryption": permitted(bucket.encryption, "s3:GetEncryptionConfiguration"),
            "uploads": permitted(bucket.uploads, "s3:ListBucketMultipartUploads"),
            "credentials": bucket.credentials,
            "external_id": bucket.external_id,
        }


def unfinished_uploads(url: StoreUrl, access: Access, clock: Clock) -> list[Upload]:
    """Multipart uploads below our prefix. We make none; others who may write do.

    Raises StoreError's kinds."""
    options = options_of(url)
    with closing(client_for(options, access, clock)) as client:
        return _uploads(client, options)


class _Bucket:
    """Asks the bucket and judges the answers."""

    def __init__(self, client: S3Client, options: S3Options, view: View) -> None:
        self._client = client
        self._options = options
        self._view = view
        self._above = f"{options.prefix}/" if options.prefix else ""
        self._date: tuple[datetime, datetime] | None = None
        client.meta.events.register("after-call.s3", self._note_date)

    def region(self) -> Judged:
        """GetBucketLocation."""
        found = self._ask("get_bucket_location").get("LocationConstraint") or "us-east-1"
        found = "eu-west-1" if found == "EU" else found
        asked = self._client.meta.region_name
        if found == asked:
            return "passed", found
        return "warning", f"the bucket is in {found}, we ask {asked}: set ?region={found}"

    def clock(self) -> Judged:
        """The `Date` of whatever answer came last, a refusal's as well."""
        if self._date is None:
            self._list()
        theirs, ours = self._date or (None, self._view.clock.now())
        return judge_clock(theirs, ours)

    def owner(self) -> Judged:
        """ExpectedBucketOwner: S3 User Guide, "Verifying bucket ownership"."""
        if self._options.owner is None:
            return (
                "warning",
                "the URL names no account: add ?owner= so that a bucket that somebody else "
                "makes under this name is refused",
            )
        try:
            self._list()
        except StoreDenied:
            self._list(ExpectedBucketOwner=None)  # or it is a right that is missing
            return "failed", f"the bucket does not belong to {self._options.owner}"
        try:
            self._list(ExpectedBucketOwner=_STRANGER)
        except StoreDenied:
            return "passed", f"owned by {self._options.owner}, and any other is refused"
        return "unproven", "the endpoint does not look at the owner that is expected"

    def versioning(self) -> Judged:
        """GetBucketVersioning."""
        declared = self._options.versions or self._options.lock is not None
        answer = self._ask("get_bucket_versioning")
        return judge_versioning(answer, declared=declared)

    def lock(self) -> Judged:
        """GetObjectLockConfiguration."""
        answer = self._ask(
            "get_object_lock_configuration", none="ObjectLockConfigurationNotFoundError"
        )
        return judge_lock(answer.get("ObjectLockConfiguration", {}), self._options.lock)

    def public_access(self) -> Judged:
        """GetPublicAccessBlock; where it leaves something open, GetBucketPolicyStatus."""
        answer = self._ask(
            "get_public_access_block", none="NoSuchPublicAccessBlockConfiguration"
        )
        blocks = answer.get("PublicAccessBlockConfiguration", {})
        names = (
            "BlockPublicAcls",
            "IgnorePublicAcls",
            "BlockPublicPolicy",
            "RestrictPublicBuckets",
        )
        missing = [name for name in names if not blocks.get(name)]
        if not missing:
            return "passed", "blocked in all four ways"
        try:
            answer = self._ask("get_bucket_policy_status", none="NoSuchBucketPolicy")
        except StoreUnavailable as error:
            return "unproven", f"not blocked: {', '.join(missing)}; and {error}"
        if answer.get("PolicyStatus", {}).get("IsPublic"):
            return "failed", f"the bucket's policy is public; not blocked: {', '.join(missing)}"
        return (
            "warning",
            f"no policy makes the bucket public, but it does not block {', '.join(missing)}",
        )

    def lifecycle(self) -> Judged:
        """GetBucketLifecycleConfiguration."""
        answer = self._ask(
            "get_bucket_lifecycle_configuration", none="NoSuchLifecycleConfiguration"
        )
        return judge_rules(answer.get("Rules", ()), self._above, self._view)

    def encryption(self) -> Judged:
        """GetBucketEncryption. What we store is encrypted before it gets there."""
        answer = self._ask(
            "get_bucket_encryption", none="ServerSideEncryptionConfigurationNotFoundError"
        )
        rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
        kinds = [
            rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm")
            for rule in rules
        ]
        found = [kind for kind in kinds if kind]
        if found:
            return "passed", f"by default with {', '.join(found)}, beneath our own"
        return "warning", "off: only our own encryption protects what is stored"

    def uploads(self) -> Judged:
        """ListMultipartUploads."""
        found = _uploads(self._client, self._options)
        if not found:
            return "passed", "none unfinished"
        oldest = min(upload.started for upload in found)
        return (
            "warning",
            f"{len(found)} unfinished below our prefix since {oldest:%Y-%m-%d}: their parts "
            "cost; add a lifecycle rule AbortIncompleteMultipartUpload",
        )

    def credentials(self) -> Judged:
        """What kind of credentials we come with."""
        pruner = self._view.access["pruner"]
        try:
            session = session_for(self._options, replace(pruner, principal=None), None)
            found = session.get_credentials()
            frozen = found and found.get_frozen_credentials()
        except SDK_ERRORS as error:
            raise translate(error, "finding credentials") from error
        if found is None or frozen is None:
            return "failed", "no credentials were found: environment, profile or role"
        if not frozen.token:
            return (
                "warning",
                f"a static key ({found.method}): it works until somebody finds it; use the "
                "machine's own role"
                + ("" if pruner.principal else ", and name roles in the fleet file"),
            )
        if pruner.principal is None:
            return "passed", f"temporary ({found.method})"
        return "passed", f"temporary ({found.method}), and a role assumed for each of us"

    def external_id(self) -> Judged:
        """STS must refuse each of our roles to whoever shows another external id, or none
        (IAM User Guide, "The confused deputy problem")."""
        asked = {one.principal: one for one in self._view.access.values() if one.principal}
        if not asked:
            return "unproven", "no role is assumed, so none is asked for"
        lent = []
        for access in asked.values():
            self._assume(access)  # it is lent to us at all, else a refusal proves nothing
            for words, shown in (("a wrong external id", _WRONG), ("none", None)):
                try:
                    self._assume(replace(access, external_id=shown))
                except StoreDenied:
                    continue
                lent.append(f"{access.principal} to whoever shows {words}")
        if not lent:
            return "passed", "wrong and missing ones are refused"
        return (
            "failed",
            f"STS lends {'; '.join(lent)}: the trust policy must ask for sts:ExternalId",
        )

    def _assume(self, access: Access) -> None:
        role = AssumedRole(self._options, access, self._view.clock)
        role.credentials.get_frozen_credentials()

    # --- asking -----------------------------------------------------------------------

    def _list(self, **arguments: Any) -> None:
        self._ask("list_objects_v2", Prefix=self._above, MaxKeys=1, **arguments)

    def _ask(self, operation: str, *, none: str = "", **arguments: Any) -> dict[str, Any]:
        """The answer; empty where the bucket says by the code `none` that it has nothing."""
        owner = arguments.pop("ExpectedBucketOwner", self._options.owner)
        arguments |= {"Bucket": self._options.bucket}
        if owner is not None:
            arguments["ExpectedBucketOwner"] = owner
        try:
            answer: dict[str, Any] = getattr(self._client, operation)(**arguments)
        except SDK_ERRORS as error:
            if none and isinstance(error, ClientError) and _code(error) == none:
                return {}
            raise translate(error, f"{operation} {self._options.bucket}") from error
        return answer

    def _note_date(self, http_response: Any = None, **_: Any) -> None:
        text = http_response.headers.get("Date", "") if http_response is not None else ""
        try:
            theirs = parsedate_to_datetime(text).astimezone(UTC)
        except (TypeError, ValueError):
            return
        self._date = theirs, self._view.clock.now()


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _uploads(client: S3Client, options: S3Options) -> list[Upload]:
    above = f"{options.prefix}/" if options.prefix else ""
    arguments: dict[str, Any] = {"Bucket": options.bucket, "Prefix": above}
    if options.owner:
        arguments["ExpectedBucketOwner"] = options.owner
    try:
        return [
            Upload(
                entry["Key"].removeprefix(above),
                entry["UploadId"],
                entry["Initiated"].astimezone(UTC),
            )
            for page in client.get_paginator("list_multipart_uploads").paginate(**arguments)
            for entry in page.get("Uploads", ())
        ]
    except SDK_ERRORS as error:
        raise translate(error, f"list_multipart_uploads {options.bucket}") from error
