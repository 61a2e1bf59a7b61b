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
from collections.abc import Generator
from dataclasses import dataclass
from io import BytesIO
from operator import itemgetter
from struct import Struct

from backups.errors import DumpFailed, ToolError

VERSIONS = ((1, 14), (1, 15), (1, 16))
MAX_STRING = 256 << 20
"""Bytes of one string of the table of contents; the server itself stops at 1 GiB."""
MAX_TOC = 1 << 30
"""Bytes of header and table of contents together."""
MAX_CHUNK = 1 << 30
"""Bytes of one chunk; a COPY row cannot be longer (MaxAllocSize)."""

_TABLE, _LARGE_OBJECTS = 1, 3
_FRAME = Struct("<BI")
_LAST_BYTE = itemgetter(-1)
_NEWLINE = {0x0A}
_END_MARK = b"\\.\n"
_ROWS_END = _END_MARK + b"\n\n"
_ONE_ROW_PER_CHUNK = 18
"""Up to this major, pg_dump without compression writes each COPY row as one chunk."""


@dataclass(frozen=True, slots=True)
class TocEntry:
    """One entry of the table of contents. A string that is NULL in the archive is empty.

    Strings are UTF-8 with `surrogateescape`, so that any server encoding survives:
    `text.encode("utf-8", "surrogateescape")` gives the archive's bytes.
    """

    dump_id: int
    had_data: bool
    """A data block with this dump id must follow."""
    tag: str
    desc: str
    section: int
    """1 none, 2 pre-data, 3 data, 4 post-data."""
    defn: str
    drop_stmt: str
    copy_stmt: str
    namespace: str
    tablespace: str
    table_am: str
    owner: str
    dependencies: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Toc:
    """Header and table of contents."""

    version: tuple[int, int]
    database: str
    server_version: str
    tool_version: str
    entries: tuple[TocEntry, ...]


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


Event = Head | Rows | LargeObject | EndOfEntry

_Steps = Generator[None, bytes, None]


