"""What a PostgreSQL database contained, told by its own archive as that passes.

The parts of a `Fingerprint` are a pure function of pg_dump's custom archive:

- A table's content is the sum, modulo 2^64, of XXH3-64 (seed 0) of every row's COPY text
  line with its newline, as 16 hex digits: independent of the order of rows, sensitive to
  how often a row occurs. The columns of a child table (INHERITS) are sorted by name first,
  as a restore may order them anew.
- A large object counts as one row: XXH3-64 of its oid in decimal, a NUL byte and its bytes.
- A schema object's digest is the SHA-256 of a canonical form of its definition, owner and
  access method. Dump ids and oids don't enter it, nor the tablespace: where bytes lie is
  not what a database contains, and a copy may have to lie elsewhere.

Text of definitions is pg_dump's: two archives compare object for object when they come
from the same major version of server and tool.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import xxhash

from backups.engines.postgres.archive import Event, Head, LargeObject, Rows
from backups.engines.postgres.canonical import canonical
from backups.engines.postgres.toc import Toc, TocEntry
from backups.errors import DumpFailed
from backups.model import ObjectDigest, SequenceValue, TableContent

LARGE_OBJECTS = "large objects"
"""Name of the pseudo-table of large objects; its schema is empty."""

_MASK = (1 << 64) - 1
_TOKEN = re.compile(r'"(?:[^"]|"")*"|[(),.;]|[^\s"(),.;]+')
_SETVAL = re.compile(r", (-?[0-9]{1,19}), (true|false)\);\s*\Z")
_DATA = frozenset({"TABLE DATA", "SEQUENCE SET", "BLOBS", "STATISTICS DATA"})
_NOT_OBJECTS = _DATA | {"ENCODING", "STDSTRINGS", "SEARCHPATH", "MATERIALIZED VIEW DATA"}
_DATABASE = frozenset({"DATABASE", "DATABASE PROPERTIES"})
_ABOUT = frozenset({"ACL", "COMMENT", "SECURITY LABEL"})
_NO_ROWS = {
    "MATERIALIZED VIEW": "a restore refreshes it",
    "FOREIGN TABLE": "its rows are on another server",
}


@dataclass(frozen=True, slots=True)
class Contents:
    """The parts of a `Fingerprint` that an archive tells, each sorted."""

    objects: tuple[ObjectDigest, ...]
    tables: tuple[TableContent, ...]
    sequences: tuple[SequenceValue, ...]
    large_objects: TableContent | None
    not_compared: tuple[str, ...]


class RowHasher:
    """Rows and content of one table; `order` puts its columns into another order first."""

    def __init__(self, order: Sequence[int] | None = None) -> None:
        self.rows = 0
        self._order = order
        self._sum = 0
        self._carry: list[bytes] = []

    @property
    def content(self) -> str:
        """16 hex digits, as the module says."""
        return f"{self._sum:016x}"

    def add(self, rows: list[bytes]) -> None:
        """Count whole lines, each with its newline. Raises DumpFailed when one of them has
        fewer fields than there are columns."""
        self.rows += len(rows)
        if self._order is not None:
            fields = [row[:-1].split(b"\t") for row in rows]  # COPY escapes tabs in values
            try:
                rows = [b"\t".join([row[i] for i in self._order]) + b"\n" for row in fields]
            except IndexError:
                raise DumpFailed("a row of the dump lacks columns of its table") from None
        self._sum = (self._sum + sum(map(xxhash.xxh3_64_intdigest, rows))) & _MASK

    def add_object(self, digest: int) -> None:
        """Count one row whose hash is known already."""
        self.rows += 1
        self._sum = (self._sum + digest) & _MASK

    def feed(self, block: bytes) -> None:
        """Count the lines of raw `COPY ... TO STDOUT` text, in blocks of any size."""
        cut = block.rfind(b"\n") + 1
        if not cut:
            self._carry.append(block)
            return
        self.add(BytesIO(b"".join([*self._carry, block[:cut]])).readlines())
        self._carry = [block[cut:]] if cut < len(block) else []

    def finish(self) -> None:
        """Raises DumpFailed when the text that was fed ended inside a line."""
        if any(self._carry):
            raise DumpFailed("a table's rows ended inside a line")


class ContentHasher:
    """Gathers `Contents` from the events of an `ArchiveParser`."""

    def __init__(self) -> None:
        self._toc: Toc | None = None
        self._tables: dict[int, RowHasher] = {}
        self._columns: dict[int, tuple[str, ...]] = {}
        self._objects = RowHasher()
        self._object: xxhash.xxh3_64 | None = None

    def add(self, events: Iterable[Event]) -> None:
        """Take in events in the order in which they come."""
        for event in events:
            if isinstance(event, Rows):
                self._tables[event.entry.dump_id].add(event.rows)
            elif isinstance(event, LargeObject):
                self._add_large_object(event)
            elif isinstance(event, Head):
                self._begin(event.toc)

    def _begin(self, toc: Toc) -> None:
        self._toc = toc
        for entry, columns, order in tables_with_rows(toc):
            self._columns[entry.dump_id] = columns
            self._tables[entry.dump_id] = RowHasher(order)

    def _add_large_object(self, event: LargeObject) -> None:
        if self._object is None:
            self._object = xxhash.xxh3_64(b"%d\0" % event.oid)
        for piece in event.pieces:
            self._object.update(piece)
        if event.last:
            self._objects.add_object(self._object.intdigest())
            self._object = None

    def result(self) -> Contents:
        """Call it after the parser's `finish`. Raises DumpFailed when nothing was seen."""
        if self._toc is None:
            raise DumpFailed("the dump had no table of contents")
        entries = self._toc.entries
        return Contents(
            objects=object_digests(entries),
            tables=tuple(sorted(self._table(e) for e in entries if e.desc == "TABLE DATA")),
            sequences=tuple(sorted(_sequence(e) for e in entries if e.desc == "SEQUENCE SET")),
            large_objects=TableContent(
                "", LARGE_OBJECTS, ("oid", "data"), self._objects.rows, self._objects.content
            )
            if any(entry.desc == "BLOBS" for entry in entries)
            else None,
            not_compared=not_compared(entries),
        )

    def _table(self, entry: TocEntry) -> TableContent:
        hasher = self._tables[entry.dump_id]
        return TableContent(
            _plain(entry.namespace),
            _plain(entry.tag),
            self._columns[entry.dump_id],
            hasher.rows,
            hasher.content,
        )


