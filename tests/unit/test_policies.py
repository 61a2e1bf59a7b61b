"""The printed policies: no right too many, within the clouds' limits, nothing to inject."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import hcl2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.errors import ConfigError, UsageError
from providers.access import Role
from providers.policies import Document, aws, hcl, policy_documents, shell
from providers.urls import parse_store_url

ROLES: tuple[Role, ...] = ("writer", "restorer", "pruner")
OPERATORS = {
    "s3": "arn:aws:iam::999999999999:role/backups",
    "gs": "serviceAccount:backups@ours.iam.gserviceaccount.com",
    "az": "https://issuer.example/tenant#system:serviceaccount:backups:worker",
}
URLS = {
    "s3": "s3://acme-backups/bloomneo?lock=governance",
    "gs": "gs://acme-backups/bloomneo?lock=unlocked",
    "az": "az://acmestore/backups/bloomneo?lock=locked",
}
LONGEST = aws.Reach("b" * 63, "p" * 100, partition="aws-us-gov", locks=True)
NASTY = "a*b/it's-(1)!/c='d'"
"""A prefix that the store URL allows and that shells and patterns would like to read."""


def printed(url: str, **changes: Any) -> dict[str, Document]:
    place = parse_store_url(url)
    asked: dict[str, Any] = {
        "customer": "acme",
        "external_id": "8d1f0e1c-acme",
        "operator_principal": OPERATORS.get(place.scheme, ""),
        "principals": {},
    }
    return {made.name: made for made in policy_documents(place, **asked | changes)}


def policy(documents: dict[str, Document], name: str) -> Any:
    return json.loads(documents[f"{name}-policy.json"].text)


def allowed(statements: list[Any]) -> set[str]:
    acts: set[str] = set()
    for statement in statements:
        if statement["Effect"] == "Allow":
            named = statement["Action"]
            acts |= {named} if isinstance(named, str) else set(named)
    return acts


# --- AWS ------------------------------------------------------------------------------


def test_each_role_has_exactly_these_rights() -> None:
    bare, locked = aws.Reach("b", "p"), aws.Reach("b", "p", locks=True)
    assert allowed(aws.permissions("writer", bare)) == {"s3:PutObject"}
    assert allowed(aws.permissions("writer", locked)) == {
        "s3:PutObject",
        "s3:PutObjectRetention",
    }
    reading = {"s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:ListBucketVersions"}
    assert allowed(aws.permissions("restorer", bare)) == reading
    assert allowed(aws.permissions("restorer", locked)) == reading | {"s3:GetObjectRetention"}
    pruner = allowed(aws.permissions("pruner", bare))
    assert pruner - reading == {
        "s3:AbortMultipartUpload",
        "s3:DeleteObject",
        "s3:DeleteObjectVersion",
        "s3:GetBucketLocation",
        "s3:GetBucketObjectLockConfiguration",
        "s3:GetBucketPolicyStatus",
        "s3:GetBucketPublicAccessBlock",
        "s3:GetBucketVersioning",
        "s3:GetEncryptionConfiguration",
        "s3:GetLifecycleConfiguration",
        "s3:ListBucketMultipartUploads",
        "s3:PutObject",
    }
    assert allowed(aws.permissions("pruner", locked)) - pruner == {
        "s3:GetObjectRetention",
        "s3:PutObjectRetention",
    }


def test_rights_end_at_the_prefix_and_at_new_keys() -> None:
    for role in ROLES:
        for statement in aws.permissions(role, aws.Reach("b", "p", locks=True)):
            acts = allowed([statement])
            if statement["Effect"] == "Deny" or acts & {"s3:GetBucketLocation"}:
                continue
            if acts & {"s3:ListBucket"}:
                assert statement["Resource"] == "arn:aws:s3:::b"
                assert statement["Condition"] == {"StringLike": {"s3:prefix": "p/*"}}
            else:
                assert statement["Resource"].startswith("arn:aws:s3:::b/p/")
            if acts & {"s3:PutObject"}:
                assert statement["Condition"] == {"Null": {"s3:if-none-match": "false"}}
    tombs = [s for s in aws.permissions("pruner", LONGEST) if s["Action"] == "s3:PutObject"]
    assert [s["Resource"].endswith("/v1/*/tombstone.dsse.json") for s in tombs] == [True]


def test_the_pruner_can_never_break_a_lock() -> None:
    (deny,) = [s for s in aws.permissions("pruner", LONGEST) if s["Effect"] == "Deny"]
    assert deny["Action"] == "s3:BypassGovernanceRetention"
    assert (deny["Resource"], "Condition" in deny) == ("*", False)


@pytest.mark.parametrize("role", ROLES)
def test_a_session_is_narrowed_to_the_printed_rights(role: Role) -> None:
    reach = aws.Reach("acme-backups", "bloomneo", locks=True)
    session = json.loads(aws.session_policy(role, reach))
    *same, key_use = session["Statement"]
    assert same == policy(printed(URLS["s3"]), role)["Statement"]
    assert allowed([key_use]) <= {"kms:Decrypt", "kms:GenerateDataKey"}
    assert key_use["Condition"] == {"StringLike": {"kms:ViaService": "s3.*"}}


@pytest.mark.parametrize("role", ROLES)
def test_policies_fit_into_what_aws_takes(role: Role) -> None:
    # IAM and STS quotas: a session policy 2,048 characters, a managed one 6,144.
    assert len(aws.session_policy(role, LONGEST)) <= 2048
    assert len(json.dumps(aws.document(aws.permissions(role, LONGEST)))) <= 6144
    trust = aws.trust("arn:aws:iam::123456789012:role/" + "r" * 512, "e" * 1224)
    assert len(json.dumps(trust, separators=(",", ":"))) <= 2048
    assert len(json.dumps(aws.bucket_policy(LONGEST))) <= 20 * 1024


def test_the_trust_policy_names_us_and_the_external_id() -> None:
    (statement,) = json.loads(printed(URLS["s3"])["trust-policy.json"].text)["Statement"]
    assert statement["Principal"] == {"AWS": OPERATORS["s3"]}
    assert statement["Condition"] == {"StringEquals": {"sts:ExternalId": "8d1f0e1c-acme"}}
    by_account = printed(URLS["s3"], operator_principal="999999999999")
    assert "arn:aws:iam::999999999999:root" in by_account["trust-policy.json"].text


def test_the_bucket_policy_only_denies() -> None:
    statements = policy(printed(URLS["s3"]), "bucket")["Statement"]
    assert {s["Effect"] for s in statements} == {"Deny"}
    assert {s["Sid"] for s in statements} == {"OnlyTls", "OnlyThisAccount", "OnlyNewKeys"}
    # Without a condition each would lock the customer out of the bucket for ever.
    assert all(s["Condition"] for s in statements)


def test_a_prefix_is_no_pattern() -> None:
    text = printed(f"s3://acme-backups/{NASTY}")["restorer-policy.json"].text
    assert "acme-backups/a${*}b/it's-(1)!/c='d'/*" in text
    assert '"s3:prefix": "a${*}b/' in text


def test_without_a_prefix_the_bucket_is_ours() -> None:
    reading, listing = aws.permissions("restorer", aws.Reach("b"))
    assert reading["Resource"] == "arn:aws:s3:::b/*"
    assert "Condition" not in listing


def test_other_partitions() -> None:
    china = printed(URLS["s3"], operator_principal="arn:aws-cn:iam::999999999999:role/backups")
    assert "arn:aws-cn:s3:::acme-backups" in china["writer-policy.json"].text
    assert "arn:aws:" not in "".join(made.text for made in china.values())


def test_a_compatible_server_gets_no_words_that_only_amazon_knows() -> None:
    documents = printed("s3://acme-backups/p?endpoint=https://minio.example:9000")
    assert sorted(documents) == [f"{role}-policy.json" for role in sorted(ROLES)]
    assert "if-none-match" not in "".join(made.text for made in documents.values())
    reach = aws.Reach("b", "p", amazon=False)
    assert all("kms:" not in aws.session_policy(role, reach) for role in ROLES)


# --- all three ------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", URLS)
def test_documents_are_the_same_each_time_and_well_formed(scheme: str) -> None:
    documents = printed(URLS[scheme])
    assert documents == printed(URLS[scheme])
    forms = {made.form for made in documents.values()}
    assert forms == ({"json"} if scheme == "s3" else set()) | {"terraform", "commands"}
    for made in documents.values():
        if made.form == "json":
            assert json.loads(made.text)["Version"] == "2012-10-17"
        if made.form == "terraform":
            assert hcl2.loads(made.text)["resource"]
        if made.form == "commands":
            subprocess.run(["sh", "-n"], input=made.text, text=True, check=True)


def test_terraform_holds_what_the_json_holds() -> None:
    documents = printed(URLS["s3"])
    text = documents["backups.tf"].text
    for role in ROLES:
        value: Any = policy(documents, role)
        assert hcl.json_of(value).text in text
    guard = policy(documents, "bucket")
    assert hcl.json_of(guard).text in text
    assert "${aws:ResourceAccount}" in documents["bucket-policy.json"].text
    assert '"$${aws:ResourceAccount}"' in text  # to Terraform no template of its own


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://acme-backups/p?versions=true", "Enabled"),
        ("s3://acme-backups/p", ""),
        ("s3://acme-backups/p?lock=compliance", "object_lock_enabled = true"),
    ],
)
def test_settings_follow_the_url(url: str, told: str) -> None:
    text = printed(url)["backups.tf"].text
    assert told in text
    assert ("aws_s3_bucket_versioning" in text) == ("?" in url)
    assert ("Recommended: locks" in text) == ("lock=" not in url)


GOOGLE = {
    "backupsWriter": {"create", "setRetention"},
    "backupsRestorer": {"get", "list"},
    "backupsPruner": {"delete", "get", "list", "setRetention", "update"},
    "backupsMarker": {"create"},
}


def test_google_roles_have_exactly_these_rights() -> None:
    (commands, calls) = run(printed(URLS["gs"])["setup.sh"].text, "gcloud", PROJECT="p-1")
    assert commands == 0
    made = {
        call[3]: {right.removeprefix("storage.objects.") for right in call[-1].split(",")}
        for call in calls
        if call[:3] == ["iam", "roles", "create"]
    }
    assert made.pop("backupsAuditor") == {"storage.buckets.get"}
    assert made == GOOGLE
    bound = [call for call in calls if "add-iam-policy-binding" in call and "storage" in call]
    assert len(bound) == 5
    for call in bound:
        auditor = "projects/p-1/roles/backupsAuditor" in call
        below = "projects/_/buckets/acme-backups/objects/bloomneo/"
        assert (call[-1] == "None") if auditor else (f'startsWith("{below}")' in call[-1])
    trusted = [call for call in calls if "roles/iam.serviceAccountTokenCreator" in call]
    assert [call[3] for call in trusted] == [
        f"backups-{role}@p-1.iam.gserviceaccount.com" for role in ROLES
    ]
    assert all(OPERATORS["gs"] in call for call in trusted)


AZURE = {
    "writer": {"add/action", "immutableStorage/runAsSuperUser/action"},
    "restorer": {"read"},
    "pruner": {
        "add/action",
        "delete",
        "deleteBlobVersion/action",
        "immutableStorage/runAsSuperUser/action",
        "read",
    },
}


def test_azure_roles_have_exactly_these_rights() -> None:
    text = printed(URLS["az"])["setup.sh"].text
    done, calls = run(text, "az", SUBSCRIPTION="sub-1", RESOURCE_GROUP="group 1")
    assert done == 0
    definitions = [
        json.loads(call[-1]) for call in calls if call[:3] == ["role", "definition", "create"]
    ]
    lead = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/"
    assert {
        made["Name"]: {act.removeprefix(lead) for act in made["DataActions"]}
        for made in definitions
    } == {f"backups-acme-{role}": AZURE[role] for role in ROLES}
    group = "/subscriptions/sub-1/resourceGroups/group 1"
    assert all(made["AssignableScopes"] == [group] for made in definitions)
    account = f"{group}/providers/Microsoft.Storage/storageAccounts/acmestore"
    container = f"{account}/blobServices/default/containers/backups"
    assigned = [(call[6], call[8]) for call in calls if call[:2] == ["role", "assignment"]]
    assert assigned == [
        pair
        for role in ROLES
        for pair in ((f"backups-acme-{role}", container), ("Storage Blob Delegator", account))
    ]
    for call in calls:
        if "federated-credential" in call:
            issuer, _, subject = OPERATORS["az"].partition("#")
            credential = json.loads(call[-1])
            assert (credential["issuer"], credential["subject"]) == (issuer, subject)
    assert len([call for call in calls if call[:3] == ["ad", "app", "create"]]) == 3
    known = printed(URLS["az"], principals={"writer": f"{'0' * 8}-0000-0000-0000-{'0' * 12}"})
    assert known["setup.sh"].text.count("az ad app create") == 2
    assert 'data "azuread_application" "writer"' in known["backups.tf"].text


# --- nothing to inject into -----------------------------------------------------------


STUB = """#!/bin/sh
printf '%s\\0' "$@" >>"$WORDS"
printf '\\001' >>"$WORDS"
echo id-1
"""


def run(text: str, tool: str, **variables: str) -> tuple[int, list[list[str]]]:
    """Run printed commands with a tool that only writes down its words."""
    with tempfile.TemporaryDirectory() as folder:
        stub, words = Path(folder, tool), Path(folder, "words")
        words.touch()
        stub.write_text(STUB)
        stub.chmod(0o700)
        environment = {"PATH": folder, "WORDS": str(words), "LOCATION": "eu", **variables}
        done = subprocess.run(
            ["/bin/sh", "-c", text], env=environment, cwd=folder, check=False,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        calls = words.read_text().split("\1")[:-1]
        assert sorted(path.name for path in Path(folder).iterdir()) == sorted([tool, "words"])
    return done.returncode, [call.split("\0")[:-1] for call in calls]


@pytest.mark.parametrize(("scheme", "tool"), [("s3", "aws"), ("gs", "gcloud"), ("az", "az")])
def test_a_nasty_prefix_stays_a_word(scheme: str, tool: str) -> None:
    lead = {
        "s3": "s3://acme-backups",
        "gs": "gs://acme-backups",
        "az": "az://acmestore/backups",
    }
    documents = printed(f"{lead[scheme]}/{NASTY}")
    hcl2.loads(documents["backups.tf"].text)
    done, calls = run(
        documents["setup.sh"].text, tool, PROJECT="p", SUBSCRIPTION="s", RESOURCE_GROUP="g"
    )
    assert done == 0
    words = "\n".join(word for call in calls for word in call)
    if scheme == "s3":
        assert json.loads(words.split("--lifecycle-configuration\n")[1].split("\n")[0])[
            "Rules"
        ][0]["Filter"] == {"Prefix": f"{NASTY}/"}
    if scheme == "gs":
        assert f'startsWith("{NASTY}/")' in words


def test_commands_ask_for_what_only_the_customer_knows() -> None:
    done, calls = run(printed(URLS["gs"])["setup.sh"].text, "gcloud")
    assert (done != 0, calls) == (True, [])


@given(st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=60))
def test_any_printable_text_is_quoted(text: str) -> None:
    assert shlex.split(shell.command("tool", text)) == ["tool", text]
    literal = hcl.quoted(text)
    parsed = hcl2.loads(f"a = {literal}\n")["a"]
    assert parsed == literal  # one literal, which the parser gives back as it stands
    assert not re.search(r"(?<![$])[$]\{|(?<!%)%\{", literal)
    unescaped = literal.replace("$${", "${").replace("%%{", "%{")
    if "$${" not in text and "%%{" not in text:
        assert json.loads(unescaped) == text


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "a\x1b[0m", "a\u2028b"])
def test_what_cannot_be_quoted_is_refused(text: str) -> None:
    for quote in (hcl.quoted, lambda text: shell.command("tool", text)):
        with pytest.raises(ConfigError):
            quote(text)


BAD = ["", "x", 'a"b', "$(reboot)", "`reboot`", "a b", "a\nb", "${x}", "arn:aws:iam::1:root;x"]


@pytest.mark.parametrize("scheme", URLS)
@pytest.mark.parametrize("value", BAD)
def test_principals_of_the_wrong_shape_are_refused(scheme: str, value: str) -> None:
    with pytest.raises(ConfigError):
        printed(URLS[scheme], operator_principal=value)
    if value:
        with pytest.raises(ConfigError):
            printed(URLS[scheme], principals={"writer": value})


def test_other_wrong_words_are_refused() -> None:
    for external in ("", "x", 'a"b', "a b", "${x}"):
        with pytest.raises(ConfigError):
            printed(URLS["s3"], external_id=external)
    with pytest.raises(UsageError):
        printed(URLS["s3"], customer="acme; reboot")
    for url in ("file:///srv/backups", "memory:name"):
        with pytest.raises(ConfigError, match="no policies"):
            printed(url)
