"""How one role reaches one customer's store: as whom, and over which network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backups.model import Secret
from providers.network import ANYWHERE, Network

Role = Literal["writer", "restorer", "pruner"]
"""Writer: creates, reads no old data, deletes nothing. Restorer: reads. Pruner: deletes."""


@dataclass(frozen=True, slots=True)
class Access:
    """Everything about reaching a store that its URL does not say.

    Without a principal or key the credentials are those that the SDK finds by itself:
    environment, configuration files, or the machine's own identity.
    """

    role: Role
    customer: str = "unnamed"
    """Names our sessions in the customer's own audit trail."""
    principal: str | None = None
    """Whom to become, without a stored key: an AWS role's ARN, a Google service account's
    address, the client id of a Microsoft Entra application that trusts us."""
    external_id: str | None = None
    """What we show when we assume an AWS role (AWS IAM User Guide, "The confused deputy
    problem"); one per customer, made by us."""
    key: Secret | None = None
    """A stored key where there must be one: a service account's JSON, an Azure account key or
    SAS. Works, and is warned about."""
    network: Network = ANYWHERE
    sees_data: bool = True
    """False: manifests and the like may be read, the encrypted data may not."""
