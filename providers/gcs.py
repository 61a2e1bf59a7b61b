"""Google Cloud Storage.

Objects are put whole with `ifGenerationMatch=0` and their CRC32C (Cloud Storage JSON API,
"Objects: insert", multipart upload): the store refuses a taken key and bytes that differ. The
SHA-256, which it cannot check, is kept as custom metadata.

The SDK does what takes a call and an answer. Puts and reads go over its session by hand: its
uploads copy what they send up to 8 MiB and take two requests above, bounded by one timeout for
all the bytes; its downloads cannot be read from.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from threading import Lock
from typing import Any, Literal

import google_crc32c
from google.api_core.exceptions import from_http_response
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Blob, Client  # type: ignore[import-untyped]
from requests import Response

from backups.errors import CapabilityMissing, ObjectMissing, TransferDamaged
from backups.model import Capabilities, ObjectInfo, Receipt
from backups.ports import Body
from providers.access import Access
from providers.gcs_access import GOOGLE, session_maker
from providers.gcs_bodies import Download, Related
from providers.gcs_errors import SDK_ERRORS, translate
from providers.keys import check_key, check_prefix
from providers.urls import StoreUrl

# Else every call starts a thread that asks for the bucket itself, for the sake of traces: no
# role of ours has that right, and the customer would see us try.
os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
_FIELDS = "name,size,timeCreated,generation,metadata,retention,retentionExpirationTime"


@dataclass(frozen=True, slots=True)
class GcsOptions:
    """Where a bucket is and what it does; nothing secret."""

    bucket: str
    prefix: str = ""
    """Without slashes at its ends; may be empty."""
    endpoint: str | None = None
    """URL of a server that speaks the JSON API; None is Google's own."""
    versions: bool = False
    """The bucket keeps versions (generations)."""
    lock: Literal["unlocked", "locked"] | None = None
    """Mode of the retentions to set; the bucket has object retention."""
    connect_timeout: float = 10.0
    """Seconds; also for each MiB that is sent."""
    read_timeout: float = 60.0
    """Seconds without a byte from the store."""
    connections: int = 16
    """Calls in flight at once."""
    page: int = 1000
    """Keys per listing call."""


def options_of(url: StoreUrl) -> GcsOptions:
    """What a store URL says."""
    options = url.options
    lock = options.get("lock")
    return GcsOptions(
        bucket=url.bucket,
        prefix=url.prefix,
        endpoint=options.get("endpoint"),
        versions="versions" in options,
        lock="locked" if lock == "locked" else "unlocked" if lock else None,
    )


def connect(options: GcsOptions, access: Access) -> GcsStore:
    """Make a store; no call to the network. Raises ConfigError for malformed credentials."""
    return GcsStore(session_maker(options, access), options)


