"""Store URLs: what is taken, what is refused, and that no refusal repeats a secret."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import BucketMissing, ConfigError, StoreDenied
from backups.ports import ObjectStore
from providers.access import Access, Role
from providers.registry import open_store
from providers.urls import StoreUrl, parse_store_url


def opened(url: str, role: Role) -> ObjectStore:
    return open_store(url, clock=SystemClock(), entropy=SystemEntropy(), access=Access(role))


@pytest.mark.parametrize(
    ("url", "expected", "place"),
    [
        ("s3://acme-backups", StoreUrl("s3", "acme-backups", "", {}), "s3://acme-backups"),
        ("s3://acme-backups/", StoreUrl("s3", "acme-backups", "", {}), "s3://acme-backups"),
        (
            "s3://acme.b/a/B_c/?region=eu-central-1&owner=123456789012",
            StoreUrl(
                "s3", "acme.b", "a/B_c", {"region": "eu-central-1", "owner": "123456789012"}
            ),
            "s3://acme.b/a/B_c",
        ),
        (
            "s3://abc/p?endpoint=http://127.0.0.1:4566&lock=compliance&versions=true&profile=x.y",
            StoreUrl(
                "s3",
                "abc",
                "p",
                {
                    "endpoint": "http://127.0.0.1:4566",
                    "lock": "compliance",
                    "versions": "true",
                    "profile": "x.y",
                },
            ),
            "s3://abc/p",
        ),
        (
            "s3://abc?endpoint=https%3A%2F%2Fminio.internal%3A9000",
            StoreUrl("s3", "abc", "", {"endpoint": "https://minio.internal:9000"}),
            "s3://abc",
        ),
        ("file:///srv/b/", StoreUrl("file", "", "/srv/b", {}), "file:///srv/b"),
        (
            "file:///srv/my%20disk",
            StoreUrl("file", "", "/srv/my disk", {}),
            "file:///srv/my disk",
        ),
        ("gs://acme_b/x", StoreUrl("gs", "acme_b", "x", {}), "gs://acme_b/x"),
        (
            "az://acme/backups/a/b?lock=locked",
            StoreUrl("az", "backups", "a/b", {"lock": "locked"}, "acme"),
            "az://acme/backups/a/b",
        ),
        ("memory:test-1", StoreUrl("memory", "test-1", "", {}), "memory:test-1"),
    ],
)
def test_good_urls(url: str, expected: StoreUrl, place: str) -> None:
    assert parse_store_url(url) == expected
    assert parse_store_url(url).place == place


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "not a kind of store"),
        ("acme-backups", "not a kind of store"),
        ("ftp://host/x", "'ftp' is not a kind of store"),
        ("gs://UPPER/x", "not the name of a Google"),
        ("gs://ab", "not the name of a Google"),
        ("gs://bucket?lock=governance", "'lock' is not valid"),
        ("gs://bucket/../x", "not usable as a prefix"),
        ("az://account", "az://account/container"),
        ("az://account/con--tainer", "az://account/container"),
        ("az://account/container/a//b", "not usable as a prefix"),
        ("az://account/container?tenant=me", "'tenant' is not valid"),
        ("s3://", "not the name of an S3 bucket"),
        ("s3:///x", "not the name of an S3 bucket"),
        ("s3://UPPER/x", "not the name of an S3 bucket"),
        ("s3://a..b/x", "not the name of an S3 bucket"),
        ("s3://bucket:9000/x", "not the name of an S3 bucket"),
        ("s3://bucket/../other", "not usable as a prefix"),
        ("s3://bucket/a/./b", "not usable as a prefix"),
        ("s3://bucket/a//b", "not usable as a prefix"),
        ("s3://bucket/a%2fb", "not usable as a prefix"),
        ("s3://bucket/a\\b", "not usable as a prefix"),
        ("s3://bucket/" + "a" * 101, "not usable as a prefix"),
        ("s3://bucket/x#y", "characters"),
        ("s3://bucket/x\ny", "characters"),
        ("s3://bucket/é", "characters"),
        ("s3://bucket?region", "malformed"),
        ("s3://bucket?region=", "'region' is not valid"),
        ("s3://bucket?owner=123", "'owner' is not valid"),
        ("s3://bucket?lock=hard", "'lock' is not valid"),
        ("s3://bucket?versions=false", "'versions' is not valid"),
        ("s3://bucket?endpoint=minio:9000", "'endpoint' is not valid"),
        ("s3://bucket?endpoint=http://u:p@h", "'endpoint' is not valid"),
        ("s3://bucket?region=a&region=b", "twice"),
        ("s3://bucket?color=red", "no parameter 'color'"),
        ("file://host/x", "absolute path"),
        ("file:x", "absolute path"),
        ("file:///a/../b", "absolute path"),
        ("file:///a/%2e%2e/b", "absolute path"),
        ("file:///a%00b", "absolute path"),
        ("file:///a?region=x", "no parameter 'region'"),
        ("memory:", "memory:name"),
        ("memory://x", "memory:name"),
        ("s3://[bad/x", "malformed"),
    ],
)
def test_bad_urls_are_refused_with_a_reason(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_store_url(url)
    assert caught.value.hint


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_store_url("s3://bucket?endpiont=http://x")
    assert caught.value.hint == "Did you mean 'endpoint'?"


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIDEXAMPLE:hunter2@bucket/x",
        "s3://hunter2@bucket",
        "s3://bucket?secret_key=hunter2",
        "s3://bucket?endpoint=http://user:hunter2@host",
        "s3://bucket?region=hunter2&region=hunter2",
        "s3://bucket?aws_secret_access_key=hunter2",
    ],
)
def test_no_error_repeats_a_secret(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_store_url(url)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


@given(st.text() | st.text(alphabet="s3:/filemory?=&.%@[]abc\\#").map(lambda t: "s3://" + t))
def test_any_text_is_a_url_or_a_config_error(text: str) -> None:
    try:
        url = parse_store_url(text)
    except ConfigError:
        return
    assert ".." not in url.prefix.split("/")
    assert parse_store_url(text) == url


def test_a_directory_by_its_url(tmp_path: Path) -> None:
    opened(f"file://{tmp_path}", "writer").put("v1/key", b"x")
    assert (tmp_path / "v1" / "key").read_bytes() == b"x"
    with pytest.raises(BucketMissing, match="does not exist"):
        opened(f"file://{tmp_path}/not-mounted", "writer").put("v1/key", b"x")
    with pytest.raises(BucketMissing):
        list(opened(f"file://{tmp_path}/not-mounted", "restorer").list(""))
    assert not (tmp_path / "not-mounted").exists()


def test_roles_are_kept_to_their_rights() -> None:
    url = "memory:roles"
    writer, restorer, pruner = (opened(url, role) for role in ("writer", "restorer", "pruner"))
    writer.put("key", b"x")
    with pytest.raises(StoreDenied):
        writer.delete("key")
    assert restorer.open("key").read() == b"x"
    for refused in (
        lambda: restorer.put("new", b"x"),
        lambda: restorer.delete("key"),
        lambda: restorer.extend_retention("key", SystemClock().now()),
    ):
        with pytest.raises(StoreDenied, match="the restorer may not"):
            refused()
    pruner.delete("key")
    assert list(restorer.list("")) == []


def test_a_cloud_whose_sdk_is_missing_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['google.cloud.storage'] = None\n"
        "from backups.errors import ConfigError\n"
        "from providers.access import Access\n"
        "from providers.registry import open_store\n"
        "try: open_store('gs://bucket', clock=None, entropy=None, access=Access('writer'))\n"
        "except ConfigError as error: print(error.hint)\n"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert out.stdout == b"pip install 'bloomneo-backups[gcs]'\n"


def test_no_sdk_is_loaded_before_a_store_needs_it() -> None:
    program = (
        "import sys, providers.registry as r; r.parse_store_url('s3://bucket');"
        "print([m for m in ('boto3', 'botocore', 'providers.s3') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert out.stdout == b"[]\n"
