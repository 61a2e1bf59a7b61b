"""What a store's URL and the settings promise, seen in the store itself: every object locked to
the end of its window, and no way from a hosted program to a private address."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import ObjectLocked
from providers.access import Access
from providers.registry import open_store

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = [pytest.mark.postgres, pytest.mark.s3]


@pytest.fixture
def shop(pg15_url: str, make_database: Callable[..., str]) -> str:
    return make_database(pg15_url, sql="create table t as select generate_series(1, 100) g")


@pytest.fixture
def locked_s3(bucket: str, s3_client: Any, s3_endpoint: str) -> str:
    name = f"{bucket}-locked"
    s3_client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return f"s3://{name}/p?endpoint={quote(s3_endpoint, safe='')}&lock=governance"


@pytest.fixture
def locked_gcs(gcs_client: Any, gcs_endpoint: str) -> str:
    name = f"test-{SystemEntropy().bytes(6).hex()}"
    gcs_client.create_bucket(name, enable_object_retention=True)
    return f"gs://{name}/p?endpoint={quote(gcs_endpoint, safe='')}&lock=locked"


@pytest.mark.parametrize(
    "stores", [("locked_s3", "locked_gcs"), ("locked_gcs", "locked_s3")], ids=" then ".join
)
def test_every_object_is_locked_to_the_end_of_its_window(
    stores: tuple[str, str], house: House, shop: str, request: pytest.FixtureRequest
) -> None:
    urls = [request.getfixturevalue(name) for name in stores]
    house.declare(urls, shop=shop)
    ran = house.must("run", "shop", "--json").json
    expires = datetime.fromisoformat(ran["expires_at"])
    clock, entropy = SystemClock(), SystemEntropy()
    for url in urls:
        store = open_store(url, clock=clock, entropy=entropy, access=Access("pruner"))
        with closing(store):
            objects = list(store.list("v1/shop/"))
            assert len(objects) >= 4
            for info in objects:
                until = store.stat(info.key, version_id=info.version_id).retain_until
                assert until is not None
                assert abs(until - expires) < timedelta(seconds=1)
                with pytest.raises(ObjectLocked):
                    store.delete(info.key, version_id=info.version_id)


def test_a_lock_that_the_bucket_does_not_know_fails_the_run(
    house: House, s3_store: str, shop: str, pg15_url: str, make_database: Callable[..., str]
) -> None:
    house.declare(f"{s3_store}&lock=governance", shop=shop)
    said = house.call("run", "shop")
    assert said.code == 27
    assert house.must("list", "--json").json == []


@pytest.mark.parametrize(
    ("store", "code"),
    [
        ("s3_store", 22),  # refused when the name is resolved
        # Refused before that: tokens and keys would be shown to whoever runs the endpoint.
        ("gcs_store", 10),
        ("azure_store", 10),
    ],
)
def test_hosted_no_store_leads_to_a_private_address(
    store: str, code: int, house: House, shop: str, request: pytest.FixtureRequest
) -> None:
    house.declare(request.getfixturevalue(store), shop=shop)
    settings = house.home / "settings.yaml"
    settings.write_text("hosted: true\n")
    assert house.call("run", "shop").code == code
    assert house.must("list", "--json").json == []
    if store == "s3_store":
        settings.write_text("hosted: true\nhosted_allow: [127.0.0.0/8]\n")
        house.must("run", "shop")
