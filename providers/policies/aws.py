"""AWS: what each role may do in the customer's account. Pure.

Sources: Service Authorization Reference, "Actions, resources, and condition keys for Amazon
S3"; Amazon S3 User Guide, "Enforce conditional writes on Amazon S3 buckets"; IAM User Guide,
"Access to AWS accounts owned by third parties".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from providers.access import Role

Statement = Mapping[str, Any]

ROLE_ARN = re.compile(
    r"arn:(?P<partition>[a-z0-9-]+):[a-z0-9-]*::?[\w-]*:role/[\w+=,.@/-]{1,512}", re.ASCII
)
EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)

# What the pruner writes: a backup is marked before it is taken apart (FORMAT.md).
_TOMBSTONES = "v1/*/tombstone.dsse.json"

_POSTURE = (
    "GetBucketLocation",
    "GetBucketObjectLockConfiguration",
    "GetBucketPolicyStatus",
    "GetBucketPublicAccessBlock",
    "GetBucketVersioning",
    "GetEncryptionConfiguration",
    "GetLifecycleConfiguration",
    "ListBucketMultipartUploads",
)


@dataclass(frozen=True, slots=True)
class Reach:
    """Which objects, and of what kind of store."""

    bucket: str
    prefix: str = ""
    partition: str = "aws"
    locks: bool = False
    """Objects are put under object lock."""
    amazon: bool = True
    """Compatible servers refuse policies with condition keys that they do not know."""

    @property
    def arn(self) -> str:
        """The bucket's."""
        partition = self.partition if self.partition.startswith("aws") else "aws"
        return f"arn:{partition}:s3:::{self.bucket}"

    @property
    def above(self) -> str:
        """What every key begins with, as a pattern that means itself."""
        return f"{_literal(self.prefix)}/" if self.prefix else ""

    def objects(self, pattern: str = "*") -> str:
        """The ARN of the keys below the prefix that match."""
        return f"{self.arn}/{self.above}{pattern}"


def is_amazon(endpoint: str | None) -> bool:
    """Whether an endpoint (None: the default) is Amazon's own, such as a VPC endpoint."""
    host = urlsplit(endpoint or "").hostname or "amazonaws.com"
    return re.search(r"(^|\.)amazonaws\.com(\.cn)?$", host) is not None


def permissions(role: Role, reach: Reach) -> list[Statement]:
    """What the adapter needs to do the role's work, and no more."""
    return _ROLES[role](reach)


def session_policy(role: Role, reach: Reach) -> str:
    """The same, minified: what a session of ours is narrowed to (at most 2,048 characters).

    The bucket's own encryption key may be used through S3, if the customer's role allows it:
    a session policy grants nothing, it only takes away.
    """
    statements = permissions(role, reach)
    if reach.amazon and role in _KEY_USE:
        via_s3 = {"StringLike": {"kms:ViaService": "s3.*"}}
        statements.append(_allow(_KEY_USE[role], "*", via_s3, service="kms"))
    return json.dumps(document(statements), separators=(",", ":"))


def document(statements: list[Statement]) -> dict[str, Any]:
    """A policy document of the current language version."""
    return {"Version": "2012-10-17", "Statement": statements}


def trust(operator_principal: str, external_id: str) -> dict[str, Any]:
    """Who may become one of the roles: we, showing this customer's external id."""
    statement = {
        "Sid": "TheOperatorWithTheExternalId",
        "Effect": "Allow",
        "Principal": {"AWS": operator_principal},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
    }
    return document([statement])


def bucket_policy(reach: Reach) -> dict[str, Any]:
    """What nobody may do, the customer's own administrators included."""
    everything = [reach.arn, f"{reach.arn}/*"]
    no_tls = {"Bool": {"aws:SecureTransport": "false"}}
    foreign = {
        "StringNotEquals": {"aws:PrincipalAccount": "${aws:ResourceAccount}"},
        "BoolIfExists": {"aws:PrincipalIsAWSService": "false"},
    }
    overwriting = {
        "Null": {"s3:if-none-match": "true"},
        # Parts of a multipart upload carry no such header; its completion does.
        "Bool": {"s3:ObjectCreationOperation": "true"},
    }
    return document(
        [
            _deny_all("OnlyTls", "s3:*", everything, no_tls),
            _deny_all("OnlyThisAccount", "s3:*", everything, foreign),
            _deny_all("OnlyNewKeys", "s3:PutObject", reach.objects(), overwriting),
        ]
    )


# --- the roles ------------------------------------------------------------------------


def _writer(reach: Reach) -> list[Statement]:
    statements = [_create(reach, "*")]
    if reach.locks:
        statements.append(_allow(["PutObjectRetention"], reach.objects()))
    return statements


def _restorer(reach: Reach) -> list[Statement]:
    return [_read(reach), _list(reach)]


def _pruner(reach: Reach) -> list[Statement]:
    # S3 has no right to look at an object's facts without that to read its (sealed) bytes.
    acts = ["DeleteObject", "DeleteObjectVersion", "AbortMultipartUpload"]
    if reach.locks:
        acts.append("PutObjectRetention")
    return [
        _read(reach, *acts),
        _list(reach),
        _create(reach, _TOMBSTONES),
        _allow(_POSTURE, reach.arn),
        {"Effect": "Deny", "Action": "s3:BypassGovernanceRetention", "Resource": "*"},
    ]


_ROLES = {"writer": _writer, "restorer": _restorer, "pruner": _pruner}
_KEY_USE: Mapping[str, tuple[str, ...]] = {
    "writer": ("GenerateDataKey",),
    "restorer": ("Decrypt",),
    "pruner": ("Decrypt", "GenerateDataKey"),
}


def _create(reach: Reach, pattern: str) -> Statement:
    only_new = {"Null": {"s3:if-none-match": "false"}} if reach.amazon else None
    return _allow(["PutObject"], reach.objects(pattern), only_new)


def _read(reach: Reach, *more: str) -> Statement:
    acts = ["GetObject", "GetObjectVersion"]
    if reach.locks:
        acts.append("GetObjectRetention")
    return _allow([*acts, *more], reach.objects())


def _list(reach: Reach) -> Statement:
    below = {"StringLike": {"s3:prefix": f"{reach.above}*"}} if reach.prefix else None
    return _allow(["ListBucket", "ListBucketVersions"], reach.arn, below)


def _allow(
    acts: list[str] | tuple[str, ...],
    resource: str,
    condition: Mapping[str, Any] | None = None,
    *,
    service: str = "s3",
) -> Statement:
    named = [f"{service}:{act}" for act in acts]
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Action": named if len(named) > 1 else named[0],
        "Resource": resource,
    }
    return statement | ({"Condition": condition} if condition else {})


def _deny_all(
    sid: str, action: str, resource: str | list[str], condition: Mapping[str, Any]
) -> Statement:
    return {
        "Sid": sid,
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": resource,
        "Condition": condition,
    }


def _literal(text: str) -> str:
    """A key's text where `*`, `?` and `$` would mean something (IAM User Guide, "Policy
    variables", special characters)."""
    return re.sub(r"[*?$]", r"${\g<0>}", text)
