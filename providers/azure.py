"""Azure Blob Storage.

Objects are put whole by one Put Blob with `If-None-Match: *` and `Content-MD5` (REST API, "Put
Blob"): the store refuses a taken key and bytes that differ. The SHA-256, which it cannot check,
is kept as the blob's metadata. (Azure verifies a CRC-64 too, which would cost less; the SDK
leaves it to an extension, and the emulator refuses it.)

The SDK does what takes a call and an answer. Puts and reads go over its session by hand: its
uploads are bounded by one timeout for all the bytes, its downloads collect 32 MiB before they
give the first byte.

Where the account has soft delete, what is deleted stays, and is paid for, until that ends.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from io import BytesIO
from typing import Any, Literal
from urllib.parse import quote

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobProperties, ContainerClient, ImmutabilityPolicy
from requests import Response, Session

from backups.errors import (
    CapabilityMissing,
    ObjectLocked,
    ObjectMissing,
    StoreDenied,
    TransferDamaged,
)
from backups.model import Capabilities, ObjectInfo, Receipt
from backups.ports import Body, Clock
from providers.access import Access
from providers.azure_access import Sas, account_url, sas_for, session_for, transport_for
from providers.azure_bodies import Download, Pieces, digests
from providers.azure_errors import SDK_ERRORS, code_of, not_ours, refused, translate
from providers.keys import check_key, check_prefix
from providers.urls import StoreUrl


@dataclass(frozen=True, slots=True)
class AzureOptions:
    """Where a container is and what it does; nothing secret."""

    account: str
    container: str
    prefix: str = ""
    """Without slashes at its ends; may be empty."""
    endpoint: str | None = None
    """URL of an emulator or private gateway; None is Azure's own."""
    tenant: str | None = None
    """The Microsoft Entra tenant of the principal."""
    versions: bool = False
    """The account keeps versions."""
    lock: Literal["unlocked", "locked"] | None = None
    """Mode of the locks to set; the container has version-level immutability."""
    connect_timeout: float = 10.0
    """Seconds; also for each MiB that is sent."""
    read_timeout: float = 60.0
    """Seconds without a byte from the store."""
    connections: int = 16
    """Calls in flight at once."""
    page: int = 1000
    """Keys per listing call."""


def options_of(url: StoreUrl) -> AzureOptions:
    """What an `az://` URL says of its container."""
    lock = url.options.get("lock")
    return AzureOptions(
        account=url.account,
        container=url.bucket,
        prefix=url.prefix,
        endpoint=url.options.get("endpoint"),
        tenant=url.options.get("tenant"),
        versions="versions" in url.options,
        lock="locked" if lock == "locked" else "unlocked" if lock else None,
    )


def connect(options: AzureOptions, access: Access, clock: Clock) -> AzureStore:
    """Make a store; no call to the network. Raises ConfigError for malformed credentials."""
    session = session_for(options, access)
    return AzureStore(options, sas_for(options, access, clock, session), session, clock)


