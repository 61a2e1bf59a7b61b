"""Changes to a copy on PostgreSQL, made by its superuser with every trigger off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg import Connection

from backups.engines.postgres.server import connected, login, quoted
from backups.model import Source
from verify.meddle.registry import Meddling, NothingToChange

Names = tuple[str, ...]

_OURS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_NO_EXTENSION = """
    NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')"""
_TABLES = f"""
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND {_OURS} AND {_NO_EXTENSION} ORDER BY 1, 2"""
_COLUMNS = f"""
    SELECT n.nspname, c.relname, a.attname, t.typcategory
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
     WHERE c.relkind = 'r' AND {_OURS} AND {_NO_EXTENSION} AND a.attnum > 0
       AND NOT a.attisdropped AND a.attgenerated = '' AND t.typtype = 'b'
       AND t.typname IN ('text', 'varchar', 'bpchar', 'int2', 'int4', 'int8', 'numeric')
     ORDER BY t.typcategory DESC, 1, 2, a.attnum"""
_INDEXES = f"""
    SELECT n.nspname, c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'i' AND {_OURS} AND {_NO_EXTENSION}
       AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid) ORDER BY 1, 2"""
_CONSTRAINTS = f"""
    SELECT n.nspname, c.relname, k.conname
      FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND k.contype IN ('f', 'c') AND k.conislocal AND {_OURS}
       AND {_NO_EXTENSION} ORDER BY k.contype DESC, 1, 2, 3"""
_TRIGGERS = f"""
    SELECT n.nspname, c.relname, g.tgname FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE NOT g.tgisinternal AND g.tgparentid = 0 AND {_OURS} AND {_NO_EXTENSION}
     ORDER BY 1, 2, 3"""
_SEQUENCES = f"""
    SELECT s.schemaname, s.sequencename FROM pg_sequences s
      JOIN pg_namespace n ON n.nspname = s.schemaname
     WHERE s.last_value IS NOT NULL AND s.last_value <> s.start_value AND {_OURS}
     ORDER BY 1, 2"""


def _first(found: str, do: Callable[[Connection[Any], Names], bool], target: Source) -> None:
    """Do it to the first thing found to which it can be done."""
    with connected(login(target)) as connection:
        connection.execute("SET session_replication_role = replica")
        things = connection.execute(found).fetchall()
        for names in things:
            try:
                with connection.transaction():
                    if do(connection, tuple(names)):
                        return
            except psycopg.errors.DatabaseError:  # this one is protected: the next may not be
                continue
    raise NothingToChange


def _say(statement: str) -> Callable[[Connection[Any], Names], bool]:
    """A statement about {a}.{b}, and {c}; it counts when it changed a row, or is no DML."""

    def do(connection: Connection[Any], names: Names) -> bool:
        keys = dict(zip("abc", names, strict=False))
        return connection.execute(quoted(statement, **keys)).rowcount != 0

    return do


def _change_row(connection: Connection[Any], names: Names) -> bool:
    schema, table, column, category = names
    text = "CASE WHEN left({c}::text, 1) = 'x' THEN 'y' ELSE 'x' END || substr({c}::text, 2)"
    new, which = (text, "{c} <> ''") if category == "S" else ("{c} + 1", "{c} IS NOT NULL")
    statement = (
        f"UPDATE {{a}}.{{b}} SET {{c}} = {new} WHERE ctid ="
        f" (SELECT ctid FROM {{a}}.{{b}} WHERE {which} LIMIT 1)"
    )
    return connection.execute(quoted(statement, a=schema, b=table, c=column)).rowcount == 1


Do = Callable[[Connection[Any], Names], bool]
_ONE = "ctid = (SELECT ctid FROM {a}.{b} LIMIT 1)"
_KINDS: tuple[tuple[str, str, str, str, str | Do], ...] = (
    ("table dropped", "a table is gone", "structure", _TABLES,
     "DROP TABLE {a}.{b} CASCADE"),
    ("column added", "a table has one column more", "structure", _TABLES,
     "ALTER TABLE {a}.{b} ADD COLUMN meddled_with int"),
    ("index dropped", "an index is gone", "structure", _INDEXES,
     "DROP INDEX {a}.{b}"),
    ("constraint dropped", "a foreign key or a check is gone", "structure", _CONSTRAINTS,
     "ALTER TABLE {a}.{b} DROP CONSTRAINT {c}"),
    ("trigger disabled", "a trigger is off", "structure", _TRIGGERS,
     "ALTER TABLE {a}.{b} DISABLE TRIGGER {c}"),
    ("grant added", "everybody may read a table", "structure", _TABLES,
     "GRANT SELECT ON {a}.{b} TO PUBLIC"),
    ("row removed", "a row is gone", "rows", _TABLES,
     f"DELETE FROM {{a}}.{{b}} WHERE {_ONE}"),
    ("row changed", "one value of one row is another", "content", _COLUMNS, _change_row),
    ("sequence reset", "a sequence begins anew", "sequences", _SEQUENCES,
     "ALTER SEQUENCE {a}.{b} RESTART"),
)  # fmt: skip

MEDDLINGS: Mapping[str, Meddling] = MappingProxyType(
    {
        name: Meddling(
            words, check, partial(_first, found, _say(do) if isinstance(do, str) else do)
        )
        for name, words, check, found, do in _KINDS
    }
)
"""By name."""
