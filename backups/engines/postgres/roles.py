"""Roles that a copy needs on its server: made where they are missing, acted for where we must.

Source: PostgreSQL manual, ALTER TABLE and CREATE ROLE: who is no superuser must be able to
SET ROLE to whoever is to own an object. Nobody needs that to grant rights.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import Connection

from backups.engines.postgres.server import quoted
from backups.errors import EnvironmentLacks

_STRANGERS = """
    SELECT r.rolname, r.rolsuper FROM pg_roles r
     WHERE r.rolname = ANY (%s) AND r.rolname <> current_user
       AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
       AND NOT EXISTS (
           SELECT FROM pg_auth_members m WHERE m.roleid = r.oid
              AND m.member = (SELECT oid FROM pg_roles WHERE rolname = current_user)
              AND (to_jsonb(m)->>'set_option') IS DISTINCT FROM 'false')"""
_HINT = (
    "Restore as a superuser, or give all that is restored to one role of yours: "
    "--owner ROLE --no-privileges."
)


@dataclass(slots=True)
class Roles:
    """What was done to the server's roles for one restore, so that it can be undone."""

    made: list[str] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)

    def make(self, connection: Connection[Any], wanted: Collection[str], may: bool) -> None:
        """Make those of `wanted` that are missing, without login. Raises EnvironmentLacks
        when they `may` not be made."""
        present = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        missing = sorted(set(wanted) - present)
        if missing and not may:
            raise EnvironmentLacks(
                f"the server lacks the roles {', '.join(map(repr, missing))}",
                hint="Create them, or let the restore do it.",
            )
        for role in missing:
            connection.execute(quoted("CREATE ROLE {role} NOLOGIN", role=role))
            self.made.append(role)

    def act_for(self, connection: Connection[Any], owners: Collection[str]) -> None:
        """Become a member of each owner. Raises EnvironmentLacks when we may not."""
        strangers = connection.execute(_STRANGERS, (list(owners),)).fetchall()
        superusers = sorted(name for name, superuser in strangers if superuser)
        if superusers:
            listed = ", ".join(map(repr, superusers))
            raise EnvironmentLacks(
                f"only a superuser may restore what belongs to {listed}",
                hint=_HINT,
            )
        for role, _ in strangers:
            try:
                connection.execute(quoted("GRANT {role} TO CURRENT_USER", role=role))
            except psycopg.errors.InsufficientPrivilege as error:
                raise EnvironmentLacks(
                    f"we may not act for the role {role!r}, which owns what is restored: "
                    f"{error.diag.message_primary}",
                    hint=_HINT,
                ) from None
            self.joined.append(role)

    def leave(self, connection: Connection[Any]) -> None:
        """End the memberships that `act_for` began."""
        while self.joined:
            connection.execute(quoted("REVOKE {role} FROM CURRENT_USER", role=self.joined[-1]))
            self.joined.pop()

    def undo(self, connection: Connection[Any]) -> None:
        """Leave the server's roles as they were."""
        self.leave(connection)
        while self.made:
            connection.execute(quoted("DROP ROLE IF EXISTS {role}", role=self.made[-1]))
            self.made.pop()

    def notes(self) -> list[str]:
        """What was made otherwise than at the source, in words."""
        return [
            f"role {role!r} was created without login, password, attributes and memberships"
            for role in self.made
        ]
