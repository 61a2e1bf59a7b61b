"""Who may do what at our own Google Cloud Storage endpoint: tokens, roles, impersonation."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest
import requests
from google.api_core.exceptions import Forbidden, NotFound, PreconditionFailed
from google.auth import impersonated_credentials
from google.auth.exceptions import RefreshError
from google.cloud.storage import Bucket, Client
from google.oauth2.service_account import Credentials

from backups.clock import SystemClock
from backups.entropy import SystemEntropy

pytestmark = pytest.mark.gcs
SCOPE = "https://www.googleapis.com/auth/devstorage"
Key = dict[str, Any]
MakeAccount = Callable[..., Key]


@pytest.fixture
def account(gcs_endpoint: str) -> MakeAccount:
    """`account(...)`: the key document of a new service account without any right."""

    def make(**options: Any) -> Key:
        wanted = {"name": "sa-" + SystemEntropy().bytes(6).hex(), **options}
        return control(gcs_endpoint, "accounts", wanted)

    return make


def control(endpoint: str, what: str, wanted: Key) -> Key:
    answer = requests.post(f"{endpoint}/_local/{what}", json=wanted, timeout=10)
    answer.raise_for_status()
    made: Key = answer.json()
    return made


def bind(
    client: Client, bucket: str, role: str, key: Key, condition: str | None = None
) -> None:
    policy = client.bucket(bucket).get_iam_policy(requested_policy_version=3)
    policy.version = 3
    binding: Key = {"role": role, "members": {f"serviceAccount:{key['client_email']}"}}
    if condition:
        binding["condition"] = {"title": "prefix", "expression": condition}
    policy.bindings.append(binding)
    client.bucket(bucket).set_iam_policy(policy)


def by(endpoint: str, key: Key, name: str) -> Bucket:
    client = Client.from_service_account_info(key, client_options={"api_endpoint": endpoint})
    return client.bucket(name)


def assertion(key: Key, **changes: Any) -> dict[str, str]:
    now = int(SystemClock().now().timestamp())
    claims = {
        "iss": key["client_email"], "aud": key["token_uri"], "scope": f"{SCOPE}.read_write",
        "iat": now, "exp": now + 3600,
    } | changes  # fmt: skip
    grant = "urn:ietf:params:oauth:grant-type:jwt-bearer"
    return {
        "grant_type": grant,
        "assertion": jwt.encode(claims, key["private_key"], algorithm="RS256"),
    }


# --- tokens -----------------------------------------------------------------------------


def test_every_call_wants_a_token(
    gcs_client: Client, gcs_bucket: str, gcs_endpoint: str
) -> None:
    place = f"{gcs_endpoint}/storage/v1/b/{gcs_bucket}"
    upload = f"{gcs_endpoint}/upload/storage/v1/b/{gcs_bucket}/o?uploadType=media&name=x"
    big = b"x" * 300_000  # heard out, or the client would see a broken connection
    for header in ({}, {"Authorization": "Bearer ya29.wrong"}, {"Authorization": "Basic eDp5"}):
        for method, url in (("GET", place), ("GET", f"{place}/o"), ("POST", upload)):
            answer = requests.request(method, url, headers=header, data=big, timeout=9)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (401, 401)
    assert not gcs_client.bucket(gcs_bucket).blob("x").exists()


def test_wrong_assertions_get_no_token(account: MakeAccount) -> None:
    key, other = account(), account()
    now = int(SystemClock().now().timestamp())

    def status(form: dict[str, str]) -> tuple[int, str]:
        answer = requests.post(key["token_uri"], data=form, timeout=10)
        return answer.status_code, answer.json().get("error", "")

    assert status(assertion(key)) == (200, "")
    refused = (400, "invalid_grant")
    assert status(assertion(key, iat=now - 7200, exp=now - 3600)) == refused
    assert status(assertion(key, exp=now + 7200)) == refused
    assert status(assertion(key, aud="https://elsewhere.example/token")) == refused
    assert status(assertion(key, iss="nobody@example.com")) == refused
    assert status(assertion(key | {"private_key": other["private_key"]})) == refused
    assert status(assertion(key, scope="")) == (400, "invalid_scope")
    assert status({"grant_type": "password"}) == (400, "unsupported_grant_type")


def test_expired_and_revoked_tokens_are_refused(
    account: MakeAccount, gcs_endpoint: str, gcs_bucket: str, gcs_client: Client
) -> None:
    short = account(token_seconds=0)
    url = f"{gcs_endpoint}/storage/v1/b/{gcs_bucket}/o"

    def listing(token: str) -> int:
        header = {"Authorization": f"Bearer {token}"}
        return requests.get(url, headers=header, timeout=10).status_code

    def token(key: Key) -> str:
        answer = requests.post(key["token_uri"], data=assertion(key), timeout=10)
        return str(answer.json()["access_token"])

    assert listing(token(short)) == 401
    key = account()
    bind(gcs_client, gcs_bucket, "roles/storage.objectViewer", key)
    held = token(key)
    assert listing(held) == 200
    control(gcs_endpoint, "revoke", {"email": key["client_email"], "disable": True})
    assert listing(held) == 401
    with pytest.raises(RefreshError, match="invalid_grant"):
        by(gcs_endpoint, key, gcs_bucket).blob("x").exists()


def test_a_scope_bounds_a_token(
    account: MakeAccount, gcs_client: Client, gcs_bucket: str, gcs_endpoint: str
) -> None:
    key = account()
    bind(gcs_client, gcs_bucket, "roles/storage.admin", key)
    read_only = Credentials.from_service_account_info(key, scopes=[f"{SCOPE}.read_only"])
    reader = Client("p", read_only, client_options={"api_endpoint": gcs_endpoint})
    assert list(reader.list_blobs(gcs_bucket)) == []
    with pytest.raises(Forbidden, match="insufficient authentication scopes"):
        reader.bucket(gcs_bucket).blob("x").upload_from_string(b"")


# --- roles ------------------------------------------------------------------------------


WORK: dict[str, Callable[[Bucket], Any]] = {
    "create": lambda bucket: bucket.blob(SystemEntropy().bytes(6).hex()).upload_from_string(
        b""
    ),
    "read": lambda bucket: bucket.blob("old").download_as_bytes(),
    "list": lambda bucket: list(bucket.list_blobs()),
    "replace": lambda bucket: bucket.blob("old").upload_from_string(b"2"),
    "patch": lambda bucket: bucket.blob("old").patch(),
    "look": lambda bucket: bucket.reload(),
    "rights": lambda bucket: bucket.get_iam_policy(requested_policy_version=3),
    "delete": lambda bucket: bucket.blob("old").delete(),
}


def test_each_role_does_its_own_work(
    account: MakeAccount, gcs_client: Client, gcs_bucket: str, gcs_endpoint: str
) -> None:
    gcs_client.bucket(gcs_bucket).blob("old").upload_from_string(b"1")
    custom = "projects/local-project/roles/pruner"
    rights = ["storage.objects.delete", "storage.objects.get"]
    control(gcs_endpoint, "roles", {"name": custom, "permissions": rights})
    roles = {
        "roles/storage.objectCreator": {"create"},
        "roles/storage.objectViewer": {"read", "list"},
        custom: {"read", "delete"},
        "roles/storage.objectAdmin": {"create", "read", "list", "replace", "patch", "delete"},
        "roles/storage.admin": {
            "create", "read", "list", "replace", "patch", "delete", "look", "rights",
        },
    }  # fmt: skip
    for role, allowed in roles.items():
        key = account()
        bind(gcs_client, gcs_bucket, role, key)
        bucket = by(gcs_endpoint, key, gcs_bucket)
        gcs_client.bucket(gcs_bucket).blob("old").upload_from_string(b"1")
        assert {what for what, call in WORK.items() if may(call, bucket)} == allowed, role


def may(call: Callable[[Bucket], Any], bucket: Bucket) -> bool:
    try:
        call(bucket)
    except Forbidden:
        return False
    return True


def test_a_creator_learns_nothing_and_replaces_nothing(
    account: MakeAccount, gcs_client: Client, gcs_bucket: str, gcs_endpoint: str
) -> None:
    key = account()
    bind(gcs_client, gcs_bucket, "roles/storage.objectCreator", key)
    blob = by(gcs_endpoint, key, gcs_bucket).blob("x")
    blob.upload_from_string(b"1", if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        blob.upload_from_string(b"2", if_generation_match=0)
    with pytest.raises(Forbidden, match=r"storage\.objects\.delete access"):
        blob.upload_from_string(b"2")
    with pytest.raises(Forbidden, match=r"storage\.objects\.get access"):
        blob.reload()
    kept = by(gcs_endpoint, key, gcs_bucket).blob("y")
    kept.retention.mode = "Locked"
    kept.retention.retain_until_time = SystemClock().now() + timedelta(days=1)
    with pytest.raises(Forbidden, match=r"storage\.objects\.setRetention access"):
        kept.upload_from_string(b"")
    held = ["storage.objects.create", "storage.objects.delete", "storage.buckets.get"]
    assert by(gcs_endpoint, key, gcs_bucket).test_iam_permissions(held) == held[:1]


def test_a_condition_keeps_to_a_prefix(
    account: MakeAccount, gcs_client: Client, gcs_bucket: str, gcs_endpoint: str
) -> None:
    for name in ("a/1", "b/1"):
        gcs_client.bucket(gcs_bucket).blob(name).upload_from_string(b"")
    key = account()
    objects = f"projects/_/buckets/{gcs_bucket}/objects/a/"
    listing = "api.getAttribute('storage.googleapis.com/objectListPrefix', '')"
    condition = f'resource.name.startsWith("{objects}") || {listing}.startsWith("a/")'
    bind(gcs_client, gcs_bucket, "roles/storage.objectViewer", key, condition)
    bucket = by(gcs_endpoint, key, gcs_bucket)
    assert bucket.blob("a/1").download_as_bytes() == b""
    assert [blob.name for blob in bucket.list_blobs(prefix="a/")] == ["a/1"]
    for call in (
        bucket.blob("b/1").download_as_bytes,
        lambda: list(bucket.list_blobs()),
        lambda: list(bucket.list_blobs(prefix="b/")),
    ):
        with pytest.raises(Forbidden):
            call()


def test_public_access_prevention(gcs_client: Client, gcs_bucket: str) -> None:
    bucket = gcs_client.bucket(gcs_bucket)
    bucket.iam_configuration.public_access_prevention = "enforced"
    bucket.patch()
    policy = bucket.get_iam_policy(requested_policy_version=3)
    policy.bindings.append({"role": "roles/storage.objectViewer", "members": {"allUsers"}})
    with pytest.raises(PreconditionFailed, match="public access prevention"):
        bucket.set_iam_policy(policy)


# --- impersonation ----------------------------------------------------------------------


def test_only_who_is_listed_may_impersonate(
    account: MakeAccount, gcs_client: Client, gcs_bucket: str, gcs_endpoint: str
) -> None:
    ours, stranger = account(), account()
    theirs = account(impersonators=[ours["client_email"]])
    bind(gcs_client, gcs_bucket, "roles/storage.objectViewer", theirs)
    target = theirs["client_email"]

    def become(key: Key) -> Client:
        place = f"{gcs_endpoint}/v1/projects/-/serviceAccounts/{target}:generateAccessToken"
        source = Credentials.from_service_account_info(
            key, scopes=["https://www.googleapis.com/auth/cloud-platform"]
        )
        made = impersonated_credentials.Credentials(
            source, target, [f"{SCOPE}.read_only"], lifetime=900, iam_endpoint_override=place
        )
        return Client("p", made, client_options={"api_endpoint": gcs_endpoint})

    assert list(become(ours).list_blobs(gcs_bucket)) == []
    with pytest.raises(NotFound):
        become(ours).bucket(gcs_bucket).blob("x").download_as_bytes()
    with pytest.raises(RefreshError) as error:
        list(become(stranger).list_blobs(gcs_bucket))
    assert json.loads(error.value.args[1])["error"]["status"] == "PERMISSION_DENIED"
