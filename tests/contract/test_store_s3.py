"""The contract, on a real S3 endpoint: plain, versioned and locked buckets; and S3's own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import (
    BucketMissing,
    CapabilityMissing,
    ObjectExists,
    ObjectLocked,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    TransferDamaged,
)
from providers.access import Access
from providers.contract import CHECKS, Check, Trial
from providers.faults import Fault, Faulty
from providers.registry import open_store
from providers.retry import Pace, Retrying
from providers.s3 import S3Store, connect
from providers.s3_client import S3Options

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.s3
CLOCK = SystemClock()
MakeStore = Callable[..., S3Store]


@pytest.fixture(scope="module")
def client(s3_endpoint: str) -> Iterator[S3Client]:
    """The adapter's own, made once: that takes boto3 longer than most tests."""
    store = connect(S3Options("any", endpoint=s3_endpoint))
    yield store._client
    store.close()


@pytest.fixture
def make_store(client: S3Client) -> MakeStore:
    def make(bucket: str, **options: object) -> S3Store:
        return S3Store(client, S3Options(bucket, **options))  # type: ignore[arg-type]

    return make


@pytest.fixture
def versioned(bucket: str, s3_client: S3Client) -> str:
    s3_client.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    return bucket


@pytest.fixture
def locked(bucket: str, s3_client: S3Client) -> str:
    name = f"{bucket}-locked"
    s3_client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_plain_bucket_meets_the_contract(
    check: Check, bucket: str, make_store: MakeStore, s3_client: S3Client
) -> None:
    store = make_store(bucket, prefix="some/where", page=7)
    check.run(Trial(store, CLOCK, "contract/"))
    assert s3_client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_versioned_bucket_meets_the_contract(
    check: Check, versioned: str, make_store: MakeStore
) -> None:
    check.run(Trial(make_store(versioned, versions=True, page=7), CLOCK, "contract/"))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("mode", ["governance", "compliance"])
def test_locked_bucket_meets_the_contract(
    check: Check, mode: str, locked: str, make_store: MakeStore
) -> None:
    store = make_store(locked, prefix="p", lock=mode, page=7)
    check.run(Trial(store, CLOCK, "contract/"))


def test_a_listing_leaves_out_hidden_objects_and_old_versions(
    versioned: str, make_store: MakeStore, s3_client: S3Client
) -> None:
    for key in ("a", "b", "c"):
        for body in (b"old", b"newer"):
            s3_client.put_object(Bucket=versioned, Key=key, Body=body)
    s3_client.delete_object(Bucket=versioned, Key="b")
    found = list(make_store(versioned, versions=True, page=2).list(""))
    assert [(info.key, info.size) for info in found] == [("a", 5), ("c", 5)]
    newest = s3_client.head_object(Bucket=versioned, Key="a")["VersionId"]
    assert found[0].version_id == newest


def test_the_store_keeps_the_lock_that_was_asked_for(
    locked: str, make_store: MakeStore, s3_client: S3Client
) -> None:
    until = CLOCK.now().replace(microsecond=0) + timedelta(minutes=5)
    make_store(locked, lock="governance").put("key", b"x", retain_until=until)
    head = s3_client.head_object(Bucket=locked, Key="key")
    assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]) == ("GOVERNANCE", until)
    # A store that sets governance by default does not weaken an object's compliance.
    make_store(locked, lock="compliance").put("hard", b"x", retain_until=until)
    make_store(locked, lock="governance").extend_retention("hard", until + timedelta(minutes=1))
    assert s3_client.head_object(Bucket=locked, Key="hard")["ObjectLockMode"] == "COMPLIANCE"


def test_a_lock_declared_for_a_bucket_without_is_refused(
    bucket: str, make_store: MakeStore
) -> None:
    store = make_store(bucket, lock="governance")
    with pytest.raises(CapabilityMissing):
        store.put("key", b"x", retain_until=CLOCK.now() + timedelta(minutes=5))


