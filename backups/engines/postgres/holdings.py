"""What a database holds, as its catalogs tell in one snapshot.

`inventory` decides what of it an archive lacks. Source: PostgreSQL manual, "System Catalogs".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import Connection

Address = tuple[int, int]
"""Oid of a catalog, and of an object in it."""

_HELD: LiteralString = """
    WITH rel AS (
        SELECT c.oid, c.relkind, c.relnamespace, c.xmin FROM pg_class c
          JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relpersistence <> 't' AND n.nspname !~ '^pg_(toast_)?temp_'
           AND NOT (n.nspname = 'information_schema' AND n.oid >= 16384)),
    held AS (
        SELECT 'pg_namespace'::regclass AS catalog, oid, 'schema' AS kind, 0::oid AS on, xmin
          FROM pg_namespace
         WHERE nspname !~ '^pg_(toast_)?temp_' AND nspname <> 'information_schema'
        UNION ALL
        SELECT 'pg_class'::regclass, oid, CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN
               'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN
               'sequence' ELSE 'foreign table' END,
               -- The sequence of an identity column comes with its table.
               coalesce((SELECT d.refobjid FROM pg_depend d
                          WHERE rel.relkind = 'S' AND d.classid = 'pg_class'::regclass
                            AND d.objid = rel.oid AND d.deptype = 'i'), 0), xmin
          FROM rel WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
        UNION ALL
        SELECT 'pg_class'::regclass, i.indexrelid, 'index', i.indrelid, i.xmin
          FROM pg_index i JOIN rel ON rel.oid = i.indrelid AND rel.relkind <> 't'
         WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid
                              AND k.contype IN ('p', 'u', 'x'))
        UNION ALL
        SELECT 'pg_constraint'::regclass, k.oid, 'constraint', k.conrelid, k.xmin
          FROM pg_constraint k JOIN rel ON rel.oid = k.conrelid
         WHERE k.contype IN ('p', 'u', 'x', 'f', 'c') AND k.conparentid = 0 AND k.conislocal
        UNION ALL
        SELECT 'pg_trigger'::regclass, t.oid, 'trigger', t.tgrelid, t.xmin
          FROM pg_trigger t JOIN rel ON rel.oid = t.tgrelid
         WHERE NOT t.tgisinternal AND t.tgparentid = 0
        UNION ALL
        SELECT 'pg_rewrite'::regclass, r.oid, 'rule', r.ev_class, r.xmin
          FROM pg_rewrite r JOIN rel ON rel.oid = r.ev_class WHERE r.rulename <> '_RETURN'
        UNION ALL
        SELECT 'pg_policy'::regclass, p.oid, 'policy', p.polrelid, p.xmin
          FROM pg_policy p JOIN rel ON rel.oid = p.polrelid
        UNION ALL
        SELECT 'pg_statistic_ext'::regclass, s.oid, 'statistics object', 0, s.xmin
          FROM pg_statistic_ext s JOIN rel ON rel.oid = s.stxrelid
        UNION ALL
        SELECT 'pg_type'::regclass, t.oid, 'type', 0, t.xmin FROM pg_type t
          LEFT JOIN pg_class c ON c.oid = t.typrelid
          JOIN pg_namespace n ON n.oid = t.typnamespace
         WHERE n.nspname !~ '^pg_(toast_)?temp_'
           AND NOT (n.nspname = 'information_schema' AND n.oid >= 16384)
           AND t.typtype IN ('b', 'c', 'd', 'e', 'r', 'p') AND coalesce(c.relkind, 'c') = 'c'
           AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
        UNION ALL
        SELECT 'pg_proc'::regclass, f.oid, 'function', 0, f.xmin FROM pg_proc f
          JOIN pg_namespace n ON n.oid = f.pronamespace
         WHERE n.nspname !~ '^pg_(toast_)?temp_'
           AND NOT (n.nspname = 'information_schema' AND n.oid >= 16384)
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                              AND d.objid = f.oid AND d.deptype = 'i')
        UNION ALL
        SELECT 'pg_operator'::regclass, oid, 'operator', 0, xmin FROM pg_operator
         WHERE oprcode <> 0
        UNION ALL
        SELECT 'pg_opclass'::regclass, oid, 'operator class', 0, xmin FROM pg_opclass
        UNION ALL
        SELECT 'pg_opfamily'::regclass, oid, 'operator family', 0, xmin FROM pg_opfamily
        UNION ALL
        SELECT 'pg_amop'::regclass, a.oid, 'member of an operator family', 0, a.xmin
          FROM pg_amop a
         WHERE a.amopfamily < 16384 AND NOT EXISTS (
               SELECT FROM pg_depend d WHERE d.classid = 'pg_amop'::regclass
                  AND d.objid = a.oid AND d.refclassid = 'pg_opclass'::regclass)
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = a.amopopr
                  AND d.classid = 'pg_operator'::regclass AND d.deptype = 'e')
        UNION ALL
        SELECT 'pg_amproc'::regclass, a.oid, 'member of an operator family', 0, a.xmin
          FROM pg_amproc a
         WHERE a.amprocfamily < 16384 AND NOT EXISTS (
               SELECT FROM pg_depend d WHERE d.classid = 'pg_amproc'::regclass
                  AND d.objid = a.oid AND d.refclassid = 'pg_opclass'::regclass)
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = a.amproc
                  AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e')
        UNION ALL
        SELECT 'pg_cast'::regclass, k.oid, 'cast', 0, k.xmin FROM pg_cast k
         WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_cast'::regclass
                              AND d.objid = k.oid AND d.deptype = 'i')
        UNION ALL SELECT 'pg_collation'::regclass, oid, 'collation', 0, xmin FROM pg_collation
        UNION ALL
        SELECT 'pg_conversion'::regclass, oid, 'conversion', 0, xmin FROM pg_conversion
        UNION ALL SELECT 'pg_language'::regclass, oid, 'language', 0, xmin FROM pg_language
        UNION ALL SELECT 'pg_transform'::regclass, oid, 'transform', 0, xmin FROM pg_transform
        UNION ALL SELECT 'pg_am'::regclass, oid, 'access method', 0, xmin FROM pg_am
        UNION ALL
        SELECT 'pg_ts_parser'::regclass, oid, 'text search parser', 0, xmin FROM pg_ts_parser
        UNION ALL
        SELECT 'pg_ts_dict'::regclass, oid, 'text search dictionary', 0, xmin FROM pg_ts_dict
        UNION ALL
        SELECT 'pg_ts_template'::regclass, oid, 'text search template', 0, xmin
          FROM pg_ts_template
        UNION ALL
        SELECT 'pg_ts_config'::regclass, oid, 'text search configuration', 0, xmin
          FROM pg_ts_config
        UNION ALL
        SELECT 'pg_foreign_data_wrapper'::regclass, oid, 'foreign-data wrapper', 0, xmin
          FROM pg_foreign_data_wrapper
        UNION ALL
        SELECT 'pg_foreign_server'::regclass, oid, 'foreign server', 0, xmin
          FROM pg_foreign_server
        UNION ALL
        SELECT 'pg_publication'::regclass, oid, 'publication', 0, xmin FROM pg_publication
        UNION ALL
        SELECT 'pg_publication_rel'::regclass, oid, 'table of a publication', 0, xmin
          FROM pg_publication_rel
        UNION ALL
        -- Not xmin: everybody may read some columns of it only.
        SELECT 'pg_subscription'::regclass, oid, 'subscription', 0, '3'::xid
          FROM pg_subscription
         WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        UNION ALL
        SELECT 'pg_event_trigger'::regclass, oid, 'event trigger', 0, xmin
          FROM pg_event_trigger
        UNION ALL
        SELECT 'pg_default_acl'::regclass, oid, 'default privilege', 0, xmin
          FROM pg_default_acl
        UNION ALL SELECT 'pg_extension'::regclass, oid, 'extension', 0, xmin FROM pg_extension
    )
    SELECT catalog::oid::bigint, oid::bigint, kind, "on"::bigint, xmin::text::bigint
      FROM held WHERE oid >= 16384"""
_PUBLISHED_SCHEMAS: LiteralString = """
    SELECT 'pg_publication_namespace'::regclass::oid::bigint, oid::bigint,
           'schema of a publication', 0::bigint, xmin::text::bigint
      FROM pg_publication_namespace"""
_MEMBERS = """
    SELECT d.classid::bigint, d.objid::bigint, e.extname, d.xmin::text::bigint,
           e.xmin::text::bigint, d.classid = 'pg_class'::regclass AND EXISTS (
               SELECT FROM pg_extension x WHERE d.objid = ANY (x.extconfig)),
           coalesce(a.xmin, f.xmin, t.xmin)::text::bigint,
           d.cmin::text::bigint, coalesce(a.cmin, f.cmin, t.cmin)::text::bigint
      FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
      -- When a table was made: rows of its system columns are never written again.
      LEFT JOIN pg_attribute a ON d.classid = 'pg_class'::regclass AND a.attrelid = d.objid
            AND a.attname = 'ctid' AND a.attnum < 0
      LEFT JOIN pg_proc f ON d.classid = 'pg_proc'::regclass AND f.oid = d.objid
      LEFT JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
     WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass"""
# A right that was given or taken writes the row anew, too; pg_dump carries that.
_ALTERED = """
    SELECT f.oid::bigint FROM pg_proc f JOIN pg_depend d
        ON d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e'
     WHERE f.xmin <> d.xmin AND f.proacl IS NOT DISTINCT FROM (
           SELECT i.initprivs FROM pg_init_privs i
            WHERE i.classoid = 'pg_proc'::regclass AND i.objoid = f.oid AND i.objsubid = 0)"""
_CHANGED = """
    SELECT d.classid::bigint, d.objid::bigint, a.xmin::text::bigint, 'column',
           'column ' || a.attname || ' of ' || i.type || ' ' || i.identity
      FROM pg_attribute a JOIN pg_depend d ON d.classid = 'pg_class'::regclass
           AND d.objid = a.attrelid AND d.deptype = 'e',
           pg_identify_object(d.classid, d.objid, 0) i
     WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attacl IS NULL AND a.xmin <> d.xmin
    UNION ALL
    SELECT d.classid::bigint, d.objid::bigint, c.xmin::text::bigint, 'comment',
           'comment on ' || i.type || ' ' || i.identity
      FROM pg_description c JOIN pg_depend d ON d.classid = c.classoid
           AND d.objid = c.objoid AND d.deptype = 'e',
           pg_identify_object(c.classoid, c.objoid, c.objsubid) i
     WHERE c.xmin <> d.xmin"""
# Whose options the view pg_user_mappings hides from us, though the mapping is dumped.
_MAPPINGS = """
    SELECT coalesce(nullif(m.usename, ''), 'public'), m.srvname,
           (m.umuser <> 0 AND m.usename = current_user AND (
                pg_has_role(s.srvowner, 'USAGE')
                OR has_server_privilege(s.oid, 'USAGE')))
            OR (m.umuser = 0 AND pg_has_role(s.srvowner, 'USAGE'))
            OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
      FROM pg_user_mappings m JOIN pg_foreign_server s ON s.oid = m.srvid ORDER BY 1, 2"""
_NAMES = """
    SELECT c::bigint, o::bigint, i.type || ' ' || i.identity
      FROM unnest(%s::oid[], %s::oid[]) AS x(c, o), pg_identify_object(c, o, 0) AS i"""
_ABOUT = """
    SELECT classoid::bigint, objoid::bigint, 'comment' FROM pg_description
     WHERE objoid >= 16384
    UNION SELECT classoid::bigint, objoid::bigint, 'security label' FROM pg_seclabel
     WHERE objoid >= 16384"""
_OF_DATABASE = """
    SELECT count(*) FROM pg_shseclabel
     WHERE classoid = 'pg_database'::regclass
       AND objoid = (SELECT oid FROM pg_database WHERE datname = current_database())"""
_LARGE_OBJECTS = "SELECT count(*) FROM pg_largeobject_metadata"


@dataclass(frozen=True, slots=True)
class Held:
    """An object of a user's making."""

    address: Address
    kind: str
    on: int
    """Oid of the relation that it hangs on, or 0."""
    made: int
    """The transaction that wrote it last."""


