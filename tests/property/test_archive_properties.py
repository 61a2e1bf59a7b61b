"""A written archive is read back whole, whatever the blocks; a shorter or torn one never."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backups.engines.postgres import archive as archive_module
from backups.engines.postgres import content as content_module
from backups.engines.postgres import long_rows
from backups.engines.postgres.archive import (
    ArchiveParser,
    EndOfEntry,
    Event,
    Head,
    LargeObject,
    PartOfRow,
    Rows,
)
from backups.engines.postgres.content import ContentHasher, Contents, RowHasher
from backups.errors import DumpFailed, EngineError

# --- a writer, after pg_backup_archiver.c and pg_backup_custom.c ----------------------------


def number(value: int) -> bytes:
    return struct.pack("<BI", value < 0, abs(value))


def string(value: str | None) -> bytes:
    if value is None:
        return number(-1)
    raw = value.encode("utf-8", "surrogateescape")
    return number(len(raw)) + raw


def chunks(parts: list[bytes]) -> bytes:
    return b"".join(number(len(part)) + part for part in parts if part) + number(0)


@dataclass
class Table:
    name: str
    rows: list[bytes]
    cuts: list[int] | None = None
    """Where the text is cut into chunks; None makes each row one, as pg_dump does up to 18."""

    def parts(self) -> list[bytes]:
        end = b"\\.\n\n\n"
        if self.cuts is None:
            return [*(row + b"\n" for row in self.rows), end]
        text = b"".join(row + b"\n" for row in self.rows) + end
        places = sorted({0, len(text), *(cut % len(text) for cut in self.cuts)})
        return [text[a:b] for a, b in pairwise(places)]


@dataclass
class Database:
    minor: int
    tables: list[Table]
    objects: list[tuple[int, list[bytes]]]

    def write(self) -> bytes:
        tool = {14: "15.18", 15: "16.14", 16: "18.4"}[self.minor]
        if any(table.cuts is not None for table in self.tables):
            tool = "19devel"
        compression = b"\0" if self.minor >= 15 else number(0)
        head = b"PGDMP" + bytes([1, self.minor, 0, 4, 8, 1]) + compression
        head += b"".join(map(number, (1, 2, 3, 4, 5, 126, 0)))
        head += string("db") + string("15.18") + string(tool)
        entries, blocks = [], []
        for place, table in enumerate(self.tables, 1):
            copy = "COPY s.t (a) FROM stdin;\n"
            entries.append(self.entry(place, table.name, "TABLE DATA", copy))
            blocks.append(b"\x01" + number(place) + chunks(table.parts()))
        if self.objects:
            entries.append(self.entry(9999, "BLOBS", "BLOBS", None))
            signed = [(oid if oid < 1 << 31 else oid - (1 << 32), p) for oid, p in self.objects]
            written = b"".join(number(oid) + chunks(parts) for oid, parts in signed)
            blocks.append(b"\x03" + number(9999) + written + number(0))
        return head + number(len(entries)) + b"".join(entries) + b"".join(blocks)

    def entry(self, dump_id: int, tag: str, desc: str, copy: str | None) -> bytes:
        written = number(dump_id) + number(1) + string("0") + string("0")
        written += string(tag) + string(desc) + number(3) + string(None) + string("")
        written += string(copy) + string("s") + string(None) + string("")
        written += number(ord("r")) if self.minor >= 16 else b""
        written += string("owner") + string("false") + string("1") + string(None)
        return written + b"\x01" + bytes(8)


LINES = st.lists(
    st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"\\n").replace(b"\\.", b"x")),
    max_size=8,
)
TABLES = st.builds(
    Table,
    name=st.text(
        st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=10
    ),
    rows=LINES,
    cuts=st.none() | st.lists(st.integers(0, 1000), max_size=6),
)
OBJECTS = st.lists(
    st.tuples(
        st.integers(1, 2**32 - 1), st.lists(st.binary(min_size=1, max_size=40), max_size=3)
    ),
    max_size=3,
    unique_by=lambda item: item[0],
)
DATABASES = st.builds(
    Database,
    minor=st.sampled_from([14, 15, 16]),
    tables=st.lists(TABLES, max_size=4),
    objects=OBJECTS,
)
SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=6)


def feed(archive: bytes, sizes: list[int]) -> list[Event]:
    """Parse it in blocks of these sizes, over and over; checks that it ended well."""
    parser, events, at = ArchiveParser(), [], 0
    for size in cycle(sizes):
        events += parser.feed(archive[at : at + size])
        at += size
        if at >= len(archive):
            break
    parser.finish()
    return events


def contents(events: list[Event]) -> Contents:
    hasher = ContentHasher()
    hasher.add(events)
    return hasher.result()


# --- properties -----------------------------------------------------------------------------


@given(DATABASES, SIZES)
def test_what_was_written_is_read(database: Database, sizes: list[int]) -> None:
    archive = database.write()
    events = feed(archive, sizes)
    head = events[0]
    assert isinstance(head, Head)
    assert archive.startswith(head.raw)
    assert [entry.tag for entry in head.toc.entries if entry.desc == "TABLE DATA"] == [
        table.name for table in database.tables
    ]
    for place, table in enumerate(database.tables, 1):
        rows = [
            row
            for event in events
            if isinstance(event, Rows) and event.entry.dump_id == place
            for row in event.rows
        ]
        assert rows == [row + b"\n" for row in table.rows]
    objects: list[tuple[int, bytes]] = []
    pieces: list[bytes] = []
    for event in events:
        if isinstance(event, LargeObject):
            pieces += event.pieces
            if event.last:
                objects.append((event.oid, b"".join(pieces)))
                pieces = []
    assert objects == [(oid, b"".join(parts)) for oid, parts in database.objects]
    ended = [event.entry.dump_id for event in events if isinstance(event, EndOfEntry)]
    assert ended == [entry.dump_id for entry in head.toc.entries]


@given(DATABASES, SIZES)
def test_contents_do_not_depend_on_blocks_or_chunks(
    database: Database, sizes: list[int]
) -> None:
    told = contents(feed(database.write(), sizes))
    for table in database.tables:
        table.cuts = None
        table.rows.reverse()
    assert told == contents(feed(database.write(), [1 << 20]))


@given(DATABASES)
@settings(max_examples=30)
def test_every_shorter_archive_is_refused(database: Database) -> None:
    archive = database.write()
    parser = ArchiveParser()
    for place in range(len(archive)):
        with pytest.raises(DumpFailed):
            parser.finish()
        parser.feed(archive[place : place + 1])
    parser.finish()


@given(DATABASES, st.binary(min_size=1, max_size=20))
def test_a_longer_archive_is_refused(database: Database, more: bytes) -> None:
    with pytest.raises(DumpFailed):
        feed(database.write() + more, [1 << 20])


@given(DATABASES, st.data())
@settings(max_examples=300)
def test_a_torn_archive_gives_an_error_of_ours_or_an_archive(
    database: Database, data: st.DataObject
) -> None:
    archive = bytearray(database.write())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(archive) - 1))
        archive[place] = data.draw(st.integers(0, 255))
    with suppress(EngineError):
        contents(feed(bytes(archive), [64]))


@given(st.binary(max_size=300))
@example(b"PGDMP\x01\x0e\x00\x04\x08\x01" + b"\xff" * 200)
@example(b"PGDMP\x01\x10\x00\x04\x08\x01" + b"\x00" * 200 + b"\xff" * 50)
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(EngineError):
        feed(noise, [7])


@given(LINES, SIZES)
def test_copy_text_and_archive_give_the_same_content(
    rows: list[bytes], sizes: list[int]
) -> None:
    [table] = contents(feed(Database(14, [Table("t", rows)], []).write(), [50])).tables
    text, hasher = BytesIO(b"".join(row + b"\n" for row in rows)), RowHasher()
    for size in cycle(sizes):
        if not (block := text.read(size)):
            break
        hasher.feed(block)
    hasher.finish()
    assert (hasher.rows, hasher.content) == (table.rows, table.content)


@given(LINES.filter(bool), st.data())
def test_any_other_row_gives_another_content(rows: list[bytes], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(rows) - 1))
    other = [*rows[:place], rows[place] + b"!", *rows[place + 1 :]]
    twice = [*rows, rows[place]]

    def content(lines: list[bytes]) -> str:
        hasher = RowHasher()
        hasher.add([line + b"\n" for line in lines])
        return hasher.content

    assert len({content(rows), content(other), content(twice)}) == 3


# --- rows that are never held ---------------------------------------------------------------


@pytest.fixture(scope="module")
def small_long() -> Iterator[None]:
    """Of a row, 12 bytes are long here."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (archive_module, content_module, long_rows):
            patch.setattr(module, "LONG", 12)
        yield


