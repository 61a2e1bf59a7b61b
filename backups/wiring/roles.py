"""What a process may do by its roles: asked wherever a key or a store is opened.

A worker with one role refuses the work of the others even if it finds their keys. That it does
not find them is for its home: see backups/deploy/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from backups.errors import RoleMissing
from backups.ports import Role
from backups.wiring.app import App

if TYPE_CHECKING:
    from providers.access import Role as StoreRole

MAY: Mapping[Role, frozenset[StoreRole]] = {
    # Copies are made by reading back: as they lie there, encrypted.
    "backup": frozenset({"writer", "restorer"}),
    "restore": frozenset({"restorer"}),
    "prune": frozenset({"restorer", "pruner"}),
    "api": frozenset(),
}
"""As whom each role may reach customers' stores."""


def require(app: App, role: Role, what: str) -> None:
    """Raises RoleMissing unless this process has that role."""
    if role not in app.roles:
        has = " and ".join(sorted(app.roles)) or "none"
        raise RoleMissing(f"{what} needs the role {role}; this process has {has}")


def require_store(app: App, store_role: StoreRole) -> None:
    """Raises RoleMissing unless one of our roles reaches stores in that way."""
    if not any(store_role in MAY[role] for role in app.roles):
        has = " and ".join(sorted(app.roles)) or "none"
        raise RoleMissing(f"reaching a store as its {store_role} is not for the role {has}")


def sees_data(app: App) -> bool:
    """Whether encrypted data may be read: who only deletes may not."""
    return bool(app.roles & {"backup", "restore"})
