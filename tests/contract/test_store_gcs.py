"""The contract, on a Google Cloud Storage endpoint: plain, versioned and locked buckets; and
Google's own."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import Any

import google_crc32c
import pytest
import requests
from google.cloud.storage import Bucket, Client  # type: ignore[import-untyped]

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import (
    BucketMissing,
    CapabilityMissing,
    ConfigError,
    ObjectExists,
    ObjectLocked,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    TransferDamaged,
)
from backups.model import Secret
from providers.access import Access
from providers.contract import CHECKS, Check, Trial
from providers.faults import Fault, Faulty
from providers.gcs import GcsOptions, GcsStore, connect
from providers.network import Network
from providers.registry import open_store
from providers.retry import Pace, Retrying

pytestmark = pytest.mark.gcs
CLOCK = SystemClock()
MakeStore = Callable[..., GcsStore]
MakeBucket = Callable[..., str]
MakeAccount = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def make_gcs_bucket(gcs_client: Client) -> MakeBucket:
    def make(*, versions: bool = False, locks: bool = False) -> str:
        bucket = gcs_client.bucket(unique("test-"))
        bucket.versioning_enabled = versions
        bucket.create(enable_object_retention=locks)
        return str(bucket.name)

    return make


@pytest.fixture
def plain(gcs_bucket: str) -> str:
    return gcs_bucket


@pytest.fixture
def versioned(make_gcs_bucket: MakeBucket) -> str:
    return make_gcs_bucket(versions=True)


@pytest.fixture
def locked(make_gcs_bucket: MakeBucket) -> str:
    return make_gcs_bucket(locks=True)


@pytest.fixture(scope="module")
def make_store(gcs_endpoint: str) -> Iterator[MakeStore]:
    """Stores of the credentials in the environment; they share one session."""
    shared = connect(GcsOptions("any", endpoint=gcs_endpoint, lock="locked"), Access("pruner"))
    session = shared._connected()[0]

    def make(bucket: str, **options: Any) -> GcsStore:
        return GcsStore(lambda: session, GcsOptions(bucket, endpoint=gcs_endpoint, **options))

    yield make
    shared.close()


@pytest.fixture
def make_account(gcs_endpoint: str) -> MakeAccount:
    """`make_account(impersonators=[], ...)`: a new service account's key file."""

    def make(**options: Any) -> dict[str, Any]:
        wanted = {"name": unique("sa-"), **options}
        answer = requests.post(f"{gcs_endpoint}/_local/accounts", json=wanted, timeout=10)
        answer.raise_for_status()
        key: dict[str, Any] = answer.json()
        return key

    return make


def unique(prefix: str) -> str:
    return prefix + SystemEntropy().bytes(6).hex()


def grant(client: Client, bucket: str, key: dict[str, Any], role: str) -> None:
    policy = client.bucket(bucket).get_iam_policy(requested_policy_version=3)
    policy.version = 3
    policy.bindings.append({"role": role, "members": {f"serviceAccount:{key['client_email']}"}})
    client.bucket(bucket).set_iam_policy(policy)


def keyed(role: Any, key: dict[str, Any]) -> Access:
    return Access(role, key=Secret(json.dumps(key)))


# --- the contract ---------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_plain_bucket_meets_the_contract(
    check: Check, plain: str, make_store: MakeStore, gcs_client: Client
) -> None:
    check.run(Trial(make_store(plain, prefix="some/where", page=7), CLOCK, "contract/"))
    assert list(gcs_client.list_blobs(plain)) == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_versioned_bucket_meets_the_contract(
    check: Check, versioned: str, make_store: MakeStore
) -> None:
    check.run(Trial(make_store(versioned, versions=True, page=7), CLOCK, "contract/"))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("mode", ["unlocked", "locked"])
def test_locked_bucket_meets_the_contract(
    check: Check, mode: str, make_gcs_bucket: MakeBucket, make_store: MakeStore
) -> None:
    bucket = make_gcs_bucket(versions=True, locks=True)
    store = make_store(bucket, prefix="p", versions=True, lock=mode, page=7)
    check.run(Trial(store, CLOCK, "contract/"))


def test_a_lock_needs_no_versions(locked: str, make_store: MakeStore) -> None:
    (retention,) = (check for check in CHECKS if check.name == "retention")
    retention.run(Trial(make_store(locked, lock="unlocked"), CLOCK, "contract/"))


# --- what lies in the bucket ----------------------------------------------------------


