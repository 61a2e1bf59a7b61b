"""One try at a dump: a snapshot, pg_dump in it, and the proof that it reads what that shows.

Nothing of an archive is passed on before the proof, so that a try whose tables changed under
it is thrown away and made anew. See `rewrites`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import Connection

from backups.engines.postgres import (
    around,
    holdings,
    inventory,
    members,
    pooler,
    preflight,
    rewrites,
)
from backups.engines.postgres.archive import ArchiveParser, Event, Head
from backups.engines.postgres.complaints import failure
from backups.engines.postgres.content import ContentHasher
from backups.engines.postgres.process import running
from backups.engines.postgres.record import Record, record
from backups.engines.postgres.rewrites import lenient, told
from backups.engines.postgres.row_counts import Seen, Witness
from backups.engines.postgres.server import Login, connected, pinned
from backups.engines.postgres.toc import Toc
from backups.engines.postgres.tools import choose
from backups.engines.process import Child
from backups.errors import DumpFailed
from backups.model import Preflight, Snapshot

LOCK_WAIT = 60_000
"""Milliseconds that pg_dump waits for its shared locks before it gives up."""
TRIES = 20
"""How often a dump is begun anew because what it reads was changed under it."""
SECONDS = 90
"""For how long it is begun anew, by the server's clock."""

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# now() is the start of the transaction, just before its snapshot: the data is at least as
# fresh as that, by the server's own clock. The last column: before 16, pg_dump does not see by
# itself that rows which an enum's hash put into a partition go to another one in a copy.
_SNAPSHOT = """
    SELECT pg_export_snapshot(), (extract(epoch FROM now()) * 1000000)::bigint,
           (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                 ELSE pg_current_wal_lsn() END)::text,
           (SELECT pg_encoding_to_char(encoding) FROM pg_database
             WHERE datname = current_database()),
           current_setting('server_version_num')::int < 160000 AND EXISTS (
               SELECT FROM pg_partitioned_table p, unnest(p.partattrs::int2[]) k
                 JOIN pg_attribute a ON a.attnum = k
                 JOIN pg_type t ON t.oid = a.atttypid
                WHERE p.partstrat = 'h' AND a.attrelid = p.partrelid AND t.typtype = 'e')"""
_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Around:
    """What the snapshot shows beside the archive."""

    settings: Mapping[str, str]
    extensions: Mapping[str, str]
    roles: tuple[str, ...]
    members: tuple[tuple[str, str, bool], ...]
    roles_sql: bytes
    stays: tuple[str, ...]
    """Properties of the database that a copy does not get, in words."""
    shape: rewrites.Shape
    inventory: holdings.Inventory | None


@dataclass(slots=True)
class Attempt:
    """A try that was proved good: pg_dump is at work, and its archive's head is read."""

    login: Login
    """Of the very server."""
    name: str
    """Of the exported snapshot, which the server knows while pg_dump lives."""
    snapshot: Snapshot
    preflight: Preflight
    around: Around
    child: Child
    blocks: Iterator[bytes]
    """Of the archive, those after `head`."""
    parser: ArchiveParser
    hasher: ContentHasher
    head: list[bytes]
    toc: Toc
    seen: Seen
    """Rows that the archive carried so far."""
    witness: Witness | None
    """Reads in the same snapshot, beside pg_dump."""
    record: Record
    """What the archive does not carry."""

    def take(self, block: bytes) -> None:
        """Understand the archive's next block."""
        events = self.parser.feed(block)
        self.hasher.add(events)
        self.seen.add(events)


class _Changed(Exception):  # never leaves this module
    """What is read is not what the snapshot shows."""

    def __init__(self, what: list[str]) -> None:
        super().__init__()
        self.what = what


@contextmanager
def proved(login: Login, *, rows: bool, whole: bool) -> Iterator[Attempt]:
    """Begin a dump until one is proved good; leaving ends its processes.

    Without `rows`, those of tables are left out. `whole`: with an inventory and a witness.
    Raises what `preflight.look` raises, ToolError, DumpFailed, Unreachable.
    """
    with ExitStack() as stack:
        yield _until_proved(stack, login, rows, whole)


