"""Buckets: made, looked at, changed, deleted; and who may do what with them.

Source of each name and field: cloud.google.com/storage/docs/json_api/v1/buckets.
"""

from __future__ import annotations

import base64
import re

from access import Accounts, condition
from objects import make_token, merge, read_token
from partial import select
from refusals import Refusal, invalid, not_implemented, unmet
from state import Bucket, Json, State, etag, now, rfc3339
from wire import Call, Reply

WRITABLE = frozenset({"versioning", "retentionPolicy", "lifecycle", "iamConfiguration",
                      "labels", "defaultEventBasedHold", "softDeletePolicy", "storageClass",
                      "location"})  # fmt: skip
OUTPUT_ONLY = frozenset({"kind", "id", "selfLink", "projectNumber", "name", "timeCreated",
                         "updated", "metageneration", "etag", "locationType",
                         "objectRetention", "generation", "rpo"})  # fmt: skip
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
NO_ACCESS: Json = {
    "uniformBucketLevelAccess": {"enabled": False},
    "publicAccessPrevention": "inherited",
}
FORMER_NAMES = {"bucketPolicyOnly": "uniformBucketLevelAccess"}
PRINCIPALS = {"serviceAccount", "projectOwner", "projectEditor", "projectViewer"}
PUBLIC = {"allUsers", "allAuthenticatedUsers"}


