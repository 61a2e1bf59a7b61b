"""Who we are to Azure Blob Storage: a shared access signature (SAS) for one container, an hour
long, asked for when first needed and renewed before it ends.

Best first, it comes from:
- `principal`: an application of the customer's that trusts our tokens (workload identity
  federation: the client id, the tenant and AZURE_FEDERATED_TOKEN_FILE), or a managed identity;
  without one, what azure-identity's DefaultAzureCredential finds. With it we ask the account
  for a user delegation key (REST API, "Get User Delegation Key"; the right to do so is Storage
  Blob Delegator on the account) and sign a SAS with the role's permissions only ("Create a
  user delegation SAS"): what may be done is what both the SAS and the principal's own rights
  allow.
- `key`, or AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN where AZURE_STORAGE_ACCOUNT is the
  account (the Azure CLI's names): an account key, which signs a SAS here, for the whole
  container as the key has all rights anyway; or a SAS, which is used as it is.

A SAS cannot be narrowed to a prefix of a container (only to one blob, or to a directory where
the account has a hierarchical name space, which keeps no versions). So each customer has a
container of its own.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import requests
from azure.core.credentials import AzureSasCredential
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import DefaultAzureCredential, WorkloadIdentityCredential
from azure.storage.blob import BlobServiceClient, UserDelegationKey, generate_container_sas

from backups.errors import ConfigError, StoreDenied
from backups.ports import Clock
from providers.access import Access, Role
from providers.azure_errors import SDK_ERRORS, code_of, translate
from providers.guard import requests_adapter

if TYPE_CHECKING:
    from providers.azure import AzureOptions

LIFETIME = timedelta(hours=1)
_EARLY = timedelta(minutes=10)
"""Renewed this long before it ends: no call takes longer to be sent."""
_SKEW = timedelta(minutes=5)
"""Azure's clock may be this far behind ours."""

_ROLES: dict[Role, str] = {"writer": "c", "restorer": "rl", "pruner": "rcdxl"}
_EVERYTHING = "rcwdxl"
_AZURE = (
    ".blob.core.windows.net",
    ".blob.core.chinacloudapi.cn",
    ".blob.core.usgovcloudapi.net",
    ".blob.storage.azure.net",
)
_DELEGATOR = (
    "Our principal needs Storage Blob Delegator on the storage account "
    "(generateUserDelegationKey/action), beside its rights in the container."
)

Sign = Callable[[], tuple[str, datetime | None]]
"""Makes a SAS and says when it ends, if that is ours to know."""


def permissions(role: Role, *, locks: bool) -> str:
    """Letters of the role's SAS (REST API, "Create a user delegation SAS", in its order).

    Create, and not write, makes new blobs only; `i` sets and extends locks.
    """
    return _ROLES[role] + "i" * (locks and role != "restorer")


def account_url(options: AzureOptions) -> str:
    """Where the account is: Azure's own address, or one below the endpoint.

    An endpoint whose host starts with the account's name is the account's; any other one, as
    of an emulator or a private gateway, has the account in its path.
    """
    if options.endpoint is None:
        return f"https://{options.account}{_AZURE[0]}"
    endpoint = options.endpoint.rstrip("/")
    if (urlsplit(endpoint).hostname or "").startswith(f"{options.account}."):
        return endpoint
    return f"{endpoint}/{options.account}"


class Sas(AzureSasCredential):
    """The SAS at hand; the SDK asks it for the signature before each request."""

    def __init__(self, sign: Sign, clock: Clock) -> None:
        super().__init__("")
        self._sign = sign
        self._clock = clock
        self._renewing = Lock()
        self._made: tuple[str, datetime | None] | None = None

    @property
    def signature(self) -> str:
        """A SAS that is good for the next minutes. Raises the port's errors."""
        with self._renewing:
            if self._made is None or self._ends_soon(self._made[1]):
                self._made = self._sign()
            return self._made[0]

    def forget(self) -> None:
        """It was refused: make another one before the next call."""
        with self._renewing:
            self._made = None

    def _ends_soon(self, end: datetime | None) -> bool:
        return end is not None and self._clock.now() > end - _EARLY


