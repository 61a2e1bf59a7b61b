"""An oracle that knows neither pg_dump nor our engine: all that the system catalogs of a
database say, and its rows, as lines with every OID resolved to a name.

The server itself tells which column refers to which catalog (`pg_get_catalog_foreign_keys()`,
PostgreSQL 14), so a catalog or a column that a later release adds is compared too, without a
change here. Two databases of one server hold the same when their sets of lines are equal: what
initdb made is in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, LiteralString, cast

import psycopg
from psycopg import Connection, sql

LEFT_OUT = {
    "pg_statistic", "pg_statistic_ext_data",  # the planner's samples; ANALYZE makes them anew
    "pg_depend", "pg_shdepend",  # follow from definitions; membership of extensions: MEMBERS
    "pg_largeobject",  # as rows, below
    "pg_authid", "pg_auth_members", "pg_tablespace", "pg_parameter_acl", "pg_database",
    "pg_replication_origin", "pg_shdescription", "pg_shseclabel", "pg_db_role_setting",
}  # fmt: skip
"""Catalogs of the whole server, and what is not a property of objects."""
COLUMNS = {
    "pg_class": {
        "relfilenode", "relpages", "reltuples", "relallvisible", "relallfrozen", "relfrozenxid",
        "relminmxid", "relhasindex", "relhasrules", "relhastriggers", "relhassubclass",
        "relnatts", "relrewrite", "relpartbound", "reltype", "relchecks", "reltoastrelid",
        "relispopulated",
    },
    "pg_attribute": {"attnum", "attcacheoff", "atthasmissing", "attmissingval"},
    "pg_index": {"indcheckxmin", "indexprs", "indpred"},
    "pg_attrdef": {"adnum", "adbin"},
    "pg_constraint": {"conbin"},
    "pg_rewrite": {"ev_qual", "ev_action"},
    "pg_proc": {"prosqlbody", "proargdefaults"},
    "pg_trigger": {"tgqual"},
    "pg_policy": {"polqual", "polwithcheck"},
    "pg_statistic_ext": {"stxexprs"},
    "pg_partitioned_table": {"partexprs"},
    "pg_type": {"typdefaultbin"},
    "pg_enum": {"enumsortorder"},
    "pg_collation": {"collencoding"},  # the database's, in a copy of a system's collation
    "pg_subscription": {"subdbid", "subskiplsn"},
    "pg_subscription_rel": {"srsublsn"},
    "pg_inherits": {"inhseqno"},
    "pg_publication_rel": {"prqual", "prattrs"},
    "pg_description": set(),
}  # fmt: skip
"""Places on disk, counters, hints, positions of columns; and parse trees, which TEXTS print."""
TEXTS = {
    "pg_class": "pg_get_expr(relpartbound, oid)",
    "pg_index": "pg_get_indexdef(indexrelid)",
    "pg_attrdef": "pg_get_expr(adbin, adrelid)",
    "pg_constraint": "pg_get_constraintdef(oid)",
    "pg_rewrite": "pg_get_ruledef(oid)",
    "pg_proc": "case when prokind not in ('a') and not oid < 16384 then"
               " pg_get_functiondef(oid) end",
    "pg_trigger": "pg_get_triggerdef(oid)",
    "pg_policy": "concat(pg_get_expr(polqual, polrelid), ' / ',"
                 " pg_get_expr(polwithcheck, polrelid))",
    "pg_statistic_ext": "pg_get_statisticsobjdef(oid)",
    "pg_partitioned_table": "pg_get_partkeydef(partrelid)",
    "pg_enum": "(select count(*) from pg_enum o where o.enumtypid = t.enumtypid"
               " and o.enumsortorder < t.enumsortorder)::text",
    "pg_publication_rel": "pg_get_expr(prqual, prrelid) || (select array_agg(attname order by"
                          " attnum) from pg_attribute where attrelid = prrelid and attnum ="
                          " any (prattrs))::text",
}  # fmt: skip
SESSION = {
    "role": "none", "search_path": "", "extra_float_digits": "3", "datestyle": "ISO",
    "intervalstyle": "postgres", "timezone": "UTC", "quote_all_identifiers": "off",
    "client_encoding": "UTF8", "statement_timeout": "0", "bytea_output": "hex",
}  # fmt: skip
"""Whatever the database or the role says."""
LATER = (
    "t.xmin::text::bigint >= (select datfrozenxid::text::bigint from pg_database"
    " where datname = 'template0')"
)
"""Of rows that initdb did not write: its own are the same in every database."""
ONLY = {
    "pg_subscription": "subdbid = (select oid from pg_database where datname ="
                       " current_database())",
    "pg_class": "relkind <> 't' and relnamespace <> 'pg_toast'::regnamespace"
                " and relpersistence <> 't'",
    "pg_index": "indrelid not in (select oid from pg_class where relkind = 't')",
    "pg_attribute": "not attisdropped and attrelid not in"
                    " (select oid from pg_class where relnamespace = 'pg_toast'::regnamespace)",
}  # fmt: skip
PIECES = (
    "select 'database', to_jsonb(d) - '{oid,datname,datfrozenxid,datminmxid}'::text[] -"
    " '{dattablespace,datdba,datlastsysoid}'::text[] || jsonb_build_object('owner',"
    " datdba::regrole, 'datacl', coalesce(datacl, acldefault('d', datdba))) from pg_database d"
    " where datname = current_database()",
    "select 'comment on database', to_jsonb(description) from pg_shdescription where classoid ="
    " 'pg_database'::regclass and objoid = (select oid from pg_database where datname ="
    " current_database())",
    "select 'setting', jsonb_build_object('role', setrole::regrole, 'set', (select array_agg(s"
    " order by s) from unnest(setconfig) s)) from pg_db_role_setting where setdatabase ="
    " (select oid from pg_database where datname = current_database())",
    "select 'member', jsonb_build_object('of', (select extname from pg_extension where oid ="
    " refobjid), 'kind', deptype, 'what', (pg_identify_object(classid, objid, objsubid))"
    ".identity) from pg_depend where deptype in ('e', 'x') and refclassid ="
    " 'pg_extension'::regclass",
    "select 'large object', jsonb_build_object('oid', loid, 'md5', md5(string_agg(data, ''"
    " order by pageno))) from pg_largeobject group by loid",
)  # fmt: skip


def everything(url: str) -> set[str]:
    """One line for each fact."""
    with psycopg.connect(url) as connection:
        for name, value in SESSION.items():
            connection.execute("select set_config(%s, %s, false)", (name, value))
        names = _names(connection)
        lines = set(_catalogs(connection, names))
        for query in PIECES:
            rows = connection.execute(cast(LiteralString, query)).fetchall()
            lines |= {f"{what} {json.dumps(row, sort_keys=True)}" for what, row in rows}
        return {re.sub(r"_\d{5,}", "_N", line) for line in lines} | set(_rows(connection))


Names = dict[str, dict[str, str]]


def _names(connection: Connection[Any]) -> Names:
    """Of each catalog's rows by their OIDs; of columns by relation and number."""
    found: Names = {"columns": {}, "catalogs": {"2613": "large object"}}
    catalogs = connection.execute(
        "select c.oid::regclass::text, c.oid from pg_class c join pg_attribute a on"
        " a.attrelid = c.oid and a.attname = 'oid' where c.relkind = 'r' and"
        " c.relnamespace = 'pg_catalog'::regnamespace and c.relname <> all"
        " ('{pg_largeobject_metadata,pg_enum,pg_largeobject}')"
    ).fetchall()
    for name, oid in catalogs:
        query = sql.SQL(
            "select oid::text, (pg_identify_object({}, oid, 0)).identity from {}"
            " where oid >= 16384 or {} = 2615"  # others of initdb's are the same everywhere
        )
        rows = connection.execute(
            query.format(sql.Literal(oid), sql.SQL(name), sql.Literal(oid))
        ).fetchall()
        found["catalogs"][str(oid)] = name
        found[name] = {key: identity or f"<{key}>" for key, identity in rows}
    for relation, number, name in connection.execute(
        "select attrelid::text, attnum::text, attname from pg_attribute where attrelid >= 16384"
    ):
        found["columns"][f"{relation} {number}"] = name
    return found


