"""AWS: the policies of `providers.policies.aws` as JSON, Terraform and commands. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from providers.access import Role
from providers.policies import aws, hcl, shell
from providers.policies.wanted import ROLES, Document, Wanted, checked

_OPERATOR = re.compile(r"\d{12}|arn:aws[a-z-]*:(?:iam|sts)::\d{12}:[\w+=,.@/-]{1,600}", re.A)
_ENDED = "abort-incomplete-uploads"
_NO_PUBLIC = (
    "BlockPublicAcls",
    "IgnorePublicAcls",
    "BlockPublicPolicy",
    "RestrictPublicBuckets",
)
_NOTES = """\
{customer}: the bucket {bucket} and the three roles that back up into it.
Where the bucket is encrypted with a KMS key of your own, its policy must allow the writer
kms:GenerateDataKey, the restorer kms:Decrypt, and the pruner both.{advice}"""


def documents(wanted: Wanted) -> tuple[Document, ...]:
    """Permissions alone for a compatible server, everything for Amazon's own."""
    arns = {role: _arn(wanted, role) for role in ROLES}
    operator = _operator(wanted.operator_principal)
    reach = aws.Reach(
        wanted.url.bucket,
        wanted.url.prefix,
        partition=operator.split(":")[1],
        locks=wanted.locks,
        amazon=aws.is_amazon(wanted.url.options.get("endpoint")),
    )
    permissions = {role: aws.document(aws.permissions(role, reach)) for role in ROLES}
    policies = [_json(f"{role}-policy.json", permissions[role]) for role in ROLES]
    if not reach.amazon:
        return tuple(policies)
    checked(aws.EXTERNAL_ID, wanted.external_id, "an external id", "8a2f0c...")
    trust = aws.trust(operator, wanted.external_id)
    guard = aws.bucket_policy(reach)
    names = {role: arns[role].rpartition("/")[2] for role in ROLES}
    notes = _NOTES.format(
        customer=wanted.customer, bucket=wanted.url.bucket, advice=wanted.advice()
    )
    return (
        _json("trust-policy.json", trust),
        *policies,
        _json("bucket-policy.json", guard),
        Document(
            "backups.tf",
            "terraform",
            hcl.render(_terraform(wanted, names, trust, permissions, guard), notes),
        ),
        Document("setup.sh", "commands", _commands(wanted, names, notes)),
    )


def _arn(wanted: Wanted, role: Role) -> str:
    """Of the role that is, or the path of the one to be made."""
    known = wanted.principals.get(role)
    if known is None:
        return f"role/backups-{wanted.customer[: 64 - len(role) - 9]}-{role}"
    example = "arn:aws:iam::123456789012:role/backups-writer"
    return checked(aws.ROLE_ARN, known, "the ARN of a role", example).string


def _operator(principal: str) -> str:
    example = "123456789012, or arn:aws:iam::123456789012:role/backups"
    checked(_OPERATOR, principal, "an AWS account or principal", example)
    return principal if principal.startswith("arn:") else f"arn:aws:iam::{principal}:root"


def _json(name: str, policy: dict[str, Any]) -> Document:
    return Document(name, "json", json.dumps(policy, indent=2) + "\n")


# --- Terraform ------------------------------------------------------------------------