class GcsStore:
    """Adapter of `ports.ObjectStore`; safe to share between threads."""

    def __init__(
        self, make_session: Callable[[], AuthorizedSession], options: GcsOptions
    ) -> None:
        self._make_session = make_session
        self._options = options
        self._above = f"{options.prefix}/" if options.prefix else ""
        self._base = (options.endpoint or GOOGLE).rstrip("/")
        self._timeout = (options.connect_timeout, options.read_timeout)
        self._made: tuple[AuthorizedSession, Client] | None = None
        self._making = Lock()

    def put(
        self,
        key: str,
        data: bytes,
        *,
        sha256: bytes | None = None,
        retain_until: datetime | None = None,
    ) -> Receipt:
        """See `ports.ObjectStore.put`."""
        resource: dict[str, Any] = {"name": self._above + check_key(key)}
        if retain_until is not None:
            resource["retention"] = _retention(self._lock_mode(), retain_until)
        crc = google_crc32c.value(data).to_bytes(4, "big")
        resource["crc32c"] = base64.b64encode(crc).decode()
        digest = _sha256(data) if sha256 is None else sha256
        resource["metadata"] = {"sha256": digest.hex()}
        with self._translated("put", key), ThreadPoolExecutor(1) as beside:
            # Costs no time, as the sending waits for the network anyhow.
            hashing = None if sha256 is None else beside.submit(_sha256, data)

            def check() -> None:
                if hashing is not None and hashing.result() != digest:
                    raise TransferDamaged(f"{key}: the bytes are not those of the given digest")

            body = Related(resource, data, digest.hex(), check)
            answer = self._request(
                "POST",
                f"/upload/storage/v1/b/{self._options.bucket}/o",
                params={"uploadType": "multipart", "ifGenerationMatch": "0"},
                data=body,
                headers={"Content-Type": body.content_type},
            ).json()
            stored, size = answer["crc32c"], int(answer["size"])
            version = str(int(answer["generation"]))
            kept = answer.get("retention", {}).get("mode")
        if (stored, size) != (resource["crc32c"], len(data)):
            raise TransferDamaged(f"{key}: the store received other bytes than were sent")
        if retain_until is not None and kept != self._lock_mode():
            # Google refuses the put then; a server that stands in for it may ignore the lock.
            raise CapabilityMissing(f"{key}: stored, but the bucket has no object retention")
        return Receipt(key, size, f"crc32c:{crc.hex()}", self._version(version))

    def open(
        self,
        key: str,
        *,
        start: int = 0,
        length: int | None = None,
        version_id: str | None = None,
    ) -> Body:
        """See `ports.ObjectStore.open`."""
        if length == 0:  # HTTP has no empty range
            self.stat(key, version_id=version_id)
            return BytesIO()
        # What is stored is what is wanted, also if somebody declared it to be compressed.
        headers = {"Accept-Encoding": "gzip"}
        if start or length is not None:
            headers["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        with self._translated("open", key):
            answer = self._request(
                "GET",
                f"/download/storage/v1{self._blob(key, version_id).path}",
                params={"alt": "media", **_versioned(version_id)},
                headers=headers,
                stream=True,
            )
        if answer.status_code == 416:  # the range starts beyond the object's end
            answer.close()
            return BytesIO()
        if "Range" in headers and not answer.headers.get("Content-Range", "").startswith(
            f"bytes {start}-"
        ):
            answer.close()
            raise CapabilityMissing("the store does not answer ranged reads")
        return Download(answer, self._name(key))

    def stat(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """See `ports.ObjectStore.stat`."""
        with self._translated("stat", key):
            return self._info(self._look(key, version_id))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ports.ObjectStore.list`."""
        below = self._above + check_prefix(prefix)
        with self._translated("list", prefix):
            blobs = iter(
                self._client().list_blobs(
                    self._options.bucket,
                    prefix=below,
                    page_size=self._options.page,
                    fields=f"items({_FIELDS}),nextPageToken",
                    timeout=self._timeout,
                    retry=None,
                )
            )
        while True:
            with self._translated("list", prefix):
                blob = next(blobs, None)
                if blob is None:
                    return
                info = self._info(blob)
            yield info

    def delete(self, key: str, *, version_id: str | None = None) -> None:
        """See `ports.ObjectStore.delete`."""
        try:
            with self._translated("delete", key):
                self._blob(key, version_id).delete(timeout=self._timeout, retry=None)
        except ObjectMissing:
            return

    def extend_retention(
        self, key: str, until: datetime, *, version_id: str | None = None
    ) -> None:
        """See `ports.ObjectStore.extend_retention`."""
        mode = self._lock_mode()
        with self._translated("extend_retention", key):
            now = self._look(key, version_id)
            held = now.retention.retain_until_time
            if held is not None and held >= until:
                return
            # A lock's mode is never weakened: the store refuses that, and we do not ask.
            retention = _retention(now.retention.mode or mode, until)
            self._request(
                "PATCH",
                f"/storage/v1{now.path}",
                # The SDK's own patch asks for the access list too, which takes another right.
                params={"projection": "noAcl", **_versioned(version_id)},
                json={"retention": retention},
            )

    def capabilities(self) -> Capabilities:
        """As the store's URL declares them; `backups store check` proves them."""
        return Capabilities(
            "crc32c", versions=self._options.versions, retention=self._options.lock is not None
        )

    def close(self) -> None:
        """See `ports.ObjectStore.close`."""
        with self._making:
            made, self._made = self._made, None
        if made is not None:
            made[1].close()

    # --- one way to the network -------------------------------------------------------

    def _client(self) -> Client:
        return self._connected()[1]

    def _connected(self) -> tuple[AuthorizedSession, Client]:
        with self._making:
            if self._made is None:
                session = self._make_session()
                client = Client(
                    project=None,
                    credentials=session.credentials,
                    # The URL says where backups go; an environment variable must not
                    # redirect them.
                    client_options={
                        "api_endpoint": self._base,
                        "universe_domain": session.credentials.universe_domain,
                    },
                    _http=session,
                )
                self._made = session, client
            return self._made

    def _request(self, method: str, path: str, **arguments: Any) -> Response:
        session = self._connected()[0]
        answer: Response = session.request(  # type: ignore[no-untyped-call]
            method, self._base + path, timeout=self._timeout, **arguments
        )
        if not (200 <= answer.status_code < 300 or answer.status_code == 416):
            with contextlib.closing(answer):
                raise from_http_response(answer)  # type: ignore[no-untyped-call]
        return answer

    def _blob(self, key: str, version_id: str | None) -> Blob:
        bucket = self._client().bucket(self._options.bucket)
        return bucket.blob(self._above + check_key(key), generation=version_id)

    def _look(self, key: str, version_id: str | None) -> Blob:
        blob = self._blob(key, version_id)
        blob.reload(timeout=self._timeout, retry=None)
        return blob

    @contextlib.contextmanager
    def _translated(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except SDK_ERRORS as error:
            raise translate(error, f"{operation} {self._name(key)}") from error

    def _name(self, key: str) -> str:
        return f"gs://{self._options.bucket}/{self._above}{key}"

    def _info(self, blob: Blob) -> ObjectInfo:
        sha256 = (blob.metadata or {}).get("sha256")
        ends = (blob.retention.retain_until_time, blob.retention_expiration_time)
        return ObjectInfo(
            blob.name.removeprefix(self._above),
            int(blob.size),
            blob.time_created.astimezone(UTC),
            self._version(str(int(blob.generation))),
            f"sha256:{sha256}" if sha256 else "",
            max((end for end in ends if end is not None), default=None),
        )

    def _version(self, generation: str) -> str | None:
        return generation if self._options.versions else None

    def _lock_mode(self) -> str:
        if self._options.lock is None:
            raise CapabilityMissing(
                f"the bucket {self._options.bucket} is not declared to have object retention",
                hint="If it has, say so in the store URL: ?lock=unlocked or locked.",
            )
        return self._options.lock.capitalize()


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _versioned(version_id: str | None) -> dict[str, str]:
    return {} if version_id is None else {"generation": version_id}


def _retention(mode: str, until: datetime) -> dict[str, str]:
    """Never shorter than asked: up to the next whole second."""
    up = until.astimezone(UTC)
    if up.microsecond:
        up = up.replace(microsecond=0) + timedelta(seconds=1)
    return {"mode": mode, "retainUntilTime": up.strftime("%Y-%m-%dT%H:%M:%SZ")}
