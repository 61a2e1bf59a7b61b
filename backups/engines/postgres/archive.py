"""PostgreSQL's custom archive format (`pg_dump -Fc -Z0` to a pipe), parsed as it passes.

Source of the format: PostgreSQL, src/bin/pg_dump, pg_backup_archiver.c (WriteHead,
WriteToc, WriteInt, WriteStr, WriteOffset) and pg_backup_custom.c (_StartData,
_CustomWriteFunc, _EndData, _StartLOs, _StartLO, _EndLOs):

    archive = "PGDMP" major minor revision intSize offSize format compression
              7 ints (local time) str (database) str (server) str (pg_dump)
              int (entries) entry* block*
    block   = %x01 int (dump id) chunks                          a table's COPY text
            | %x03 int (dump id) *( int (oid) chunks ) int (0)   large objects
    chunks  = *( int (length) bytes ) int (0)
    int     = sign byte, then intSize bytes, least significant first
    str     = int (length, -1 for NULL) bytes

Archive versions 1.14 (pg_dump 14, 15), 1.15 (16) and 1.16 (17, 18) are known; others are
refused. The format has no end marker: `ArchiveParser.finish` is the end check.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from backups.engines.postgres.long_rows import LONG, Lines, Piece
from backups.engines.postgres.toc import Reader, Steps, Toc, TocEntry, read_toc
from backups.errors import DumpFailed

MAX_CHUNK = 1 << 30
"""Bytes of one chunk; a COPY row cannot be longer (MaxAllocSize)."""

_TABLE, _LARGE_OBJECTS = 1, 3
_FRAME = struct.Struct("<BI")
_END_MARK = b"\\.\n"
_ROWS_END = _END_MARK + b"\n\n"
_ONE_ROW_PER_CHUNK = 18
"""Up to this major, pg_dump without compression writes each COPY row as one chunk."""


@dataclass(frozen=True, slots=True)
class Head:
    """The table of contents is complete; it comes once, before any data."""

    toc: Toc
    raw: bytes
    """The archive up to its first data block: by itself an archive without data."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a table: whole COPY text lines, each with its newline, without the `\\.`."""

    entry: TocEntry
    rows: list[bytes]


@dataclass(frozen=True, slots=True)
class PartOfRow:
    """The next bytes of a row of more than `LONG` bytes; its parts come one after the other."""

    entry: TocEntry
    data: bytes
    last: bool
    """The row is complete with this event; `data` ends with its newline."""


@dataclass(frozen=True, slots=True)
class LargeObject:
    """The next bytes of a large object; objects come one after the other."""

    entry: TocEntry
    oid: int
    pieces: list[bytes]
    last: bool
    """The object is complete with this event."""


@dataclass(frozen=True, slots=True)
class EndOfEntry:
    """All data of this entry has been seen."""

    entry: TocEntry


Event = Head | Rows | PartOfRow | LargeObject | EndOfEntry