def tables_with_rows(
    toc: Toc,
) -> Iterator[tuple[TocEntry, tuple[str, ...], list[int] | None]]:
    """Tables, their columns in the order in which the content hash takes them, and where
    those stand in the archive's rows; None for a table whose order is the archive's own."""
    children = {entry.dump_id for entry in toc.entries if inherits(entry)}
    for entry in toc.entries:
        if entry.desc == "TABLE DATA":
            columns = copy_columns(entry.copy_stmt)
            if children.isdisjoint(entry.dependencies):
                yield entry, columns, None
            else:
                order = sorted(range(len(columns)), key=columns.__getitem__)
                yield entry, tuple(sorted(columns)), order


def copy_columns(copy_stmt: str) -> tuple[str, ...]:
    """The columns of an archive's `COPY schema.table (a, "b c") FROM stdin;`, unquoted.

    Raises DumpFailed when it is not such a statement.
    """
    tokens = _TOKEN.findall(copy_stmt)
    if tokens[:1] != ["COPY"] or [t.upper() for t in tokens[-3:]] != ["FROM", "STDIN", ";"]:
        raise DumpFailed("a table's rows are not dumped by COPY")
    if "(" not in tokens:
        return ()
    names = tokens[tokens.index("(") + 1 : -4]
    return tuple(_plain(_unquote(name)) for name in names if name != ",")


def object_digests(entries: Iterable[TocEntry]) -> tuple[ObjectDigest, ...]:
    """One digest for each (kind, schema, name), whatever the order of the entries.

    Names like `table column` may be shared by two objects; their digest covers both.
    """
    found: dict[tuple[str, str, str], list[bytes]] = {}
    for entry in entries:
        if entry.desc not in _NOT_OBJECTS and not of_database(entry):
            key = (_plain(entry.desc), _plain(entry.namespace), _plain(entry.tag))
            found.setdefault(key, []).append(_digest(entry))
    return tuple(
        ObjectDigest(*key, digests[0].hex() if len(digests) == 1 else _combined(digests))
        for key, digests in sorted(found.items())
    )


def inherits(entry: TocEntry) -> bool:
    """Whether it is a table with parents other than partitioned ones.

    A restore may order its columns anew: inherited ones come first.
    """
    return entry.desc == "TABLE" and "\nINHERITS (" in entry.defn


def of_database(entry: TocEntry) -> bool:
    """Whether it belongs to the database itself; pg_restore without --create skips it."""
    return entry.desc in _DATABASE or (
        entry.desc in _ABOUT and entry.tag.startswith("DATABASE ")
    )


def not_compared(entries: Iterable[TocEntry]) -> tuple[str, ...]:
    """What the archive carries no rows of, each named with the reason."""
    entries = tuple(entries)
    with_rows = {id_ for e in entries if e.desc == "TABLE DATA" for id_ in e.dependencies}
    named = set()
    for entry in entries:
        reason = _NO_ROWS.get(entry.desc)
        unlogged = entry.desc == "TABLE" and entry.defn.startswith("CREATE UNLOGGED TABLE")
        if unlogged and entry.dump_id not in with_rows:
            reason = "it is unlogged, and a replica has no rows of it"
        if reason:
            name = f"{_plain(entry.namespace)}.{_plain(entry.tag)}"
            named.add(f"{entry.desc.lower()} {name}: {reason}")
    return tuple(sorted(named))


def _digest(entry: TocEntry) -> bytes:
    defn = canonical(entry.defn)
    if inherits(entry):
        defn = "\n".join(sorted(line.rstrip(",") for line in defn.split("\n")))
    text = json.dumps([defn, entry.owner, entry.table_am])
    return hashlib.sha256(text.encode()).digest()


def _combined(digests: list[bytes]) -> str:
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def _sequence(entry: TocEntry) -> SequenceValue:
    found = _SETVAL.search(entry.defn)
    if not found:
        raise DumpFailed("a sequence's value is not written as the archive should")
    name = (_plain(entry.namespace), _plain(entry.tag))
    return SequenceValue(*name, int(found[1]), found[2] == "true")


def _unquote(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _plain(text: str) -> str:
    """Printable in UTF-8 also when the server's encoding is another."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
