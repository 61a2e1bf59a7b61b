"""Databases of real products: their own schema, filled with random rows of every type."""

from __future__ import annotations

import random  # noqa: TID251  (repeatable, unlike the real one)
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, LiteralString, cast

import psycopg
from psycopg import Connection, sql

ATTEMPTS = 12
"""At a row, before it is given up: CHECKs and unique keys refuse some."""
COLUMNS = """
    select a.attrelid, a.attname, a.attnotnull, a.atttypmod, t.oid, '', '',
           case when t.typtype = 'd' then t.typbasetype else t.oid end, 0, '',
           case when t.typtype = 'd' then t.typtypmod else a.atttypmod end, a.atthasdef
      from pg_attribute a join pg_type t on t.oid = a.atttypid
     where a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and a.attidentity <> 'a'
       and a.attrelid = any (%s) order by a.attrelid, a.attnum"""
TABLES = """
    select c.oid, n.nspname, c.relname
      from pg_class c join pg_namespace n on n.oid = relnamespace
     where c.relkind in ('r', 'p') and not c.relispartition and n.nspname not in
           ('pg_catalog', 'information_schema') and c.relpersistence <> 't' and not exists
           (select from pg_depend d where d.objid = c.oid and d.deptype = 'e') order by 2, 3"""
REFERS = """
    select conrelid, confrelid, (select array_agg(attname::text order by n) from unnest(conkey)
             with ordinality u(k, n) join pg_attribute on attrelid = conrelid and attnum = k),
           (select array_agg(attname::text order by n) from unnest(confkey)
             with ordinality u(k, n) join pg_attribute on attrelid = confrelid and attnum = k)
      from pg_constraint where contype = 'f' and conparentid = 0"""
CHECKS = """
    select conrelid, attname::text, pg_get_constraintdef(c.oid) from pg_constraint c
      join pg_attribute on attrelid = conrelid and attnum = any (conkey) where contype = 'c'"""


@dataclass(frozen=True)
class Column:
    """What a value of it must be."""

    name: str
    required: bool
    type: int
    base: int
    typmod: int
    has_default: bool


@dataclass
class Table:
    """One to fill."""

    oid: int
    name: sql.Identifier
    columns: list[Column] = field(default_factory=list)
    keys: list[tuple[int, list[str], list[str]]] = field(default_factory=list)
    """Table referred to, our columns, its columns."""
    hints: dict[str, list[str]] = field(default_factory=dict)
    """Values that the CHECKs on a column name."""


@dataclass
class Filled:
    """What came of it."""

    tables: int = 0
    empty: list[str] = field(default_factory=list)
    """Tables whose every row was refused, with the last reason."""
    rows: int = 0
    given_up: int = 0
    types: set[str] = field(default_factory=set)


class Values:
    """Random values of any type, as the server reads them."""

    def __init__(self, connection: Connection[Any], chance: random.Random) -> None:
        self.chance = chance
        self.types: dict[int, tuple[str, str, int, int]] = {}
        for oid, name, kind, base, element in connection.execute(
            "select oid, typname, typtype, typbasetype, case when typcategory = 'A' and"
            " typlen = -1 then typelem else 0 end from pg_type"
        ):
            self.types[oid] = (name, _text(kind), base, element)
        self.labels: dict[int, list[str]] = {}
        for oid, label in connection.execute("select enumtypid, enumlabel from pg_enum"):
            self.labels.setdefault(oid, []).append(label)
        self.ranges = dict(
            connection.execute("select rngtypid, rngsubtype from pg_range").fetchall()
        )
        self.attributes: dict[int, list[int]] = {}
        for oid, attribute in connection.execute(
            "select c.reltype, a.atttypid from pg_class c join pg_attribute a on a.attrelid ="
            " c.oid where c.relkind = 'c' and a.attnum > 0 and not attisdropped order by attnum"
        ):
            self.attributes.setdefault(oid, []).append(attribute)

    def of(self, type: int, typmod: int) -> str | None:
        """None where we know no value."""
        name, kind, base, element = self.types[type]
        if kind == "d":
            return self.of(base, typmod)
        if kind == "e":
            return self.chance.choice(self.labels[type])
        if kind in ("r", "m"):
            return self._range(type, typmod) if kind == "r" else "{}"
        if kind == "c":
            fields = [self.of(each, -1) for each in self.attributes.get(type, [])]
            return "(" + ",".join("" if f is None else _quoted(f) for f in fields) + ")"
        if element and name.startswith("_"):
            items = [self.of(element, typmod) for _ in range(self.chance.randint(0, 3))]
            return "{" + ",".join("NULL" if i is None else _quoted(i) for i in items) + "}"
        made = MAKERS.get(name)
        return made(self.chance, typmod) if made else None

    def _range(self, type: int, typmod: int) -> str:
        ends = [self.of(self.ranges[type], typmod) or "" for _ in range(2)]
        try:
            ends.sort(key=float)
        except ValueError:
            ends.sort()
        return f'["{ends[0]}","{ends[1]}"]' if ends[0] != ends[1] else "empty"


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