class ArchiveParser:
    """Follows an archive whose blocks are fed in order. Memory holds one block, and
    at most `LONG` bytes of a row.

    DumpFailed: the bytes are not a whole, well formed archive. ToolError: an archive of
    another version, or a compressed one.
    """

    def __init__(self) -> None:
        self._reader = Reader()
        self._events: list[Event] = []
        self._between = False
        self._missing: dict[int, TocEntry] = {}
        self._steps = self._archive()
        next(self._steps)

    def feed(self, block: bytes) -> list[Event]:
        """What these next bytes of the archive complete; blocks may have any size."""
        if block:
            try:
                self._steps.send(block)
            except StopIteration:
                raise DumpFailed("the dump's archive was damaged before this block") from None
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        """Raises DumpFailed unless the archive ended here with every entry's data seen."""
        if self._reader.in_head:
            raise DumpFailed("the dump ended inside its table of contents")
        if not self._between:
            raise DumpFailed("the dump ended inside a data block")
        if self._missing:
            raise DumpFailed(
                f"the dump ended before the data of {len(self._missing)} of its entries"
            )

    def _archive(self) -> Steps:
        reader = self._reader
        toc = yield from read_toc(reader)
        self._events.append(Head(toc, reader.end_head()))
        self._missing = {entry.dump_id: entry for entry in toc.entries if entry.had_data}
        one_per_chunk = _major(toc.tool_version) <= _ONE_ROW_PER_CHUNK
        while True:
            self._between = True
            while reader.at == len(reader.data):
                yield from reader.block()
            self._between = False
            kind = yield from reader.byte()
            dump_id = yield from reader.number()
            entry = self._missing.pop(dump_id, None)
            if entry is None:
                raise DumpFailed("the dump's archive is damaged: data of an unknown entry")
            if (kind, entry.desc) == (_TABLE, "TABLE DATA"):
                yield from self._table(entry, one_per_chunk)
            elif (kind, entry.desc) == (_LARGE_OBJECTS, "BLOBS"):
                yield from self._large_objects(entry)
            else:
                raise DumpFailed(f"the dump's archive has a data block of unknown kind {kind}")
            self._events.append(EndOfEntry(entry))

    def _chunks(self, chunks: list[bytes]) -> bool:
        """Append the whole chunks at hand; True when the end mark was met. The hot loop."""
        reader = self._reader
        data, at, unpack = reader.data, reader.at, _FRAME.unpack_from
        ended = False
        try:
            while True:
                sign, length = unpack(data, at)
                if sign or not length:
                    break  # a sign is for _chunk to refuse
                at += 5
                chunks.append(data[at : (at := at + length)])
            ended = not sign
            at += 5 * ended
        except struct.error:  # less than a frame is left
            if at > len(data):  # and the chunk before it goes on in the next block
                chunks.pop()
                at -= 5 + length
        reader.at = at
        return ended

    def _length(self) -> Generator[None, bytes, int]:
        """Of the next chunk; 0 for the end mark."""
        length = yield from self._reader.number()
        if not 0 <= length <= MAX_CHUNK:
            raise DumpFailed("the dump's archive is damaged: impossible length of a chunk")
        return length

    def _table(self, entry: TocEntry, one_per_chunk: bool) -> Steps:
        table = _Table(entry, one_per_chunk)
        while True:
            chunks: list[bytes] = []
            ended = self._chunks(chunks)
            self._events += table.chunks(chunks)
            if ended:
                break
            # The next chunk spans blocks.
            length = yield from self._length()
            if not length:
                break
            if length > LONG:
                yield from self._long_chunk(table, length)
            else:
                # By itself, for it may be large: joined to others it would be held twice.
                chunk = yield from self._reader.take(length)
                self._events += table.chunks([chunk])
        if not table.ended:
            raise DumpFailed("the dump's archive is damaged: a table's rows have no end mark")

    def _long_chunk(self, table: _Table, length: int) -> Steps:
        reader = self._reader
        while length:
            while reader.at == len(reader.data):
                yield from reader.block()
            text = reader.data[reader.at : reader.at + length]
            reader.at += len(text)
            length -= len(text)
            self._events += table.text(text)

    def _large_objects(self, entry: TocEntry) -> Steps:
        while oid := (yield from self._reader.number()):
            pieces: list[bytes] = []
            while not self._chunks(pieces):
                if pieces:
                    self._events.append(LargeObject(entry, oid & 0xFFFFFFFF, pieces, False))
                pieces = []
                if not (length := (yield from self._length())):
                    break
                pieces = [(yield from self._reader.take(length))]
            # The oid was written as a signed number.
            self._events.append(LargeObject(entry, oid & 0xFFFFFFFF, pieces, True))


class _Table:
    """Makes events of a table's chunks, up to the end mark."""

    def __init__(self, entry: TocEntry, one_per_chunk: bool) -> None:
        self._entry = entry
        self._one_per_chunk = one_per_chunk
        self._proved = False
        self._lines = Lines()
        self._marked = False

    @property
    def ended(self) -> bool:
        """The end mark was seen and nothing is left over."""
        return self._marked and not self._lines.inside

    def chunks(self, chunks: list[bytes]) -> Iterator[Event]:
        """What these whole chunks complete."""
        if self._one_per_chunk and not self._marked:
            marked = chunks[-1:] == [_ROWS_END]
            rows = chunks[:-1] if marked else chunks
            if not self._lines.inside and self._are_lines(rows):
                self._marked = marked
                if rows:
                    yield Rows(self._entry, rows)
                return
            self._one_per_chunk = False
        yield from self.text(b"".join(chunks))

    def text(self, text: bytes) -> Iterator[Event]:
        """What this text completes, which need not end with a line."""
        for found in self._lines.feed(text):
            if not isinstance(found, Piece):
                if rows := self._before_mark(found):
                    yield Rows(self._entry, rows)
            elif self._marked:
                raise DumpFailed("the dump's archive is damaged: rows after their end mark")
            else:
                yield PartOfRow(self._entry, found.data, found.last)

    def _are_lines(self, rows: list[bytes]) -> bool:
        """One line each? So says pg_dump's source; proved with the first rows of a table."""
        if not rows:
            return True
        if not self._proved:
            self._proved = all(row.find(b"\n") == len(row) - 1 for row in rows)
        return self._proved and rows[-1].endswith(b"\n")

    def _before_mark(self, lines: list[bytes]) -> list[bytes]:
        end = 0 if self._marked else len(lines)
        if not self._marked and _END_MARK in lines:
            self._marked = True
            end = lines.index(_END_MARK)
            del lines[end]
        if any(line != b"\n" for line in lines[end:]):
            raise DumpFailed("the dump's archive is damaged: rows after their end mark")
        return lines[:end]


def _major(version: str) -> int:
    found = re.match(r"[0-9]{1,4}", version)
    if not found:
        raise DumpFailed(f"the archive's tool version {version[:40]!r} is not a version")
    return int(found[0])
