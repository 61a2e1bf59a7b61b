"""Rows into a copy, over several sessions at once, and again for what was refused.

One pg_restore loads one table after the other, bound by one core of the server. Here whole
rows go in turn to the session that has the least to do, so that one large table keeps all
of them busy too. The order of rows in a table is then not the source's; SQL promises none.

Tables whose rows may depend on other tables' wait for those (`load_order`). A table whose
rows the server refuses is left empty, and loaded again from the archive's beginning once all
others are there, by one session in the archive's order: through the root of its partitions
where its rows belong to others now, without CHECKs that the source's own rows break (`checks`)
where order does not help. What is refused then too stays away, and is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import Connection

from backups.engines.postgres import checks
from backups.engines.postgres.archive import (
    ArchiveParser,
    Event,
    Head,
    LargeObject,
    PartOfRow,
    Rows,
)
from backups.engines.postgres.content import copy_target, goes_elsewhere, object_key
from backups.engines.postgres.lanes import Loader, Refused, Target, loader, prepare
from backups.engines.postgres.load_order import Order, order
from backups.engines.postgres.partition_roots import through_root
from backups.engines.postgres.pins import LOADING
from backups.engines.postgres.server import Login, connected
from backups.engines.postgres.toc import Toc, TocEntry
from backups.errors import DumpFailed, EnvironmentLacks
from backups.model import Unrestored
from backups.ports import Blocks, Progress

ROUNDS = 5
"""How often the archive is read again for tables whose rows were refused."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a load came to."""

    exceptions: tuple[Unrestored, ...] = ()
    """Rows that are not there, and CHECKs that are NOT VALID."""
    empty: frozenset[tuple[str, str, str]] = frozenset()
    """Tables whose rows are not there, none of them, as `content.object_key` names their
    entries: those that were refused, and those without a table in the copy."""
    not_valid: frozenset[tuple[str, str, str]] = frozenset()
    """Kind, schema and name of objects whose definition differs because of a CHECK that is
    NOT VALID: the table or domain, and the constraint that stands by itself then."""
    moved: tuple[tuple[str, str], ...] = ()
    """Leaves whose rows went through the root: see `partition_roots.trees`."""


class ArchiveRows:
    """The archive's stream: first its table of contents, then the data."""

    def __init__(self, blocks: Blocks) -> None:
        self._rest = blocks
        self._parser = ArchiveParser()
        self._events: list[Event] = []
        self._bytes = 0
        self.head = self._read_head()

    def load(self, target: Loader, wanted: Iterable[TocEntry], progress: Progress) -> None:
        """Give the data of those entries to `target`; all of it is read. Raises DumpFailed
        unless the archive is complete."""
        entries = {entry.dump_id for entry in wanted}
        self._give(self._events, target, entries)
        for block in self._rest:
            self._give(self._parser.feed(block), target, entries)
            self._bytes += len(block)
            progress("loading rows", self._bytes, None)
        self._parser.finish()

    def _read_head(self) -> Head:
        for block in self._rest:
            self._bytes += len(block)
            events = self._parser.feed(block)
            if events and isinstance(events[0], Head):
                self._events = events[1:]
                return events[0]
        raise DumpFailed("the archive ends inside its table of contents")

    def _give(self, events: Iterable[Event], target: Loader, entries: set[int]) -> None:
        for event in events:
            if isinstance(event, Head) or event.entry.dump_id not in entries:
                continue
            if isinstance(event, Rows):
                target.rows(event)
            elif isinstance(event, PartOfRow):
                target.part_of_row(event)
            elif isinstance(event, LargeObject):
                target.large_object(event)


def load_rows(
    copy: Login,
    encoding: str,
    lanes: int,
    wanted: Toc,
    archive: Callable[[], Blocks],
    progress: Progress,
    *,
    begun: ArchiveRows | None = None,
    path: str = "",
) -> LoadResult:
    """Load the data of the entries of `wanted` into a copy that has everything which comes
    before data. `encoding` is the archive's, `lanes` how many sessions load at once.

    `archive` opens the archive from its beginning, each time it is called; `begun` is one
    whose head alone was read, for the first time; `path` is the search path of the source's
    sessions, for rows that the server refuses under none: a check's function may name a table
    without its schema. Raises EnvironmentLacks for what the server
    lacks, a role that a value names included; Unreachable, RestoreFailed, DumpFailed.
    """
    with connected(copy) as connection:
        found = order(connection)
    missing = [entry for entry in wanted.entries if _is_missing(entry, found)]
    wanted = replace(
        wanted, entries=tuple(entry for entry in wanted.entries if entry not in missing)
    )
    load = _Load(copy, encoding, wanted, archive, progress, found, path)
    result = LoadResult()
    if refused := load.first(begun or ArchiveRows(archive()), lanes):
        with connected(copy, LOADING) as connection:
            load.empty(refused, connection)
            result = load.again(refused, connection)
    return replace(result, empty=result.empty | {object_key(entry) for entry in missing})


