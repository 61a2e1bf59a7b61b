"""The printed policies, applied to an endpoint that enforces IAM: what each role may do.

That endpoint (moto) does not weigh conditions other than StringEquals, so neither `s3:prefix`,
`s3:if-none-match` nor an external id that was left out; nor session policies. What we send
there is looked at in tests/unit/test_s3_access_wire.py and test_policies.py; that Amazon acts
on it is a check of `backups store check`.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import ObjectMissing, StoreDenied
from backups.ports import ObjectStore
from providers.access import Access, Role
from providers.policies import policy_documents
from providers.registry import open_store
from providers.s3 import S3Store, connect
from providers.s3_client import S3Options
from providers.urls import parse_store_url

pytestmark = pytest.mark.s3
CLOCK = SystemClock()
ROLES: tuple[Role, ...] = ("writer", "restorer", "pruner")
EXTERNAL = "8d1f0e1c-acme"
PREFIX = "pre/fix"
TOMBSTONE = "v1/acme-main/0190-backup/tombstone.dsse.json"


# --- one customer's account -----------------------------------------------------------


@dataclass(frozen=True)
class Account:
    endpoint: str
    bucket: str
    roles: dict[Role, str]
    admin: Callable[[str], Any]
    """The SDK's client of a service, with every right."""

    def store(
        self,
        role: Role,
        *,
        prefix: str = PREFIX,
        external: str = EXTERNAL,
        profile: str = "operator",
    ) -> S3Store:
        """The bare adapter: nothing of ours stands before the endpoint's own judgement."""
        options = S3Options(
            self.bucket, prefix, self.endpoint, "us-east-1", profile=profile, lock="governance"
        )
        return connect(options, Access(role, "acme", self.roles[role], external), CLOCK)


def enforce(endpoint: str, free_calls: str) -> str:
    """From when on the endpoint looks at rights; returns what it was set to before."""
    request = Request(f"{endpoint}/moto-api/reset-auth", free_calls.encode(), method="POST")
    request.add_header("Content-Type", "text/plain")
    with urlopen(request, timeout=10) as answer:
        return str(json.load(answer)["PREVIOUS_INITIAL_NO_AUTH_ACTION_COUNT"])


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    endpoint = os.environ.get("BACKUPS_TEST_IAM_ENDPOINT", "")
    if not endpoint:
        pytest.fail("BACKUPS_TEST_IAM_ENDPOINT is not set: run localstack/test", pytrace=False)
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        before = enforce(endpoint, "inf")
        stack.callback(enforce, endpoint, before)

        def client(service: str, **keys: str) -> Any:
            made = boto3.client(
                service,  # type: ignore[call-overload]
                endpoint_url=endpoint,
                region_name="us-east-1",
                config=Config(s3={"addressing_style": "path"}),
                **keys,
            )
            stack.callback(made.close)
            return made

        mark = SystemEntropy().bytes(4).hex()
        everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        keys = user(client("iam"), f"admin-{mark}", everything)[1]

        def admin(service: str) -> Any:
            return client(service, **keys)

        become = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}
        operator, ours = user(client("iam"), f"operator-{mark}", become)
        stranger = user(client("iam"), f"stranger-{mark}", become)[1]
        # Profiles in a file, as the environment's keys are the other endpoints'.
        profiles = configparser.ConfigParser()
        profiles.read_dict({"operator": ours, "stranger": stranger})
        path = tmp_path_factory.mktemp("aws") / "credentials"
        with path.open("w") as file:
            profiles.write(file)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
        enforce(endpoint, "0")
        bucket = f"roles-{mark}"
        admin("s3").create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
        roles = apply_policies(admin("iam"), bucket, operator)
        yield Account(endpoint, bucket, roles, admin)


def user(iam: Any, name: str, statement: dict[str, str]) -> tuple[str, dict[str, str]]:
    """ARN and keys of somebody who may do one thing."""
    arn = iam.create_user(UserName=name)["User"]["Arn"]
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=name, PolicyName="may", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return arn, {
        "aws_access_key_id": key["AccessKeyId"],
        "aws_secret_access_key": key["SecretAccessKey"],
    }


def apply_policies(iam: Any, bucket: str, operator: str) -> dict[Role, str]:
    """What a customer's administrator does with the printed documents; ARNs of the roles."""
    documents = policy_documents(
        parse_store_url(f"s3://{bucket}/{PREFIX}?lock=governance"),
        customer="acme",
        external_id=EXTERNAL,
        operator_principal=operator,
        principals={},
    )
    text = {document.name: document.text for document in documents}
    arns: dict[Role, str] = {}
    for role in ROLES:
        name = f"{bucket}-{role}"
        made = iam.create_role(
            RoleName=name, AssumeRolePolicyDocument=text["trust-policy.json"]
        )
        iam.put_role_policy(
            RoleName=name, PolicyName="backups", PolicyDocument=text[f"{role}-policy.json"]
        )
        arns[role] = made["Role"]["Arn"]
    return arns


@pytest.fixture(scope="module")
def stores(account: Account) -> Iterator[dict[Role, S3Store]]:
    made = {role: account.store(role) for role in ROLES}
    yield made
    for store in made.values():
        store.close()


@pytest.fixture
def key() -> str:
    return f"v1/{SystemEntropy().bytes(6).hex()}.age"


def denied(*calls: Callable[[], object]) -> None:
    for call in calls:
        with pytest.raises(StoreDenied):
            call()


