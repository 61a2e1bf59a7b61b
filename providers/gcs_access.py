"""Who we are to Google Cloud Storage, without a stored key where that can be.

- `principal`: a service account in the customer's project. We ask for its tokens, an hour
  each, in the name of whatever credentials are at hand (IAM Service Account Credentials API,
  projects.serviceAccounts.generateAccessToken); it grants us Service Account Token Creator.
- No principal: Application Default Credentials (google.aip.dev/auth/4110). Workload identity
  federation comes this way: GOOGLE_APPLICATION_CREDENTIALS names an `external_account` file
  (and GOOGLE_CLOUD_PROJECT any project, else google-auth asks Google for its name).
- `key`: a service account's JSON.

Tokens carry the least scope that the role's calls accept. They are not narrowed to the
prefix by a credential access boundary: that wants the widest scope of all for the token it
starts from, and the condition in the customer's own policy (`backups store policy`) says the
same where it cannot be left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import google.auth
import requests
from google.auth import impersonated_credentials
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2 import service_account

from backups.errors import ConfigError
from providers.access import Access
from providers.guard import requests_adapter
from providers.network import ANYWHERE, Network

if TYPE_CHECKING:
    from providers.gcs import GcsOptions

GOOGLE = "https://storage.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/devstorage."
_ACCOUNT = re.compile(r"[a-z0-9-]{1,63}@[a-z0-9.:-]{3,253}")
_TOKENS = "/v1/projects/-/serviceAccounts/{}:generateAccessToken"


def session_maker(options: GcsOptions, access: Access) -> Callable[[], AuthorizedSession]:
    """What opens an HTTP session as `access` says; nothing is asked of anybody before the
    first request, except that making it may look for credentials.

    Raises ConfigError for a key or an account that is malformed, and for credentials of ours
    that would be shown to a customer's endpoint.
    """
    endpoint = urlsplit(options.endpoint or GOOGLE)
    if access.network.hosted and access.key is None and not _is_google(options.endpoint):
        # A bearer token is a secret: whoever is shown it may use it.
        raise ConfigError(
            f"gs://{options.bucket} has an endpoint that is not Google's own, "
            "which would be shown this program's credentials",
            hint="Leave ?endpoint= out, or give the store a key of its own.",
        )
    if access.principal is not None and not _ACCOUNT.fullmatch(access.principal):
        raise ConfigError(
            f"{access.principal[:80]!r} is not the address of a service account",
            hint="Such as backups-writer@project.iam.gserviceaccount.com.",
        )
    scopes = [_SCOPE + _scope(options, access)]
    key = _key(access, scopes)

    def make() -> AuthorizedSession:
        # Our own credentials may come from the machine's metadata address; those of a
        # customer's key come from wherever the key says.
        asking = requests.Session()
        _mount(asking, options, access.network if key is not None else ANYWHERE)
        request = Request(asking)
        source = key or google.auth.default(scopes=scopes, request=request)[0]
        if access.principal is not None:
            # Without TLS it is a stand-in on this machine, for all of Google's services.
            stand_in = options.endpoint if endpoint.scheme == "http" else None
            source = impersonated_credentials.Credentials(  # type: ignore[no-untyped-call]
                source,
                access.principal,
                scopes,
                iam_endpoint_override=stand_in
                and stand_in.rstrip("/") + _TOKENS.format(access.principal),
            )
        session = AuthorizedSession(source, auth_request=request)  # type: ignore[no-untyped-call]
        _mount(session, options, access.network)
        return session

    return make


def _scope(options: GcsOptions, access: Access) -> str:
    if access.role == "restorer":
        return "read_only"
    # Setting a retention is a change of metadata (Objects: patch, "Authorization").
    return "full_control" if options.lock else "read_write"


def _key(access: Access, scopes: list[str]) -> Credentials | None:
    if access.key is None:
        return None
    try:
        credentials: Credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            json.loads(access.key.reveal()), scopes=scopes
        )
    except (GoogleAuthError, ValueError, LookupError, TypeError, AttributeError):
        # The reason may quote the key.
        raise ConfigError(
            f"the key of {access.customer}'s {access.role} is not a service account's JSON",
            hint='The file that Google hands out once, with "type": "service_account".',
        ) from None
    return credentials


def _is_google(endpoint: str | None) -> bool:
    parts = urlsplit(endpoint or GOOGLE)
    return parts.scheme == "https" and (parts.hostname or "").endswith(".googleapis.com")


def _mount(session: requests.Session, options: GcsOptions, network: Network) -> None:
    # retry.py retries: it knows what a lost reply to a create-only put means.
    adapter = requests_adapter(network, max_retries=0, pool_maxsize=options.connections)
    for scheme in ("https://", "http://"):
        session.mount(scheme, adapter)
    session.max_redirects = 0  # Google sends nobody elsewhere
