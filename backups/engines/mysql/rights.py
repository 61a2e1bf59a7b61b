"""What a user must be allowed to, lest a dump lack in silence what they can't see.

A server lists to a user only what they have some right on: without TRIGGER a table has no
triggers, without rights on programs there are none. Sources: MySQL 8.0 Reference Manual, 4.5.4
mysqldump and 13.7.7 SHOW; MariaDB's documentation, mariadb-dump and GRANT.
"""

from __future__ import annotations

from typing import Any

from pymysql.connections import Connection

from backups.engines.mysql.sessions import rows
from backups.errors import AccessDenied

_WANTED = ("SELECT", "SHOW VIEW", "TRIGGER", "EVENT")
_PROGRAMS = {"EXECUTE", "ALTER ROUTINE", "SHOW_ROUTINE", "SHOW CREATE ROUTINE"}
"""With one of them programs are listed; where their text is hidden then, the tool fails."""
_GLOBAL = "SELECT privilege_type FROM information_schema.user_privileges WHERE grantee = %s"
_HERE = """
    SELECT privilege_type FROM information_schema.schema_privileges
     WHERE grantee = %s AND %s LIKE table_schema"""
_ROLES = "SELECT count(*) FROM information_schema.enabled_roles WHERE role_name IS NOT NULL"


def require_rights(connection: Connection[Any], database: str) -> tuple[str, ...]:
    """Warnings. Raises AccessDenied that names what is missing."""
    user, _, host = str(rows(connection, "SELECT CURRENT_USER()")[0][0]).rpartition("@")
    grantee = f"'{user}'@'{host}'"
    everywhere = {right for (right,) in rows(connection, _GLOBAL, grantee)}
    if not everywhere or rows(connection, _ROLES) != [(0,)]:
        return ("the user's rights come by a role: not looked at",)
    there = everywhere | {right for (right,) in rows(connection, _HERE, grantee, database)}
    missing = [right for right in _WANTED if right not in there]
    if "SELECT" not in everywhere and not there & _PROGRAMS:
        missing.append("EXECUTE")
    if missing:
        raise AccessDenied(
            f"the user lacks rights on the database: {', '.join(missing)}",
            hint="What they can't see would be missing from the backup: "
            "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, EXECUTE ON the database to them.",
        )
    return ()