@dataclass(frozen=True, slots=True)
class Member:
    """That an object belongs to an extension."""

    extension: str
    added: int
    """The transaction in which it became a member."""
    extension_made: int
    marked: bool
    """The extension wants its rows dumped."""
    made: int | None
    """The transaction that made it, where that can be told."""
    added_by: int
    """The command of its transaction that made it a member."""
    made_by: int | None
    """The command that made it."""

    @property
    def earlier(self) -> bool:
        """It was there before it became a member, be it in the same transaction."""
        if self.made is None or self.made_by is None:
            return False
        if self.made == self.added:
            return self.made_by < self.added_by
        return is_earlier(self.made, self.added)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the snapshot shows."""

    held: tuple[Held, ...]
    members: Mapping[Address, Member]
    mappings: tuple[tuple[str, str, bool], ...]
    """User, server, and whether its options can be seen."""
    about: tuple[tuple[int, int, str], ...]
    """Objects that a comment or a security label is on."""
    altered: frozenset[int]
    """Functions of extensions that were written again, rights apart."""
    changed: tuple[tuple[Address, int, str, str], ...]
    """Columns of and comments on extensions' objects: whose, transaction, kind, name."""
    database_labels: int
    large_objects: int
    relations: int
    """Oid of pg_class."""
    functions: int
    """Oid of pg_proc."""


