"""The contract, on a real Azure endpoint (Azurite): a plain container; and Azure's own.

Azurite keeps no versions and no locks: what is said about those on the wire is in
tests/unit/test_store_azure_wire.py, and that Azure keeps them is for `backups store check`.
"""

from __future__ import annotations

import hashlib
import os
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta

import pytest
from azure.storage.blob import BlobServiceClient, ContainerClient, generate_container_sas

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
from backups.model import Secret
from providers.access import Access
from providers.azure import AzureOptions, AzureStore, connect
from providers.contract import CHECKS, Check, Trial
from providers.faults import Fault, Faulty
from providers.registry import open_store
from providers.retry import Pace, Retrying

CLOCK = SystemClock()
ACCOUNT = "devstoreaccount1"
EVERYTHING = Access("pruner")
MakeStore = Callable[..., AzureStore]


@pytest.fixture(scope="session")
def account(azure_endpoint: str) -> Iterator[BlobServiceClient]:
    """The SDK's own client, to look at what lies in a container or to spoil it."""
    client = BlobServiceClient(f"{azure_endpoint}/{ACCOUNT}", os.environ["AZURE_STORAGE_KEY"])
    yield client
    client.close()


@pytest.fixture
def container(account: BlobServiceClient) -> Iterator[ContainerClient]:
    name = "test-" + SystemEntropy().bytes(6).hex()
    client = account.create_container(name)
    yield client
    account.delete_container(name)


@pytest.fixture
def make_store(azure_endpoint: str) -> Iterator[MakeStore]:
    with ExitStack() as stack:

        def make(
            container: ContainerClient | str, access: Access = EVERYTHING, **options: object
        ) -> AzureStore:
            name = container if isinstance(container, str) else container.container_name
            where = AzureOptions(ACCOUNT, name, endpoint=azure_endpoint, **options)  # type: ignore[arg-type]
            store = connect(where, access, CLOCK)
            stack.callback(store.close)
            return store

        yield make


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_plain_container_meets_the_contract(
    check: Check, container: ContainerClient, make_store: MakeStore
) -> None:
    check.run(Trial(make_store(container, prefix="some/where", page=7), CLOCK, "contract/"))
    assert list(container.list_blobs()) == []


def test_a_put_leaves_one_whole_blob_with_its_digests(
    container: ContainerClient, make_store: MakeStore
) -> None:
    data = bytes(5 << 20)
    receipt = make_store(container, prefix="pre/fix").put("key", data)
    (blob,) = container.list_blobs(include=["metadata", "uncommittedblobs"])
    assert blob.name == "pre/fix/key"
    assert blob.metadata == {"sha256": hashlib.sha256(data).hexdigest()}
    assert receipt.checksum == f"md5:{blob.content_settings.content_md5.hex()}"
    assert container.get_blob_client(blob.name).get_block_list() == ([], [])


def test_what_a_store_keeps_of_its_digest_is_told_by_stat_and_list(
    container: ContainerClient, make_store: MakeStore
) -> None:
    store = make_store(container)
    store.put("key", b"bytes")
    expected = f"sha256:{hashlib.sha256(b'bytes').hexdigest()}"
    assert [info.checksum for info in (store.stat("key"), *store.list(""))] == [expected] * 2
    container.upload_blob("foreign", b"no digest")
    assert store.stat("foreign").checksum == ""


def test_a_lock_that_the_emulator_passed_over_is_not_believed(
    container: ContainerClient, make_store: MakeStore
) -> None:
    store = make_store(container, lock="unlocked")
    with pytest.raises(CapabilityMissing, match="version-level immutability"):
        store.put("key", b"x", retain_until=CLOCK.now() + timedelta(minutes=5))


def test_a_lease_forbids_deletion(container: ContainerClient, make_store: MakeStore) -> None:
    store = make_store(container)
    store.put("key", b"x")
    lease = container.get_blob_client("key").acquire_lease()
    with pytest.raises(ObjectLocked) as caught:
        store.delete("key")
    assert "lease" in caught.value.hint
    lease.release()
    store.delete("key")


def test_a_missing_container_is_named_by_every_call(make_store: MakeStore) -> None:
    store = make_store("not-there")
    calls: list[Callable[[], object]] = [
        lambda: store.put("key", b"x"),
        lambda: store.open("key"),
        lambda: store.stat("key"),
        lambda: list(store.list("")),
        lambda: store.delete("key"),
    ]
    for call in calls:
        with pytest.raises(BucketMissing, match="not-there"):
            call()


