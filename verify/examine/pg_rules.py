"""Level 10: what the data promises about itself. Constraints hold, keys are not given twice.

Constraints are asked for anew by the queries that PostgreSQL itself validates them with
(ri_triggers.c, RI_Initial_Check): bulk, without locks, and telling how many rows break one.
What is NOT VALID or not enforced in the source is so in the copy, and is no failure. Rows that
break a rule are the source's own, for `content` proves that the copy has the same; so are
sequences that stand behind, by `sequences`. They are findings about it: check `source`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg

from backups.model import Fingerprint
from backups.proving import Check
from verify.examine.pg_batches import batches, together
from verify.examine.pg_session import USERS, Session, told, unknown, words
from verify.gaps import RULES

_FOREIGN = f"""
    SELECT format('%I.%I', n.nspname, c.relname), quote_ident(k.conname),
           format('%I.%I', fn.nspname, f.relname),
           CASE WHEN c.relkind = 'p' THEN '' ELSE 'ONLY ' END,
           CASE WHEN f.relkind = 'p' THEN '' ELSE 'ONLY ' END,
           k.confmatchtype::text, coalesce((to_jsonb(k)->>'conperiod')::bool, false),
           (SELECT json_agg(json_build_array(quote_ident(a.attname), quote_ident(b.attname),
                       format('%I', x.nspname), o.oprname,
                       CASE WHEN lt.typtype = 'p' THEN ''
                            ELSE '::' || format_type(lt.oid, -1) END,
                       CASE WHEN rt.typtype = 'p' THEN ''
                            ELSE '::' || format_type(rt.oid, -1) END,
                       CASE WHEN a.attcollation <> b.attcollation AND b.attcollation <> 0
                            THEN format(' COLLATE %I.%I', cx.nspname, cl.collname) ELSE '' END)
                     ORDER BY u.at)
              FROM unnest(k.conkey, k.confkey, k.conpfeqop) WITH ORDINALITY u (a, b, op, at)
              JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.a
              JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = u.b
              JOIN pg_operator o ON o.oid = u.op JOIN pg_namespace x ON x.oid = o.oprnamespace
              JOIN pg_type lt ON lt.oid = o.oprleft JOIN pg_type rt ON rt.oid = o.oprright
              LEFT JOIN pg_collation cl ON cl.oid = b.attcollation
              LEFT JOIN pg_namespace cx ON cx.oid = cl.collnamespace)
      FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_class f ON f.oid = k.confrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
     WHERE k.contype = 'f' AND k.convalidated AND {USERS}
       -- A partition's part of its parent's constraint is checked with the parent's.
       AND k.conparentid = 0 ORDER BY 1, 2"""
_CHECKS = f"""
    SELECT format('%I.%I', n.nspname, c.relname), pg_get_userbyid(c.relowner),
           array_agg(quote_ident(k.conname) ORDER BY k.conname),
           array_agg(pg_get_expr(k.conbin, k.conrelid) ORDER BY k.conname)
      FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE k.contype = 'c' AND k.convalidated AND c.relkind = 'r' AND {USERS}
     GROUP BY 1, 2 ORDER BY 1"""
_LEFT_OUT = f"""
    SELECT count(*) FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE k.contype IN ('f', 'c') AND NOT k.convalidated AND {USERS}"""
_SUPERUSERS = "SELECT rolname FROM pg_roles WHERE rolsuper"
_PLAIN_DEFAULT = r"^nextval\('.*'::regclass\)(::(integer|bigint|smallint|numeric))?$"
_SEQUENCES = f"""
    WITH uses AS (
        SELECT d.objid AS seq, d.refobjid AS rel, d.refobjsubid AS col FROM pg_depend d
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
           AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
           AND NOT EXISTS (SELECT FROM pg_attrdef x WHERE x.adrelid = d.refobjid
                AND x.adnum = d.refobjsubid
                AND pg_get_expr(x.adbin, x.adrelid) !~ {{plain}})
        UNION
        SELECT d.refobjid, x.adrelid, x.adnum FROM pg_attrdef x JOIN pg_depend d
            ON d.classid = 'pg_attrdef'::regclass AND d.objid = x.oid
           AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid = 0
         WHERE pg_get_expr(x.adbin, x.adrelid) ~ {{plain}})
    SELECT format('%I.%I', sn.nspname, s.relname), format('%I.%I', n.nspname, c.relname),
           quote_ident(a.attname), q.seqincrement, sn.nspname, s.relname,
           EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass
                      AND e.objid = s.oid AND e.deptype = 'e')
      FROM uses u JOIN pg_class s ON s.oid = u.seq AND s.relkind = 'S'
      JOIN pg_namespace sn ON sn.oid = s.relnamespace JOIN pg_sequence q ON q.seqrelid = s.oid
      JOIN pg_class c ON c.oid = u.rel AND c.relkind IN ('r', 'p')
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_attribute a ON a.attrelid = u.rel AND a.attnum = u.col
     WHERE NOT q.seqcycle AND {USERS}
       AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
       AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = u.rel AND i.indisunique
                      AND u.col = ANY (i.indkey)) ORDER BY 1, 2, 3"""


def constraints(session: Session) -> Iterator[Check]:
    """`foreign keys`: every foreign key and CHECK of every table."""
    name, expected = "foreign keys", "no row breaks it"
    problems: list[Check] = []
    findings: list[Check] = []
    foreign, checks = session.rows(_FOREIGN), session.rows(_CHECKS)
    superusers = {row[0] for row in session.rows(_SUPERUSERS)}
    role = session.reader({row[1] for row in checks} - superusers)
    ((left_out,),) = session.rows(_LEFT_OUT)

    def ask(statement: str, table: str, names: list[str]) -> None:
        subject = f"{table} {names[0]}" if len(names) == 1 else table

        def answer(path: str) -> Any:
            with session.timed(asking=True):
                return session.ask(role, statement, "bigint[]", path)

        try:
            (broken,) = session.tried(answer)
        except psycopg.Error as error:
            passed = None if unknown(error) else False
            problems.append(Check(name, passed, expected, words(error, ours=False), subject))
            return
        for each, count in zip(names, broken, strict=True):
            if count:
                found = f"{count} rows do"
                findings.append(Check("source", False, RULES, found, f"{table} {each}"))

    for row in foreign:
        ask(_orphans(row), row[0], [row[1]])
    for table, _, names, expressions in checks:
        counts = ", ".join(
            f"pg_catalog.count(*) FILTER (WHERE NOT ({each}))" for each in expressions
        )
        ask(f"SELECT ARRAY[{counts}] FROM ONLY {table}", table, names)
    total = len(foreign) + sum(len(row[2]) for row in checks)
    also = f"; {left_out} are NOT VALID, as in the source" if left_out else ""
    but = f", but for {len(findings)} that the source's rows break" if findings else ""
    yield from told(name, expected, problems, f"{total} constraints hold{but}{also}")
    if findings:
        yield from told("source", RULES, findings, "")


def _orphans(row: Any) -> str:
    """The query that counts the rows of a foreign key without their parent."""
    table, _, parent, only, only_parent, match, period, columns = row
    equal = []
    for child, key, schema, operator, left, right, collation in columns:
        equal.append(
            f"(pk.{key}){left}{collation} OPERATOR({schema}.{operator})"
            f" (fk.{child}){right}{collation}"
        )
    given = [f"fk.{column[0]} IS NOT NULL" for column in columns]
    some = (" OR " if match == "f" else " AND ").join(given)
    start = f"SELECT ARRAY[pg_catalog.count(*)] FROM {only}{table} fk"
    if period:
        # The last column is a range: parents together must cover it.
        child, key = columns[-1][0], columns[-1][1]
        covered = (
            f"SELECT pg_catalog.range_agg(pk.{key}) FROM {only_parent}{parent} pk"
            f" WHERE {' AND '.join(equal[:-1])}"
        )
        return (
            f"{start} WHERE ({some}) AND NOT pg_catalog.isempty(fk.{child}) AND"
            f" (({covered}) OPERATOR(pg_catalog.@>) fk.{child}) IS NOT TRUE"
        )
    return (
        f"{start} WHERE ({some}) AND NOT EXISTS (SELECT FROM {only_parent}{parent} pk"
        f" WHERE {' AND '.join(equal)})"
    )


def sequences_ahead(session: Session, fingerprint: Fingerprint) -> Iterator[Check]:
    """A sequence from which a key column gets its values, by owning, identity or default,
    goes on beyond what the column holds. Sequences that cycle are left out.

    One that stands behind stands so in the source, as `sequences` proves; but for those of
    extensions that are not in the `fingerprint`: no dump carries where they stood."""
    name, expected = "sequences ahead", "beyond every key that is taken"
    problems: list[Check] = []
    findings: list[Check] = []
    plain = "'" + _PLAIN_DEFAULT.replace("'", "''") + "'"
    found = session.rows(_SEQUENCES.replace("{plain}", plain))
    alone = [
        sequence
        for some in batches(found, lambda _: 0)
        if not _all_ahead(session, some)
        for sequence in some
    ]
    compared = {(each.schema, each.name) for each in fingerprint.sequences}
    for sequence, table, column, increment, *named, of_extension in alone:
        question = _next_and_taken(sequence, table, column, increment)

        def ask(path: str, question: str = question) -> Any:
            with session.timed():
                session.look_in(path)
                return session.one(question)

        try:
            row = session.tried(ask)
        except psycopg.Error as error:
            passed = None if unknown(error) else False
            problems.append(Check(name, passed, expected, words(error), sequence))
            continue
        if not row[2]:
            actual = f"gives {row[0]} next; {table} {column} holds {row[1]}"
            if of_extension and tuple(named) not in compared:
                problems.append(Check(name, False, expected, actual, sequence))
            else:
                findings.append(Check("source", False, RULES, actual, sequence))
    but = f", but for {len(findings)} that stand so in the source" if findings else ""
    yield from told(name, expected, problems, f"{len(found)} sequences are{but}")
    if findings:
        yield from told("source", RULES, findings, "")


def _all_ahead(session: Session, some: list[Any]) -> bool:
    """Whether one statement over all of them finds none behind."""
    each = " UNION ALL ".join(_next_and_taken(*sequence[:4]) for sequence in some)

    def ask() -> bool:
        with session.timed():
            session.look_in("")
            row = session.one(f"SELECT pg_catalog.bool_and(ahead) FROM ({each}) x")
        return row is not None and row[0] is True

    return together(some, ask) is True


def _next_and_taken(sequence: str, table: str, column: str, increment: int) -> str:
    extreme, beyond = ("max", ">") if increment > 0 else ("min", "<")
    return (
        f"SELECT next, taken, (next {beyond} taken) IS NOT FALSE AS ahead FROM"
        f" (SELECT CASE WHEN is_called THEN last_value + {increment}::numeric"
        f" ELSE last_value END AS next FROM {sequence}) s,"
        f" (SELECT pg_catalog.{extreme}({column}) AS taken FROM {table}) t"
    )