class ArchiveParser:
    """Follows an archive whose blocks are fed in order; memory holds one block, or one row.

    DumpFailed: the bytes are not a whole, well formed archive. ToolError: an archive of
    another version, or a compressed one.
    """

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._head: list[bytes] | None = []
        self._head_bytes = 0
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
        if self._head is not None:
            raise DumpFailed("the dump ended inside its table of contents")
        if not self._between:
            raise DumpFailed("the dump ended inside a data block")
        if self._missing:
            raise DumpFailed(
                f"the dump ended before the data of {len(self._missing)} of its entries"
            )

    # --- bytes --------------------------------------------------------------------------

    def _block(self) -> _Steps:
        """Wait for the next block; what was left of the one before must have been used."""
        self._data = yield
        self._at = 0
        if self._head is not None:
            self._head.append(self._data)
            self._head_bytes += len(self._data)
            if self._head_bytes > MAX_TOC + MAX_STRING:
                raise DumpFailed("the dump's table of contents is larger than 1 GiB")

    def _take(self, count: int) -> Generator[None, bytes, bytes]:
        """Exactly `count` bytes, held once however many blocks they span."""
        end = self._at + count
        if end <= len(self._data):
            taken = self._data[self._at : end]
            self._at = end
            return taken
        whole = BytesIO()
        whole.write(memoryview(self._data)[self._at :])
        while (missing := count - whole.tell()) > 0:
            yield from self._block()
            self._at = min(missing, len(self._data))
            whole.write(memoryview(self._data)[: self._at])
        return whole.getvalue()

    def _byte(self) -> Generator[None, bytes, int]:
        return (yield from self._take(1))[0]

    def _int(self) -> Generator[None, bytes, int]:
        frame = yield from self._take(5)
        if frame[0] > 1:
            raise DumpFailed("the dump's archive is damaged: an integer has no sign")
        value = int.from_bytes(frame[1:], "little")
        return -value if frame[0] else value

    def _str(self) -> Generator[None, bytes, str | None]:
        length = yield from self._int()
        if length > MAX_STRING:
            raise DumpFailed("the dump's table of contents has a string without bounds")
        if length < 0:
            return None
        return (yield from self._take(length)).decode("utf-8", "surrogateescape")

    def _text(self) -> Generator[None, bytes, str]:
        return (yield from self._str()) or ""

    # --- header and table of contents ------------------------------------------------------

    def _archive(self) -> _Steps:
        toc = yield from self._read_toc()
        raw = b"".join(self._head or ())
        self._events.append(Head(toc, raw[: len(raw) - (len(self._data) - self._at)]))
        self._head = None
        self._missing = {entry.dump_id: entry for entry in toc.entries if entry.had_data}
        one_per_chunk = _major(toc.tool_version) <= _ONE_ROW_PER_CHUNK
        while True:
            self._between = True
            while self._at == len(self._data):
                yield from self._block()
            self._between = False
            kind = yield from self._byte()
            dump_id = yield from self._int()
            entry = self._missing.pop(dump_id, None)
            if entry is None:
                raise DumpFailed("the dump's archive is damaged: data of an unknown entry")
            if kind == _TABLE:
                yield from self._table(entry, one_per_chunk)
            elif kind == _LARGE_OBJECTS:
                yield from self._large_objects(entry)
            else:
                raise DumpFailed(f"the dump's archive has a data block of unknown kind {kind}")
            self._events.append(EndOfEntry(entry))

    def _read_toc(self) -> Generator[None, bytes, Toc]:
        if (yield from self._take(5)) != b"PGDMP":
            raise DumpFailed("the dump is not an archive in PostgreSQL's custom format")
        major, minor, _revision, int_size, offset_size, form = yield from self._take(6)
        version = (major, minor)
        if version not in VERSIONS:
            raise ToolError(
                f"archive version {major}.{minor} is not known",
                hint="Use the client tools of PostgreSQL 14 to 18.",
            )
        if (int_size, form) != (4, 1) or not 4 <= offset_size <= 8:
            raise DumpFailed("the dump's archive is damaged: impossible header")
        compressed = yield from (self._byte() if version >= (1, 15) else self._int())
        if compressed:
            raise ToolError("the archive is compressed; it must be dumped with -Z0")
        for _ in range(7):  # when it was made, in local time
            yield from self._int()
        database = yield from self._text()
        server_version = yield from self._text()
        tool_version = yield from self._text()
        count = yield from self._int()
        entries: dict[int, TocEntry] = {}
        for _ in range(count):
            entry = yield from self._read_entry(version, offset_size)
            if entry.dump_id <= 0 or entry.dump_id in entries:
                raise DumpFailed("the dump's archive is damaged: entry id not unique")
            entries[entry.dump_id] = entry
        return Toc(version, database, server_version, tool_version, tuple(entries.values()))

    def _read_entry(
        self, version: tuple[int, int], offset_size: int
    ) -> Generator[None, bytes, TocEntry]:
        dump_id = yield from self._int()
        had_data = yield from self._int()
        yield from self._str()  # oid of the catalog
        yield from self._str()  # oid in the catalog
        tag = yield from self._text()
        desc = yield from self._text()
        section = yield from self._int()
        defn = yield from self._text()
        drop_stmt = yield from self._text()
        copy_stmt = yield from self._text()
        namespace = yield from self._text()
        tablespace = yield from self._text()
        table_am = yield from self._text()
        if version >= (1, 16):
            yield from self._int()  # relkind; the description says as much
        owner = yield from self._text()
        yield from self._str()  # WITH OIDS, always false
        dependencies = []
        while (dependency := (yield from self._str())) is not None:
            if not dependency.isdecimal() or len(dependency) > 10:
                raise DumpFailed("the dump's archive is damaged: a dependency is no number")
            dependencies.append(int(dependency))
        yield from self._take(1 + offset_size)  # where its data is; never set in a pipe
        return TocEntry(
            dump_id,
            had_data != 0,
            tag,
            desc,
            section,
            defn,
            drop_stmt,
            copy_stmt,
            namespace,
            tablespace,
            table_am,
            owner,
            tuple(dependencies),
        )

    # --- data blocks ----------------------------------------------------------------------

    def _chunks(self, chunks: list[bytes]) -> bool:
        """Append the whole chunks at hand; True when the end mark was met. The hot loop."""
        data, at, unpack = self._data, self._at, _FRAME.unpack_from
        last = len(data) - _FRAME.size
        while at <= last:
            sign, length = unpack(data, at)
            if not length:
                self._at = at + 5
                return True
            if sign:  # for _chunk to refuse
                break
            at += 5
            chunks.append(data[at : (at := at + length)])
        if at > len(data):  # the last one goes on in the next block
            at -= 5 + length
            chunks.pop()
        self._at = at
        return False

    def _chunk(self) -> Generator[None, bytes, bytes]:
        """One chunk that spans blocks; empty for the end mark."""
        length = yield from self._int()
        if not 0 <= length <= MAX_CHUNK:
            raise DumpFailed("the dump's archive is damaged: impossible length of a chunk")
        return (yield from self._take(length))

    def _table(self, entry: TocEntry, one_per_chunk: bool) -> _Steps:
        lines = _Lines(one_per_chunk)
        while True:
            chunks: list[bytes] = []
            ended = self._chunks(chunks)
            if rows := lines.of(chunks):
                self._events.append(Rows(entry, rows))
            if ended:
                break
            chunk = yield from self._chunk()
            if not chunk:
                break
            # By itself, for it may be huge: joined to others it would be held twice.
            if rows := lines.of([chunk]):
                self._events.append(Rows(entry, rows))
        if not lines.ended:
            raise DumpFailed("the dump's archive is damaged: a table's rows have no end mark")

    def _large_objects(self, entry: TocEntry) -> _Steps:
        while oid := (yield from self._int()):
            pieces: list[bytes] = []
            while not self._chunks(pieces):
                if pieces:
                    self._events.append(LargeObject(entry, oid & 0xFFFFFFFF, pieces, False))
                if not (piece := (yield from self._chunk())):
                    pieces = []
                    break
                pieces = [piece]
            # The oid was written as a signed number.
            self._events.append(LargeObject(entry, oid & 0xFFFFFFFF, pieces, True))


