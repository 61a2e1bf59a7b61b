"""Archives that PostgreSQL's own pg_dump wrote (tests/fixtures/archives)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.engines.postgres.archive import ArchiveParser, Event, Head, LargeObject, Rows
from backups.engines.postgres.content import ContentHasher, Contents, RowHasher
from backups.engines.postgres.toc import Toc
from backups.errors import DumpFailed, EngineError, ToolError
from backups.model import SequenceValue

ARCHIVES = Path(__file__).parents[1] / "fixtures" / "archives"
MAJORS = ["15", "16", "18"]
EVIL = ('Ev il"s', 'ta"b (le, x)')


def archive(major: str) -> bytes:
    return (ARCHIVES / f"pg{major}.dump").read_bytes()


def parse(data: bytes, block: int = 1 << 20) -> list[Event]:
    parser, events = ArchiveParser(), []
    for at in range(0, len(data), block):
        events += parser.feed(data[at : at + block])
    parser.finish()
    return events


def toc(events: list[Event]) -> Toc:
    head = events[0]
    assert isinstance(head, Head)
    return head.toc


def contents(events: list[Event]) -> Contents:
    hasher = ContentHasher()
    hasher.add(events)
    return hasher.result()


@pytest.mark.parametrize(
    ("major", "version", "server"),
    [("15", (1, 14), "15.18"), ("16", (1, 15), "16.14"), ("18", (1, 16), "18.4")],
)
def test_the_head_says_what_made_it(major: str, version: tuple[int, int], server: str) -> None:
    head = toc(parse(archive(major)))
    assert head.version == version
    assert head.database == "frozen"
    assert head.server_version.startswith(server)
    assert head.tool_version.startswith(server)
    [plain] = [e for e in head.entries if (e.desc, e.tag) == ("TABLE", "plain")]
    assert (plain.namespace, plain.owner, plain.table_am) == ("public", "postgres", "heap")
    assert plain.defn.startswith("CREATE TABLE public.plain (")
    assert plain.drop_stmt == "DROP TABLE public.plain;\n"
    assert (plain.section, plain.had_data) == (2, False)
    [data] = [e for e in head.entries if (e.desc, e.tag) == ("TABLE DATA", "plain")]
    assert data.copy_stmt == "COPY public.plain (id, status, body) FROM stdin;\n"
    assert (data.section, data.had_data, data.dependencies) == (3, True, (plain.dump_id,))


@pytest.mark.parametrize("major", MAJORS)
def test_rows_are_copy_lines(major: str) -> None:
    rows: dict[str, list[bytes]] = {}
    for event in parse(archive(major), block=100):
        if isinstance(event, Rows):
            rows.setdefault(event.entry.tag, []).extend(event.rows)
    assert len(rows["plain"]) == 28
    assert rows["plain"][0] == b"1\tnew\ttab\\t newline\\n back\\\\slash 1\n"
    assert rows["plain"][-3:] == [
        b"100\t\\N\t\n",
        b"101\tit's\t\\\\.\n",
        "102\tnew\té\n".encode(),
    ]
    assert rows[EVIL[1]] == [b"1\tok\t2\tt\n"] * 2
    assert rows["nothing"] == [b"\n", b"\n"]
    assert "empty" not in rows


@pytest.mark.parametrize("major", MAJORS)
def test_large_objects_are_whole(major: str) -> None:
    found: dict[int, bytes] = {}
    for event in parse(archive(major), block=100):
        if isinstance(event, LargeObject):
            found[event.oid] = found.get(event.oid, b"") + b"".join(event.pieces)
    assert found == {7: b"", 8: b"\x00\xff\x0a" * 600, 4000000001: b"hello"}


@pytest.mark.parametrize("major", MAJORS)
def test_contents(major: str) -> None:
    told = contents(parse(archive(major)))
    tables = {(table.schema, table.name): table for table in told.tables}
    assert tables[EVIL].columns == ("a b", 'c"d', "e(f)", "g\nh")
    assert tables["public", "child"].columns == ("a", "b", "n", "z")  # sorted: it inherits
    by_hand = RowHasher()
    by_hand.add([b"%d\t%d\tn%d\t%d\n" % (i, i + 1, i, i + 2) for i in range(1, 6)])
    assert tables["public", "child"].content == by_hand.content
    assert {name[1]: table.rows for name, table in tables.items()} == {
        "plain": 28,
        EVIL[1]: 2,
        "nothing": 2,
        "child": 5,
        "empty": 0,
        "parent": 0,
        "a": 0,
        "a b": 0,
    }
    assert told.sequences == (
        SequenceValue("public", "down", 3, True),
        SequenceValue("public", "empty_a_seq", 1, False),
    )
    assert told.large_objects is not None
    assert told.large_objects.rows == 3
    assert told.not_compared == (
        "foreign table public.ft: its rows are on another server",
        "materialized view public.mv: a restore refreshes it",
    )
    kinds = {found.kind for found in told.objects}
    assert {"TABLE", "VIEW", "TYPE", "SEQUENCE", "CONSTRAINT", "SCHEMA"} <= kinds
    assert not kinds & {"TABLE DATA", "SEQUENCE SET", "ENCODING", "DATABASE", "BLOBS"}
    assert not any(found.name.startswith("DATABASE") for found in told.objects)


def test_rows_hash_alike_whatever_the_version() -> None:
    first, *others = (contents(parse(archive(major))) for major in MAJORS)
    for other in others:
        assert other.tables == first.tables
        assert other.sequences == first.sequences
        assert other.large_objects == first.large_objects


@pytest.mark.parametrize("major", MAJORS)
def test_the_head_alone_has_the_same_table_of_contents(major: str) -> None:
    whole = parse(archive(major))
    assert isinstance(whole[0], Head)
    parser = ArchiveParser()
    assert toc(parser.feed(whole[0].raw)) == toc(whole)
    with pytest.raises(DumpFailed, match="before the data of 9 of its entries"):
        parser.finish()


@pytest.mark.parametrize("major", MAJORS)
def test_cut_anywhere_it_is_refused(major: str) -> None:
    data, parser = archive(major), ArchiveParser()
    for place in range(len(data)):
        with pytest.raises(DumpFailed):
            parser.finish()
        parser.feed(data[place : place + 1])
    parser.finish()


@given(st.sampled_from(MAJORS), st.integers(0, 11_000), st.integers(0, 255))
def test_torn_it_ends_with_an_error_of_ours_or_well(major: str, place: int, byte: int) -> None:
    torn = bytearray(archive(major))
    torn[place] = byte
    with suppress(EngineError):
        contents(parse(bytes(torn), block=4096))


def test_a_block_twice_or_missing_is_refused() -> None:
    data = archive("15")
    start = data.rindex(b"\x01\x00", 0, data.index(b"1\tok\t2\tt\n"))
    end = data.index(b"\\.\n\n\n", start) + 5 + 5
    with pytest.raises(DumpFailed, match="unknown entry"):
        parse(data[:end] + data[start:end] + data[end:])
    with pytest.raises(DumpFailed, match="before the data of 1 of"):
        parse(data[:start] + data[end:])


def test_rows_without_their_end_mark_are_refused() -> None:
    mark = b"\x00\x05\x00\x00\x00\\.\n\n\n"
    with pytest.raises(DumpFailed, match="no end mark"):
        parse(archive("15").replace(mark, b"", 1))
    with pytest.raises(DumpFailed, match="rows after their end mark"):
        parse(archive("15").replace(mark, mark + b"\x00\x02\x00\x00\x00x\n", 1))


def test_more_than_one_line_in_a_chunk_is_split() -> None:
    two = b"\x00\x09\x00\x00\x001\tok\t2\tt\n" * 2
    one = b"\x00\x12\x00\x00\x00" + b"1\tok\t2\tt\n" * 2
    data = archive("15")
    assert two in data
    assert contents(parse(data.replace(two, one))) == contents(parse(data))


def test_other_versions_and_compressed_archives_are_refused() -> None:
    data = archive("16")
    with pytest.raises(ToolError, match=r"1\.17"):
        parse(data[:6] + b"\x11" + data[7:])
    with pytest.raises(ToolError, match=r"1\.13"):
        parse(data[:6] + b"\x0d" + data[7:])
    with pytest.raises(ToolError, match="compressed"):
        parse(data[:11] + b"\x01" + data[12:])
    with pytest.raises(DumpFailed, match="not an archive"):
        parse(b"-- PostgreSQL database dump")


def test_lengths_are_bounded_before_anything_is_held() -> None:
    data = archive("15")
    name = data.index(b"\x06\x00\x00\x00frozen")
    with pytest.raises(DumpFailed, match="string without bounds"):
        ArchiveParser().feed(data[:name] + b"\x00\x00\x00\x7f" + data[name + 4 :])
    row = data.index(b"\x00\x09\x00\x00\x001\tok")
    with pytest.raises(DumpFailed, match="length of a chunk"):
        ArchiveParser().feed(data[: row + 1] + b"\x00\x00\x00\x7f" + data[row + 5 :])
    with pytest.raises(DumpFailed, match="length of a chunk"):
        ArchiveParser().feed(data[:row] + b"\x01" + data[row + 1 :])
    parser = ArchiveParser()
    with pytest.raises(DumpFailed):
        parser.feed(b"x" * 20)
    with pytest.raises(DumpFailed, match="before this block"):
        parser.feed(b"more")
