"""What a PostgreSQL database contained, told by its own archive as that passes.

The parts of a `Fingerprint` are a pure function of pg_dump's custom archive:

- A table's content is the sum, modulo 2^64, of XXH3-64 (seed 0) of every row's COPY text
  line with its newline, as 16 hex digits: independent of the order of rows, sensitive to
  how often a row occurs. The columns of a child table (INHERITS) are sorted by name first,
  as a restore may order them anew; those of partitions too whose rows may move to another
  (see `partition_roots`) in which columns stand in another order. In tables that are sorted
  so, a row beyond 8 MiB (`long_rows.LONG`) counts as the line of its fields' XXH3-64 in
  16 hex digits each, with tabs between them: a row that is never held can't be reordered.
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

import xxhash

from backups.engines.postgres.archive import Event, Head, LargeObject, PartOfRow, Rows
from backups.engines.postgres.canonical import canonical
from backups.engines.postgres.long_rows import LONG, Lines, Piece
from backups.engines.postgres.toc import Toc, TocEntry
from backups.errors import DumpFailed
from backups.model import ObjectDigest, SequenceValue, TableContent

LARGE_OBJECTS = "large objects"
"""Name of the pseudo-table of large objects; its schema is empty."""

_MASK = (1 << 64) - 1
_FEW_COLUMNS = "a row of the dump lacks columns of its table"
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
    """Rows and content of one table; `order` puts its columns into another order first, and
    must be given (be it the order they have) for a table whose columns are sorted."""

    def __init__(self, order: Sequence[int] | None = None) -> None:
        self.rows = 0
        self._order = order
        self._moves = order is not None and list(order) != list(range(len(order)))
        self._sum = 0
        self._lines = Lines()
        self._long: _LongRow | None = None

    @property
    def content(self) -> str:
        """16 hex digits, as the module says."""
        return f"{self._sum:016x}"

    def add(self, rows: list[bytes]) -> None:
        """Count whole lines, each with its newline. Raises DumpFailed when one of them has
        fewer fields than there are columns."""
        if self._order is not None and any(len(row) > LONG for row in rows):
            for row in rows:
                if len(row) > LONG:
                    self.add_part(row, True)
            rows = [row for row in rows if len(row) <= LONG]
        self.rows += len(rows)
        if self._moves and self._order is not None:
            fields = [row[:-1].split(b"\t") for row in rows]  # COPY escapes tabs in values
            try:
                rows = [b"\t".join([row[i] for i in self._order]) + b"\n" for row in fields]
            except IndexError:
                raise DumpFailed(_FEW_COLUMNS) from None
        self._sum = (self._sum + sum(map(xxhash.xxh3_64_intdigest, rows))) & _MASK

    def add_part(self, data: bytes, last: bool) -> None:
        """Count the next bytes of a row beyond `LONG` bytes. Raises DumpFailed as `add`."""
        if self._long is None:
            self._long = _LongRow(self._order)
        self._long.add(data)
        if last:
            self.add_object(self._long.digest())
            self._long = None

    def add_object(self, digest: int) -> None:
        """Count one row whose hash is known already."""
        self.rows += 1
        self._sum = (self._sum + digest) & _MASK

    def feed(self, block: bytes) -> None:
        """Count the lines of raw `COPY ... TO STDOUT` text, in blocks of any size."""
        for found in self._lines.feed(block):
            if isinstance(found, Piece):
                self.add_part(found.data, found.last)
            else:
                self.add(found)

    def finish(self) -> None:
        """Raises DumpFailed when the text that was fed ended inside a line."""
        if self._lines.inside:
            raise DumpFailed("a table's rows ended inside a line")


class _LongRow:
    """The hash of a row that is seen in parts: of its line, or in an order of its fields."""

    def __init__(self, order: Sequence[int] | None) -> None:
        self._order = order
        self._part = xxhash.xxh3_64()
        """Of the line, or of the field that is passing."""
        self._fields: list[str] = []

    def add(self, data: bytes) -> None:
        """The next bytes."""
        if self._order is None:
            self._part.update(data)
            return
        *ended, rest = data.split(b"\t")
        for field in ended:
            self._end_field(field)
        self._part.update(rest.removesuffix(b"\n"))  # it can only be the row's own

    def digest(self) -> int:
        """Of all of it. Raises DumpFailed when fields are missing."""
        if self._order is None:
            return self._part.intdigest()
        self._end_field(b"")
        try:
            line = "\t".join([self._fields[place] for place in self._order]) + "\n"
        except IndexError:
            raise DumpFailed(_FEW_COLUMNS) from None
        return xxhash.xxh3_64_intdigest(line.encode())

    def _end_field(self, data: bytes) -> None:
        self._part.update(data)
        self._fields.append(self._part.hexdigest())
        self._part.reset()


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
            elif isinstance(event, PartOfRow):
                self._tables[event.entry.dump_id].add_part(event.data, event.last)
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
            plain(entry.namespace),
            plain(entry.tag),
            self._columns[entry.dump_id],
            hasher.rows,
            hasher.content,
        )


def tables_with_rows(
    toc: Toc,
) -> Iterator[tuple[TocEntry, tuple[str, ...], list[int] | None]]:
    """Tables, their columns in the order in which the content hash takes them, and where
    those stand in the archive's rows; None for a table whose order is the archive's own."""
    sorted_ones = {entry.dump_id for entry in toc.entries if inherits(entry)}
    sorted_ones |= _in_mixed_trees(toc)
    for entry in toc.entries:
        if entry.desc == "TABLE DATA":
            columns = copy_columns(entry.copy_stmt)
            if sorted_ones.isdisjoint(entry.dependencies):
                yield entry, columns, None
            else:
                order = sorted(range(len(columns)), key=columns.__getitem__)
                yield entry, tuple(sorted(columns)), order


def _in_mixed_trees(toc: Toc) -> set[int]:
    """Dump ids of tables that are partitions, somewhere below a table that is partitioned by
    hash, and whose columns do not stand in the order of all their siblings'."""
    tables = {entry.dump_id: entry for entry in toc.entries if entry.desc == "TABLE"}
    parents: dict[int, int] = {}
    for entry in toc.entries:
        if entry.desc == "TABLE ATTACH":
            both = [id_ for id_ in entry.dependencies if id_ in tables]
            own = [id_ for id_ in both if tables[id_].tag == entry.tag
                   and tables[id_].namespace == entry.namespace]  # fmt: skip
            parents |= {child: parent for child in own for parent in both if parent != child}
    orders: dict[int, dict[tuple[str, ...], set[int]]] = {}
    for entry in toc.entries:
        if entry.desc == "TABLE DATA":
            for leaf in parents.keys() & set(entry.dependencies):
                root, hashed, above = leaf, False, dict(parents)
                while root in above:  # each once, for a damaged archive may have circles
                    root = above.pop(root)
                    hashed |= "\nPARTITION BY HASH (" in tables[root].defn
                if hashed:
                    columns = copy_columns(entry.copy_stmt)
                    orders.setdefault(root, {}).setdefault(columns, set()).add(leaf)
    mixed = [leaves for leaves in orders.values() if len(leaves) > 1]
    return {leaf for each in mixed for leaves in each.values() for leaf in leaves}