def test_what_is_kept_beside_the_bytes(
    plain: str, make_store: MakeStore, gcs_client: Client
) -> None:
    receipt = make_store(plain, prefix="p").put("v1/key", b"bytes")
    blob = gcs_client.bucket(plain).get_blob("p/v1/key")
    crc = google_crc32c.value(b"bytes")
    assert blob.crc32c == base64.b64encode(crc.to_bytes(4, "big")).decode()
    assert receipt.checksum == f"crc32c:{crc:08x}"
    digest = hashlib.sha256(b"bytes").hexdigest()
    assert blob.metadata == {"sha256": digest}
    assert blob.content_type == "application/octet-stream"
    (info,) = make_store(plain, prefix="p").list("v1/")
    assert info.checksum == f"sha256:{digest}"
    assert info.modified == blob.time_created
    assert blob.download_as_bytes() == b"bytes"


def test_a_listing_leaves_out_hidden_objects_and_old_versions(
    versioned: str, make_store: MakeStore, gcs_client: Client
) -> None:
    bucket = gcs_client.bucket(versioned)
    for key in ("a", "b", "c"):
        for data in (b"old", b"newer"):
            bucket.blob(key).upload_from_string(data)
    bucket.delete_blob("b")
    found = list(make_store(versioned, versions=True, page=2).list(""))
    assert [(info.key, info.size) for info in found] == [("a", 5), ("c", 5)]
    assert found[0].version_id == str(bucket.get_blob("a").generation)


def test_a_put_under_a_taken_key_never_hides_the_first_in_a_versioned_bucket(
    versioned: str, make_store: MakeStore, gcs_client: Client
) -> None:
    store = make_store(versioned, versions=True)
    store.put("key", b"first")
    with pytest.raises(ObjectExists):
        store.put("key", b"second")
    assert len(list(gcs_client.list_blobs(versioned, versions=True))) == 1


# --- locks ----------------------------------------------------------------------------


def test_the_store_keeps_the_lock_that_was_asked_for(
    locked: str, make_store: MakeStore, gcs_client: Client
) -> None:
    until = CLOCK.now().replace(microsecond=0) + timedelta(minutes=5)
    make_store(locked, lock="unlocked").put("key", b"x", retain_until=until)
    retention = gcs_client.bucket(locked).get_blob("key").retention
    assert (retention.mode, retention.retain_until_time) == ("Unlocked", until)
    # A store that sets unlocked ones by default does not weaken an object's locked one.
    make_store(locked, lock="locked").put("hard", b"x", retain_until=until)
    later = until + timedelta(minutes=1)
    make_store(locked, lock="unlocked").extend_retention("hard", later)
    retention = gcs_client.bucket(locked).get_blob("hard").retention
    assert (retention.mode, retention.retain_until_time) == ("Locked", later)


def test_a_lock_is_never_shorter_than_asked(locked: str, make_store: MakeStore) -> None:
    store = make_store(locked, lock="unlocked")
    until = CLOCK.now().replace(microsecond=1) + timedelta(minutes=5)
    store.put("key", b"x", retain_until=until)
    kept = store.stat("key").retain_until
    assert kept is not None
    assert timedelta(0) <= kept - until < timedelta(seconds=1)


def test_an_object_without_a_lock_gets_one_later(locked: str, make_store: MakeStore) -> None:
    store = make_store(locked, lock="locked")
    store.put("key", b"x")
    until = CLOCK.now().replace(microsecond=0) + timedelta(minutes=5)
    store.extend_retention("key", until)
    assert store.stat("key").retain_until == until
    with pytest.raises(ObjectLocked):
        store.delete("key")


def test_a_lock_declared_for_a_bucket_without_is_refused(
    plain: str, make_store: MakeStore, gcs_client: Client
) -> None:
    store = make_store(plain, lock="unlocked")
    until = CLOCK.now() + timedelta(minutes=5)
    with pytest.raises(CapabilityMissing):
        store.put("key", b"x", retain_until=until)
    assert list(gcs_client.list_blobs(plain)) == []
    store.put("key", b"x")
    with pytest.raises(CapabilityMissing):
        store.extend_retention("key", until)


def hold(bucket: Bucket) -> None:
    blob = bucket.blob("key")
    blob.temporary_hold = True
    blob.patch()


def event_hold(bucket: Bucket) -> None:
    blob = bucket.blob("key")
    blob.event_based_hold = True
    blob.patch()


def policy(bucket: Bucket) -> None:
    bucket.retention_period = 3600
    bucket.patch()


