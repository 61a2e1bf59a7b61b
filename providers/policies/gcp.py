"""Google Cloud: service accounts that we impersonate, and what each may do. Pure.

Sources: cloud.google.com, "IAM permissions for JSON methods" (Cloud Storage), "Attribute
reference for IAM Conditions", "Use object retention configurations".

To overwrite an object needs the right to delete it, so a writer that may only create can
never replace. A listing's resource is the bucket: its condition looks at the prefix that was
asked for (`objectListPrefix`); where that is not to be had, managed folders do the same.
"""

from __future__ import annotations

import json
import re

from providers.access import Role
from providers.policies import hcl, shell
from providers.policies.wanted import ROLES, Document, Wanted, checked

_EMAIL = re.compile(
    r"(?P<id>[a-z][a-z0-9-]{4,28}[a-z0-9])@(?P<project>[a-z0-9.:-]+)\.iam\.gserviceaccount\.com"
)
_MEMBER = re.compile(r"(?:serviceAccount|principal|principalSet|group):[\w.@:/+-]{3,300}", re.A)
_IMPERSONATE = "roles/iam.serviceAccountTokenCreator"
_PROJECT = shell.Var("PROJECT")

_NOTES = """\
{customer}: the bucket {bucket} and the three service accounts that back up into it.
Nothing is stored on our side: we ask for each account's tokens in its own name.{advice}"""


def permissions(role: Role, *, locks: bool) -> list[str]:
    """What the adapter needs to do the role's work below the prefix, and no more."""
    rights = {
        "writer": ["create"],
        "restorer": ["get", "list"],
        "pruner": ["delete", "get", "list"],
    }[role]
    if locks and role == "writer":
        rights = [*rights, "setRetention"]
    if locks and role == "pruner":
        rights = [*rights, "setRetention", "update"]
    return [f"storage.objects.{right}" for right in rights]


def condition(wanted: Wanted, role: Role) -> str:
    """CEL that holds for what lies below the prefix, and for listings of it."""
    below = f"{wanted.url.prefix}/" if wanted.url.prefix else ""
    objects = f"projects/_/buckets/{wanted.url.bucket}/objects/{below}"
    inside = f"resource.name.startsWith({json.dumps(objects)})"
    if role == "writer":
        return inside
    asked = 'api.getAttribute("storage.googleapis.com/objectListPrefix", "")'
    return f"{inside} || {asked}.startsWith({json.dumps(below)})"


def _marks(wanted: Wanted) -> str:
    """CEL that holds for the marks that the pruner leaves (FORMAT.md)."""
    ends = 'resource.name.endsWith("/tombstone.dsse.json")'
    return f"{condition(wanted, 'writer')} && {ends}"


def documents(wanted: Wanted) -> tuple[Document, ...]:
    """Terraform and commands for the customer's project."""
    example = "serviceAccount:backups@ours.iam.gserviceaccount.com"
    checked(_MEMBER, wanted.operator_principal, "a member of Google's IAM", example)
    accounts = {role: _account(wanted, role) for role in ROLES}
    notes = _NOTES.format(
        customer=wanted.customer, bucket=wanted.url.bucket, advice=wanted.advice()
    )
    return (
        Document("backups.tf", "terraform", hcl.render(_terraform(wanted, accounts), notes)),
        Document("setup.sh", "commands", _commands(wanted, accounts, notes)),
    )


def _account(wanted: Wanted, role: Role) -> str:
    known = wanted.principals.get(role)
    if known is None:
        return f"backups-{role}"
    example = "backups-writer@project.iam.gserviceaccount.com"
    return checked(_EMAIL, known, "a service account's address", example)["id"]


def _grants(wanted: Wanted) -> list[tuple[str, Role, list[str], str]]:
    """Name of a custom role, to whom, its permissions, under which condition."""
    grants: list[tuple[str, Role, list[str], str]] = [
        (role, role, permissions(role, locks=wanted.locks), condition(wanted, role))
        for role in ROLES
    ]
    grants.append(("marker", "pruner", ["storage.objects.create"], _marks(wanted)))
    grants.append(("auditor", "pruner", ["storage.buckets.get"], ""))
    return grants


# --- Terraform ------------------------------------------------------------------------


