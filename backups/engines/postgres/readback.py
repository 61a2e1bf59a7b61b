"""What a copy contains that nobody else can change yet, read over several sessions.

Equal to what `dump.fingerprint` finds, in less time: pg_dump tells all but rows; those
come from psql, large tables cut by ctid into ranges of pages.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from psycopg import Connection

from backups.engines.postgres.complaints import failure
from backups.engines.postgres.content import RowHasher, copy_names, plain, tables_with_rows
from backups.engines.postgres.dump import fingerprint as whole
from backups.engines.postgres.dump import open_dump
from backups.engines.postgres.long_rows import Lines, Piece
from backups.engines.postgres.process import running
from backups.engines.postgres.server import Login, connected
from backups.engines.postgres.toc import Toc, TocEntry
from backups.engines.postgres.tools import Tools
from backups.errors import BackupsError, DumpFailed
from backups.model import Fingerprint, SequenceValue, TableContent

PAGES = 4096
"""Of 8 KiB, in one piece of a table's rows."""

_MARK = b"\\!\n"
"""Ends a piece. No line of COPY is like it: a backslash in data is doubled."""
# Names in the database's own encoding, as the archive has them.
_SIZES = """
    SELECT convert_to(n.nspname::text, getdatabaseencoding()),
           convert_to(c.relname::text, getdatabaseencoding()),
           CASE WHEN c.relam = 2 THEN pg_relation_size(c.oid)
                / current_setting('block_size')::int ELSE 0 END
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r'"""
_SEQUENCES = """
    SELECT convert_to(n.nspname::text, getdatabaseencoding()),
           convert_to(c.relname::text, getdatabaseencoding())
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S'"""
AT_ONCE = 500
"""Sequences that one statement asks for: each takes a lock, of which servers keep few."""
_PARTIAL = "SELECT count(*) FROM pg_extension WHERE extconfig IS NOT NULL"


@dataclass(frozen=True, slots=True)
class _Piece:
    entry: TocEntry
    statement: bytes
    pages: int
    order: range | None
    """That of the columns, where the content hash takes them sorted: they are asked for so."""


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
        mark = rb"\echo '\\!'" + b"\n"  # by psql itself, without asking the server
        script.write_bytes(b"".join(piece.statement + b";\n" + mark for piece in self.pieces))
        argv = [tools.path("psql"), "-XAtq", "--set=ON_ERROR_STOP=1"]
        argv += ["--set=VERBOSITY=verbose", f"--file={script}"]
        try:
            with running(argv, login, options=_ORDER, reads=[script.parent]) as child:
                self._hash(child.blocks())
                code = child.wait()
                if code:
                    raise failure(child, code, login)
            if len(self.found) != len(self.pieces):
                raise DumpFailed("the copy's rows were not read to their end")
        except BackupsError as error:
            self.error = error

    def _hash(self, blocks: Iterable[bytes]) -> None:
        hasher, text = self._hasher(), Lines()
        for block in blocks:
            for found in text.feed(block):
                if isinstance(found, Piece):
                    hasher.add_part(found.data, found.last)
                    continue
                while _MARK in found:
                    end = found.index(_MARK)
                    hasher.add(found[:end])
                    del found[: end + 1]
                    self.found.append(hasher)
                    hasher = self._hasher()
                hasher.add(found)

    def _hasher(self) -> RowHasher:
        """Of the next piece."""
        at = len(self.found)
        return RowHasher(self.pieces[at].order if at < len(self.pieces) else None)


_ORDER = "-c synchronize_seqscans=off"
"""As pg_dump sets it (setup_connection): rows in the order in which they lie."""


def fingerprint(login: Login, tools: Tools, toc: Toc, folder: Path, lanes: int) -> Fingerprint:
    """What the copy of the archive with this `toc` contains; `folder` is private.

    Tables whose rows the archive does not carry have none in the copy either.
    """
    with connected(login) as connection:
        if connection.execute(_PARTIAL).fetchone() != (0,):
            # Of an extension's tables only some rows count; pg_dump knows which.
            return whole(login)
        pieces = list(_pieces(toc, _sizes(connection)))
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
    sums: dict[int, tuple[int, str]] = {}
    for lane in work:
        if lane.error:
            raise lane.error
        for piece, hasher in zip(lane.pieces, lane.found, strict=True):
            rows, content = sums.get(piece.entry.dump_id, (0, "0"))
            total = (int(content, 16) + int(hasher.content, 16)) % (1 << 64)
            sums[piece.entry.dump_id] = rows + hasher.rows, f"{total:016x}"
    return tuple(
        sorted(
            TableContent(
                plain(entry.namespace), plain(entry.tag), columns, *sums[entry.dump_id]
            )
            for entry, columns, _ in tables_with_rows(toc)
            if entry.dump_id in sums
        )
    )


def _pieces(toc: Toc, sizes: Mapping[tuple[str, str], int]) -> Iterator[_Piece]:
    """Of the tables that are there; what is missing is for the comparison to find."""
    for entry, columns, moved in tables_with_rows(toc):
        pages = sizes.get((entry.namespace, entry.tag))
        if pages is None:
            continue
        table = f"{_quoted(entry.namespace)}.{_quoted(entry.tag)}"
        named = copy_names(entry.copy_stmt)
        order = None if moved is None else range(len(columns))
        listed = ", ".join(named if moved is None else [named[place] for place in moved])
        if pages <= PAGES or not named:
            these = f" ({listed})" if named else ""
            yield _Piece(entry, _bytes(f"COPY {table}{these} TO STDOUT"), pages, order)
            continue
        for first in range(0, pages, PAGES):
            where = f"ctid >= '({first},0)'"
            if first + PAGES < pages:
                where += f" AND ctid < '({first + PAGES},0)'"
            rows = f"SELECT {listed} FROM ONLY {table} WHERE {where}"  # noqa: S608
            yield _Piece(entry, _bytes(f"COPY ({rows}) TO STDOUT"), PAGES, order)


def _sizes(connection: Connection[Any]) -> dict[tuple[str, str], int]:
    """Pages of each table's own rows, by names as in a `TocEntry`; 0 for those not in heaps."""
    return {
        (_text(schema), _text(name)): pages
        for schema, name, pages in connection.execute(_SIZES, binary=True)
    }


def _sequences(connection: Connection[Any], toc: Toc) -> tuple[SequenceValue, ...]:
    there = {
        (_text(schema), _text(name))
        for schema, name in connection.execute(_SEQUENCES, binary=True)
    }
    wanted = [
        (entry.namespace, entry.tag) for entry in toc.entries
        if entry.desc == "SEQUENCE SET" and (entry.namespace, entry.tag) in there
    ]  # fmt: skip
    found = []
    # Names as the archive has them, in whatever encoding.
    connection.execute("SELECT set_config('client_encoding', getdatabaseencoding(), false)")
    for start in range(0, len(wanted), AT_ONCE):
        some = wanted[start : start + AT_ONCE]
        each = [
            f"SELECT {place}, last_value, is_called FROM {_quoted(schema)}.{_quoted(name)}"  # noqa: S608
            for place, (schema, name) in enumerate(some)
        ]
        for place, value, called in connection.execute(_bytes(" UNION ALL ".join(each))):
            schema, name = some[place]
            found.append(SequenceValue(plain(schema), plain(name), value, called))
    return tuple(sorted(found))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