class Buckets:
    """The handlers of buckets."""

    def __init__(self, state: State, accounts: Accounts) -> None:
        self.state = state
        self.accounts = accounts

    def allowed(self, call: Call, permission: str) -> Bucket:
        caller = self.accounts.caller(call.headers.get("Authorization"))
        bucket = self.state.bucket(call.names["bucket"])
        self.accounts.require(caller, bucket, permission)
        return bucket

    def insert(self, call: Call) -> Reply:
        caller = self.accounts.caller(call.headers.get("Authorization"))
        self.accounts.require(caller, None, "storage.buckets.create")
        document = call.body.json()
        name = document.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise invalid(f"Invalid bucket name: '{name}'")
        if call.one("project") is None:
            raise Refusal(400, "required", "Required parameter: project")
        bucket = Bucket(name, {"location": "US", "storageClass": "STANDARD"})
        change(bucket, document, new=True)
        bucket.fields["location"] = str(bucket.fields["location"]).upper()
        if call.flag("enableObjectRetention"):  # /storage/docs/object-lock: only at creation
            bucket.fields["objectRetention"] = {"mode": "Enabled"}
        with self.state.lock:
            if name in self.state.buckets:
                raise Refusal(
                    409, "conflict",
                    "Your previous request to create the named bucket succeeded and you "
                    "already own it.",
                )  # fmt: skip
            self.state.buckets[name] = bucket
            return Reply.of(select(call, resource(call.base, bucket)))

    def list(self, call: Call) -> Reply:
        caller = self.accounts.caller(call.headers.get("Authorization"))
        self.accounts.require(caller, None, "storage.buckets.list")
        prefix = call.one("prefix", "") or ""
        size = min(call.number("maxResults") or 1000, 1000)
        after = read_token(call.one("pageToken")) or ("", 0)
        with self.state.lock:
            every = sorted(self.state.buckets)
            names = [name for name in every if name.startswith(prefix) and name > after[0]]
            items = [resource(call.base, self.state.buckets[name]) for name in names[:size]]
        page: Json = {"kind": "storage#buckets"} | ({"items": items} if items else {})
        if len(names) > size:
            page["nextPageToken"] = make_token([names[size - 1], 0])
        return Reply.of(select(call, page))

    def get(self, call: Call) -> Reply:
        with self.state.lock:
            bucket = self.allowed(call, "storage.buckets.get")
            self._check_metageneration(call, bucket)
            return Reply.of(select(call, resource(call.base, bucket)))

    def patch(self, call: Call) -> Reply:
        document = call.body.json()
        with self.state.lock:
            bucket = self.allowed(call, "storage.buckets.update")
            self._check_metageneration(call, bucket)
            if document.get("location") not in {None, bucket.fields["location"]}:
                raise invalid("a bucket's location can't be changed")
            change(bucket, document)
            return Reply.of(select(call, resource(call.base, bucket)))

    def delete(self, call: Call) -> Reply:
        with self.state.lock:
            bucket = self.allowed(call, "storage.buckets.delete")
            self._check_metageneration(call, bucket)
            if bucket.versions:
                raise Refusal(409, "conflict", "The bucket you tried to delete is not empty.")
            del self.state.buckets[bucket.name]
        return Reply(204)

    def lock_retention(self, call: Call) -> Reply:
        """buckets.lockRetentionPolicy: for ever. cloud.google.com/storage/docs/bucket-lock"""
        with self.state.lock:
            bucket = self.allowed(call, "storage.buckets.update")
            if call.number("ifMetagenerationMatch") is None:
                raise Refusal(400, "required", "Required parameter: ifMetagenerationMatch")
            self._check_metageneration(call, bucket)
            if not bucket.fields.get("retentionPolicy"):
                raise invalid("Bucket does not have a Retention Policy.")
            bucket.fields["retentionPolicy"]["isLocked"] = True
            touch(bucket)
            return Reply.of(select(call, resource(call.base, bucket)))

    def _check_metageneration(self, call: Call, bucket: Bucket) -> None:
        if call.number("ifMetagenerationMatch") not in {None, bucket.metageneration}:
            raise unmet()
        if call.number("ifMetagenerationNotMatch") == bucket.metageneration:
            raise unmet()

    # --- rights -----------------------------------------------------------------------

    def get_policy(self, call: Call) -> Reply:
        """Source: cloud.google.com/storage/docs/json_api/v1/buckets/getIamPolicy"""
        with self.state.lock:
            bucket = self.allowed(call, "storage.buckets.getIamPolicy")
            asked = call.number("optionsRequestedPolicyVersion") or 1
            if bucket.policy_version > asked:
                raise invalid("Requested policy version is too low for a conditional policy.")
            return Reply.of(select(call, policy(bucket)))

    def set_policy(self, call: Call) -> Reply:
        """Source: .../buckets/setIamPolicy; conditions need version 3 and uniform access,
        cloud.google.com/storage/docs/access-control/iam#conditions"""
        document = call.body.json()
        unknown = set(document) - {"kind", "resourceId", "version", "bindings", "etag"}
        if unknown:
            raise invalid(f"this local server does not know: {', '.join(sorted(unknown))}")
        bindings = [self._check_binding(binding) for binding in document.get("bindings", [])]
        version = document.get("version", 1)
        conditional = any("condition" in binding for binding in bindings)
        with self.state.lock:
            bucket = self.allowed(call, "storage.buckets.setIamPolicy")
            access = bucket.fields.get("iamConfiguration", {})
            if document.get("etag") not in {None, "", policy_etag(bucket)}:
                raise unmet()
            uniform = access.get("uniformBucketLevelAccess", {}).get("enabled")
            if conditional and (version != 3 or not uniform):
                raise invalid("Conditional bindings need policy version 3 and uniform "
                              "bucket-level access.")  # fmt: skip
            everyone = any(PUBLIC & set(binding["members"]) for binding in bindings)
            if everyone and access.get("publicAccessPrevention") == "enforced":
                raise Refusal(
                    412, "conditionNotMet",
                    "The member bindings allUsers and allAuthenticatedUsers are not allowed "
                    "since public access prevention is enforced.",
                )  # fmt: skip
            bucket.bindings = bindings
            bucket.policy_version = version
            bucket.policy_number += 1
            return Reply.of(select(call, policy(bucket)))

    def _check_binding(self, binding: Json) -> Json:
        if set(binding) - {"role", "members", "condition"}:
            raise invalid("a binding has role, members and condition")
        role, members = binding.get("role"), binding.get("members", [])
        legacy_owner = re.fullmatch(r"roles/storage\.legacy(Bucket|Object)Owner", str(role))
        if role not in self.accounts.roles and not legacy_owner:
            raise invalid(f"Role {role} is not supported for this resource.")
        for member in members:
            kind, _, who = member.partition(":")
            if kind == "serviceAccount" and who not in self.accounts.accounts:
                raise invalid(f"Service account {who} does not exist.")
            if kind not in PRINCIPALS and member not in PUBLIC:
                raise not_implemented(f"the member {member}")
        condition(binding)
        return binding

    def test_permissions(self, call: Call) -> Reply:
        """Source: .../buckets/testIamPermissions: needs no right of its own."""
        caller = self.accounts.caller(call.headers.get("Authorization"))
        with self.state.lock:
            bucket = self.state.bucket(call.names["bucket"])
            asked = call.query.get("permissions", [])
            held = [one for one in asked if self.accounts.permits(caller, bucket, one)]
        document: Json = {"kind": "storage#testIamPermissionsResponse"}
        return Reply.of(document | ({"permissions": held} if held else {}))


