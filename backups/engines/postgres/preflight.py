"""What is looked at before a row is read: whatever would stop a dump is said here."""

from __future__ import annotations

from typing import Any, LiteralString

from psycopg import Connection

from backups.engines.postgres.sessions import not_pinned
from backups.engines.postgres.tools import Tools
from backups.errors import AccessDenied
from backups.model import Preflight

_DUMPED = """
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
     AND NOT EXISTS (SELECT FROM pg_depend d LEFT JOIN pg_extension e
                         ON e.oid = d.refobjid AND c.oid = ANY (e.extconfig)
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                        AND d.deptype = 'e' AND e.oid IS NULL)"""
"""Relations that pg_dump carries: not the system's, nor an extension's own."""

_UNREADABLE: LiteralString = f"""
    SELECT count(*) {_DUMPED} AND c.relkind IN ('r', 'p', 'S')
       AND NOT (has_schema_privilege(n.oid, 'USAGE')
                AND has_table_privilege(c.oid, 'SELECT'))"""
_FILTERED: LiteralString = f"""
    SELECT count(*) {_DUMPED} AND c.relkind IN ('r', 'p') AND row_security_active(c.oid)"""
_KINDS: LiteralString = f"""
    SELECT count(*) FILTER (WHERE c.relpersistence = 'u' AND c.relkind = 'r'),
           count(*) FILTER (WHERE c.relkind = 'f') {_DUMPED}"""
_OBJECTS = """
    SELECT count(*) FROM pg_largeobject_metadata m
     WHERE NOT pg_has_role(m.lomowner, 'USAGE')
       AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
       AND NOT EXISTS (SELECT FROM aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
                          AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))"""
_COLLATIONS = """
    SELECT count(*) FROM pg_collation
     WHERE collversion IS DISTINCT FROM pg_collation_actual_version(oid)"""
_DATABASE_COLLATION = """
    SELECT datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)
      FROM pg_database WHERE datname = current_database()"""


def major(connection: Connection[Any]) -> int:
    """Of the server."""
    return connection.info.server_version // 10000


def in_recovery(connection: Connection[Any]) -> bool:
    """Whether the server is a replica."""
    return bool(_one(connection, "SELECT pg_is_in_recovery()"))


def look(connection: Connection[Any], tools: Tools) -> Preflight:
    """Versions, rights and size. Raises AccessDenied where rows could not all be read.

    Warnings hold counts and no names: they go into the manifest, which is not encrypted.
    """
    unreadable = _one(connection, _UNREADABLE) + _one(connection, _OBJECTS)
    if unreadable:
        raise AccessDenied(
            f"the user may not read {unreadable} of the database's tables, sequences or "
            "large objects",
            hint="As a superuser: GRANT pg_read_all_data TO the backup user; large objects "
            "need their owner's rights.",
        )
    filtered = _one(connection, _FILTERED)
    if filtered:
        raise AccessDenied(
            f"row security would hide rows of {filtered} tables from the user",
            hint="As a superuser: ALTER ROLE the backup user BYPASSRLS.",
        )
    return Preflight(
        server_version=connection.info.parameter_status("server_version") or "",
        tool_version=tools.version,
        size_bytes=_one(connection, "SELECT pg_database_size(current_database())"),
        warnings=tuple(_warnings(connection)),
    )


def _warnings(connection: Connection[Any]) -> list[str]:
    warnings = []
    unlogged, foreign = connection.execute(_KINDS).fetchone() or (0, 0)
    if unlogged and in_recovery(connection):
        warnings.append(f"the rows of {unlogged} unlogged tables: a replica has none")
    if foreign:
        warnings.append(f"{foreign} foreign tables: their rows are on another server")
    collations = _one(connection, _COLLATIONS)
    if major(connection) >= 15:
        collations += _one(connection, _DATABASE_COLLATION)
    if collations:
        warnings.append(
            f"{collations} collations were made by another version of the system's library"
        )
    if connection.info.host and not connection.info.host.startswith(("/", "@")):
        if not connection.pgconn.ssl_in_use:
            warnings.append("the connection to the server is not encrypted")
        elif connection.info.get_parameters().get("sslmode") != "verify-full":
            warnings.append("the server's certificate is not verified")
    return [*warnings, *not_pinned(connection)]


def _one(connection: Connection[Any], query: LiteralString) -> Any:
    row = connection.execute(query).fetchone()
    return row[0] if row else None