def _catalogs(connection: Connection[Any], names: Names) -> Iterator[str]:
    refers: dict[str, list[tuple[list[str], str, bool]]] = {}
    for catalog, columns, target, array in connection.execute(
        "select fktable::text, fkcols, pktable::text, is_array from"
        " pg_get_catalog_foreign_keys()"
    ):
        refers.setdefault(catalog, []).append((columns, target, array))
    for (catalog,) in connection.execute(
        "select relname from pg_class where relkind = 'r' and relname <> all (%s) and"
        " relnamespace = 'pg_catalog'::regnamespace",
        (sorted(LEFT_OUT),),
    ).fetchall():
        query = f"select to_jsonb(t), {TEXTS.get(catalog, 'null')} from {catalog} t where " + (
            ONLY.get(catalog, "true") + f" and {LATER}"
        )
        for row, text in connection.execute(cast(LiteralString, query)):
            kept = {k: v for k, v in row.items() if k not in COLUMNS.get(catalog, ())}
            for columns, target, array in refers.get(catalog, []):
                _resolve(kept, row, columns, target, array, names)
            owned = kept.pop("classoid", None)
            if owned is not None and "objoid" in kept:
                of = names["catalogs"].get(str(owned), str(owned))
                kept["objoid"] = names.get(of, {}).get(str(row["objoid"]), row["objoid"])
                kept["of"] = of
            if "objsubid" in kept:
                kept["objsubid"] = _column(names, row["objoid"], row["objsubid"])
            if catalog == "pg_constraint" and kept["contype"] in "pu":
                del kept["connoinherit"]  # of a partition's: as the order of making was
            if catalog != "pg_largeobject_metadata":
                kept.pop("oid", None)
            for key, value in kept.items():
                if key.endswith(("acl", "options")) and isinstance(value, list):
                    kept[key] = sorted(map(str, value))
            yield f"{catalog} {json.dumps(kept, sort_keys=True)} {text}"


