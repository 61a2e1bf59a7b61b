"""Who we are to S3: a role in the customer's account, assumed for an hour at a time.

No key of the customer's is stored. AWS STS (API Reference, AssumeRole) lends credentials to
whoever shows the external id that the role's trust policy names (IAM User Guide, "Access to
AWS accounts owned by third parties"); a session policy narrows them to one role's actions
below one prefix, however much the customer's role allows. The SDK asks for new ones a quarter
of an hour before they end.

STS is asked in the bucket's own region; where the store URL names the endpoint of an
S3-compatible server, at that same endpoint, as such servers (MinIO, Ceph) have it there.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.credentials import (
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import ClientError

from backups.errors import ConfigError, StoreDenied, StoreError, StoreUnavailable
from backups.ports import Clock
from providers.access import Access
from providers.aws_sdk import core_session, new_session
from providers.guard import guard_boto3
from providers.policies.aws import EXTERNAL_ID, ROLE_ARN, Reach, is_amazon, session_policy
from providers.s3_errors import SDK_ERRORS, translate

if TYPE_CHECKING:
    import boto3

    from providers.s3_client import S3Options

LIFETIME = 3600
"""Seconds; the longest that a role assumed from a role may ask for."""


def session_for(
    options: S3Options, access: Access | None, clock: Clock | None
) -> boto3.session.Session:
    """A session whose credentials are the role's, or those of boto3's own chain when no
    principal is given; no call to the network. Raises ConfigError."""
    if access is not None and access.key is not None:
        raise ConfigError(
            f"the store {options.bucket} is given a key, which S3 does not take",
            hint="Name a role to assume, or a profile of the AWS configuration: ?profile=NAME.",
        )
    if access is None or access.principal is None or clock is None:
        return new_session(options.profile)
    role = AssumedRole(options, access, clock)
    core = core_session()
    core.register_component("credential_provider", CredentialResolver([_Provider(role)]))
    return new_session(options.profile, core)


class AssumedRole:
    """Asks STS for a role's credentials; nothing is asked before the first call needs them."""

    def __init__(self, options: S3Options, access: Access, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._network = access.network
        self._amazon = is_amazon(options.endpoint)
        self._request = _request(options, access, amazon=self._amazon)
        self.credentials = DeferredRefreshableCredentials(
            self._refresh, "assume-role", time_fetcher=clock.now
        )

    def _refresh(self) -> dict[str, str]:
        what = f"assuming {self._request['RoleArn']}"
        try:
            # Made anew each time: keys that were renewed in files since are found.
            with closing(self._client()) as client:
                lent = client.assume_role(**self._request)["Credentials"]
        except SDK_ERRORS as error:
            raise _explain(error, what) from error
        if lent["Expiration"] <= self._clock.now():
            raise StoreDenied(f"{what}: the credentials had expired on arrival", hint=_CLOCK)
        return {
            "access_key": lent["AccessKeyId"],
            "secret_key": lent["SecretAccessKey"],
            "token": lent["SessionToken"],
            "expiry_time": lent["Expiration"].isoformat(),
        }

    def _client(self) -> Any:
        options = self._options
        session = core_session(options.profile)
        # Older SDKs ask the one in Virginia by default, which is nobody's own region.
        session.set_config_variable("sts_regional_endpoints", "regional")
        region = options.region or session.get_config_variable("region") or "us-east-1"
        client = session.create_client(
            "sts",
            region_name=region,
            endpoint_url=None if self._amazon else options.endpoint,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 1},  # retry.py retries
                connect_timeout=options.connect_timeout,
                read_timeout=options.read_timeout,
                ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]
            ),
        )
        guard_boto3(client, self._network)
        return client


class _Provider(CredentialProvider):
    """The only source of credentials that the session's clients see."""

    METHOD = "assume-role"

    def __init__(self, role: AssumedRole) -> None:
        super().__init__()
        self._role = role

    def load(self) -> DeferredRefreshableCredentials:
        """See botocore."""
        return self._role.credentials


