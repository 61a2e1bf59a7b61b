"""A container of Azure Blob Storage, as it is set up.

Source of every field: REST API, "Get Container Properties". What belongs to the account is
told by Azure's management API alone, to which none of our roles has access: those looks name
the command that shows it to the customer's administrator.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

from azure.core.credentials import AzureSasCredential
from azure.identity import DefaultAzureCredential, WorkloadIdentityCredential
from azure.storage.blob import ContainerClient

from providers.azure import AzureOptions, options_of
from providers.azure_access import account_url, own_credential, session_for, transport_for
from providers.azure_errors import SDK_ERRORS, translate
from providers.policies import shell
from providers.posture.looking import (
    Judge,
    Judged,
    View,
    judge_clock,
    judge_locks,
    locked_by_default,
    permitted,
)

_LOOK = "Microsoft.Storage/storageAccounts/blobServices/containers/read (no SAS has it)"
_SECRETS = ("AZURE_CLIENT_SECRET", "AZURE_PASSWORD")
_ACCOUNT = ("az", "storage", "account")
_GROUP = shell.Var("RESOURCE_GROUP")


@contextmanager
def looking(view: View) -> Iterator[Mapping[str, Judge]]:
    """Every look by name, while the context lasts."""
    options = options_of(view.url)
    access = view.access["pruner"]
    credential = own_credential(options, access)
    with ExitStack() as stack:
        if isinstance(credential, WorkloadIdentityCredential | DefaultAzureCredential):
            stack.enter_context(closing(credential))
        session = stack.enter_context(session_for(options, access))
        client = ContainerClient(
            account_url(options),
            options.container,
            credential=credential,
            transport=transport_for(session, options),
            retry_total=0,
            permit_redirects=False,
            connection_timeout=options.connect_timeout,
            read_timeout=options.read_timeout,
        )
        container = _Container(stack.enter_context(closing(client)), options, view)
        yield {
            "region": lambda: _untold(options, "show", "--name", query="primaryLocation"),
            "clock": permitted(container.clock, _LOOK),
            "versioning": lambda: _untold(
                options,
                "blob-service-properties",
                "show",
                "--account-name",
                query="isVersioningEnabled",
                beside="; the check of versions tries it",
            ),
            "lock": permitted(container.lock, _LOOK),
            "public_access": permitted(container.public_access, _LOOK),
            "lifecycle": lambda: _untold(
                options, "management-policy", "show", "--account-name", query="policy.rules"
            ),
            "credentials": lambda: judge_credentials(credential),
        }


class _Container:
    """Asks for the container's properties once, and judges them."""

    def __init__(self, client: ContainerClient, options: AzureOptions, view: View) -> None:
        self._client = client
        self._options = options
        self._view = view
        self._date: tuple[datetime | None, datetime] | None = None
        self._properties = cache(self._get)

    def clock(self) -> Judged:
        """The answer's `Date`."""
        self._properties()
        return judge_clock(*(self._date or (None, self._view.clock.now())))

    def lock(self) -> Judged:
        """Version-level immutability; and what would hold every blob, wanted or not."""
        found = self._properties()
        if found.has_legal_hold:
            return locked_by_default("as long as its legal hold is not taken off")
        if found.has_immutability_policy:
            return locked_by_default("the time of its immutability policy")
        on = bool(found.immutable_storage_with_versioning_enabled)
        return judge_locks(on=on, mode=self._options.lock)

    def public_access(self) -> Judged:
        """The container's own level; without one it is private."""
        level = self._properties().public_access
        if level:
            return "failed", f"anybody may read it (public access: {level}); set it to private"
        return "passed", "the container is private"

    def _get(self) -> Any:
        def note(answer: Any) -> None:
            self._date = _date(answer.http_response.headers), self._view.clock.now()

        try:
            return self._client.get_container_properties(raw_response_hook=note)
        except SDK_ERRORS as error:
            what = f"looking at az://{self._options.account}/{self._options.container}"
            raise translate(error, what) from None


# --- judging --------------------------------------------------------------------------


def judge_credentials(credential: object) -> Judged:
    """What kind of credentials we come with."""
    if isinstance(credential, str):
        return "warning", "an account key, which opens all of the account: name principals"
    if isinstance(credential, AzureSasCredential):
        return "warning", "a stored SAS: name principals instead"
    if isinstance(credential, WorkloadIdentityCredential):
        return "passed", "federated, without a stored key"
    if any(os.environ.get(name) for name in _SECRETS):
        return "warning", "a stored secret of an application: federate it instead"
    return "passed", "the identity of this machine or of who logged in; none is stored here"


def _untold(options: AzureOptions, *words: str, query: str, beside: str = "") -> Judged:
    """What only the customer's administrator is told, and by which command."""
    line = shell.command(
        *_ACCOUNT, *words, options.account, "--resource-group", _GROUP, "--query", query
    )
    return "unproven", f"only the account's administrator is told: {_one_line(line)}{beside}"


def _one_line(command: str) -> str:
    return command.replace("\\\n  ", "")


def _date(headers: Mapping[str, str]) -> datetime | None:
    try:
        return parsedate_to_datetime(headers.get("Date", "")).astimezone(UTC)
    except ValueError:
        return None