def test_a_put_under_a_taken_key_never_hides_the_first_in_a_versioned_bucket(
    versioned: str, make_store: MakeStore, s3_client: S3Client
) -> None:
    store = make_store(versioned, versions=True)
    store.put("key", b"first")
    with pytest.raises(ObjectExists):
        store.put("key", b"second")
    assert len(s3_client.list_object_versions(Bucket=versioned)["Versions"]) == 1


def test_a_missing_bucket_is_named_by_every_call(bucket: str, make_store: MakeStore) -> None:
    store = make_store(f"{bucket}-not-there")
    calls: list[Callable[[], object]] = [
        lambda: store.put("key", b"x"),
        lambda: store.open("key"),
        lambda: store.stat("key"),
        lambda: list(store.list("")),
        lambda: store.delete("key"),
    ]
    for call in calls:
        with pytest.raises(BucketMissing, match=f"{bucket}-not-there"):
            call()


def test_a_lost_reply_is_settled_as_our_own_success(bucket: str, make_store: MakeStore) -> None:
    faulty = Faulty(make_store(bucket), [Fault("put", "fail_after")])
    store = Retrying(faulty, CLOCK, SystemEntropy(), Pace(first=0.001))
    receipt = store.put("key", b"bytes")
    faulty.assert_all_fired()
    assert receipt.checksum == f"sha256:{hashlib.sha256(b'bytes').hexdigest()}"
    with pytest.raises(ObjectExists):
        store.put("key", b"bytes")


def test_damage_on_the_way_is_refused_by_the_store_and_healed_by_a_retry(
    bucket: str, make_store: MakeStore
) -> None:
    data = b"bytes of a segment"
    digest = hashlib.sha256(data).digest()
    bare = Faulty(make_store(bucket), [Fault("put", "flip", at=3)])
    with pytest.raises(TransferDamaged):
        bare.put("key", data, sha256=digest)
    faulty = Faulty(make_store(bucket), [Fault("put", "flip", at=3)])
    store = Retrying(faulty, CLOCK, SystemEntropy(), Pace(first=0.001))
    store.put("key", data, sha256=digest)
    assert store.open("key").read() == data
    faulty.assert_all_fired()


def test_one_store_serves_many_threads(bucket: str, make_store: MakeStore) -> None:
    store = make_store(bucket)
    bodies = {f"key-{number}": bytes([number]) * 100_000 for number in range(40)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: store.put(*item), bodies.items()))
        read = pool.map(lambda key: (key, store.open(key).read()), bodies)
        assert dict(read) == bodies


def test_opened_by_its_url(bucket: str, s3_endpoint: str, s3_client: S3Client) -> None:
    url = f"s3://{bucket}/deep/er/?endpoint={s3_endpoint}&region=eu-central-1"
    entropy = SystemEntropy()
    writer = open_store(url, clock=CLOCK, entropy=entropy, access=Access("writer"))
    writer.put("v1/key", b"x")
    assert s3_client.head_object(Bucket=bucket, Key="deep/er/v1/key")["ContentLength"] == 1
    with pytest.raises(StoreDenied):
        writer.delete("v1/key")
    restorer = open_store(url, clock=CLOCK, entropy=entropy, access=Access("restorer"))
    assert [info.key for info in restorer.list("v1/")] == ["v1/key"]
    for call in (lambda: restorer.put("new", b"x"), lambda: restorer.delete("v1/key")):
        with pytest.raises(StoreDenied):
            call()
    open_store(url, clock=CLOCK, entropy=entropy, access=Access("pruner")).delete("v1/key")
    assert list(restorer.list("")) == []


def test_tls_with_an_unknown_certificate_is_not_retried(bucket: str, s3_endpoint: str) -> None:
    store = connect(S3Options(bucket, endpoint=s3_endpoint.replace("http:", "https:")))
    with pytest.raises(StoreError, match="certificate is not trusted") as caught:
        store.put("key", b"x")
    assert not isinstance(caught.value, StoreUnavailable)
    assert not isinstance(caught.value, ObjectLocked)