def read(connection: Connection[Any]) -> Inventory:
    """In the connection's snapshot, with a search path of pg_catalog alone."""
    connection.execute("SET LOCAL jit = off")  # compiling such statements takes seconds
    rows = connection.execute(_HELD).fetchall()
    if connection.info.server_version >= 150000:
        rows += connection.execute(_PUBLISHED_SCHEMAS).fetchall()
    catalogs = connection.execute(
        "SELECT 'pg_class'::regclass::oid::bigint, 'pg_proc'::regclass::oid::bigint"
    ).fetchall()[0]
    return Inventory(
        held=tuple(Held((c, o), kind, on, made) for c, o, kind, on, made in rows),
        members={
            (c, o): Member(*rest) for c, o, *rest in connection.execute(_MEMBERS).fetchall()
        },
        mappings=tuple(connection.execute(_MAPPINGS).fetchall()),
        about=tuple(connection.execute(_ABOUT).fetchall()),
        altered=frozenset(row[0] for row in connection.execute(_ALTERED)),
        changed=tuple(
            ((c, o), *rest) for c, o, *rest in connection.execute(_CHANGED).fetchall()
        ),
        database_labels=connection.execute(_OF_DATABASE).fetchall()[0][0],
        large_objects=connection.execute(_LARGE_OBJECTS).fetchall()[0][0],
        relations=catalogs[0],
        functions=catalogs[1],
    )


def names(connection: Connection[Any], wanted: Iterable[Address]) -> dict[Address, str]:
    """As the server describes each, with its kind: `table public.t`."""
    addresses = list(wanted)
    if not addresses:
        return {}
    rows = connection.execute(_NAMES, ([a for a, _ in addresses], [o for _, o in addresses]))
    return {(catalog, oid): name for catalog, oid, name in rows}


def is_earlier(one: int, other: int) -> bool:
    """Of two transactions, which count modulo 2^32."""
    return 0 < (other - one) % (1 << 32) < 1 << 31