def _terraform(
    wanted: Wanted,
    names: dict[Role, str],
    trust: dict[str, Any],
    permissions: dict[Role, dict[str, Any]],
    guard: dict[str, Any],
) -> list[hcl.Block]:
    bucket = hcl.Ref("aws_s3_bucket.backups.id")
    of_bucket: dict[str, hcl.Value] = {"bucket": bucket}
    keep = hcl.Block("lifecycle", body={"prevent_destroy": True})
    source = {"aws": {"source": "hashicorp/aws", "version": ">= 5.0"}}
    about: dict[str, hcl.Value] = {
        "bucket": wanted.url.bucket,
        "object_lock_enabled": wanted.locks,
    }
    blocks = [
        hcl.Block("terraform", blocks=[hcl.Block("required_providers", body=_bare(source))]),
        hcl.Block("resource", ("aws_s3_bucket", "backups"), about, [keep]),
        hcl.Block(
            "resource",
            ("aws_s3_bucket_public_access_block", "backups"),
            of_bucket | {_snake(name): True for name in _NO_PUBLIC},
        ),
        hcl.Block(
            "resource",
            ("aws_s3_bucket_lifecycle_configuration", "backups"),
            of_bucket,
            [
                hcl.Block(
                    "rule",
                    body={"id": _ENDED, "status": "Enabled"},
                    blocks=[
                        hcl.Block("filter", body={"prefix": _below(wanted)}),
                        hcl.Block(
                            "abort_incomplete_multipart_upload",
                            body={"days_after_initiation": 1},
                        ),
                    ],
                )
            ],
        ),
        hcl.Block(
            "resource",
            ("aws_s3_bucket_policy", "backups"),
            of_bucket | {"policy": hcl.json_of(guard)},
        ),
    ]
    if wanted.versions:
        enabled = hcl.Block("versioning_configuration", body={"status": "Enabled"})
        kind = ("aws_s3_bucket_versioning", "backups")
        blocks.insert(2, hcl.Block("resource", kind, of_bucket, [enabled]))
    for role in ROLES:
        blocks += _role(role, names[role], trust, permissions[role])
    return blocks


def _role(
    role: Role, name: str, trust: dict[str, Any], permissions: dict[str, Any]
) -> list[hcl.Block]:
    return [
        hcl.Block(
            "resource",
            ("aws_iam_role", role),
            {
                "name": name,
                "max_session_duration": 3600,
                "assume_role_policy": hcl.json_of(trust),
            },
        ),
        hcl.Block(
            "resource",
            ("aws_iam_role_policy", role),
            {
                "name": "backups",
                "role": hcl.Ref(f"aws_iam_role.{role}.id"),
                "policy": hcl.json_of(permissions),
            },
        ),
        hcl.Block("output", (f"{role}_role",), {"value": hcl.Ref(f"aws_iam_role.{role}.arn")}),
    ]


# --- commands -------------------------------------------------------------------------


def _commands(wanted: Wanted, names: dict[Role, str], notes: str) -> str:
    on = ("--bucket", wanted.url.bucket)
    public = ",".join(f"{name}=true" for name in _NO_PUBLIC)
    rule = {
        "ID": _ENDED,
        "Status": "Enabled",
        "Filter": {"Prefix": _below(wanted)},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    }
    lines = [
        "# These replace what the bucket has of each kind; an existing one is merged by hand.",
        _s3api("put-public-access-block", *on, "--public-access-block-configuration", public),
        _s3api(
            "put-bucket-lifecycle-configuration",
            *on,
            "--lifecycle-configuration",
            json.dumps({"Rules": [rule]}),
        ),
        _s3api("put-bucket-policy", *on, "--policy", "file://bucket-policy.json"),
    ]
    if wanted.versions:
        status = ("--versioning-configuration", "Status=Enabled")
        lines.append(_s3api("put-bucket-versioning", *on, *status))
    if wanted.locks:
        enabled = ("--object-lock-configuration", "ObjectLockEnabled=Enabled")
        lines.append(_s3api("put-object-lock-configuration", *on, *enabled))
    for role in ROLES:
        named = ("--role-name", names[role])
        trusts = ("--assume-role-policy-document", "file://trust-policy.json")
        may = ("--policy-name", "backups", "--policy-document", f"file://{role}-policy.json")
        lines += [
            "",
            shell.command("aws", "iam", "create-role", *named, *trusts),
            shell.command("aws", "iam", "put-role-policy", *named, *may),
        ]
    return shell.script(f"{notes}\nRun it beside the JSON documents.", [], lines)


def _s3api(*words: str) -> str:
    return shell.command("aws", "s3api", *words)


def _below(wanted: Wanted) -> str:
    return f"{wanted.url.prefix}/" if wanted.url.prefix else ""


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _bare(value: dict[str, Any]) -> dict[str, Any]:
    """Provider requirements want names, not strings, as keys."""
    return {
        name: hcl.Ref(
            "{ " + ", ".join(f"{key} = {hcl.quoted(text)}" for key, text in item.items()) + " }"
        )
        for name, item in value.items()
    }
