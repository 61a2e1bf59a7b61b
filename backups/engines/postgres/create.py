"""Making a database with the properties of another: encoding, settings, owner, rights.

They stand in `Fingerprint.settings`, as `around` says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from psycopg import Connection, sql

from backups.engines.postgres.server import quoted


def create_database(name: str, found: Mapping[str, str], server_major: int) -> sql.Composed:
    """`CREATE DATABASE` with the source's encoding and collation."""
    words = {"ENCODING": "encoding", "LC_COLLATE": "collate", "LC_CTYPE": "ctype"}
    provider = found.get("locale provider", "libc")
    if server_major >= 15 and provider != "libc":
        words["LOCALE_PROVIDER"] = "locale provider"
        words["ICU_LOCALE" if provider == "icu" else "BUILTIN_LOCALE"] = "locale"
    parts: list[sql.Composable] = [
        quoted("CREATE DATABASE {name} TEMPLATE template0", name=name)
    ]
    for word, key in words.items():
        if key in found:
            parts.append(sql.SQL(f"{word} ") + sql.Literal(found[key]))
    return sql.SQL(" ").join(parts)


def apply(connection: Connection[Any], database: str, found: Mapping[str, str]) -> None:
    """Give the connected database the source's owner, rights and settings."""
    for key in sorted(found):
        if key.startswith("set "):
            name, _, role = key.removeprefix("set ").partition(" for ")
            start = quoted("ALTER DATABASE {database}", database=database)
            if role:
                start = quoted(
                    "ALTER ROLE {role} IN DATABASE {database}", role=role, database=database
                )
            parameter = sql.SQL(".").join(map(sql.Identifier, name.split(".")))
            # FROM CURRENT spares knowing which settings are lists and how those are quoted.
            with connection.transaction():
                connection.execute("SELECT set_config(%s, %s, true)", (name, found[key]))
                connection.execute(
                    start + sql.SQL(" SET ") + parameter + sql.SQL(" FROM CURRENT")
                )
    owner = found["owner"]
    connection.execute(quoted("ALTER DATABASE {d} OWNER TO {owner}", d=database, owner=owner))
    connection.execute(
        quoted("REVOKE ALL ON DATABASE {d} FROM PUBLIC, {owner}", d=database, owner=owner)
    )
    for grantee, privilege, grantable in json.loads(found["rights"]):
        if privilege not in ("CONNECT", "CREATE", "TEMPORARY"):
            continue
        to = quoted("{role}", role=grantee) if grantee else sql.SQL("PUBLIC")
        option = " WITH GRANT OPTION" if grantable and grantee != owner else ""
        connection.execute(
            sql.SQL(f"GRANT {privilege} ON DATABASE ")
            + quoted("{d} TO ", d=database)
            + to
            + sql.SQL(option)
        )