LETTERS = string.ascii_letters + string.digits + " _-'\"\\,;%\t\nÄßé日本☃😀"


def _words(chance: random.Random, typmod: int) -> str:
    most = typmod - 4 if typmod > 4 else 40
    return "".join(chance.choices(LETTERS, k=chance.randint(1, min(most, 40))))


def _plain(chance: random.Random, typmod: int) -> str:
    most = typmod - 4 if typmod > 4 else 12
    return "".join(chance.choices(string.ascii_lowercase, k=min(most, 12)))


def _numeric(chance: random.Random, typmod: int) -> str:
    if typmod < 4:
        return chance.choice(["0", "1", "-7.25", "123456789012345678901234567890.12345", "NaN"])
    digits, scale = ((typmod - 4) >> 16) & 0xFFFF, (typmod - 4) & 0x7FF
    whole = min(max(digits - scale, 0), 12)
    scale = min(scale, 9)
    part = f".{chance.randrange(10**scale):0{scale}}" if scale else ""
    return f"{chance.randrange(10**whole)}{part}"


def _bits(chance: random.Random, typmod: int) -> str:
    return "".join(chance.choices("01", k=typmod if typmod > 0 else 1))


def _hex(chance: random.Random, length: int) -> str:
    return "".join(chance.choices("0123456789abcdef", k=length))


def _uuid(chance: random.Random, _: int) -> str:
    return "-".join(_hex(chance, n) for n in (8, 4, 4, 4, 12))


def _date(chance: random.Random, _: int) -> str:
    return f"{chance.randint(1900, 2099)}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"


def _stamp(chance: random.Random, _: int) -> str:
    time = f"{chance.randint(0, 23):02}:{chance.randint(0, 59):02}:{chance.randint(0, 59):02}"
    return f"{_date(chance, 0)} {time}.{chance.randrange(10**6):06}"


def _json(chance: random.Random, _: int) -> str:
    return chance.choice(['{"a": [1, 2.50, null], "ß": "\\u2603"}', "[]", '"x"', "{}", "0"])


def _whole(low: int, high: int) -> Callable[[random.Random, int], str]:
    return lambda chance, _: str(
        chance.choice([chance.randint(0, 9), chance.randint(low, high)])
    )


def _one(*values: str) -> Callable[[random.Random, int], str]:
    return lambda chance, _: chance.choice(values)


MAKERS: dict[str, Callable[[random.Random, int], str]] = {
    "int2": _whole(0, 32767), "int4": _whole(0, 2**31 - 1), "int8": _whole(0, 2**53),
    "oid": _whole(1, 2**31), "numeric": _numeric, "money": _one("0", "12.5", "-3.99"),
    "float4": _one("0", "1.5", "-0", "3.4e38"), "float8": _one("0", "0.1", "-0", "1e-300"),
    "text": _words, "varchar": _words, "bpchar": _plain, "citext": _words, "name": _plain,
    "char": _one("a", "b"), "bool": _one("t", "f"), "bytea": lambda c, _: "\\x" + _hex(c, 16),
    "uuid": _uuid, "date": _date, "timestamp": _stamp, "timestamptz": _stamp,
    "time": lambda c, _: _stamp(c, 0)[11:], "timetz": lambda c, _: _stamp(c, 0)[11:] + "+02",
    "interval": _one("1 day", "-3 mons 2 hours", "00:00:00.000001"), "json": _json,
    "jsonb": _json, "xml": _one("<a/>", "<b>&amp;</b>"), "inet": _one("10.1.2.3", "::1/64"),
    "cidr": _one("10.0.0.0/8", "2001:db8::/32"), "macaddr": _one("08:00:2b:01:02:03"),
    "macaddr8": _one("08:00:2b:01:02:03:04:05"), "bit": _bits, "varbit": _bits,
    "tsvector": _one("'cat':1A 'rat':2", ""), "tsquery": _one("'cat' & 'rat'", "!'x'"),
    "point": _one("(1,2)", "(-0.5,1e10)"), "box": _one("(2,2),(0,0)"), "line": _one("{1,2,3}"),
    "lseg": _one("[(0,0),(1,1)]"), "path": _one("[(0,0),(1,1)]"), "circle": _one("<(0,0),1>"),
    "polygon": _one("((0,0),(1,1),(1,0))"), "pg_lsn": _one("0/16B3748"),
    "hstore": _one('"a"=>"b"'),
    "ltree": _one("a.b.c"), "cube": _one("(1, 2, 3)", "(1,2,3),(4,5,6)"),
    "geometry": _one("POINT(1 2)"), "geography": _one("POINT(1 2)"), "xid": _one("1"),
    "debversion": _one("1.0-1"), "regclass": _one("pg_class"), "regproc": _one("now"),
    "jsonpath": _one("$.a"), "earth": _one("(0,0,0)"),
}  # fmt: skip
"""By the name of the type: from chance and the column's typmod to a text."""


