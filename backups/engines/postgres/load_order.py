"""Which tables' rows must wait for those of others.

PostgreSQL lets a CHECK, a stored generated column, a trigger or a partition's key call any
function, and a function may read other tables: its rows are taken only after theirs. The
archive's order is pg_dump's, in which one session after the other table succeeds; so a table
that may depend on another's rows waits until all before it are committed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import Connection

# Operators and support functions of types in C don't read tables; who calls a C function by
# its name may (PostGIS's transformations read spatial_ref_sys). 16384: FirstNormalObjectId.
_TABLES = """
    WITH RECURSIVE code (class, oid) AS (
        SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE oid >= 16384
        UNION ALL
        SELECT 'pg_operator'::regclass, o.oid FROM pg_operator o
          JOIN pg_proc p ON p.oid = o.oprcode JOIN pg_language l ON l.oid = p.prolang
         WHERE o.oid >= 16384 AND l.lanname NOT IN ('internal', 'c')
        UNION ALL
        SELECT 'pg_opclass'::regclass, oid FROM pg_opclass WHERE oid >= 16384
    ), calls AS (
        SELECT DISTINCT d.classid, d.objid, d.objsubid FROM pg_depend d
          JOIN code ON d.refclassid = code.class AND d.refobjid = code.oid
         WHERE d.classid IN ('pg_class'::regclass, 'pg_constraint'::regclass,
                             'pg_attrdef'::regclass)
    ), types (oid) AS (
        SELECT k.contypid FROM pg_constraint k JOIN calls c
            ON c.classid = 'pg_constraint'::regclass AND c.objid = k.oid WHERE k.contypid <> 0
        UNION
        SELECT found.oid FROM types b CROSS JOIN LATERAL (
            SELECT t.oid FROM pg_type t WHERE b.oid IN (t.typbasetype, t.typelem)
            UNION ALL
            SELECT r.reltype FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid
             WHERE a.atttypid = b.oid AND r.reltype <> 0
            UNION ALL
            SELECT unnest(ARRAY[g.rngtypid, g.rngmultitypid]) FROM pg_range g
             WHERE g.rngsubtype = b.oid) found
    ), waiting (oid) AS (
        SELECT k.conrelid FROM pg_constraint k JOIN calls c
            ON c.classid = 'pg_constraint'::regclass AND c.objid = k.oid
        UNION SELECT x.adrelid FROM pg_attrdef x JOIN calls c
            ON c.classid = 'pg_attrdef'::regclass AND c.objid = x.oid
          JOIN pg_attribute a ON a.attrelid = x.adrelid AND a.attnum = x.adnum
         WHERE a.attgenerated <> ''
        UNION SELECT a.attrelid FROM pg_attribute a JOIN calls c
            ON c.classid = 'pg_class'::regclass AND c.objid = a.attrelid
           AND c.objsubid = a.attnum WHERE a.attgenerated <> ''
        UNION SELECT a.attrelid FROM pg_attribute a JOIN types ON types.oid = a.atttypid
        UNION SELECT i.indrelid FROM pg_index i JOIN calls c
            ON c.classid = 'pg_class'::regclass AND c.objid = i.indexrelid
        UNION SELECT t.tgrelid FROM pg_trigger t
         WHERE t.tgenabled <> 'D' AND t.tgtype & 4 <> 0
        UNION SELECT leaf.relid FROM pg_partitioned_table p JOIN calls c
            ON c.classid = 'pg_class'::regclass AND c.objid = p.partrelid
         CROSS JOIN LATERAL pg_partition_tree(p.partrelid) leaf
    )
    SELECT convert_to(n.nspname::text, getdatabaseencoding()),
           convert_to(c.relname::text, getdatabaseencoding()),
           c.oid IN (SELECT oid FROM waiting),
           c.oid IN (SELECT objid FROM pg_depend
                      WHERE classid = 'pg_class'::regclass AND deptype = 'e')
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'f') AND n.nspname <> 'information_schema'"""


@dataclass(frozen=True, slots=True)
class Order:
    """How tables (schema, name as in a `TocEntry`) are to be loaded."""

    tables: frozenset[tuple[str, str]]
    """All there are."""
    waiting: frozenset[tuple[str, str]]
    """Only after every row before theirs is committed."""
    alone: frozenset[tuple[str, str]]
    """By one COPY, that leaves nothing if it fails: all of `waiting`, and extensions' own
    tables, which may have had rows before."""


def order(connection: Connection[Any]) -> Order:
    """What the copy's catalogs say, once all that comes before rows is made."""
    tables, waiting, alone = set(), set(), set()
    for schema, name, waits, extensions in connection.execute(_TABLES, binary=True):
        key = (_name(schema), _name(name))
        tables.add(key)
        if waits:
            waiting.add(key)
        if waits or extensions:
            alone.add(key)
    return Order(frozenset(tables), frozenset(waiting), frozenset(alone))


def _name(raw: bytes) -> str:
    """As the archive's strings are read."""
    return raw.decode("utf-8", "surrogateescape")