@dataclass(slots=True)
class _Load:
    copy: Login
    encoding: str
    wanted: Toc
    archive: Callable[[], Blocks]
    progress: Progress
    order: Order
    path: str
    """Of the source's sessions."""
    statements: dict[int, bytes] = field(default_factory=dict)
    """Of tables that go through their root."""
    taken: list[checks.Check] = field(default_factory=list)

    def first(self, rows: ArchiveRows, lanes: int) -> list[Refused]:
        """All of it, over all lanes."""
        return self._pass(rows, lanes, self.wanted.entries)

    def empty(self, refused: Iterable[Refused], connection: Connection[Any]) -> None:
        """Away with what other lanes have committed of tables that were refused."""
        alone = self.order.alone
        with connection.transaction():
            prepare(connection, self.encoding)
            for each in refused:
                if (each.entry.namespace, each.entry.tag) not in alone and not _moves(
                    each.entry
                ):
                    _empty(connection, each.entry)
        connection.execute("SELECT pg_catalog.set_config('client_encoding', 'UTF8', false)")

    def again(self, refused: list[Refused], connection: Connection[Any]) -> LoadResult:
        """Only the refused ones, one session, in the archive's order, for as long as that
        brings something."""
        try:
            for attempt in range(ROUNDS):
                changed = [self._help(each, connection, attempt > 0) for each in refused]
                before = len(refused)
                refused = self._pass(
                    ArchiveRows(self.archive()), 1, [e.entry for e in refused], self.path
                )
                if not refused or not (any(changed) or len(refused) < before or not attempt):
                    break
        finally:
            left = checks.put_back(connection, self.taken)
        return self._result(refused, left)

    def _help(self, each: Refused, connection: Connection[Any], ordered: bool) -> bool:
        """Change what stands in the way, if anything can be; `ordered`: order did not help."""
        table = each.entry.dump_id
        if each.state != "23514":
            return False
        if each.constraint is None:
            statement = None if table in self.statements else self._root(each, connection)
            if statement is not None:
                self.statements[table] = statement
            return statement is not None
        if not ordered:
            return False
        schema, holder, _ = each.constraint
        taken = checks.take_off(connection, schema, holder, domain=each.domain)
        self.taken += taken
        return bool(taken)

    def _root(self, each: Refused, connection: Connection[Any]) -> bytes | None:
        with connection.transaction():
            prepare(connection, self.encoding)
            found = through_root(connection, each.entry)
        connection.execute("SELECT pg_catalog.set_config('client_encoding', 'UTF8', false)")
        return found

    def _pass(
        self, rows: ArchiveRows, lanes: int, entries: Sequence[TocEntry], path: str = ""
    ) -> list[Refused]:
        targets = [self._target(entry) for entry in entries if entry.had_data]
        with loader(self.copy, self.encoding, lanes, targets, path) as target:
            rows.load(target, entries, self.progress)
            return target.finish()

    def _target(self, entry: TocEntry) -> Target:
        key = (entry.namespace, entry.tag)
        statement = self.statements.get(entry.dump_id)
        alone = key in self.order.alone or statement is not None or _moves(entry)
        plain = entry.copy_stmt.encode("utf-8", "surrogateescape")
        return Target(entry, statement or plain, key in self.order.waiting, alone)

    def _result(
        self, refused: Iterable[Refused], left: Sequence[tuple[checks.Check, str]]
    ) -> LoadResult:
        exceptions = [checks.told(check, why) for check, why in left]
        for each in refused:
            if each.state == "42704":
                raise EnvironmentLacks(
                    f"the target server lacks something that rows name: {each.words}"
                )
            subject = f"rows of {each.entry.namespace}.{each.entry.tag}"
            reason = f"the server refused them, and none is there: {each.words}"
            exceptions.append(Unrestored(subject, reason, at_source=False))
        holders = {("DOMAIN" if c.domain else "TABLE", c.schema, c.holder) for c, _ in left}
        constraints = {("CHECK CONSTRAINT", c.schema, f"{c.holder} {c.name}") for c, _ in left}
        entries = {entry.dump_id: entry for entry in self.wanted.entries}
        return LoadResult(
            tuple(exceptions),
            frozenset(object_key(each.entry) for each in refused),
            frozenset(holders | constraints),
            tuple((entries[id_].namespace, entries[id_].tag) for id_ in self.statements),
        )


def _is_missing(entry: TocEntry, found: Order) -> bool:
    return entry.desc == "TABLE DATA" and (entry.namespace, entry.tag) not in found.tables


def _moves(entry: TocEntry) -> bool:
    """Its rows go through another table, the root."""
    return entry.desc == "TABLE DATA" and goes_elsewhere(entry)


def _empty(connection: Connection[Any], entry: TocEntry) -> None:
    table = copy_target(entry.copy_stmt).encode("utf-8", "surrogateescape")
    try:
        with connection.transaction():
            connection.execute(b"TRUNCATE ONLY " + table)
    except psycopg.errors.FeatureNotSupported:  # a foreign key leads to it
        connection.execute(b"DELETE FROM ONLY " + table)
