"""Azure: applications that trust our tokens, and what each may do in one container. Pure.

Sources: learn.microsoft.com, "Authorize with Microsoft Entra ID" (Storage REST API),
permissions for data operations; "Workload identity federation".

`blobs/add/action` creates new blobs and cannot replace one. Setting a lock needs
`immutableStorage/runAsSuperUser/action`, which may take an *unlocked* one off too: with
?lock=unlocked the writer is trusted not to; with ?lock=locked nobody can.
"""

from __future__ import annotations

import json
import re

from providers.access import Role
from providers.policies import hcl, shell
from providers.policies.wanted import ROLES, Document, Wanted, checked

_OPERATOR = re.compile(r"(?P<issuer>https://[\w./:-]{3,300})#(?P<subject>[\w./:@=+-]{1,300})")
_CLIENT = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DELEGATOR = "Storage Blob Delegator"
"""Azure's own role: a user delegation key for the account, which opens no more than the
principal's other roles do. Our access is such a key's SAS, narrowed to the role's work."""
_AUDIENCE = "api://AzureADTokenExchange"
_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
_SUBSCRIPTION, _GROUP = shell.Var("SUBSCRIPTION"), shell.Var("RESOURCE_GROUP")
_ACCOUNT = "data.azurerm_storage_account.backups"

_NOTES = """\
{customer}: the container {container} of the account {account}, and the three
applications that back up into it. Nothing else belongs into this container.{advice}"""


def data_actions(role: Role, *, locks: bool) -> list[str]:
    """What the adapter needs to do the role's work in the container, and no more."""
    acts = {
        "writer": ["add/action"],
        "restorer": ["read"],
        # It marks a backup before it takes it apart.
        "pruner": ["add/action", "delete", "deleteBlobVersion/action", "read"],
    }[role]
    if locks and role != "restorer":
        acts = [*acts, "immutableStorage/runAsSuperUser/action"]
    return [f"{_BLOBS}/{act}" for act in acts]


def actions(role: Role) -> list[str]:
    """The pruner looks at how the container is set up."""
    return ["Microsoft.Storage/storageAccounts/blobServices/containers/read"] * (
        role == "pruner"
    )


def documents(wanted: Wanted) -> tuple[Document, ...]:
    """Terraform and commands for the customer's subscription and tenant."""
    example = "https://issuer.example/tenant#system:serviceaccount:backups:worker"
    operator = checked(
        _OPERATOR, wanted.operator_principal, "an issuer and subject, ISSUER#SUBJECT", example
    )
    for known in filter(None, wanted.principals.values()):
        checked(_CLIENT, known, "an application's client id", "8-4-4-4-12 hexadecimal digits")
    trust = {"issuer": operator["issuer"], "subject": operator["subject"]}
    notes = _NOTES.format(
        customer=wanted.customer,
        container=wanted.url.bucket,
        account=wanted.url.account,
        advice=wanted.advice(),
    )
    return (
        Document("backups.tf", "terraform", hcl.render(_terraform(wanted, trust), notes)),
        Document("setup.sh", "commands", _commands(wanted, trust, notes)),
    )


def _name(wanted: Wanted, role: Role) -> str:
    return f"backups-{wanted.customer}-{role}"


# --- Terraform ------------------------------------------------------------------------


def _terraform(wanted: Wanted, trust: dict[str, str]) -> list[hcl.Block]:
    group = hcl.Ref("var.resource_group")
    properties: dict[str, hcl.Value] = {"publicAccess": "None"}
    if wanted.locks:
        properties["immutableStorageWithVersioning"] = {"enabled": True}
    blocks = [
        hcl.Block(
            "terraform",
            blocks=[
                hcl.Block(
                    "required_providers",
                    body={
                        "azapi": hcl.Ref('{ source = "Azure/azapi", version = ">= 2.0" }'),
                        "azuread": hcl.Ref('{ source = "hashicorp/azuread" }'),
                        "azurerm": hcl.Ref('{ source = "hashicorp/azurerm" }'),
                    },
                )
            ],
        ),
        hcl.Block("variable", ("resource_group",), {"type": hcl.Ref("string")}),
        hcl.Block("data", ("azurerm_resource_group", "backups"), {"name": group}),
        hcl.Block(
            "data",
            ("azurerm_storage_account", "backups"),
            {"name": wanted.url.account, "resource_group_name": group},
        ),
        hcl.Block(
            "resource",
            ("azapi_resource", "container"),
            {
                "type": "Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01",
                "parent_id": hcl.Ref(f'"${{{_ACCOUNT}.id}}/blobServices/default"'),
                "name": wanted.url.bucket,
                "body": {"properties": properties},
            },
        ),
    ]
    for role in ROLES:
        blocks += _application(wanted, role, trust) + _rights(wanted, role)
    return blocks


