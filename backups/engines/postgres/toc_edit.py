"""The head of an archive with other definitions or owners in it, for pg_restore to read.

The format is described in `archive`, with its source. A restore gives pg_restore a table of
contents without rows; what it is to make otherwise than the source is changed there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

from backups.engines.postgres.toc import TocEntry
from backups.errors import DumpFailed

_FRAME = struct.Struct("<BI")
_STRINGS_BEFORE_SECTION = 2  # tag and description
_HEADER = 5 + 6

Change = Callable[[TocEntry], TocEntry]
"""Gives the entry with another `defn` or `owner`, or as it is."""


class _Cursor:
    """Reads the head's bytes in order; what was read is copied or replaced by the caller."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0

    def number(self) -> int:
        sign, value = _FRAME.unpack_from(self.raw, self.at)
        self.at += _FRAME.size
        return int(-value if sign else value)

    def skip_string(self) -> str | None:
        length = self.number()
        if length < 0:
            return None
        text = self.raw[self.at : self.at + length]
        self.at += length
        return text.decode("utf-8", "surrogateescape")


def edited(raw: bytes, entries: tuple[TocEntry, ...], change: Change) -> bytes:
    """The same head with each entry as `change` gives it. `entries` are those of `raw`, in
    order. Raises DumpFailed when they are not."""
    cursor = _Cursor(raw)
    version, offset_size = (raw[5], raw[6]), raw[9]
    cursor.at = _HEADER + (1 if version >= (1, 15) else _FRAME.size)
    for _ in range(7):
        cursor.number()
    for _ in range(3):
        cursor.skip_string()
    if cursor.number() != len(entries):
        raise DumpFailed("the archive's table of contents is not the one that was read")
    out = [raw[: cursor.at]]
    for entry in entries:
        out.append(_entry(cursor, entry, change(entry), version, offset_size))
    return b"".join([*out, raw[cursor.at :]])


def _entry(
    cursor: _Cursor,
    entry: TocEntry,
    wanted: TocEntry,
    version: tuple[int, int],
    offset_size: int,
) -> bytes:
    start = cursor.at
    dump_id = cursor.number()
    if dump_id != entry.dump_id or replace(wanted, defn="", owner="") != replace(
        entry, defn="", owner=""
    ):
        raise DumpFailed("the archive's table of contents is not the one that was read")
    cursor.number()
    for _ in range(2 + _STRINGS_BEFORE_SECTION):  # two oids, tag, description
        cursor.skip_string()
    cursor.number()
    before = cursor.raw[start : cursor.at]
    defn = _string(cursor, entry.defn, wanted.defn)
    middle = cursor.at
    for _ in range(5):  # drop, copy, namespace, tablespace, access method
        cursor.skip_string()
    if version >= (1, 16):
        cursor.number()
    between = cursor.raw[middle : cursor.at]
    owner = _string(cursor, entry.owner, wanted.owner)
    rest = cursor.at
    cursor.skip_string()
    while cursor.skip_string() is not None:
        pass
    cursor.at += 1 + offset_size
    return b"".join([before, defn, between, owner, cursor.raw[rest : cursor.at]])


def _string(cursor: _Cursor, old: str, new: str) -> bytes:
    start = cursor.at
    cursor.skip_string()
    if old == new:
        return cursor.raw[start : cursor.at]
    text = new.encode("utf-8", "surrogateescape")
    return _FRAME.pack(0, len(text)) + text
