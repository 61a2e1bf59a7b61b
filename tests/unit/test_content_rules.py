"""How objects and columns are named, digested and worded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.engines.postgres.canonical import canonical
from backups.engines.postgres.content import (
    ContentHasher,
    RowHasher,
    copy_columns,
    not_compared,
    object_digests,
    of_database,
)
from backups.engines.postgres.toc import TocEntry
from backups.errors import DumpFailed

TABLE = TocEntry(
    dump_id=1,
    had_data=False,
    tag="t",
    desc="TABLE",
    section=2,
    defn="CREATE TABLE s.t (\n    a integer\n);\n",
    drop_stmt="DROP TABLE s.t;\n",
    copy_stmt="",
    namespace="s",
    tablespace="",
    table_am="heap",
    owner="ann",
    dependencies=(7, 8),
)


def digest(entry: TocEntry) -> str:
    [found] = object_digests([entry])
    return found.digest


def test_a_digest_holds_what_was_defined_and_who_owns_it() -> None:
    alike = replace(TABLE, dump_id=99, dependencies=(), tablespace="fast", section=4)
    assert digest(alike) == digest(TABLE)
    for other in (
        replace(TABLE, defn="CREATE TABLE s.t (\n    a bigint\n);\n"),
        replace(TABLE, owner="bob"),
        replace(TABLE, table_am="columnar"),
    ):
        assert digest(other) != digest(TABLE)


def test_objects_that_share_a_name_are_all_represented() -> None:
    one, two = replace(TABLE, defn="one"), replace(TABLE, defn="two")
    [both] = object_digests([one, two])
    assert (both,) == object_digests([two, one])
    assert len({both.digest, digest(one), digest(two)}) == 3
    [again] = object_digests([one, one])
    assert again.digest not in {digest(one), both.digest}


def test_a_child_table_may_order_its_columns_anew() -> None:
    one = "CREATE TABLE s.t (\n    a integer,\n    b text\n)\nINHERITS (s.p);\n"
    two = "CREATE TABLE s.t (\n    b text,\n    a integer\n)\nINHERITS (s.p);\n"
    assert digest(replace(TABLE, defn=one)) == digest(replace(TABLE, defn=two))
    alone = [defn.replace("\nINHERITS (s.p)", "") for defn in (one, two)]
    assert len({digest(replace(TABLE, defn=defn)) for defn in alone}) == 2


def test_what_belongs_to_the_database_itself_is_no_object_in_it() -> None:
    acl = replace(TABLE, desc="ACL", tag="DATABASE x")
    assert of_database(acl)
    assert of_database(replace(TABLE, desc="DATABASE PROPERTIES"))
    assert not of_database(replace(TABLE, desc="ACL", tag="TABLE x"))
    assert object_digests([acl]) == ()


def test_what_has_no_rows_is_named_with_its_reason() -> None:
    view = replace(TABLE, desc="MATERIALIZED VIEW", tag="mv")
    assert not_compared([view, TABLE]) == ("materialized view s.mv: a restore refreshes it",)
    unlogged = replace(TABLE, defn="CREATE UNLOGGED TABLE s.t (\n    a integer\n);\n")
    assert not_compared([unlogged]) == (
        "table s.t: it is unlogged, and a replica has no rows of it",
    )
    data = replace(TABLE, desc="TABLE DATA", dump_id=2, dependencies=(1,))
    assert not_compared([unlogged, data]) == ()


def test_a_dump_without_copy_statements_or_head_is_refused() -> None:
    with pytest.raises(DumpFailed):
        copy_columns("")
    with pytest.raises(DumpFailed):
        copy_columns("INSERT INTO t VALUES (1);\n")
    with pytest.raises(DumpFailed):
        ContentHasher().result()


def test_copy_text_that_ends_inside_a_line_is_refused() -> None:
    hasher = RowHasher()
    hasher.feed(b"1\n2")
    with pytest.raises(DumpFailed):
        hasher.finish()


@given(
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1),
    st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1)),
)
def test_any_column_name_is_read(table: str, columns: list[str]) -> None:
    def quoted(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    names = f"({', '.join(map(quoted, columns))})" if columns else ""
    statement = f"COPY {quoted(table)}.{quoted(table)} {names} FROM stdin;\n"
    assert copy_columns(statement) == tuple(columns)


def test_plain_column_names_are_read() -> None:
    assert copy_columns("COPY public.t (a, b_2, é) FROM stdin;\n") == ("a", "b_2", "é")
    assert copy_columns("COPY public.t  FROM stdin;\n") == ()


# Pairs that PostgreSQL 15, 16 and 18 printed: for a table, and for a restored copy of it.
REWORDED = [
    (
        "CHECK (((s)::text = ANY ((ARRAY['a'::character varying, 'b,)'::character varying])"
        "::text[])))",
        "CHECK (((s)::text = ANY (ARRAY[('a'::character varying)::text, "
        "('b,)'::character varying)::text])))",
    ),
    (
        "CREATE STATISTICS x ON a, (b::text = ANY (ARRAY['x'::character varying, "
        "'y'::character varying]::text[])) FROM t;",
        "CREATE STATISTICS x ON a, (b::text = ANY (ARRAY['x'::character varying::text, "
        "'y'::character varying::text])) FROM t;",
    ),
    (
        "CHECK ((((a >= 1) AND (a <= 5)) AND (a <> 3)))",
        "CHECK (((a >= 1) AND (a <= 5) AND (a <> 3)))",
    ),
    (
        "CHECK ((((a < 1) OR (a > 2)) OR (b IS NULL)))",
        "CHECK (((a < 1) OR (a > 2) OR (b IS NULL)))",
    ),
]


@pytest.mark.parametrize(("source", "copy"), REWORDED)
def test_a_copy_is_reworded_but_the_same(source: str, copy: str) -> None:
    assert canonical(source) == canonical(copy) == copy


@pytest.mark.parametrize(
    "defn",
    [
        "CHECK ((((a = 1) AND (b = 2)) OR (c = 3)))",
        "CHECK (((a = 1) AND ((b = 2) OR (c = 3))))",
        "CHECK ((NOT ((a = 1) AND (b = 2))) AND (c = 3))",
        "CHECK ((s = ' AND (x) OR ((y) AND z)'::text) OR (a = 1))",
        "SELECT ARRAY['a'::text, 'b'::text] AND (x = ANY (ARRAY[1, 2]))",
        "unbalanced ) AND (",
        "unbalanced [ ARRAY[ (",
        "(] ARRAY[ )",
        "it's a body with one ' AND ( ",
    ],
)
def test_what_means_something_else_keeps_its_words(defn: str) -> None:
    assert canonical(defn) == defn


WORDS = st.sampled_from([*"()[],'\" a:;", "ARRAY", " AND ", " OR ", ")::text[]", "]::text[]"])


@given(st.lists(WORDS).map("".join))
def test_any_text_is_borne_and_settles(text: str) -> None:
    once = canonical(text)
    assert canonical(once) == canonical(canonical(once))
