"""What a copy contains that nobody else can change yet, read over several sessions.

Equal to what `dump.fingerprint` finds, in less time: pg_dump tells all but rows; those
come from psql, large tables cut by ctid into ranges of pages.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from psycopg import Connection

from backups.engines.postgres.content import RowHasher, tables_with_rows
from backups.engines.postgres.dump import FORMAT, failure, open_dump
from backups.engines.postgres.dump import fingerprint as whole
from backups.engines.postgres.process import running
from backups.engines.postgres.server import Login, connected, quoted
from backups.engines.postgres.toc import Toc, TocEntry
from backups.engines.postgres.tools import Tools
from backups.errors import BackupsError, DumpFailed
from backups.model import Fingerprint, SequenceValue, TableContent

PAGES = 4096
"""Of 8 KiB, in one piece of a table's rows."""

_MARK = b"\\!\n"
"""Ends a piece. No line of COPY is like it: a backslash in data is doubled."""
_SIZES = """
    SELECT n.nspname, c.relname,
           CASE WHEN c.relam = 2 THEN pg_relation_size(c.oid)
                / current_setting('block_size')::int ELSE 0 END
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r'"""
_PARTIAL = "SELECT count(*) FROM pg_extension WHERE extconfig IS NOT NULL"


@dataclass(frozen=True, slots=True)
class _Piece:
    entry: TocEntry
    statement: bytes
    pages: int


@dataclass(slots=True)
class _Lane:
    pieces: list[_Piece] = field(default_factory=list)
    found: list[RowHasher] = field(default_factory=list)
    """Of each piece."""
    error: BackupsError | None = None

    @property
    def pages(self) -> int:
        return sum(1 + piece.pages for piece in self.pieces)

    def run(self, login: Login, tools: Tools, script: Path) -> None:
        """Read all pieces; an error is kept for the thread that waits."""
        mark = rb"SELECT E'\\!';" + b"\n"
        script.write_bytes(b"".join(piece.statement + b";\n" + mark for piece in self.pieces))
        argv = [tools.path("psql"), "-XAtq", "--set=ON_ERROR_STOP=1", f"--file={script}"]
        try:
            options = f"{FORMAT} {_SESSION}"
            with running(argv, login, options=options, reads=[script.parent]) as child:
                self._hash(child.blocks())
                code = child.wait()
                if code:
                    raise failure(child, code)
            if len(self.found) != len(self.pieces):
                raise DumpFailed("the copy's rows were not read to their end")
        except BackupsError as error:
            self.error = error

    def _hash(self, blocks: Iterable[bytes]) -> None:
        hasher, carry = RowHasher(), b""
        for block in blocks:
            cut = block.rfind(b"\n") + 1
            if not cut:
                carry += block
                continue
            text, carry = carry + block[:cut], block[cut:]
            lines = BytesIO(text).readlines()
            while _MARK in text and _MARK in lines:
                end = lines.index(_MARK)
                hasher.add(lines[:end])
                del lines[: end + 1]
                self.found.append(hasher)
                hasher = RowHasher()
            hasher.add(lines)


_SESSION = (
    "-c search_path= -c DateStyle=ISO -c IntervalStyle=postgres -c extra_float_digits=3"
    " -c row_security=off -c synchronize_seqscans=off"
)
"""As pg_dump sets its own (setup_connection)."""


def fingerprint(login: Login, tools: Tools, toc: Toc, folder: Path, lanes: int) -> Fingerprint:
    """What the copy of the archive with this `toc` contains; `folder` is private.

    Tables whose rows the archive does not carry have none in the copy either.
    """
    with connected(login) as connection:
        partial = connection.execute(_PARTIAL).fetchone() != (0,)
        if partial or connection.info.encoding != "utf-8":
            # Of an extension's tables only some rows count; pg_dump knows which.
            return whole(login)
        pieces = list(_pieces(connection, toc))
        sequences = _sequences(connection, toc)
    with open_dump(login, rows=False) as dump:
        for _, blocks in dump.artifacts():
            for _ in blocks:
                pass
        found = dump.finish()
    tables = _tables(login, tools, toc, pieces, folder, lanes)
    return replace(found, tables=tables, sequences=sequences)


def _tables(
    login: Login, tools: Tools, toc: Toc, pieces: list[_Piece], folder: Path, lanes: int
) -> tuple[TableContent, ...]:
    work = [_Lane() for _ in range(lanes)]
    for piece in sorted(pieces, key=lambda piece: -piece.pages):
        min(work, key=lambda lane: lane.pages).pieces.append(piece)
    threads = [
        threading.Thread(target=lane.run, args=(login, tools, folder / f"rows{number}"))
        for number, lane in enumerate(work)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sums: dict[int, tuple[int, int]] = {}
    for lane in work:
        if lane.error:
            raise lane.error
        for piece, hasher in zip(lane.pieces, lane.found, strict=True):
            rows, content = sums.get(piece.entry.dump_id, (0, 0))
            total = (content + int(hasher.content, 16)) % (1 << 64)
            sums[piece.entry.dump_id] = rows + hasher.rows, total
    return tuple(
        sorted(
            TableContent(entry.namespace, entry.tag, columns, rows, f"{content:016x}")
            for entry, columns, _ in tables_with_rows(toc)
            for rows, content in [sums[entry.dump_id]]
        )
    )


def _pieces(connection: Connection[Any], toc: Toc) -> Iterator[_Piece]:
    sizes = {(row[0], row[1]): row[2] for row in connection.execute(_SIZES)}
    for entry, columns, _ in tables_with_rows(toc):
        table = f"{_quoted(entry.namespace)}.{_quoted(entry.tag)}"
        named = ", ".join(map(_quoted, columns))
        pages = sizes.get((entry.namespace, entry.tag), 0)
        if pages <= PAGES or not columns:
            listed = f" ({named})" if columns else ""
            yield _Piece(entry, _bytes(f"COPY {table}{listed} TO STDOUT"), pages)
            continue
        for first in range(0, pages, PAGES):
            where = f"ctid >= '({first},0)'"
            if first + PAGES < pages:
                where += f" AND ctid < '({first + PAGES},0)'"
            rows = f"SELECT {named} FROM ONLY {table} WHERE {where}"  # noqa: S608
            yield _Piece(entry, _bytes(f"COPY ({rows}) TO STDOUT"), PAGES)


def _sequences(connection: Connection[Any], toc: Toc) -> tuple[SequenceValue, ...]:
    found = []
    for entry in toc.entries:
        if entry.desc == "SEQUENCE SET":
            query = quoted(
                "SELECT last_value, is_called FROM {s}.{n}", s=entry.namespace, n=entry.tag
            )
            for value, is_called in connection.execute(query):
                found.append(SequenceValue(entry.namespace, entry.tag, value, is_called))
    return tuple(sorted(found))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