class AzureStore:
    """Adapter of `ports.ObjectStore`; safe to share between threads."""

    def __init__(self, options: AzureOptions, sas: Sas, session: Session, clock: Clock) -> None:
        self._options = options
        self._sas = sas
        self._session = session
        self._clock = clock
        self._above = f"{options.prefix}/" if options.prefix else ""
        self._url = f"{account_url(options)}/{options.container}"
        self._locks_seen = False
        self._client = ContainerClient(
            account_url(options),
            options.container,
            credential=sas,
            transport=transport_for(session, options),
            retry_total=0,
            permit_redirects=False,
        )

    def put(
        self,
        key: str,
        data: bytes,
        *,
        sha256: bytes | None = None,
        retain_until: datetime | None = None,
    ) -> Receipt:
        """See `ports.ObjectStore.put`."""
        headers = {
            "x-ms-blob-type": "BlockBlob",
            "Content-Type": "application/octet-stream",
            "If-None-Match": "*",
        }
        if retain_until is not None:
            headers["x-ms-immutability-policy-mode"] = self._lock_mode()
            headers["x-ms-immutability-policy-until-date"] = format_datetime(
                _up(retain_until), usegmt=True
            )
        own, md5 = digests(data)
        if sha256 is not None and own != sha256:
            raise TransferDamaged(f"{key}: the bytes are not those of the given digest")
        headers["x-ms-meta-sha256"] = own.hex()
        headers["Content-MD5"] = base64.b64encode(md5).decode()
        with self._translated("put", key):
            answer = self._request("PUT", key, None, headers, data=Pieces(data))
            told = answer.headers.get("Content-MD5", headers["Content-MD5"])
            version = answer.headers.get("x-ms-version-id")
        if answer.status_code != 201:
            raise not_ours(f"put {self._name(key)}")
        if told != headers["Content-MD5"]:
            raise TransferDamaged(f"{key}: the store received other bytes than were sent")
        if retain_until is not None:
            self._prove_lock(key, version, retain_until)
        return Receipt(key, len(data), f"md5:{md5.hex()}", self._version(version))

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
        headers = {}
        if start or length is not None:
            headers["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        with self._translated("open", key):
            answer = self._request("GET", key, version_id, headers, stream=True)
        if answer.status_code == 416:  # the range starts beyond the blob's end
            answer.close()
            return BytesIO()
        if headers and not answer.headers.get("Content-Range", "").startswith(
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
        versions = self.capabilities().versions
        wanted = ["metadata"]
        if versions:
            wanted.append("versions")
        if self._options.lock is not None:
            wanted.append("immutabilitypolicy")
        blobs = iter(
            self._client.list_blobs(
                self._above + check_prefix(prefix),
                include=wanted,
                results_per_page=self._options.page,
            )
        )
        while True:
            with self._translated("list", prefix):
                blob = next(blobs, None)
                if blob is None:
                    return
                if versions and not blob.is_current_version:
                    continue
                info = self._info(blob)
            yield info

    def delete(self, key: str, *, version_id: str | None = None) -> None:
        """See `ports.ObjectStore.delete`."""
        name = self._above + check_key(key)
        with contextlib.suppress(ObjectMissing), self._translated("delete", key):
            try:
                self._client.delete_blob(name, version_id=version_id)
            except HttpResponseError as error:
                # The newest version goes by name only, which hides it; then by its id.
                if version_id is None or code_of(error) != "OperationNotAllowedOnRootBlob":
                    raise
                self._hide(key, version_id)
                self._client.delete_blob(name, version_id=version_id)

    def extend_retention(
        self, key: str, until: datetime, *, version_id: str | None = None
    ) -> None:
        """See `ports.ObjectStore.extend_retention`."""
        mode = self._lock_mode()
        with self._translated("extend_retention", key):
            now = self._look(key, version_id).immutability_policy
            held = _aware(now.expiry_time)
            if held is not None and held >= until:
                return
            # A lock's mode is never weakened: the store refuses that, and we do not ask.
            policy = ImmutabilityPolicy(
                expiry_time=_up(until), policy_mode=_known(now.policy_mode) or mode
            )
            blob = self._client.get_blob_client(self._above + key)
            told: dict[str, Any] = blob.set_immutability_policy(policy, version_id=version_id)
            end = _aware(told.get("immutability_policy_until_date"))
        if end is None or end < until:
            raise not_ours(f"extend_retention {self._name(key)}")

    def capabilities(self) -> Capabilities:
        """As the store's URL declares them; `backups store check` proves them."""
        lock = self._options.lock is not None
        return Capabilities("md5", versions=lock or self._options.versions, retention=lock)

    def close(self) -> None:
        """See `ports.ObjectStore.close`."""
        self._client.close()
        self._session.close()

    # --- locks ------------------------------------------------------------------------

    def _prove_lock(self, key: str, version: str | None, until: datetime) -> None:
        """What Azure answers to a put does not say whether the lock was kept.

        It refuses a lock that it cannot keep; emulators (Azurite) pass over it. A lock needs
        versions, so an answer without a version is one that passed over. Besides, the first
        locked blob is looked at, where the role may look; that a writer's locks hold is for
        `backups store check` to prove.
        """
        lacking = CapabilityMissing(
            f"{key}: stored, but the container has no version-level immutability"
        )
        if version is None:
            raise lacking
        if self._locks_seen:
            return
        with contextlib.suppress(StoreDenied):
            kept = self.stat(key, version_id=version).retain_until
            if kept is None or kept < until:
                raise lacking
        self._locks_seen = True

    def _hide(self, key: str, version_id: str) -> None:
        """Take the newest version's name away, unless a lock would keep the version itself."""
        blob = self._look(key, version_id)
        end = _aware(blob.immutability_policy.expiry_time)
        if blob.has_legal_hold or (end is not None and end > self._clock.now()):
            raise ObjectLocked(f"{self._name(key)} is under a legal hold or until {end}")
        self._client.delete_blob(
            self._above + key, etag=blob.etag, match_condition=MatchConditions.IfNotModified
        )

    def _lock_mode(self) -> str:
        if self._options.lock is None:
            raise CapabilityMissing(
                f"the container {self._options.container} is not declared to have locks",
                hint="If it has version-level immutability, say so in the store URL: "
                "?lock=unlocked or locked.",
            )
        return self._options.lock.capitalize()

    # --- one way to the network -------------------------------------------------------

    def _request(
        self,
        method: str,
        key: str,
        version_id: str | None,
        headers: dict[str, str],
        **arguments: Any,
    ) -> Response:
        url = f"{self._url}/{quote(self._above + check_key(key))}?"
        if version_id is not None:
            url += f"versionid={quote(version_id, safe='')}&"
        answer = self._session.request(
            method,
            url + self._sas.signature,
            headers={"x-ms-version": self._client.api_version, **headers},
            timeout=(self._options.connect_timeout, self._options.read_timeout),
            allow_redirects=False,  # Azure sends nobody elsewhere
            **arguments,
        )
        what = f"{method} {self._name(key)}"
        code = answer.headers.get("x-ms-error-code", "")
        if answer.status_code == 416 and code == "InvalidRange":
            return answer
        if not 200 <= answer.status_code < 300:
            with contextlib.closing(answer):
                self._consider(code)
                raise refused(answer.status_code, code, _message(answer), what)
        if "x-ms-version" not in answer.headers:
            answer.close()
            raise not_ours(what)
        return answer

    def _look(self, key: str, version_id: str | None) -> BlobProperties:
        client = self._client.get_blob_client(self._above + check_key(key))
        blob = client.get_blob_properties(version_id=version_id)
        if blob.blob_type is None:
            raise not_ours(f"stat {self._name(key)}")
        return blob

    @contextlib.contextmanager
    def _translated(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except SDK_ERRORS as error:
            self._consider(code_of(error))
            raise translate(error, f"{operation} {self._name(key)}") from None

    def _consider(self, code: str) -> None:
        # Revoked or expired, in Azure's word and the emulator's: the next call asks anew.
        if code in ("AuthenticationFailed", "AuthorizationFailure"):
            self._sas.forget()

    def _name(self, key: str) -> str:
        return f"az://{self._options.account}/{self._options.container}/{self._above}{key}"

    def _info(self, blob: BlobProperties) -> ObjectInfo:
        sha256 = (blob.metadata or {}).get("sha256")
        return ObjectInfo(
            str(blob.name).removeprefix(self._above),
            int(blob.size),
            blob.last_modified.astimezone(UTC),
            self._version(blob.version_id),
            f"sha256:{sha256}" if sha256 else "",
            _aware(blob.immutability_policy.expiry_time),
        )

    def _version(self, version_id: str | None) -> str | None:
        return version_id if self.capabilities().versions else None


def _message(answer: Response) -> str:
    found = re.search(rb"<Message>([^<]*)", answer.content[:65_536])
    return found[1].decode("utf-8", "replace") if found else ""


def _known(mode: object) -> str | None:
    """A policy's mode as it is set; none is also called Mutable."""
    named = str(getattr(mode, "value", mode) or "").capitalize()
    return named if named in ("Locked", "Unlocked") else None


def _up(until: datetime) -> datetime:
    """Never shorter than asked: up to the next whole second."""
    up = until.astimezone(UTC)
    return up.replace(microsecond=0) + timedelta(seconds=1) if up.microsecond else up


def _aware(instant: datetime | None) -> datetime | None:
    return instant and instant.astimezone(UTC)
