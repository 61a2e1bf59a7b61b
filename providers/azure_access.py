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
import os
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import requests
from azure.core.credentials import AzureSasCredential, TokenCredential
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import DefaultAzureCredential, WorkloadIdentityCredential
from azure.storage.blob import BlobServiceClient, generate_container_sas
from requests.adapters import HTTPAdapter

from backups.errors import ConfigError, StoreDenied
from backups.ports import Clock
from providers.access import Access, Role
from providers.azure_errors import SDK_ERRORS, translate

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
    granted = _EVERYTHING + "i" * (options.lock is not None)
    return Sas(lambda: _sign(options, granted, clock, account_key=given), clock)


def session_for(options: AzureOptions) -> requests.Session:
    """An HTTP session for the store and for tokens alike."""
    session = requests.Session()
    # retry.py retries: it knows what a lost reply to a create-only put means.
    adapter = HTTPAdapter(max_retries=0, pool_maxsize=options.connections)
    for scheme in ("https://", "http://"):
        session.mount(scheme, adapter)
    return session


def transport_for(session: requests.Session) -> RequestsTransport:
    """The SDK's way to the network, over our session."""
    return RequestsTransport(session=session, session_owner=False)


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
    made: list[TokenCredential] = []  # one for all renewals: it keeps its token

    def sign() -> tuple[str, datetime | None]:
        try:
            if not made:
                made.append(_credential(access, token_file, tenant, session))
            now = clock.now()
            with closing(
                BlobServiceClient(
                    url,
                    credential=made[0],
                    transport=transport_for(session),
                    retry_total=0,
                    permit_redirects=False,
                    connection_timeout=options.connect_timeout,
                    read_timeout=options.read_timeout,
                )
            ) as service:
                key = service.get_user_delegation_key(now - _SKEW, now + LIFETIME)
            return _sign(options, granted, clock, user_delegation_key=key)
        except SDK_ERRORS as error:
            ours = translate(error, f"asking {options.account} for a key to sign with")
            if isinstance(error, OSError) and error.filename:
                ours = StoreDenied(f"{error.filename} cannot be read: {error.strerror}")
            elif isinstance(ours, StoreDenied) and "AuthorizationPermission" in str(ours):
                ours.hint = _DELEGATOR
            raise ours from None

    return sign


def _credential(
    access: Access, token_file: str | None, tenant: str | None, session: requests.Session
) -> TokenCredential:
    how = {"transport": transport_for(session), "retry_total": 0}
    if access.principal is not None and token_file:
        return WorkloadIdentityCredential(
            tenant_id=tenant, client_id=access.principal, token_file_path=token_file, **how
        )
    named = (
        {}
        if access.principal is None
        else {
            "managed_identity_client_id": access.principal,
            "workload_identity_client_id": access.principal,
        }
    )
    return DefaultAzureCredential(**named, **how)


def _sign(
    options: AzureOptions, granted: str, clock: Clock, **key: object
) -> tuple[str, datetime]:
    now = clock.now()
    end = now + LIFETIME
    token = generate_container_sas(
        options.account,
        options.container,
        permission=granted,
        start=now - _SKEW,
        expiry=end,
        protocol="https" if account_url(options).startswith("https:") else "https,http",
        **key,  # type: ignore[arg-type]
    )
    return token, end