@given(DATABASES, SIZES)
def test_long_rows_come_in_parts_and_hash_alike(
    small_long: None, database: Database, sizes: list[int]
) -> None:
    archive = database.write()
    events = feed(archive, sizes)
    for place, table in enumerate(database.tables, 1):
        of_table = [
            event
            for event in events
            if isinstance(event, Rows | PartOfRow) and event.entry.dump_id == place
        ]
        text = b"".join(
            event.data if isinstance(event, PartOfRow) else b"".join(event.rows)
            for event in of_table
        )
        assert text == b"".join(row + b"\n" for row in table.rows)
        whole, inside = 0, False
        for event in of_table:
            if isinstance(event, PartOfRow):
                inside = not event.last
                whole += event.last
                assert event.data.endswith(b"\n") == event.last
            else:
                assert not inside
                whole += len(event.rows)
        assert (whole, inside) == (len(table.rows), False)
    with pytest.MonkeyPatch.context() as patch:
        for module in (archive_module, content_module, long_rows):
            patch.setattr(module, "LONG", 1 << 20)
        assert contents(events) == contents(feed(archive, [1 << 20]))


FIELDS = st.lists(
    st.lists(st.binary(max_size=12).map(bytes.hex).map(str.encode), min_size=3, max_size=3),
    max_size=6,
)


@given(FIELDS, st.permutations(range(3)), SIZES)
def test_the_order_of_columns_says_nothing_where_they_are_sorted(
    small_long: None, rows: list[list[bytes]], places: list[int], sizes: list[int]
) -> None:
    """A table's fields in their own order, and the same in another, brought back."""
    there, shuffled = RowHasher(range(3)), RowHasher([places.index(i) for i in range(3)])
    there.add([b"\t".join(row) + b"\n" for row in rows])
    text = BytesIO(b"".join(b"\t".join([row[i] for i in places]) + b"\n" for row in rows))
    for size in cycle(sizes):
        if not (block := text.read(size)):
            break
        shuffled.feed(block)
    shuffled.finish()
    assert (there.rows, there.content) == (shuffled.rows, shuffled.content)