def copy_columns(copy_stmt: str) -> tuple[str, ...]:
    """The columns of an archive's `COPY schema.table (a, "b c") FROM stdin;`, unquoted.

    Raises DumpFailed when it is not such a statement.
    """
    return tuple(plain(_unquote(name)) for name in copy_names(copy_stmt))


def copy_names(copy_stmt: str) -> list[str]:
    """The same as they stand there, quoted where they must be."""
    tokens = _copy_tokens(copy_stmt)
    if "(" not in tokens:
        return []
    return [name for name in tokens[tokens.index("(") + 1 : -4] if name != ","]


def copy_target(copy_stmt: str) -> str:
    """The table of such a statement with its schema, quoted as it stands there."""
    tokens = _copy_tokens(copy_stmt)
    return "".join(tokens[1 : tokens.index("(") if "(" in tokens else -3])


def goes_elsewhere(entry: TocEntry) -> bool:
    """Whether a table's rows are to be loaded into another, the root of its partitions."""
    names = [_unquote(name) for name in _TOKEN.findall(copy_target(entry.copy_stmt))]
    return names not in ([entry.namespace, ".", entry.tag], [entry.tag])


def _copy_tokens(copy_stmt: str) -> list[str]:
    tokens = _TOKEN.findall(copy_stmt)
    if tokens[:1] != ["COPY"] or [t.upper() for t in tokens[-3:]] != ["FROM", "STDIN", ";"]:
        raise DumpFailed("a table's rows are not dumped by COPY")
    return tokens


def object_digests(entries: Iterable[TocEntry]) -> tuple[ObjectDigest, ...]:
    """One digest for each (kind, schema, name), whatever the order of the entries.

    Names like `table column` may be shared by two objects; their digest covers both.
    """
    found: dict[tuple[str, str, str], list[bytes]] = {}
    for entry in entries:
        if entry.desc not in _NOT_OBJECTS and not of_database(entry):
            key = (plain(entry.desc), plain(entry.namespace), plain(entry.tag))
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
            name = f"{plain(entry.namespace)}.{plain(entry.tag)}"
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
    name = (plain(entry.namespace), plain(entry.tag))
    return SequenceValue(*name, int(found[1]), found[2] == "true")


def _unquote(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def plain(text: str) -> str:
    """Printable in UTF-8 also when the server's encoding is another."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def object_key(entry: TocEntry) -> tuple[str, str, str]:
    """Kind, schema and name, as an `ObjectDigest` has them."""
    return plain(entry.desc), plain(entry.namespace), plain(entry.tag)
