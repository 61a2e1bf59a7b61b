"""The exact rights that each role needs in a customer's cloud account, as documents for the
customer's administrator. Pure: the same question gives the same text.

    principals      AWS: ARNs of roles; Google: e-mail addresses of service accounts; Azure:
                    client ids of applications. None: it is yet to be made, we name it.
    operator        AWS: an account's id or a principal's ARN; Google: a member, such as
                    serviceAccount:backups@ours.iam.gserviceaccount.com; Azure: the issuer and
                    subject of our tokens, as ISSUER#SUBJECT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from backups.errors import ConfigError
from backups.ids import check_id
from providers.access import Role
from providers.policies import aws_documents, azure, gcp
from providers.policies.wanted import Document, Wanted
from providers.urls import StoreUrl

__all__ = ["Document", "policy_documents"]

CLOUDS: Mapping[str, Callable[[Wanted], tuple[Document, ...]]] = {
    "s3": aws_documents.documents,
    "gs": gcp.documents,
    "az": azure.documents,
}


def policy_documents(
    url: StoreUrl,
    *,
    customer: str,
    external_id: str,
    operator_principal: str,
    principals: Mapping[Role, str | None],
) -> tuple[Document, ...]:
    """What the customer's administrator has to apply before we can reach the store.

    Raises ConfigError for a store without policies and for values of the wrong shape,
    UsageError for a customer's id that is none.
    """
    if url.scheme not in CLOUDS:
        raise ConfigError(
            f"{url.place} has no policies to print",
            hint="Rights on a directory are those of its file system.",
        )
    check_id(customer, "customer")
    return CLOUDS[url.scheme](
        Wanted(url, customer, external_id, operator_principal, principals)
    )
