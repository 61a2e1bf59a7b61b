"""The S3 client: where it goes, as whom, and what its SDK must not do by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from botocore.config import Config
from botocore.exceptions import BotoCoreError

from backups.errors import ConfigError
from backups.ports import Clock
from providers.access import Access
from providers.guard import guard_boto3
from providers.s3_access import session_for
from providers.urls import StoreUrl

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True, slots=True)
class S3Options:
    """Where a bucket is and what it does; nothing secret."""

    bucket: str
    prefix: str = ""
    """Without slashes at its ends; may be empty."""
    endpoint: str | None = None
    """An S3-compatible server's URL; None is Amazon's own."""
    region: str | None = None
    owner: str | None = None
    """Account id that must own the bucket; asked of the store with every call."""
    profile: str | None = None
    versions: bool = False
    """The bucket keeps versions."""
    lock: Literal["governance", "compliance"] | None = None
    """Mode of the locks to set; the bucket has object lock (and so versions)."""
    connect_timeout: float = 10.0
    """Seconds."""
    read_timeout: float = 60.0
    """Seconds without a byte in either direction."""
    connections: int = 16
    """Calls in flight at once."""
    page: int = 1000
    """Keys per listing call."""


def options_of(url: StoreUrl) -> S3Options:
    """What a store URL says."""
    options = url.options
    lock = options.get("lock")
    return S3Options(
        bucket=url.bucket,
        prefix=url.prefix,
        endpoint=options.get("endpoint"),
        region=options.get("region"),
        owner=options.get("owner"),
        profile=options.get("profile"),
        versions="versions" in options,
        lock="compliance" if lock == "compliance" else "governance" if lock else None,
    )


def client_for(
    options: S3Options, access: Access | None = None, clock: Clock | None = None
) -> S3Client:
    """The SDK's own client, as `connect` uses it."""
    try:
        session = session_for(options, access, clock)
        region = options.region or session.region_name or "us-east-1"
        client: S3Client = session.client(
            "s3",
            region_name=region,
            endpoint_url=options.endpoint,
            config=_config(options),
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"no S3 client for {options.bucket}: {error}") from error
    if access is not None:
        guard_boto3(client, access.network)
    return client


def _config(options: S3Options) -> Config:
    plain_http = (options.endpoint or "https:").startswith("http:")
    return Config(
        # retry.py retries: it knows what a lost reply to a create-only put means.
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
        max_pool_connections=options.connections,
        # We give our own SHA-256; the SDK's extra CRC trailers cost time and many
        # compatible stores refuse them. What is read is checked against the manifest.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # The URL says where backups go; an environment variable must not redirect them.
        ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]  # not in the stubs
        s3={
            "addressing_style": "path" if options.endpoint else "auto",
            # Under TLS the checksum header is signed and covers the bytes already.
            "payload_signing_enabled": plain_http,
        },
    )
