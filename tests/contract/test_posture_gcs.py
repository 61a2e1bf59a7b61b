"""How a bucket of Google Cloud Storage is set up, looked at on an endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from google.cloud.storage import Bucket, Client  # type: ignore[import-untyped]

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.model import Outcome, Secret
from backups.ports import Clock
from providers.access import Access, Role
from providers.posture import Judge, View, looking
from providers.urls import parse_store_url

pytestmark = pytest.mark.gcs
CLOCK = SystemClock()
ROLES: tuple[Role, ...] = ("writer", "restorer", "pruner")
Looks = Callable[[str], Outcome]


@dataclass(frozen=True)
class Off(SystemClock):
    """A clock that is wrong."""

    seconds: int

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.seconds)


@pytest.fixture
def make_view(gcs_endpoint: str) -> Callable[..., View]:
    def make(
        bucket: str, clock: Clock = CLOCK, key: dict[str, Any] | None = None, **options: str
    ) -> View:
        options["endpoint"] = quote(gcs_endpoint, safe="")
        query = "&".join(f"{name}={value}" for name, value in options.items())
        secret = Secret(json.dumps(key)) if key else None
        access: dict[Role, Access] = {role: Access(role, "acme", key=secret) for role in ROLES}
        url = parse_store_url(f"gs://{bucket}/pre/fix?{query}")
        return View(url, access, clock, timedelta(days=30))

    return make


@pytest.fixture
def made(gcs_client: Client) -> Callable[..., Bucket]:
    """`made(**properties)`: a new bucket with these, retention being asked for as `locks`."""

    def make(*, locks: bool = False, location: str | None = None, **properties: Any) -> Bucket:
        bucket = gcs_client.bucket("test-" + SystemEntropy().bytes(6).hex())
        for name, value in properties.items():
            setattr(bucket, name, value)
        bucket.create(enable_object_retention=locks, location=location)
        return bucket

    return make


@contextmanager
def judging(view: View) -> Iterator[Looks]:
    with looking(view) as looks:
        yield lambda name: looks[name]()[0]


def words(judge: Judge) -> str:
    return judge()[1]


def test_a_bucket_as_it_is_made(
    made: Callable[..., Bucket], make_view: Callable[..., View]
) -> None:
    with looking(make_view(made(location="europe-west3").name)) as looks:
        found = {name: judge()[0] for name, judge in looks.items()}
        assert found == {
            "region": "passed",
            "clock": "passed",
            "versioning": "passed",
            "lock": "warning",
            "public_access": "warning",
            "lifecycle": "passed",
            "encryption": "passed",
            "credentials": "warning",
        }
        assert words(looks["region"]).startswith("EUROPE-WEST3")
        assert "single objects" in words(looks["public_access"])


def test_versions_and_locks(
    made: Callable[..., Bucket], make_view: Callable[..., View]
) -> None:
    plain, full = made().name, made(locks=True, versioning_enabled=True).name
    with judging(make_view(plain, versions="true", lock="locked")) as look:
        assert look("versioning") == look("lock") == "failed"
    with judging(make_view(full, versions="true", lock="locked")) as look:
        assert look("versioning") == look("lock") == "passed"
    with judging(make_view(full)) as look:
        assert (look("versioning"), look("lock")) == ("failed", "warning")


def test_a_bucket_that_locks_by_itself(
    made: Callable[..., Bucket], make_view: Callable[..., View]
) -> None:
    bucket = made(locks=True, retention_period=86400 * 7)
    with looking(make_view(bucket.name, lock="locked")) as looks:
        outcome, said = looks["lock"]()
        assert (outcome, "7.0 days" in said) == ("failed", True)
    with judging(make_view(made(default_event_based_hold=True).name)) as look:
        assert look("lock") == "failed"


def test_a_public_bucket(made: Callable[..., Bucket], make_view: Callable[..., View]) -> None:
    bucket = made()
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    bucket.patch()
    with looking(make_view(bucket.name)) as looks:
        assert looks["public_access"]()[0] == "warning"
        assert "single objects" not in words(looks["public_access"])
    policy = bucket.get_iam_policy(requested_policy_version=3)
    policy.bindings.append({"role": "roles/storage.objectViewer", "members": {"allUsers"}})
    bucket.set_iam_policy(policy)
    with judging(make_view(bucket.name)) as look:
        assert look("public_access") == "failed"
    policy = bucket.get_iam_policy(requested_policy_version=3)
    policy.bindings.clear()
    bucket.set_iam_policy(policy)
    bucket.iam_configuration.public_access_prevention = "enforced"
    bucket.patch()
    with judging(make_view(bucket.name)) as look:
        assert look("public_access") == "passed"


DELETE = {"type": "Delete"}
RULES: list[tuple[str, dict[str, Any]]] = [
    ("failed", {"action": DELETE, "condition": {"age": 29}}),
    ("failed", {"action": DELETE, "condition": {"age": 1, "matchesPrefix": ["pre/fix/v1/"]}}),
    ("failed", {"action": DELETE, "condition": {"age": 1, "matchesSuffix": [".age", ".x"]}}),
    ("failed", {"action": DELETE, "condition": {"createdBefore": "2999-01-01"}}),
    ("failed", {"action": DELETE, "condition": {"isLive": True}}),
    ("warning", {"action": DELETE, "condition": {"age": 30}}),
    ("warning", {"action": DELETE, "condition": {"daysSinceNoncurrentTime": 1}}),
    ("warning", {"action": DELETE, "condition": {"isLive": False, "age": 1}}),
    ("passed", {"action": DELETE, "condition": {"createdBefore": "2020-01-01"}}),
    ("passed", {"action": DELETE, "condition": {"daysSinceCustomTime": 1}}),
    ("passed", {"action": DELETE, "condition": {"age": 1, "matchesPrefix": ["pre/other/"]}}),
    ("passed", {"action": DELETE, "condition": {"age": 1, "matchesSuffix": [".log"]}}),
    ("passed", {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 1}}),
]


def test_lifecycle_rules(made: Callable[..., Bucket], make_view: Callable[..., View]) -> None:
    bucket = made()
    for expected, rule in RULES:
        bucket.lifecycle_rules = [rule]
        bucket.patch()
        with looking(make_view(bucket.name)) as looks:
            outcome, said = looks["lifecycle"]()
            assert (outcome, "rule 1" in said) == (expected, expected != "passed"), rule


@pytest.mark.parametrize(("seconds", "outcome"), [(240, "passed"), (400, "failed")])
def test_the_clock(
    seconds: int, outcome: str, made: Callable[..., Bucket], make_view: Callable[..., View]
) -> None:
    with judging(make_view(made().name, clock=Off(seconds))) as look:
        assert look("clock") == outcome


def test_what_may_not_be_looked_at_is_unproven(
    made: Callable[..., Bucket], make_view: Callable[..., View], gcs_endpoint: str
) -> None:
    answer = requests.post(
        f"{gcs_endpoint}/_local/accounts",
        json={"name": "sa-" + SystemEntropy().bytes(6).hex()},
        timeout=10,
    )
    key = answer.json()
    bucket = made()

    def grant(role: str) -> None:
        policy = bucket.get_iam_policy(requested_policy_version=3)
        members = {f"serviceAccount:{key['client_email']}"}
        policy.bindings.append({"role": role, "members": members})
        bucket.set_iam_policy(policy)

    grant("roles/storage.objectViewer")
    with looking(make_view(bucket.name, key=key)) as looks:
        found = {name: judge() for name, judge in looks.items()}
    assert found.pop("credentials")[0] == "warning"
    assert {outcome for outcome, _ in found.values()} == {"unproven"}
    assert all("grant storage.buckets.get" in said for _, said in found.values())
    grant("roles/storage.legacyBucketReader")
    with looking(make_view(bucket.name, key=key)) as looks:
        found = {name: judge() for name, judge in looks.items()}
    assert [name for name, (outcome, _) in found.items() if outcome == "unproven"] == [
        "public_access"
    ]
    assert "storage.buckets.getIamPolicy" in found["public_access"][1]


def test_credentials(
    make_view: Callable[..., View], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    view = make_view("any-bucket")
    path = tmp_path / "credentials.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))

    def found(document: dict[str, Any]) -> Outcome:
        path.write_text(json.dumps(document))
        with judging(view) as look:
            return look("credentials")

    federated = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": str(path)},
    }
    person = {
        "type": "authorized_user",
        "client_id": "c",
        "client_secret": "s",
        "refresh_token": "r",
    }
    assert found(federated) == "passed"
    assert found(person) == "warning"
    keyed = {role: replace(one, key=Secret("{}")) for role, one in view.access.items()}
    with pytest.raises(Exception, match="not a service account"):
        looking(replace(view, access=keyed)).__enter__()