def _until_proved(stack: ExitStack, login: Login, rows: bool, whole: bool) -> Attempt:
    began: float | None = None
    for number in range(1, TRIES + 1):
        with ExitStack() as this:
            guard = this.enter_context(connected(login, reads=True))
            lenient(guard)
            clock = guard.execute(_CLOCK).fetchall()[0][0]
            began = clock if began is None else began
            try:
                attempt = _attempt(this, guard, login, rows, whole)
            except _Changed as changed:
                if number == TRIES or clock - began > SECONDS:
                    raise DumpFailed(
                        "tables were changed again and again while a dump of them began "
                        f"({number} times): {told(changed.what)}",
                        hint="Take the backup when no job alters, truncates, clusters or "
                        "exchanges tables every few moments.",
                    ) from None
                continue
            # A session of ours that idles for hours is what housekeeping jobs end: pg_dump
            # has the snapshot, and the guard is not needed any more.
            guard.close()
            stack.push(this.pop_all())
            return attempt
    raise AssertionError("unreachable")


def _attempt(
    stack: ExitStack, guard: Connection[Any], login: Login, rows: bool, whole: bool
) -> Attempt:
    pooler.require_shared_snapshots(guard, connected(login, reads=True))
    tools = choose(preflight.major(guard))
    found = preflight.look(guard, tools)
    guard.execute(_BEGIN)
    # An empty path: nothing that users made can stand in for the catalog's functions.
    guard.execute("SET LOCAL search_path = pg_catalog")
    name, micros, position, encoding, by_root = guard.execute(_SNAPSHOT).fetchall()[0]
    here = pinned(guard, login)
    argv = [
        tools.path("pg_dump"),
        "--format=custom",
        "--compress=0",
        f"--snapshot={name}",
        # Else the database's or the role's client_encoding decides what the archive is in.
        f"--encoding={encoding}",
        f"--lock-wait-timeout={LOCK_WAIT}",
        *(["--no-unlogged-table-data"] if preflight.in_recovery(guard) else []),
        *([] if rows else ["--exclude-table-data=*.*"]),
        *(["--load-via-partition-root"] if by_root else []),
    ]
    child = stack.enter_context(running(argv, here))
    # While pg_dump reads the schema, in its snapshot:
    shown = Around(
        settings=around.settings(guard),
        extensions=around.extensions(guard),
        roles=around.roles(guard),
        members=around.members(guard),
        roles_sql=around.roles_sql(guard),
        stays=around.stays(guard),
        shape=rewrites.shape(guard),
        inventory=holdings.read(guard) if whole else None,
    )
    blocks = child.blocks()
    parser, hasher, seen = ArchiveParser(), ContentHasher(), Seen()
    head, toc = _head(guard, child, blocks, parser, [hasher.add, seen.add], shown.shape)
    witness, record = None, Record()
    if shown.inventory:
        witness = stack.enter_context(Witness.opened(here, name))
        record = record_of(witness.connection, shown.inventory, toc)
    guard.execute("COMMIT")
    changed = rewrites.changed_before_locks(shown.shape, rewrites.shape(guard))
    if changed:
        raise _Changed(changed)
    taken_at = _EPOCH + timedelta(microseconds=micros)
    return Attempt(
        here, name, Snapshot(taken_at, position or ""), found, shown, child, blocks,
        parser, hasher, head, toc, seen, witness, record,
    )  # fmt: skip


def record_of(connection: Connection[Any], found: holdings.Inventory, toc: Toc) -> Record:
    """What is missing, in words, and what of it we carry. Locks the tables it is to read."""
    missing = inventory.missing(found, toc)
    try:
        missing = members.rows_of_people(connection, found, missing)
        ours = members.collect(connection, found, missing)
        members.lock(connection, ours)
    except psycopg.errors.LockNotAvailable:
        raise _Changed(["a table of an extension, which is locked"]) from None
    return record(
        holdings.names(connection, (m.address for m in missing)), found, toc, missing, ours
    )


def _head(
    guard: Connection[Any],
    child: Child,
    blocks: Iterator[bytes],
    parser: ArchiveParser,
    takers: Sequence[Callable[[Sequence[Event]], None]],
    shown: rewrites.Shape,
) -> tuple[list[bytes], Toc]:
    """Read up to the end of the table of contents. Raises _Changed where pg_dump failed for
    what changed under it."""
    head = []
    try:
        for block in blocks:
            head.append(block)
            events = parser.feed(block)
            for take in takers:
                take(events)
            if events and isinstance(events[0], Head):
                return head, events[0].toc
    except DumpFailed:
        child.process.terminate()
        child.wait()
        if not child.errors():
            raise
    error = failure(child, child.wait())
    guard.execute("COMMIT")
    if changed := rewrites.changed_before_locks(shown, rewrites.shape(guard)):
        raise _Changed(changed) from error
    raise error