def test_a_lost_reply_is_settled_as_our_own_success(
    container: ContainerClient, make_store: MakeStore
) -> None:
    faulty = Faulty(make_store(container), [Fault("put", "fail_after")])
    store = Retrying(faulty, CLOCK, SystemEntropy(), Pace(first=0.001))
    receipt = store.put("key", b"bytes")
    faulty.assert_all_fired()
    assert receipt.checksum == f"sha256:{hashlib.sha256(b'bytes').hexdigest()}"
    with pytest.raises(ObjectExists):
        store.put("key", b"bytes")


def test_damage_above_the_adapter_is_refused_and_healed_by_a_retry(
    container: ContainerClient, make_store: MakeStore
) -> None:
    data = b"bytes of a segment"
    faulty = Faulty(make_store(container), [Fault("put", "flip", at=3)])
    with pytest.raises(TransferDamaged):
        faulty.put("key", data, sha256=hashlib.sha256(data).digest())
    faulty = Faulty(make_store(container), [Fault("put", "flip", at=3)])
    store = Retrying(faulty, CLOCK, SystemEntropy(), Pace(first=0.001))
    store.put("key", data, sha256=hashlib.sha256(data).digest())
    assert store.open("key").read() == data
    faulty.assert_all_fired()


def test_one_store_serves_many_threads(
    container: ContainerClient, make_store: MakeStore
) -> None:
    store = make_store(container)
    bodies = {f"key-{number}": bytes([number]) * 100_000 for number in range(40)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: store.put(*item), bodies.items()))
        read = pool.map(lambda key: (key, store.open(key).read()), bodies)
        assert dict(read) == bodies


def test_opened_by_its_url(container: ContainerClient, azure_endpoint: str) -> None:
    url = f"az://{ACCOUNT}/{container.container_name}/deep/er?endpoint={azure_endpoint}"
    entropy = SystemEntropy()
    with ExitStack() as stack:
        stores = {}
        for role in ("writer", "restorer", "pruner"):
            stores[role] = open_store(url, clock=CLOCK, entropy=entropy, access=Access(role))  # type: ignore[arg-type]
            stack.callback(stores[role].close)
        stores["writer"].put("v1/key", b"x")
        assert [blob.name for blob in container.list_blobs()] == ["deep/er/v1/key"]
        with pytest.raises(StoreDenied):
            stores["writer"].delete("v1/key")
        assert [info.key for info in stores["restorer"].list("v1/")] == ["v1/key"]
        with pytest.raises(StoreDenied):
            stores["restorer"].put("new", b"x")
        stores["pruner"].delete("v1/key")
        assert list(stores["restorer"].list("")) == []


def test_tls_with_an_unknown_certificate_is_not_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    secure = os.environ["BACKUPS_TEST_AZURE_TLS_ENDPOINT"]
    key = Secret(os.environ["AZURE_STORAGE_KEY"])
    store = connect(
        AzureOptions(ACCOUNT, "any", endpoint=secure), Access("writer", key=key), CLOCK
    )
    for call in (lambda: store.put("key", b"x"), lambda: store.stat("key")):
        with pytest.raises(StoreError, match="certificate is not trusted") as caught:
            call()
        assert not isinstance(caught.value, StoreUnavailable)
    store.close()


# --- stored keys ----------------------------------------------------------------------


def sas(container: ContainerClient, letters: str, minutes: int = 10) -> Secret:
    return Secret(
        generate_container_sas(
            ACCOUNT,
            container.container_name,
            os.environ["AZURE_STORAGE_KEY"],
            permission=letters,
            expiry=CLOCK.now() + timedelta(minutes=minutes),
            protocol="https,http",
        )
    )


def test_a_sas_is_used_as_it_is(container: ContainerClient, make_store: MakeStore) -> None:
    store = make_store(container, Access("writer", key=sas(container, "cw")))
    store.put("key", b"x")
    with pytest.raises(StoreDenied):
        store.stat("key")


@pytest.mark.parametrize("trouble", ["expired", "forged", "another account's"])
def test_a_key_that_is_no_good_is_denied_without_being_shown(
    trouble: str, container: ContainerClient, make_store: MakeStore
) -> None:
    key = sas(container, "rcwdl", minutes=-1 if trouble == "expired" else 10).reveal()
    if trouble == "forged":
        key = key.partition("sig=")[0] + "sig=c2VjcmV0U2VjcmV0"
    if trouble == "another account's":
        key = "c2VjcmV0U2VjcmV0" * 5
    store = make_store(container, Access("pruner", key=Secret(key)))
    calls: list[Callable[[], object]] = [
        lambda: store.put("key", b"x"),
        lambda: store.open("key"),
        lambda: store.stat("key"),
        lambda: list(store.list("")),
        lambda: store.delete("key"),
    ]
    for call in calls:
        with pytest.raises(StoreDenied) as caught:
            call()
        told = "".join(traceback.format_exception(caught.value)) + caught.value.hint
        assert "sig=" not in told
        assert "c2VjcmV0" not in told