def tables(connection: Connection[Any]) -> list[Table]:
    """In an order in which most can be filled: what is referred to first."""
    found = {
        oid: Table(oid, sql.Identifier(schema, name))
        for oid, schema, name in connection.execute(TABLES)
    }
    for row in connection.execute(COLUMNS, (list(found),)):
        column = Column(row[1], row[2], row[4], row[7], row[10], row[11])
        found[row[0]].columns.append(column)
    for ours, theirs, columns, others in connection.execute(REFERS):
        if ours in found and theirs in found:
            found[ours].keys.append((theirs, columns, others))
    for oid, name, words in connection.execute(CHECKS):
        if oid in found:
            literals = re.findall(r"'((?:[^']|'')*)'::", words) + re.findall(r"\b\d+\b", words)
            found[oid].hints.setdefault(name, []).extend(literals)
    return list(_ordered(found))


def _ordered(found: dict[int, Table]) -> Iterator[Table]:
    left = dict(found)
    while left:
        ready = [
            table
            for table in left.values()
            if not any(to in left and to != table.oid for to, *_ in table.keys)
        ]
        for table in ready or [min(left.values(), key=lambda t: len(t.keys))]:
            yield left.pop(table.oid)


def fill(url: str, seed: int, rows: int = 3) -> Filled:
    """Add so many random rows to each table; each is one that the server takes, with all its
    keys and CHECKs. A trigger that refuses made-up rows is switched off for that row."""
    chance, done = random.Random(seed), Filled()
    with psycopg.connect(url, autocommit=True) as connection:
        values = Values(connection, chance)
        ordered = tables(connection)
        by_oid = {table.oid: table for table in ordered}
        for table in ordered:
            _fill_one(connection, table, by_oid, values, rows, done)
    return done


def _fill_one(
    connection: Connection[Any], table: Table, by_oid: dict[int, Table], values: Values,
    rows: int, done: Filled,
) -> None:  # fmt: skip
    done.tables += 1
    reason, put = "", 0
    for n in range(rows):
        for attempt in range(ATTEMPTS):
            row = _row(connection, table, by_oid, values, sparse=attempt % 3 == 2)
            statement = sql.SQL("insert into {} ({}) values ({})").format(
                table.name,
                sql.SQL(", ").join(map(sql.Identifier, row)),
                sql.SQL(", ").join(sql.Placeholder() * len(row)),
            )
            if not row:
                statement = sql.SQL("insert into {} default values").format(table.name)
            # Without triggers no key is checked: the values of keys are of rows that exist.
            role = "replica" if attempt >= ATTEMPTS // 2 else "origin"
            try:
                with connection.transaction():
                    connection.execute(
                        cast(LiteralString, f"set local session_replication_role = {role}")
                    )
                    connection.execute(statement, list(row.values()))
            except psycopg.Error as error:
                reason = str(error).splitlines()[0]
                continue
            put += 1
            done.types |= {values.types[c.type][0] for c in table.columns if c.name in row}
            break
        else:
            done.given_up += 1
            if not put and n:
                break
    done.rows += put
    if not put:
        done.empty.append(f"{table.name.as_string(connection)}: {reason}")


def _row(
    connection: Connection[Any], table: Table, by_oid: dict[int, Table], values: Values, *,
    sparse: bool,
) -> dict[str, str | None]:  # fmt: skip
    """Values by column; columns that are left out take their default."""
    chance, row = values.chance, dict[str, str | None]()
    for column in table.columns:
        if column.has_default and (sparse or chance.random() < 0.5):
            continue
        if not column.required and (sparse or chance.random() < 0.3):
            continue
        hints = table.hints.get(column.name)
        if hints and chance.random() < 0.7:
            row[column.name] = chance.choice(hints)
            continue
        row[column.name] = values.of(column.base, column.typmod)
    for to, ours, theirs in table.keys:
        picked = _picked(connection, by_oid[to], theirs, chance)
        for name, value in zip(ours, picked or [None] * len(ours), strict=True):
            row[name] = value
    return row


def _picked(
    connection: Connection[Any], table: Table, columns: list[str], chance: random.Random
) -> list[str | None] | None:
    """Those columns of one of its rows."""
    query = sql.SQL("select {} from {} limit 3").format(
        sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(c)) for c in columns),
        table.name,
    )
    found = connection.execute(query).fetchall()
    return list(chance.choice(found)) if found else None