def _application(wanted: Wanted, role: Role, trust: dict[str, str]) -> list[hcl.Block]:
    known = wanted.principals.get(role)
    kind = "data" if known else "resource"
    lead = "data." if known else ""
    application = f"{lead}azuread_application.{role}"
    who: dict[str, hcl.Value] = (
        {"client_id": known} if known else {"display_name": _name(wanted, role)}
    )
    return [
        hcl.Block(kind, ("azuread_application", role), who),
        hcl.Block(
            kind,
            ("azuread_service_principal", role),
            {"client_id": hcl.Ref(f"{application}.client_id")},
        ),
        hcl.Block(
            "resource",
            ("azuread_application_federated_identity_credential", role),
            {
                "application_id": hcl.Ref(f"{application}.id"),
                "display_name": "backups",
                "audiences": [_AUDIENCE],
                **trust,
            },
        ),
    ]


def _rights(wanted: Wanted, role: Role) -> list[hcl.Block]:
    group = hcl.Ref("data.azurerm_resource_group.backups.id")
    lead = "data." if wanted.principals.get(role) else ""
    principal = hcl.Ref(f"{lead}azuread_service_principal.{role}.object_id")
    return [
        hcl.Block(
            "resource",
            ("azurerm_role_definition", role),
            {
                "name": _name(wanted, role),
                "scope": group,
                "assignable_scopes": [group],
            },
            [
                hcl.Block(
                    "permissions",
                    body={
                        "actions": actions(role),
                        "data_actions": data_actions(role, locks=wanted.locks),
                    },
                )
            ],
        ),
        hcl.Block(
            "resource",
            ("azurerm_role_assignment", role),
            {
                "scope": hcl.Ref("azapi_resource.container.id"),
                "role_definition_id": hcl.Ref(
                    f"azurerm_role_definition.{role}.role_definition_resource_id"
                ),
                "principal_id": principal,
            },
        ),
        hcl.Block(
            "resource",
            ("azurerm_role_assignment", f"{role}_delegator"),
            {
                "scope": hcl.Ref(f"{_ACCOUNT}.id"),
                "role_definition_name": _DELEGATOR,
                "principal_id": principal,
            },
        ),
    ]


# --- commands -------------------------------------------------------------------------


def _commands(wanted: Wanted, trust: dict[str, str], notes: str) -> str:
    group: tuple[str | shell.Var, ...] = (
        "/subscriptions/", _SUBSCRIPTION, "/resourceGroups/", _GROUP,
    )  # fmt: skip
    account = f"/providers/Microsoft.Storage/storageAccounts/{wanted.url.account}"
    container = f"{account}/blobServices/default/containers/{wanted.url.bucket}"
    in_group: tuple[shell.Word, ...] = ("--resource-group", _GROUP)
    hardened = ("--allow-blob-public-access", "false", "--min-tls-version", "TLS1_2")
    name = ("--name", wanted.url.bucket, "--public-access", "off")
    versioned = ("--enable-vlw", "true") if wanted.locks else ()
    lines = [
        _az("account", "set", "--subscription", _SUBSCRIPTION),
        _az("storage", "account", "update", "--name", wanted.url.account, *in_group, *hardened),
    ]
    if wanted.versions:
        keep = ("--account-name", wanted.url.account, *in_group, "--enable-versioning", "true")
        lines.append(_az("storage", "account", "blob-service-properties", "update", *keep))
    where = ("--storage-account", wanted.url.account, *in_group)
    lines.append(_az("storage", "container-rm", "create", *where, *name, *versioned))
    credential = json.dumps({"name": "backups", **trust, "audiences": [_AUDIENCE]})
    for role in ROLES:
        app = shell.Var(f"{role.upper()}_APP")
        called = _name(wanted, role)
        known = wanted.principals.get(role)
        new = _az("ad", "app", "create", "--display-name", called, "--query", "appId",
                  "--output", "tsv")  # fmt: skip
        definition = json.dumps(
            {
                "Name": called,
                "Description": f"Backups: {role}",
                "Actions": actions(role),
                "DataActions": data_actions(role, locks=wanted.locks),
                "AssignableScopes": ["@"],
            }
        )
        before, after = definition.split("@")
        lines += [
            "",
            f"{app.name}={known}" if known else f'{app.name}="$({new})"',
            *([] if known else [_az("ad", "sp", "create", "--id", app)]),
            _az("ad", "app", "federated-credential", "create", "--id", app,
                "--parameters", credential),
            _az("role", "definition", "create", "--role-definition", (before, *group, after)),
            _az("role", "assignment", "create", "--assignee", app, "--role", called,
                "--scope", (*group, container)),
            _az("role", "assignment", "create", "--assignee", app, "--role", _DELEGATOR,
                "--scope", (*group, account)),
        ]  # fmt: skip
    variables = [
        ("SUBSCRIPTION", "the id of your subscription"),
        ("RESOURCE_GROUP", "the resource group of the storage account"),
    ]
    return shell.script(notes, variables, lines)


def _az(*words: shell.Word) -> str:
    return shell.command("az", *words)