# --- the roles ------------------------------------------------------------------------


def test_the_writer_creates_and_nothing_else(stores: dict[Role, S3Store], key: str) -> None:
    writer = stores["writer"]
    until = CLOCK.now() + timedelta(minutes=2)
    version = writer.put(key, b"bytes", retain_until=until).version_id
    denied(
        lambda: writer.open(key),
        lambda: writer.open(key, version_id=version),
        lambda: writer.stat(key),
        lambda: list(writer.list("v1/")),
        lambda: writer.delete(key),
        lambda: writer.delete(key, version_id=version),
    )
    assert stores["restorer"].open(key).read() == b"bytes"


def test_the_restorer_reads_and_nothing_else(stores: dict[Role, S3Store], key: str) -> None:
    version = stores["writer"].put(key, b"bytes").version_id
    restorer = stores["restorer"]
    assert restorer.open(key, start=1, length=2).read() == b"yt"
    assert restorer.open(key, version_id=version).read() == b"bytes"
    assert restorer.stat(key).size == 5
    assert key in [info.key for info in restorer.list("v1/")]
    with pytest.raises(ObjectMissing):
        restorer.stat("v1/missing")
    denied(
        lambda: restorer.put(f"{key}2", b"x"),
        lambda: restorer.delete(key),
        lambda: restorer.delete(key, version_id=version),
    )


def test_the_pruner_marks_and_deletes(stores: dict[Role, S3Store], key: str) -> None:
    version = stores["writer"].put(key, b"bytes").version_id
    pruner = stores["pruner"]
    assert pruner.stat(key).version_id == version
    pruner.put(TOMBSTONE, b"{}")
    denied(
        lambda: pruner.put(f"{key}2", b"x"),
        lambda: pruner.put(TOMBSTONE.replace("tombstone", "manifest"), b"x"),
    )
    pruner.delete(key, version_id=version)
    assert key not in [info.key for info in pruner.list("v1/")]


def test_outside_of_the_prefix_everything_is_refused(account: Account, key: str) -> None:
    place = {"Bucket": account.bucket, "Key": f"other/{key}"}
    version = account.admin("s3").put_object(**place, Body=b"another's")["VersionId"]
    with contextlib.ExitStack() as stack:
        outside = {role: account.store(role, prefix="other") for role in ROLES}
        for store in outside.values():
            stack.callback(store.close)
        for store in outside.values():
            denied(
                lambda store=store: store.put(f"{key}2", b"x"),
                lambda store=store: store.open(key),
                lambda store=store: store.stat(key),
                lambda store=store: store.delete(key),
                lambda store=store: store.delete(key, version_id=version),
            )
    assert account.admin("s3").get_object(**place)["Body"].read() == b"another's"


def test_the_pruner_sees_how_the_bucket_is_set_up_and_ends_others_uploads(
    account: Account, stores: dict[Role, S3Store], key: str
) -> None:
    place = {"Bucket": account.bucket, "Key": f"{PREFIX}/{key}"}
    account.admin("s3").create_multipart_upload(**place)
    pruner, restorer = stores["pruner"]._client, stores["restorer"]._client
    assert pruner.get_bucket_versioning(Bucket=account.bucket)["Status"] == "Enabled"
    (upload,) = pruner.list_multipart_uploads(Bucket=account.bucket)["Uploads"]
    with pytest.raises(ClientError, match="AccessDenied"):
        restorer.abort_multipart_upload(**place, UploadId=upload["UploadId"])
    pruner.abort_multipart_upload(**place, UploadId=upload["UploadId"])
    assert "Uploads" not in pruner.list_multipart_uploads(Bucket=account.bucket)
    for change in (
        lambda: pruner.put_bucket_versioning(
            Bucket=account.bucket, VersioningConfiguration={"Status": "Suspended"}
        ),
        lambda: pruner.delete_bucket(Bucket=account.bucket),
        lambda: restorer.get_bucket_versioning(Bucket=account.bucket),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            change()


def test_a_wrong_external_id_is_refused(account: Account, key: str) -> None:
    with contextlib.closing(account.store("writer", external="another-customers")) as store:
        with pytest.raises(StoreDenied, match="assuming") as caught:
            store.put(key, b"x")
        assert "external id" in caught.value.hint
        assert "another-customers" not in f"{caught.value}{caught.value.hint}"


def test_a_stranger_who_knows_the_external_id_is_refused(account: Account, key: str) -> None:
    with (
        contextlib.closing(account.store("writer", profile="stranger")) as store,
        pytest.raises(StoreDenied, match="assuming"),
    ):
        store.put(key, b"x")


# --- on the endpoint that the other suites use ----------------------------------------


def test_put_and_get_through_an_assumed_role(s3_endpoint: str, bucket: str) -> None:
    url = f"s3://{bucket}/deep?endpoint={s3_endpoint}&region=eu-central-1"

    def opened(role: Role) -> contextlib.closing[ObjectStore]:
        arn = f"arn:aws:iam::000000000000:role/backups-{role}"
        access = Access(role, "acme", arn, EXTERNAL)
        store = open_store(url, clock=CLOCK, entropy=SystemEntropy(), access=access)
        return contextlib.closing(store)

    with opened("writer") as writer, opened("restorer") as restorer, opened("pruner") as pruner:
        writer.put("v1/key", b"bytes")
        assert restorer.open("v1/key").read() == b"bytes"
        pruner.delete("v1/key")
        assert list(restorer.list("v1/")) == []