@pytest.mark.parametrize("forbid", [hold, event_hold, policy])
def test_whatever_else_forbids_deletion_is_a_lock_too(
    forbid: Callable[[Bucket], None], plain: str, make_store: MakeStore, gcs_client: Client
) -> None:
    store = make_store(plain)
    store.put("key", b"x")
    forbid(gcs_client.bucket(plain))
    with pytest.raises(ObjectLocked):
        store.delete("key")
    assert (store.stat("key").retain_until is not None) == (forbid is policy)


# --- who calls ------------------------------------------------------------------------


def test_each_role_by_its_own_account_and_no_more(
    plain: str, gcs_endpoint: str, gcs_client: Client, make_account: MakeAccount
) -> None:
    rights = {
        "writer": ["storage.objectCreator"],
        "restorer": ["storage.objectViewer"],
        "pruner": ["storage.legacyBucketWriter", "storage.objectViewer"],
    }
    ours = gcs_client._credentials.service_account_email
    stores = {}
    for role, granted in rights.items():
        key = make_account(impersonators=[ours])
        for name in granted:
            grant(gcs_client, plain, key, f"roles/{name}")
        access = Access(role, principal=key["client_email"])  # type: ignore[arg-type]
        stores[role] = connect(GcsOptions(plain, endpoint=gcs_endpoint), access)
    writer, restorer, pruner = stores.values()
    receipt = writer.put("key", b"x")
    assert receipt.checksum
    with pytest.raises(ObjectExists):
        writer.put("key", b"x")
    forbidden: list[Callable[[], object]] = [
        lambda: writer.stat("key"),
        lambda: writer.open("key"),
        lambda: list(writer.list("")),
        lambda: writer.delete("key"),
        lambda: restorer.put("new", b"x"),
        lambda: restorer.delete("key"),
    ]
    for call in forbidden:
        with pytest.raises(StoreDenied):
            call()
    assert restorer.open("key").read() == b"x"
    pruner.delete("key")
    for store in stores.values():
        store.close()


def test_an_account_that_does_not_trust_us(
    plain: str, gcs_endpoint: str, make_account: MakeAccount
) -> None:
    stranger = Access("writer", principal=make_account()["client_email"])
    with (
        closing(connect(GcsOptions(plain, endpoint=gcs_endpoint), stranger)) as store,
        pytest.raises(StoreDenied, match="no token") as caught,
    ):
        store.put("key", b"x")
    assert "Token Creator" in caught.value.hint


def test_a_token_that_ends_or_is_revoked_midway_is_renewed_and_a_revoked_account_is_not(
    plain: str, gcs_endpoint: str, gcs_client: Client, make_account: MakeAccount
) -> None:
    key = make_account()
    grant(gcs_client, plain, key, "roles/storage.objectAdmin")
    with closing(
        connect(GcsOptions(plain, endpoint=gcs_endpoint), keyed("writer", key))
    ) as store:
        data = bytes(3_000_000)
        store.put("before", data)
        revoke(gcs_endpoint, key)
        store.put("after", data)
        revoke(gcs_endpoint, key, disable=True)
        with pytest.raises(StoreDenied, match="invalid_grant") as caught:
            store.put("later", data)
    assert "revoked" in caught.value.hint
    assert "ya29" not in str(caught.value)
    assert sorted(blob.name for blob in gcs_client.list_blobs(plain)) == ["after", "before"]


def revoke(endpoint: str, key: dict[str, Any], **options: bool) -> None:
    wanted = {"email": key["client_email"], **options}
    requests.post(f"{endpoint}/_local/revoke", json=wanted, timeout=10).raise_for_status()


def test_a_key_that_is_not_the_accounts_own(
    plain: str, gcs_endpoint: str, make_account: MakeAccount
) -> None:
    one, other = make_account(), make_account()
    forged = {**one, "private_key": other["private_key"]}
    access = keyed("writer", forged)
    with (
        closing(connect(GcsOptions(plain, endpoint=gcs_endpoint), access)) as store,
        pytest.raises(StoreDenied, match="invalid_grant"),
    ):
        store.put("key", b"x")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "secret-words", '{"type": "authorized_user"}']
)
def test_what_is_no_key_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ConfigError, match="not a service account's JSON") as caught:
        connect(GcsOptions("bucket"), Access("writer", key=Secret(text)))
    assert not text or "secret" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize(
    "principal", ["", "no-address", "a@b/../../x", "a@b.c:sign?x", "é@b.c"]
)
def test_a_principal_that_is_no_account_is_refused(principal: str) -> None:
    with pytest.raises(ConfigError, match="not the address of a service account"):
        connect(GcsOptions("bucket"), Access("writer", principal=principal))


