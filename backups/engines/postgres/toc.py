"""The head of PostgreSQL's custom archive: its header and table of contents.

The format is described in `archive`, with its source.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from io import BytesIO

from backups.errors import DumpFailed, ToolError

Steps = Generator[None, bytes, None]

VERSIONS = ((1, 14), (1, 15), (1, 16))
MAX_STRING = 256 << 20
"""Bytes of one string of the table of contents; the server itself stops at 1 GiB."""
MAX_TOC = 1 << 30
"""Bytes of header and table of contents together."""

_DUMP_ID = re.compile("[0-9]{1,10}")


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
    catalog_oid: int = 0
    """Of the source's catalog that the object is in; 0 where the entry is no object."""
    oid: int = 0
    """In that catalog of the source."""


@dataclass(frozen=True, slots=True)
class Toc:
    """Header and table of contents."""

    version: tuple[int, int]
    database: str
    server_version: str
    tool_version: str
    entries: tuple[TocEntry, ...]


class Reader:
    """The bytes of a stream that comes in blocks.

    Its methods are generators: they wait at `yield` to be sent the next block, which is
    not empty. Raises DumpFailed.
    """

    def __init__(self) -> None:
        self.data = b""
        """The present block; its bytes before `at` have been used."""
        self.at = 0
        self._head: list[bytes] | None = []
        self._head_bytes = 0

    def block(self) -> Steps:
        """Wait for the next block; what was left of the one before must have been used."""
        self.data = yield
        self.at = 0
        if self._head is not None:
            self._head.append(self.data)
            self._head_bytes += len(self.data)
            if self._head_bytes > MAX_TOC:
                raise DumpFailed("the dump's table of contents is larger than 1 GiB")

    def take(self, count: int) -> Generator[None, bytes, bytes]:
        """Exactly `count` bytes, held once however many blocks they span."""
        end = self.at + count
        if end <= len(self.data):
            taken = self.data[self.at : end]
            self.at = end
            return taken
        whole = BytesIO()
        whole.write(memoryview(self.data)[self.at :])
        while (missing := count - whole.tell()) > 0:
            yield from self.block()
            self.at = min(missing, len(self.data))
            whole.write(memoryview(self.data)[: self.at])
        return whole.getvalue()

    def byte(self) -> Generator[None, bytes, int]:
        """A byte as a number."""
        return (yield from self.take(1))[0]

    def number(self) -> Generator[None, bytes, int]:
        """WriteInt."""
        frame = yield from self.take(5)
        if frame[0] > 1:
            raise DumpFailed("the dump's archive is damaged: an integer has no sign")
        value = int.from_bytes(frame[1:], "little")
        return -value if frame[0] else value

    def string(self) -> Generator[None, bytes, str | None]:
        """WriteStr."""
        length = yield from self.number()
        if length > MAX_STRING:
            raise DumpFailed("the dump's table of contents has a string without bounds")
        if length < 0:
            return None
        return (yield from self.take(length)).decode("utf-8", "surrogateescape")

    def text(self) -> Generator[None, bytes, str]:
        """WriteStr, where NULL and empty mean the same."""
        return (yield from self.string()) or ""

    @property
    def in_head(self) -> bool:
        """Until `end_head`."""
        return self._head is not None

    def end_head(self) -> bytes:
        """All that was read so far; from here on nothing is kept."""
        raw = b"".join(self._head or ())
        self._head = None
        return raw[: len(raw) - (len(self.data) - self.at)]


def read_toc(reader: Reader) -> Generator[None, bytes, Toc]:
    """Raises DumpFailed where it is malformed, ToolError for what we do not read."""
    if (yield from reader.take(5)) != b"PGDMP":
        raise DumpFailed("the dump is not an archive in PostgreSQL's custom format")
    major, minor, _revision, int_size, offset_size, form = yield from reader.take(6)
    version = (major, minor)
    if version not in VERSIONS:
        raise ToolError(
            f"archive version {major}.{minor} is not known",
            hint="Use the client tools of PostgreSQL 14 to 18.",
        )
    if (int_size, form) != (4, 1) or not 4 <= offset_size <= 8:
        raise DumpFailed("the dump's archive is damaged: impossible header")
    compressed = yield from (reader.byte() if version >= (1, 15) else reader.number())
    if compressed:
        raise ToolError("the archive is compressed; it must be dumped with -Z0")
    for _ in range(7):  # when it was made, in local time
        yield from reader.number()
    database = yield from reader.text()
    server_version = yield from reader.text()
    tool_version = yield from reader.text()
    count = yield from reader.number()
    if count < 0:
        raise DumpFailed("the dump's archive is damaged: impossible number of entries")
    entries: dict[int, TocEntry] = {}
    for _ in range(count):
        entry = yield from _read_entry(reader, version, offset_size)
        if entry.dump_id <= 0 or entry.dump_id in entries:
            raise DumpFailed("the dump's archive is damaged: entry id not unique")
        entries[entry.dump_id] = entry
    return Toc(version, database, server_version, tool_version, tuple(entries.values()))


def _read_entry(
    reader: Reader, version: tuple[int, int], offset_size: int
) -> Generator[None, bytes, TocEntry]:
    dump_id = yield from reader.number()
    had_data = yield from reader.number()
    catalog_oid = _oid((yield from reader.text()))
    oid = _oid((yield from reader.text()))
    tag = yield from reader.text()
    desc = yield from reader.text()
    section = yield from reader.number()
    defn = yield from reader.text()
    drop_stmt = yield from reader.text()
    copy_stmt = yield from reader.text()
    namespace = yield from reader.text()
    tablespace = yield from reader.text()
    table_am = yield from reader.text()
    if version >= (1, 16):
        yield from reader.number()  # relkind; the description says as much
    owner = yield from reader.text()
    yield from reader.string()  # WITH OIDS, always false
    dependencies = []
    while (dependency := (yield from reader.string())) is not None:
        if not _DUMP_ID.fullmatch(dependency):
            raise DumpFailed("the dump's archive is damaged: a dependency is no number")
        dependencies.append(int(dependency))
    yield from reader.take(1 + offset_size)  # where its data is; never set in a pipe
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
        catalog_oid,
        oid,
    )


def _oid(text: str) -> int:
    if text and not _DUMP_ID.fullmatch(text):
        raise DumpFailed("the dump's archive is damaged: an oid is no number")
    return int(text or "0")
