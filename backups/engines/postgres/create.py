"""Making a database with the properties of another: encoding, settings, owner, rights.

They stand in `Fingerprint.settings`, as `around` says. Settings come before the rows: a
restore evaluates CHECK constraints and refreshes materialized views under them.
Source of the quoting: PostgreSQL, src/bin/pg_dump/dumputils.c, makeAlterConfigCommand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import psycopg
from psycopg import Connection, sql

from backups.engines.postgres.server import quoted
from backups.errors import EnvironmentLacks
from backups.model import Unrestored

LATE = frozenset(
    {
        "role",
        "session_authorization",
        "session_preload_libraries",
        "local_preload_libraries",
    }
)
"""Settings that change who a session is, or what it runs: they come after everything else."""

_LISTS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)
"""Settings whose value is a list of quoted names (GUC_LIST_QUOTE)."""
_ELEMENT = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^,"]*))\s*(?:,|$)')
_RIGHTS = frozenset({"CONNECT", "CREATE", "TEMPORARY"})


def create_database(name: str, found: Mapping[str, str], server_major: int) -> sql.Composed:
    """`CREATE DATABASE` with the source's encoding and collation."""
    words = {"ENCODING": "encoding", "LC_COLLATE": "collate", "LC_CTYPE": "ctype"}
    provider = found.get("locale provider", "libc")
    parts: list[sql.Composable] = [
        quoted("CREATE DATABASE {name} TEMPLATE template0", name=name)
    ]
    if server_major >= 15:
        # The server's own default may be another one than the source's.
        parts.append(sql.SQL("LOCALE_PROVIDER ") + sql.Literal(provider))
        if provider != "libc":
            words["ICU_LOCALE" if provider == "icu" else "BUILTIN_LOCALE"] = "locale"
    for word, key in words.items():
        if key in found:
            parts.append(sql.SQL(f"{word} ") + sql.Literal(found[key]))
    return sql.SQL(" ").join(parts)


def apply_settings(
    connection: Connection[Any], database: str, found: Mapping[str, str], *, late: bool
) -> tuple[Unrestored, ...]:
    """Give `database` the source's settings: those of `LATE`, or with `late` False all others.

    Returns the ones that we have no right to make. Raises EnvironmentLacks for a value that
    the server does not know.
    """
    refused = []
    for key, name, role in _settings(found):
        if (name in LATE) is not late:
            continue
        start = quoted("ALTER DATABASE {d}", d=database)
        if role:
            start = quoted("ALTER ROLE {r} IN DATABASE {d}", r=role, d=database)
        try:
            connection.execute(start + assignment(name, found[key]))
        except psycopg.errors.InsufficientPrivilege as error:
            reason = error.diag.message_primary or "permission denied"
            refused.append(Unrestored(f"setting {key.removeprefix('set ')}", reason, False))
        except (psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject) as error:
            raise EnvironmentLacks(
                f"the server does not take the source's setting {name}: "
                f"{error.diag.message_primary}"
            ) from None
    return tuple(refused)


def apply_ownership(
    connection: Connection[Any], database: str, found: Mapping[str, str]
) -> None:
    """Give `database` the source's owner, comment and limit of connections."""
    comment = sql.Literal(found["comment"]) if "comment" in found else sql.SQL("NULL")
    connection.execute(quoted("COMMENT ON DATABASE {d} IS ", d=database) + comment)
    if "connection limit" in found:
        limit = sql.Literal(int(found["connection limit"]))
        connection.execute(quoted("ALTER DATABASE {d} CONNECTION LIMIT ", d=database) + limit)
    owner = quoted("ALTER DATABASE {d} OWNER TO {owner}", d=database, owner=found["owner"])
    connection.execute(owner)


def apply_rights(connection: Connection[Any], database: str, found: Mapping[str, str]) -> None:
    """Let the source's roles, and nobody else, into `database`."""
    owner = found["owner"]
    connection.execute(
        quoted("REVOKE ALL ON DATABASE {d} FROM PUBLIC, {owner}", d=database, owner=owner)
    )
    for grantee, privilege, grantable in json.loads(found["rights"]):
        if privilege not in _RIGHTS:
            continue
        to = quoted("{role}", role=grantee) if grantee else sql.SQL("PUBLIC")
        option = " WITH GRANT OPTION" if grantable and grantee != owner else ""
        connection.execute(
            sql.SQL(f"GRANT {privilege} ON DATABASE ")
            + quoted("{d} TO ", d=database)
            + to
            + sql.SQL(option)
        )


def only_rights_of(found: Mapping[str, str], roles: Collection[str]) -> dict[str, str]:
    """The same properties, without rights and settings of any role that is not in `roles`."""
    rights = [right for right in json.loads(found["rights"]) if right[0] in ("", *roles)]
    kept = {key for key, _, role in _settings(found) if not role or role in roles}
    values = {k: v for k, v in found.items() if not k.startswith("set ") or k in kept}
    return {**values, "rights": json.dumps(rights, ensure_ascii=False)}


def search_path(found: Mapping[str, str]) -> str:
    """Where sessions in the source look for names."""
    return found.get("set search_path", '"$user", public')


def _settings(found: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Key, name of the setting, and the role it is for or nothing."""
    for key in sorted(found):
        if key.startswith("set "):
            name, _, role = key.removeprefix("set ").partition(" for ")
            yield key, name, role


def assignment(name: str, value: str) -> sql.Composed:
    """` SET name TO value` of ALTER DATABASE or ALTER ROLE, of a value as it is stored."""
    parameter = sql.SQL(".").join(map(sql.Identifier, name.split(".")))
    values = elements(value) if name in _LISTS else [value]
    return sql.SQL(" SET ") + parameter + sql.SQL(" TO ") + _literals(values)


def _literals(values: list[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Literal, values or [""]))


def elements(value: str) -> list[str]:
    """The elements of a list setting, as the server splits it (SplitIdentifierString)."""
    found, at = [], 0
    while at < len(value):
        match = _ELEMENT.match(value, at)
        if match is None or match.end() == at:
            return [value]
        quoted_, bare = match.group(1), match.group(2)
        found.append(quoted_.replace('""', '"') if quoted_ is not None else bare.strip())
        at = match.end()
    return found
