"""Reading one database in one snapshot, and telling what it contained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from backups.engines.postgres import long_rows, members, record, rewrites
from backups.engines.postgres.attempt import Attempt, proved
from backups.engines.postgres.complaints import failure, remarks
from backups.engines.postgres.record import require_large_objects, with_properties, with_remarks
from backups.engines.postgres.server import Login, connected
from backups.errors import DumpFailed, EngineError
from backups.model import Fingerprint
from backups.ports import Blocks

ENGINE = "postgresql"


class PostgresDump:
    """One consistent copy being read; adapter of `ports.Dump`."""

    def __init__(self, attempt: Attempt) -> None:
        self.preflight = attempt.preflight
        self.snapshot = attempt.snapshot
        self._attempt = attempt
        self._complete = False

    def artifacts(self) -> Iterator[tuple[str, Blocks]]:
        """`members`, where there is something: SQL that belongs after the archive. `archive`:
        pg_dump's custom format, not compressed. `roles`: SQL."""
        attempt = self._attempt
        if attempt.witness and attempt.record.members:
            # First, for its session is not to idle in a transaction for as long as pg_dump
            # works; pg_dump waits meanwhile, with its locks.
            yield "members", members.script(attempt.witness.connection, attempt.record.members)
        yield "archive", self._archive()
        yield "roles", iter([attempt.around.roles_sql])

    def finish(self) -> Fingerprint:
        """What the snapshot contained. Raises DumpFailed unless the archive ended well and
        holds as many rows as the server counts."""
        if not self._complete:
            raise DumpFailed("the dump was not read to its end")
        attempt = self._attempt
        contents = attempt.hasher.result()
        shown = attempt.around
        found = with_properties(attempt.record, shown.stays)
        found = with_remarks(found, remarks(attempt.child.remarks()))
        uncounted: tuple[str, ...] = ()
        if attempt.witness and shown.inventory:
            require_large_objects(shown.inventory, contents.large_objects)
            counts = attempt.witness.result()
            uncounted = record.uncounted(attempt.toc, attempt.seen.rows, counts)
        self.preflight = replace(
            attempt.preflight, warnings=(*attempt.preflight.warnings, *found.warnings)
        )
        return Fingerprint(
            engine=ENGINE,
            server_version=self.preflight.server_version,
            settings=shown.settings,
            extensions=shown.extensions,
            roles=shown.roles,
            members=shown.members,
            objects=contents.objects,
            tables=contents.tables,
            sequences=contents.sequences,
            large_objects=contents.large_objects,
            not_compared=tuple(
                sorted((*contents.not_compared, *found.not_compared, *uncounted))
            ),
            not_backed_up=tuple(sorted(found.not_backed_up)),
        )

    def _archive(self) -> Blocks:
        try:
            yield from self._to_its_end()
        finally:
            self._attempt.child.end()

    def _to_its_end(self) -> Blocks:
        attempt = self._attempt
        if attempt.witness:
            attempt.witness.start(attempt.toc)
        yield from attempt.head
        attempt.head.clear()
        try:
            for block in attempt.blocks:
                attempt.take(block)
                yield block
        except DumpFailed:
            # Bytes that make no archive: if the tool knows why, its words are better.
            attempt.child.process.terminate()
            if attempt.child.errors():
                raise failure(attempt.child, attempt.child.wait(), attempt.login) from None
            raise
        code = attempt.child.wait()
        if code:
            raise failure(attempt.child, code, attempt.login)
        attempt.parser.finish()
        self._require_the_same()
        self._complete = True

    def _require_the_same(self) -> None:
        """Raises DumpFailed where names led pg_dump to other things than the snapshot's."""
        with connected(self._attempt.login) as connection:
            rewrites.lenient(connection)
            now = rewrites.shape(connection)
        changed = rewrites.changed_since_locks(self._attempt.around.shape, now)
        if changed:
            raise DumpFailed(
                "what the dump's rows are named or printed by was changed while they were "
                f"read: {rewrites.told(changed)}",
                hint="Take the backup again, when nobody renames schemas, labels of enums or "
                "roles.",
            )


@contextmanager
def open_dump(
    login: Login, *, rows: bool = True, whole: bool = False
) -> Iterator[PostgresDump]:
    """Take a snapshot and begin to read in it; without `rows`, all but those of tables.
    `whole`: also what the archive does not carry, and rows counted by the server.

    Raises what `preflight.look` raises, ToolError, DumpFailed, Unreachable.
    """
    if whole:
        _require_values_fit(login)
    with proved(login, rows=rows, whole=whole) as attempt:
        yield PostgresDump(attempt)


def _require_values_fit(login: Login) -> None:
    """Raises EngineError before anything is read, where a value is too large for any dump."""
    with connected(login) as connection, connection.transaction():
        found = long_rows.too_large(connection)
    if found:
        raise EngineError(
            f"the database can't be dumped: {'; '.join(found)}",
            hint="Split these values, or keep them as large objects, which have no such limit.",
        )


def fingerprint(login: Login) -> Fingerprint:
    """What the database contains now."""
    with open_dump(login) as dump:
        for _, blocks in dump.artifacts():
            for _ in blocks:
                pass
        return dump.finish()
