"""Pruning on a real S3 endpoint: versions are deleted, not hidden; locks refuse, and that is
normal."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from prune_kit import DAY, Shop, did, of

from backups.clock import SystemClock
from backups.model import Plan

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.s3


@pytest.fixture
def locked(bucket: str, s3_client: S3Client) -> str:
    name = f"{bucket}-locked"
    s3_client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


@pytest.fixture
def shop(locked: str, s3_endpoint: str, tmp_path: Path) -> Shop:
    """A bucket with versions and locks, whose clock is the real one."""
    url = f"s3://{locked}/b?endpoint={quote(s3_endpoint, safe='')}&lock=governance"
    shop = Shop(tmp_path / "home", (url,)).start()
    (shop.home / "settings.yaml").write_text("prune_grace_days: 0\n")
    return shop


def versions(client: S3Client, bucket: str) -> list[dict[str, Any]]:
    answer: Any = client.list_object_versions(Bucket=bucket)
    return [*answer.get("Versions", ()), *answer.get("DeleteMarkers", ())]


def test_no_version_and_no_marker_is_left(shop: Shop, locked: str, s3_client: S3Client) -> None:
    old = shop.daily(6)[:2]
    assert did(shop.prune())["marked"] == set(old)
    assert did(shop.prune())["removed"] == set(old)
    left = {version["Key"].split("/")[3] for version in versions(s3_client, locked)}
    assert left == shop.listed()
    shop.require_whole()


def test_a_lock_keeps_a_backup_and_is_no_failure(shop: Shop) -> None:
    """The clock that is set runs two days ahead of the bucket's: enough for windows to end
    before locks do, too little to be doubted."""
    locked = shop.take(SystemClock().now() - 4 * DAY, lock=True)
    shop.clock.time += 2 * DAY
    fresh = shop.take(shop.clock.now())
    # By the clock that is set, the lock is over: the mark is laid, and the store refuses.
    assert did(shop.prune())["marked"] == {locked}
    done = shop.prune()
    refused = [step for step in done.steps if step.did == "locked"]
    assert {step.backup for step in refused} == {locked}
    assert refused[0].until is not None
    assert refused[0].until > SystemClock().now()
    assert done.frozen == ""
    # Nothing else of it was touched: it is as whole as it was.
    (keys,) = shop.there().values()
    assert len(of(keys, locked)) == 4
    assert shop.listed() == {fresh}
    # The next call tries again, and is refused again.
    assert did(shop.prune()) == {"locked": {locked}}


def test_the_plan_knows_of_a_lock_before_it_is_refused(
    shop: Shop, locked: str, s3_client: S3Client
) -> None:
    (old, *_) = shop.daily(6, newest=6)
    shop.daily(0)
    until = shop.clock.now() + timedelta(days=3)
    key = f"b/v1/shop/{old}/manifest.dsse.json"
    s3_client.put_object_retention(
        Bucket=locked, Key=key, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until}
    )
    assert shop.plan_of()[old] == "lock"
    assert did(shop.prune()) == {}


def test_a_raised_plan_extends_the_locks(shop: Shop, locked: str, s3_client: S3Client) -> None:
    (backup,) = [shop.take(shop.clock.now() - DAY, lock=True)]
    shop.declare(Plan("max", 90))
    assert did(shop.prune()) == {"extended": {backup}}
    assert did(shop.prune()) == {}
    until = {
        s3_client.head_object(Bucket=locked, Key=version["Key"])["ObjectLockRetainUntilDate"]
        for version in versions(s3_client, locked)
    }
    end = (shop.clock.now() + 89 * DAY).replace(microsecond=0)
    assert {abs(at - end) <= timedelta(seconds=1) for at in until} == {True}
    assert len(versions(s3_client, locked)) == 3