class _Lines:
    """Makes whole lines of a table's chunks, up to the end mark."""

    def __init__(self, one_per_chunk: bool) -> None:
        self._one_per_chunk = one_per_chunk
        self._proved = False
        self._carry: list[bytes] = []
        self._marked = False

    @property
    def ended(self) -> bool:
        """The end mark was seen and nothing is left over."""
        return self._marked and not self._carry

    def of(self, chunks: list[bytes]) -> list[bytes]:
        """The lines that these chunks complete."""
        if self._one_per_chunk and not self._marked:
            marked = chunks[-1:] == [_ROWS_END]
            rows = chunks[:-1] if marked else chunks
            if self._are_lines(rows):
                self._marked = marked
                return rows
            self._one_per_chunk = False
        return self._split(b"".join(chunks))

    def _are_lines(self, rows: list[bytes]) -> bool:
        """One line each? What pg_dump's source says; proved at the start of each table."""
        if not set(map(_LAST_BYTE, rows)) <= _NEWLINE:
            return False
        if rows and not self._proved:
            self._proved = b"".join(rows).count(b"\n") == len(rows)
            return self._proved
        return True

    def _split(self, text: bytes) -> list[bytes]:
        cut = text.rfind(b"\n") + 1
        if not cut:
            self._carry += [text] if text else []
            return []
        lines = list(BytesIO(b"".join([*self._carry, text[:cut]])))
        self._carry = [text[cut:]] if cut < len(text) else []
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