# --- the request ----------------------------------------------------------------------


def _request(options: S3Options, access: Access, *, amazon: bool) -> dict[str, Any]:
    arn = ROLE_ARN.fullmatch(access.principal or "")
    if arn is None:
        raise ConfigError(
            f"{(access.principal or '')[:120]!r} is not the ARN of a role",
            hint="Such as arn:aws:iam::123456789012:role/backups-writer.",
        )
    reach = Reach(
        options.bucket,
        options.prefix,
        partition=arn["partition"],
        locks=options.lock is not None,
        amazon=amazon,
    )
    request: dict[str, Any] = {
        "RoleArn": arn.string,
        "RoleSessionName": session_name(access.role, access.customer),
        "DurationSeconds": LIFETIME,
        "Policy": session_policy(access.role, reach),
    }
    if access.external_id is not None:
        if not EXTERNAL_ID.fullmatch(access.external_id):
            raise ConfigError("the customer's external id is not one that AWS takes")
        request["ExternalId"] = access.external_id
    return request


def session_name(role: str, customer: str) -> str:
    """What the customer's own audit trail shows: 2 to 64 characters of STS's alphabet.

    A name that had to be changed ends with a digest, so that no two become one.
    """
    name = f"backups-{role}-{customer}"
    fitting = re.sub(r"[^\w+=,.@-]", "-", name, flags=re.ASCII)
    if fitting == name and len(name) <= 64:
        return name
    return f"{fitting[:55]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


# --- what STS says --------------------------------------------------------------------

_CLOCK = "This machine's clock is wrong; synchronise it."
_TRUST = (
    "The role's trust policy must name our principal and this customer's external id, and "
    "our principal must be allowed sts:AssumeRole: see `backups store policy`."
)
_OURS = "Our own credentials have expired or were revoked: renew the session, profile or role."

# Sources: AWS STS API Reference, AssumeRole, "Errors"; IAM, "Common Errors".
_CODES: dict[str, tuple[type[StoreError], str]] = {
    "AccessDenied": (StoreDenied, _TRUST),
    "AccessDeniedException": (StoreDenied, _TRUST),
    "NoSuchEntity": (StoreDenied, _TRUST),
    "ExpiredToken": (StoreDenied, _OURS),
    "ExpiredTokenException": (StoreDenied, _OURS),
    "InvalidClientTokenId": (StoreDenied, _OURS),
    "UnrecognizedClientException": (StoreDenied, _OURS),
    "RequestExpired": (StoreDenied, _CLOCK),
    "SignatureExpired": (StoreDenied, _CLOCK),
    "RequestTimeTooSkewed": (StoreDenied, _CLOCK),
    "RegionDisabledException": (
        StoreDenied,
        "STS is not switched on in the bucket's region: activate it in the IAM console's "
        "account settings.",
    ),
    "PackedPolicyTooLarge": (
        StoreDenied,
        "The session policy does not fit: shorten the prefix, or the tags of our own session.",
    ),
    "PackedPolicyTooLargeException": (StoreDenied, "The session policy does not fit."),
    "MalformedPolicyDocument": (StoreDenied, "The server does not take our session policy."),
    "ValidationError": (
        StoreDenied,
        f"The role must allow sessions of {LIFETIME} seconds, and its ARN be right.",
    ),
    "IDPCommunicationError": (StoreUnavailable, ""),
}


def _explain(error: Exception, what: str) -> StoreError:
    ours = translate(error, what)
    if not isinstance(error, ClientError):
        return ours
    # STS says this as SignatureDoesNotMatch, in words.
    if re.search(r"signature (expired|not yet current)", str(ours), re.IGNORECASE):
        return StoreDenied(str(ours), hint=_CLOCK)
    kind, hint = _CODES.get(error.response.get("Error", {}).get("Code", ""), (type(ours), ""))
    return kind(str(ours), hint=hint or ours.hint)
