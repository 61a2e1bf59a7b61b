"""CHECK constraints that stand in the way of a table's own rows.

PostgreSQL checks a row when it is written. A CHECK on a function may hold no more when the
rows come back: the function read another table, or the time. Such a check is taken off, the
rows are loaded, and it is put back as NOT VALID, as it then is in truth. Whatever all rows
keep after all is made valid again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection, sql

from backups.engines.postgres.failures import words
from backups.model import Unrestored

# What a child inherits can only be dropped where it was declared, with all its children's.
_OF_TABLE = """
    WITH RECURSIVE up (rel, name) AS (
        SELECT k.conrelid, k.conname FROM pg_catalog.pg_constraint k
         WHERE k.conrelid = %s::pg_catalog.regclass AND k.contype = 'c'
        UNION
        SELECT i.inhparent, up.name FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.rel
          JOIN pg_catalog.pg_constraint p
            ON p.conrelid = i.inhparent AND p.conname = up.name AND p.contype = 'c'
           AND NOT p.connoinherit)
    SELECT k.oid FROM up JOIN pg_catalog.pg_constraint k
        ON k.conrelid = up.rel AND k.conname = up.name AND k.contype = 'c'
     WHERE k.coninhcount = 0 ORDER BY k.conname"""
_OF_DOMAIN = """
    SELECT oid FROM pg_catalog.pg_constraint
     WHERE contypid = %s::pg_catalog.regtype AND contype = 'c' ORDER BY conname"""
_DEFINITION = """
    SELECT n.nspname, coalesce(c.relname, t.typname), k.conname, k.contypid <> 0,
           k.convalidated, pg_catalog.pg_get_constraintdef(k.oid),
           pg_catalog.obj_description(k.oid, 'pg_constraint')
      FROM pg_catalog.pg_constraint k
      LEFT JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
      LEFT JOIN pg_catalog.pg_type t ON t.oid = k.contypid
      JOIN pg_catalog.pg_namespace n ON n.oid = k.connamespace WHERE k.oid = %s"""
_CHILDREN = """
    WITH RECURSIVE down (rel) AS (
        SELECT %s::pg_catalog.regclass::pg_catalog.oid
        UNION ALL
        SELECT i.inhrelid FROM down JOIN pg_catalog.pg_inherits i ON i.inhparent = down.rel)
    SELECT n.nspname, c.relname FROM down JOIN pg_catalog.pg_constraint k
        ON k.conrelid = down.rel AND k.conname = %s AND k.contype = 'c'
      JOIN pg_catalog.pg_class c ON c.oid = down.rel
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE NOT k.convalidated AND c.relkind = 'r' ORDER BY 1, 2"""


@dataclass(frozen=True, slots=True)
class Check:
    """One that was taken off."""

    schema: str
    holder: str
    """Its table or domain."""
    name: str
    domain: bool
    valid: bool
    """At the source it is."""
    definition: str
    comment: str | None

    @property
    def subject(self) -> str:
        """For people."""
        of = "domain " if self.domain else ""
        return f"check constraint {self.name} of {of}{self.schema}.{self.holder}"

    def alter(self) -> sql.Composable:
        """ALTER TABLE or ALTER DOMAIN, and whose."""
        kind = sql.SQL("ALTER DOMAIN " if self.domain else "ALTER TABLE ")
        return kind + sql.Identifier(self.schema, self.holder)


def take_off(
    connection: Connection[Any], schema: str, holder: str, *, domain: bool
) -> list[Check]:
    """Drop all CHECKs of a table or domain: those of its parents where it inherits them."""
    full = sql.Identifier(schema, holder).as_string(connection)
    which = _OF_DOMAIN if domain else _OF_TABLE
    taken = []
    for (oid,) in connection.execute(which, (full,)).fetchall():
        found = connection.execute(_DEFINITION, (oid,)).fetchone()
        if found is None:
            continue
        check = Check(*found)
        dropped = sql.SQL(" DROP CONSTRAINT ") + sql.Identifier(check.name)
        connection.execute(check.alter() + dropped)
        taken.append(check)
    return taken


def put_back(connection: Connection[Any], taken: Iterable[Check]) -> list[tuple[Check, str]]:
    """Add them as NOT VALID, then make valid whatever holds; gives those that do not, with
    the server's reason, for each table that has rows which break it."""
    taken = list(taken)
    for check in taken:
        name = sql.Identifier(check.name)
        more = "" if check.definition.endswith(" NOT VALID") else " NOT VALID"
        added = sql.SQL(check.definition + more)
        connection.execute(
            check.alter() + sql.SQL(" ADD CONSTRAINT ") + name + sql.SQL(" ") + added
        )
        if check.comment is not None:
            connection.execute(_comment(check))
    left: list[tuple[Check, str]] = []
    for check in taken:
        if check.valid and (why := _validate(connection, check)):
            left += _below(connection, check, why)
    return left


def told(check: Check, why: str) -> Unrestored:
    """One that stays NOT VALID."""
    reason = f"rows of the source break it; it is NOT VALID in the copy ({why})"
    return Unrestored(check.subject, reason, at_source=True)


def _validate(connection: Connection[Any], check: Check) -> str:
    """Why it can't be made valid; empty when it is."""
    statement = check.alter() + sql.SQL(" VALIDATE CONSTRAINT ") + sql.Identifier(check.name)
    try:
        connection.execute(statement)
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        return words(error)
    return ""


def _below(connection: Connection[Any], check: Check, why: str) -> list[tuple[Check, str]]:
    """The check itself, and those children's whose own rows break it."""
    left = [(check, why)]
    if check.domain:
        return left
    full = sql.Identifier(check.schema, check.holder).as_string(connection)
    for schema, table in connection.execute(_CHILDREN, (full, check.name)).fetchall():
        if (schema, table) == (check.schema, check.holder):
            continue
        child = Check(schema, table, check.name, False, True, check.definition, None)
        if said := _validate(connection, child):
            left.append((child, said))
    return left


def _comment(check: Check) -> sql.Composed:
    on = (
        "COMMENT ON CONSTRAINT {c} ON DOMAIN {t} IS {w}"
        if check.domain
        else ("COMMENT ON CONSTRAINT {c} ON {t} IS {w}")
    )
    return sql.SQL(on).format(
        c=sql.Identifier(check.name),
        t=sql.Identifier(check.schema, check.holder),
        w=sql.Literal(check.comment),
    )