def _resolve(
    kept: dict[str, Any], row: dict[str, Any], columns: list[str], target: str, array: bool,
    names: Names,
) -> None:  # fmt: skip
    """Put names in the place of OIDs and of numbers of columns."""
    column = columns[-1]
    if column not in kept or row[column] is None:
        return
    values = row[column] if array else [row[column]]
    if isinstance(values, str):
        values = values.split()
    if len(columns) == 1:
        said = [names.get(target, {}).get(str(value), str(value)) for value in values]
    else:
        said = [_column(names, row[columns[0]], value) for value in values]
    kept[column] = said if array else said[0]


def _column(names: Names, relation: object, number: object) -> str:
    return names["columns"].get(f"{relation} {number}", str(number))


def _rows(connection: Connection[Any]) -> Iterator[str]:
    """Count and sum of hashes of each table, whoever owns it; where each sequence stands."""
    # Rows of a partitioned table as one: a hash leads to another leaf in another database.
    relations = connection.execute(
        "select oid::regclass::text, relkind from pg_class where relkind in ('r', 'm', 'S',"
        " 'p') and not relispartition and relpersistence <> 't' and"
        " relnamespace::regnamespace::text not in ('pg_catalog', 'information_schema',"
        " 'pg_toast')"
    ).fetchall()
    for name, kind in relations:
        only = "only " if kind in ("r", b"r") else ""
        query = f"select count(*), sum(hashtextextended(t::text, 0)) from {only}{name} t"
        if kind in ("S", b"S"):
            query = f"select last_value::text, is_called::text from {name}"
        try:
            with connection.transaction():
                found = connection.execute(cast(LiteralString, query)).fetchone()
        except psycopg.Error as error:
            found = (type(error).__name__,)
        yield f"rows of {name}: {found}"


def forget_subscriptions(url: str) -> None:
    """Else their database can't be dropped."""
    with psycopg.connect(url, autocommit=True) as connection:
        for (name,) in connection.execute(
            "select subname from pg_subscription s join pg_database d on d.oid = s.subdbid"
            " where d.datname = current_database()"
        ).fetchall():
            for words in ("alter subscription {} disable",
                          "alter subscription {} set (slot_name = none)",
                          "drop subscription {}"):  # fmt: skip
                connection.execute(sql.SQL(words).format(sql.Identifier(name)))