def policy(bucket: Bucket) -> Json:
    return {
        "kind": "storage#policy",
        "resourceId": f"projects/_/buckets/{bucket.name}",
        "version": bucket.policy_version,
        "etag": policy_etag(bucket),
        "bindings": bucket.bindings,
    }


def policy_etag(bucket: Bucket) -> str:
    return base64.b64encode(f"policy/{bucket.policy_number}".encode()).decode()


def resource(base: str, bucket: Bucket) -> Json:
    """Source: cloud.google.com/storage/docs/json_api/v1/buckets#resource-representations"""
    location = bucket.fields["location"]
    return {
        "kind": "storage#bucket",
        "id": bucket.name,
        "selfLink": f"{base}/storage/v1/b/{bucket.name}",
        "name": bucket.name,
        "projectNumber": "1",
        "metageneration": str(bucket.metageneration),
        "generation": "1",
        "etag": etag(bucket.metageneration),
        "timeCreated": rfc3339(bucket.created),
        "updated": rfc3339(bucket.updated),
        "locationType": "multi-region" if location in {"US", "EU", "ASIA"} else "region",
        "iamConfiguration": NO_ACCESS,
        "softDeletePolicy": {"retentionDurationSeconds": "604800"},
        **bucket.fields,
    }


def change(bucket: Bucket, document: Json, *, new: bool = False) -> None:
    unknown = set(document) - WRITABLE - OUTPUT_ONLY
    if unknown:
        raise invalid(f"this local server does not know: {', '.join(sorted(unknown))}")
    fields = {key: value for key, value in document.items() if key in WRITABLE}
    if "retentionPolicy" in fields:
        fields["retentionPolicy"] = new_retention(bucket, fields["retentionPolicy"])
    if access := fields.get("iamConfiguration"):
        unknown = set(access) - {*NO_ACCESS, "bucketPolicyOnly"}
        if unknown:
            raise invalid(f"this local server does not know: {', '.join(sorted(unknown))}")
        given = {FORMER_NAMES.get(key, key): value for key, value in access.items()}
        kept = bucket.fields.get("iamConfiguration", NO_ACCESS)
        fields["iamConfiguration"] = NO_ACCESS | kept | given
    merge(bucket.fields, fields)
    if not new:
        touch(bucket)


def new_retention(bucket: Bucket, wanted: Json | None) -> Json | None:
    """Source: cloud.google.com/storage/docs/bucket-lock: once locked only ever longer."""
    old = bucket.fields.get("retentionPolicy")
    seconds = int(wanted["retentionPeriod"]) if wanted and "retentionPeriod" in wanted else None
    if seconds is not None and not 0 < seconds <= 3_155_760_000:
        raise invalid("Invalid value for retentionPeriod")
    if (
        old
        and old.get("isLocked")
        and (seconds is None or seconds < int(old["retentionPeriod"]))
    ):
        raise Refusal(
            403, "forbidden",
            f"Bucket '{bucket.name}' has a locked Retention Policy which cannot be "
            + ("removed." if seconds is None else "shortened."),
        )  # fmt: skip
    if seconds is None:
        return None
    locked = bool(old and old.get("isLocked"))
    lead = {"retentionPeriod": str(seconds), "effectiveTime": rfc3339(now())}
    return lead | ({"isLocked": True} if locked else {})


def touch(bucket: Bucket) -> None:
    bucket.metageneration += 1
    bucket.updated = now()