def _terraform(wanted: Wanted, accounts: dict[Role, str]) -> list[hcl.Block]:
    project: dict[str, hcl.Value] = {"project": hcl.Ref("var.project")}
    settings: dict[str, hcl.Value] = {
        "name": wanted.url.bucket,
        **project,
        "location": hcl.Ref("var.location"),
        "uniform_bucket_level_access": True,
        "public_access_prevention": "enforced",
        "enable_object_retention": wanted.locks,
    }
    inside = [hcl.Block("lifecycle", body={"prevent_destroy": True})]
    if wanted.versions:
        inside.insert(0, hcl.Block("versioning", body={"enabled": True}))
    blocks = [
        hcl.Block("variable", ("project",), {"type": hcl.Ref("string")}),
        hcl.Block("variable", ("location",), {"type": hcl.Ref("string")}),
        hcl.Block("resource", ("google_storage_bucket", "backups"), settings, inside),
    ]
    for role in ROLES:
        account = hcl.Ref(f"google_service_account.{role}.name")
        blocks += [
            hcl.Block(
                "resource",
                ("google_service_account", role),
                {**project, "account_id": accounts[role], "display_name": f"Backups: {role}"},
            ),
            hcl.Block(
                "resource",
                ("google_service_account_iam_member", role),
                {
                    "service_account_id": account,
                    "role": _IMPERSONATE,
                    "member": wanted.operator_principal,
                },
            ),
        ]
    for name, role, rights, when in _grants(wanted):
        limits = {"title": f"backups-{name}", "expression": when}
        blocks += [
            hcl.Block(
                "resource",
                ("google_project_iam_custom_role", name),
                {
                    **project,
                    "role_id": _role_id(name),
                    "title": f"Backups: {name}",
                    "permissions": rights,
                },
            ),
            hcl.Block(
                "resource",
                ("google_storage_bucket_iam_member", name),
                {
                    "bucket": hcl.Ref("google_storage_bucket.backups.name"),
                    "role": hcl.Ref(f"google_project_iam_custom_role.{name}.id"),
                    "member": hcl.Ref(f"google_service_account.{role}.member"),
                },
                [hcl.Block("condition", body=limits)] if when else [],
            ),
        ]
    return blocks


# --- commands -------------------------------------------------------------------------


def _commands(wanted: Wanted, accounts: dict[Role, str], notes: str) -> str:
    bucket = f"gs://{wanted.url.bucket}"
    in_project: tuple[shell.Word, ...] = ("--project", _PROJECT)
    settings = ["--uniform-bucket-level-access", "--public-access-prevention"]
    if wanted.locks:
        settings.append("--enable-per-object-retention")
    location: tuple[shell.Word, ...] = ("--location", shell.Var("LOCATION"))
    lines = [_gcloud("storage", "buckets", "create", bucket, *in_project, *location, *settings)]
    if wanted.versions:
        lines.append(_gcloud("storage", "buckets", "update", bucket, "--versioning"))
    for role in ROLES:
        trust = ("--member", wanted.operator_principal, "--role", _IMPERSONATE)
        accounts_ = ("iam", "service-accounts")
        email = _email(wanted, role, accounts)
        lines += [
            "",
            _gcloud(*accounts_, "create", accounts[role], *in_project),
            _gcloud(*accounts_, "add-iam-policy-binding", email, *in_project, *trust),
        ]
    for name, role, rights, when in _grants(wanted):
        identity = _role_id(name)
        rights_ = ("--permissions", ",".join(rights))
        lines += [
            "",
            _gcloud("iam", "roles", "create", identity, *in_project, *rights_),
            _gcloud(
                "storage",
                "buckets",
                "add-iam-policy-binding",
                bucket,
                "--member",
                ("serviceAccount:", *_parts(_email(wanted, role, accounts))),
                "--role",
                ("projects/", _PROJECT, f"/roles/{identity}"),
                "--condition",
                # `^;^`: expressions hold commas (`gcloud topic escaping`).
                f"^;^title=backups-{name};expression={when}" if when else "None",
            ),
        ]
    variables = [
        ("PROJECT", "the id of your project"),
        ("LOCATION", "where the bucket is to be, such as europe-west3"),
    ]
    return shell.script(notes, variables, lines)


def _email(wanted: Wanted, role: Role, accounts: dict[Role, str]) -> shell.Word:
    known = wanted.principals.get(role)
    return known or (f"{accounts[role]}@", _PROJECT, ".iam.gserviceaccount.com")


def _parts(word: shell.Word) -> tuple[str | shell.Var, ...]:
    return word if isinstance(word, tuple) else (word,)


def _role_id(name: str) -> str:
    return f"backups{name.capitalize()}"


def _gcloud(*words: shell.Word) -> str:
    return shell.command("gcloud", *words)
