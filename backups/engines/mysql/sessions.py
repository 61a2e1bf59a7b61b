"""Statements in a session of a MariaDB or MySQL server."""

from __future__ import annotations

from typing import Any

from pymysql.connections import Connection


def rows(connection: Connection[Any], query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Of one statement."""
    with connection.cursor() as cursor:
        cursor.execute(query, values or None)
        return list(cursor.fetchall())


def quoted(name: str) -> str:
    """An identifier in SQL."""
    return "`" + name.replace("`", "``") + "`"