def test_our_own_credentials_are_not_shown_to_a_customers_endpoint(
    make_account: MakeAccount,
) -> None:
    hosted = Network(hosted=True)
    for endpoint in (
        "https://example.com",
        "http://x.googleapis.com",
        "https://agoogleapis.com",
    ):
        options = GcsOptions("bucket", endpoint=endpoint)
        for principal in (None, "backups@project.iam.gserviceaccount.com"):
            with pytest.raises(ConfigError, match="not Google's own"):
                connect(options, Access("writer", principal=principal, network=hosted))
        key = Secret(json.dumps(make_account()))
        connect(options, Access("writer", key=key, network=hosted)).close()
    for google in (None, "https://storage.europe-west3.rep.googleapis.com"):
        connect(GcsOptions("b", endpoint=google), Access("writer", network=hosted)).close()


# --- and the rest ---------------------------------------------------------------------


def test_a_missing_bucket_is_named_by_every_call(plain: str, make_store: MakeStore) -> None:
    store = make_store(f"{plain}-not-there", lock="locked")
    calls: list[Callable[[], object]] = [
        lambda: store.put("key", b"x"),
        lambda: store.open("key"),
        lambda: store.stat("key"),
        lambda: list(store.list("")),
        lambda: store.delete("key"),
        lambda: store.extend_retention("key", CLOCK.now() + timedelta(minutes=1)),
    ]
    for call in calls:
        with pytest.raises(BucketMissing, match=f"{plain}-not-there"):
            call()


def test_a_lost_reply_is_settled_as_our_own_success(plain: str, make_store: MakeStore) -> None:
    faulty = Faulty(make_store(plain), [Fault("put", "fail_after")])
    store = Retrying(faulty, CLOCK, SystemEntropy(), Pace(first=0.001))
    receipt = store.put("key", b"bytes")
    faulty.assert_all_fired()
    assert receipt.checksum == f"sha256:{hashlib.sha256(b'bytes').hexdigest()}"
    with pytest.raises(ObjectExists):
        store.put("key", b"bytes")


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_damage_on_the_way_is_refused_and_healed_by_a_retry(
    size: int, plain: str, make_store: MakeStore, gcs_client: Client
) -> None:
    data = bytes(size)
    digest = hashlib.sha256(data).digest()
    bare = Faulty(make_store(plain), [Fault("put", "flip", at=3)])
    with pytest.raises(TransferDamaged):
        bare.put("key", data, sha256=digest)
    assert list(gcs_client.list_blobs(plain)) == []
    faulty = Faulty(make_store(plain), [Fault("put", "flip", at=3)])
    store = Retrying(faulty, CLOCK, SystemEntropy(), Pace(first=0.001))
    store.put("key", data, sha256=digest)
    with closing(store.open("key")) as body:
        assert body.read() == data
    faulty.assert_all_fired()


def test_one_store_serves_many_threads(plain: str, make_store: MakeStore) -> None:
    store = make_store(plain)
    bodies = {f"key-{number}": bytes([number]) * 100_000 for number in range(40)}

    def read(key: str) -> tuple[str, bytes]:
        with closing(store.open(key)) as body:
            return key, body.read()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: store.put(*item), bodies.items()))
        assert dict(pool.map(read, bodies)) == bodies


def test_opened_by_its_url(plain: str, gcs_endpoint: str, gcs_client: Client) -> None:
    url = f"gs://{plain}/deep/er/?endpoint={gcs_endpoint}"
    entropy = SystemEntropy()
    writer = open_store(url, clock=CLOCK, entropy=entropy, access=Access("writer"))
    writer.put("v1/key", b"x")
    assert gcs_client.bucket(plain).get_blob("deep/er/v1/key").size == 1
    with pytest.raises(StoreDenied):
        writer.delete("v1/key")
    restorer = open_store(url, clock=CLOCK, entropy=entropy, access=Access("restorer"))
    assert [info.key for info in restorer.list("v1/")] == ["v1/key"]
    for call in (lambda: restorer.put("new", b"x"), lambda: restorer.delete("v1/key")):
        with pytest.raises(StoreDenied):
            call()
    pruner = open_store(url, clock=CLOCK, entropy=entropy, access=Access("pruner"))
    pruner.delete("v1/key")
    assert list(restorer.list("")) == []
    for store in (writer, restorer, pruner):
        store.close()


def test_what_does_not_speak_tls_is_unavailable(plain: str, gcs_endpoint: str) -> None:
    options = GcsOptions(plain, endpoint=gcs_endpoint.replace("http:", "https:"))
    with closing(connect(options, Access("writer"))) as store:
        with pytest.raises(StoreError, match="put gs://") as caught:
            store.put("key", b"x")
        assert isinstance(caught.value, StoreUnavailable)