def sas_for(
    options: AzureOptions, access: Access, clock: Clock, session: requests.Session
) -> Sas:
    """What signs our requests; no call to the network. Raises ConfigError."""
    _check_endpoint(options, access)
    key = access.key.reveal() if access.key is not None else _from_environment(options, access)
    if key is None:
        return Sas(_delegated(options, access, clock, session), clock)
    if "sig" in parse_qs(given := key.strip().lstrip("?")):
        return Sas(lambda: (given, None), clock)
    try:
        usable = bool(base64.b64decode(given, validate=True))
    except (binascii.Error, ValueError):
        usable = False
    if not usable:
        raise ConfigError(
            f"the key of {access.customer}'s {access.role} is neither an account key nor a SAS",
            hint="An account key is base64; a SAS is a query with a sig= in it.",
        )
    return Sas(_keyed(options, given, clock), clock)


def own_credential(
    options: AzureOptions, access: Access
) -> str | AzureSasCredential | WorkloadIdentityCredential | DefaultAzureCredential:
    """The credential itself, for looking at the container, which no SAS for it opens (REST
    API, "Get Container Properties", authorization). Raises ConfigError."""
    _check_endpoint(options, access)
    key = access.key.reveal() if access.key is not None else _from_environment(options, access)
    if key is None:
        tenant = options.tenant or os.environ.get("AZURE_TENANT_ID")
        return _credential(access, os.environ.get("AZURE_FEDERATED_TOKEN_FILE"), tenant)
    given = key.strip().lstrip("?")
    return AzureSasCredential(given) if "sig" in parse_qs(given) else given


def session_for(options: AzureOptions, access: Access) -> requests.Session:
    """An HTTP session for the store, kept to the access's network."""
    session = requests.Session()
    # retry.py retries: it knows what a lost reply to a create-only put means.
    adapter = requests_adapter(access.network, max_retries=0, pool_maxsize=options.connections)
    for scheme in ("https://", "http://"):
        session.mount(scheme, adapter)
    return session


def transport_for(session: requests.Session, options: AzureOptions) -> RequestsTransport:
    """The SDK's way to the network, over our session."""
    return RequestsTransport(
        session=session,
        session_owner=False,
        # Of a client that is given its transport, the SDK passes over the timeouts.
        connection_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
    )


# --- a stored key ---------------------------------------------------------------------


def _from_environment(options: AzureOptions, access: Access) -> str | None:
    named = os.environ.get("AZURE_STORAGE_ACCOUNT") == options.account
    if access.principal is not None or not named:
        return None
    return os.environ.get("AZURE_STORAGE_KEY") or os.environ.get("AZURE_STORAGE_SAS_TOKEN")


def _check_endpoint(options: AzureOptions, access: Access) -> None:
    host = urlsplit(account_url(options)).hostname or ""
    if access.network.hosted and access.key is None and not host.endswith(_AZURE):
        # It would be shown a token or SAS of ours, and whoever is shown it may use it.
        raise ConfigError(
            f"az://{options.account} has an endpoint that is not Azure's own, which would be "
            "shown this program's credentials",
            hint="Leave ?endpoint= out, or give the store a key of its own.",
        )


def _keyed(options: AzureOptions, key: str, clock: Clock) -> Sign:
    def sign() -> tuple[str, datetime]:
        now = clock.now()
        token = generate_container_sas(
            options.account,
            options.container,
            key,
            permission=_EVERYTHING + "i" * (options.lock is not None),
            start=now - _SKEW,
            expiry=now + LIFETIME,
            protocol="https" if account_url(options).startswith("https:") else "https,http",
        )
        return token, now + LIFETIME

    return sign


# --- a principal ----------------------------------------------------------------------


def _delegated(
    options: AzureOptions, access: Access, clock: Clock, session: requests.Session
) -> Sign:
    url = account_url(options)
    if not url.startswith("https:"):
        raise ConfigError(
            f"az://{options.account} has an endpoint without TLS, over which no token is sent",
            hint="Use https, or give the store an account key or a SAS.",
        )
    token_file = os.environ.get("AZURE_FEDERATED_TOKEN_FILE")
    tenant = options.tenant or os.environ.get("AZURE_TENANT_ID")
    if access.principal is not None and token_file and not tenant:
        raise ConfigError(
            f"az://{options.account} names an application without saying of which tenant",
            hint="Put ?tenant=ID into the store URL.",
        )
    granted = permissions(access.role, locks=options.lock is not None)

    def sign() -> tuple[str, datetime | None]:
        start, end = clock.now() - _SKEW, clock.now() + LIFETIME
        try:
            # Made anew each time: what was renewed in files since is found.
            with (
                closing(_credential(access, token_file, tenant)) as credential,
                closing(
                    BlobServiceClient(
                        url,
                        credential=credential,
                        transport=transport_for(session, options),
                        retry_total=0,
                        permit_redirects=False,
                    )
                ) as service,
            ):
                key = service.get_user_delegation_key(start, end)
            return _sign_delegated(options, granted, key, start, end), end
        except SDK_ERRORS as error:
            ours = translate(error, f"asking {options.account} for a key to sign with")
            if isinstance(error, OSError) and error.filename:
                ours = StoreDenied(f"{error.filename} cannot be read: {error.strerror}")
            elif code_of(error) == "AuthorizationPermissionMismatch":
                ours.hint = _DELEGATOR
            raise ours from None

    return sign


def _credential(
    access: Access, token_file: str | None, tenant: str | None
) -> WorkloadIdentityCredential | DefaultAzureCredential:
    """Its own way to the network: a machine's identity is asked for at a private address."""
    how: dict[str, Any] = {
        "retry_total": 0,
        # Where tokens come from is AZURE_AUTHORITY_HOST, the operator's word.
        "disable_instance_discovery": True,
    }
    if access.principal is not None and token_file:
        return WorkloadIdentityCredential(
            tenant_id=tenant, client_id=access.principal, token_file_path=token_file, **how
        )
    if access.principal is not None:
        how["managed_identity_client_id"] = access.principal
        how["workload_identity_client_id"] = access.principal
    return DefaultAzureCredential(**how)


def _sign_delegated(
    options: AzureOptions, granted: str, key: UserDelegationKey, start: datetime, end: datetime
) -> str:
    """A SAS for the container ("Create a user delegation SAS", version 2020-12-06 and later).

    The SDK knows but the newest version of it, which emulators and gateways do not.
    """
    signed = {
        "sp": granted,
        "st": _iso(start),
        "se": _iso(end),
        "skoid": str(key.signed_oid),
        "sktid": str(key.signed_tid),
        "skt": str(key.signed_start),
        "ske": str(key.signed_expiry),
        "sks": str(key.signed_service),
        "skv": str(key.signed_version),
        "spr": "https",
        "sv": "2022-11-02",
        "sr": "c",
    }
    resource = f"/blob/{options.account}/{options.container}"
    lines = [*(signed[name] for name in ("sp", "st", "se")), resource]
    lines += [signed[name] for name in ("skoid", "sktid", "skt", "ske", "sks", "skv")]
    lines += [""] * 4  # who else may use it, a correlation id, and from which addresses
    lines += [signed[name] for name in ("spr", "sv", "sr")]
    lines += [""] * 7  # snapshot, encryption scope, and headers of answers
    secret = base64.b64decode(str(key.value))
    digest = hmac.digest(secret, "\n".join(lines).encode(), "sha256")
    return urlencode({**signed, "sig": base64.b64encode(digest).decode()})


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
