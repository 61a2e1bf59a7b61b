"""Making a copy beside its target: new database, structure, rows, comparison, name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from psycopg import Connection

from backups.engines.beside import removed_at_the_end
from backups.engines.postgres import (
    around,
    create,
    members_load,
    partition_roots,
    preflight,
    readback,
    reference,
)
from backups.engines.postgres.claim import Claim, held
from backups.engines.postgres.load import ArchiveRows, LoadResult, load_rows
from backups.engines.postgres.remove import beside, sweep
from backups.engines.postgres.roles import Roles
from backups.engines.postgres.server import connected, pinned
from backups.engines.postgres.structure import Job, Unmade, again, make, names
from backups.engines.postgres.target import (
    Place,
    login_of_target,
    maintenance,
    private_folder,
    require_empty,
)
from backups.engines.postgres.toc import Toc
from backups.engines.postgres.tools import choose
from backups.engines.postgres.wanted import Server, Wanted, wanted, without
from backups.errors import EnvironmentLacks, RestoreFailed
from backups.model import Fingerprint, RestoreOptions, Source, Unrestored, Written
from backups.ports import Blocks, Entropy, Progress

_FINAL = ("owner", "rights", "comment", "connection limit")
"""Properties that a copy under its final name gets when it is published."""


class PostgresRestoration:
    """A copy that is not published yet; adapter of `ports.Restoration`."""

    def __init__(
        self, place: Place, claim: Claim, folder: Path, options: RestoreOptions
    ) -> None:
        self._place = place
        self._claim = claim
        self._folder = folder
        self._options = options
        self._jobs = max(1, options.jobs)
        self._roles = Roles()
        self._job: Job | None = None
        self._wanted: Wanted | None = None
        self._unmade: list[Unmade] = []
        self._refused: tuple[Unrestored, ...] = ()
        self._copied: Toc | None = None
        self._rows = LoadResult()
        self._trees: tuple[partition_roots.Tree, ...] = ()

    def lacks(self, expected: Fingerprint) -> tuple[str, ...]:
        """See the port."""
        with connected(self._place.server) as connection:
            return around.lacks(connection, expected)

    def load(
        self, expected: Fingerprint, artifact: Callable[[str], Blocks], progress: Progress
    ) -> Written:
        """Make the database and its roles, then settings, structure, rows and indexes."""
        archive = ArchiveRows(artifact("archive"))
        with connected(self._place.server) as connection:
            major = preflight.major(connection)
            tools = choose(major, _major(archive.head.toc.tool_version))
            choice = wanted(archive.head, expected, self._options, _server(connection))
            self._roles.make(connection, choice.roles, self._options.create_roles)
            self._roles.act_for(connection, choice.owners)
        settings = choice.expected.settings
        toc = self._folder / "toc"
        toc.write_bytes(choice.head)
        job = Job(
            self._place.copy, tools, toc, settings["encoding"], create.search_path(settings),
            no_tablespaces=choice.no_tablespaces,
        )  # fmt: skip
        progress("creating the structure", 0, None)
        job = self._structure(job, choice, major)
        rows = load_rows(
            job.copy, job.encoding, self._jobs, choice.toc, lambda: artifact("archive"),
            progress, begun=archive, path=job.search_path,
        )  # fmt: skip
        self._rows = rows
        with connected(job.copy) as connection:
            self._trees = partition_roots.trees(connection, rows.moved)
        progress("building indexes and constraints", 0, None)
        late = make(job, choice.toc.entries, "post-data", self._jobs)
        members: tuple[Unrestored, ...] = ()
        if members_load.carried(expected) and not self._options.only:
            members = members_load.load(job, artifact("members"))
            waited = [each for each in late if each.sqlstate.startswith("42")]
            late = [each for each in late if each not in waited]
            late += again(job, [each.entry for each in waited])
        self._unmade += late
        self._finish(settings)
        unmade = (each.what for each in self._unmade)
        exceptions = (*self._refused, *rows.exceptions, *unmade, *members)
        self._job, self._wanted = job, choice
        notes = [*self._roles.notes(), *tools.warnings(), *choice.notes]
        return Written(self._compared(choice.expected), tuple(notes), exceptions)

    def fingerprint(self) -> Fingerprint:
        """What the copy contains, read back over several sessions. Call it after `load`."""
        job, choice = self._require_loaded()
        found = readback.fingerprint(
            self._place.copy, job.tools, choice.toc, self._folder, self._jobs
        )
        if self._options.only or not choice.expected.roles:
            found = replace(found, roles=())
        if self._place.final and not self._place.published:
            found = replace(found, settings=_to_come(found, choice.expected))
        found, expected = self._compared(found), self._compared(choice.expected)
        if not reference.differing(expected, found):
            return found
        made = reference.digests(
            job, self._place.server, choice.toc.entries, choice.expected.settings, self._jobs
        )
        return reference.settled(expected, found, made)[0]

    def definitions(self, kind: str, schema: str, name: str, /) -> tuple[str, str] | None:
        """See the port."""
        _, choice = self._require_loaded()
        if self._copied is None:
            self._copied = reference.toc_of(self._place.copy)
        key = (kind, schema, name)
        texts = [reference.definition(toc, key) for toc in (choice.toc, self._copied)]
        return texts[0], texts[1]

    def publish(self) -> None:
        """Give the copy its final name. Raises TargetRefused when that is taken by now."""
        _, choice = self._require_loaded()
        place, settings = self._place, choice.expected.settings
        was_final = place.final
        self._claim.require()
        with connected(place.server) as connection:
            place.publish(connection, settings)
            self._roles.leave(connection)
            self._roles.made.clear()
        if was_final:
            self._require_properties(settings)

    def remove(self) -> None:
        """Drop what was not published, and leave the server's roles as they were. Raises
        Unreachable, AccessDenied."""
        with connected(self._place.server) as connection:
            self._place.remove(connection)
            self._roles.undo(connection)

    def _structure(self, job: Job, choice: Wanted, major: int) -> Job:
        """The database with its settings, and what comes before its rows."""
        settings = choice.expected.settings
        unmade: list[Unmade] = []
        for attempt in ("beside", "final"):
            with connected(self._place.server) as connection:
                if attempt == "final":
                    self._place.take_final_name(connection, self._claim)
                self._place.create(connection, settings, major)
                name = self._place.name
                refused = create.apply_settings(connection, name, settings, late=False)
            job = replace(job, copy=self._place.copy)
            unmade = make(job, choice.toc.entries, "pre-data", 1)
            wants = [each for each in unmade if each.entry.desc == "EXTENSION"]
            if not wants:
                break
            if self._place.final:
                raise EnvironmentLacks(
                    f"{wants[0].what.subject} can't be made: {wants[0].what.reason}"
                )
        self._refused = refused
        self._unmade = [*unmade, *make(job, choice.toc.entries, "data", 1)]
        return job

    def _finish(self, settings: Mapping[str, str]) -> None:
        place = self._place
        with connected(place.server) as connection:
            self._refused += create.apply_settings(connection, place.name, settings, late=True)
            if not place.final:
                create.apply_ownership(connection, place.name, settings)
                create.apply_rights(connection, place.name, settings)

    def _compared(self, found: Fingerprint) -> Fingerprint:
        """Without what could not be made, on either side."""
        refused = {f"set {each.subject.removeprefix('setting ')}" for each in self._refused}
        settings = {k: v for k, v in found.settings.items() if k not in refused}
        unmade = names(self._unmade)
        tables = {(schema, name) for kind, schema, name in unmade if kind == "TABLE"}
        unmade |= self._rows.not_valid
        tables |= {key[1:] for key in self._rows.empty}
        found = without(replace(found, settings=settings), unmade, tables)
        return partition_roots.fold(found, self._trees)

    def _require_loaded(self) -> tuple[Job, Wanted]:
        if self._job is None or self._wanted is None:
            raise RestoreFailed("nothing was loaded yet")
        return self._job, self._wanted

    def _require_properties(self, settings: Mapping[str, str]) -> None:
        with connected(self._place.copy) as connection:
            found = around.settings(connection)
        for key in _FINAL:
            if found.get(key) != settings.get(key):
                raise RestoreFailed(
                    f"the database's {key} is not the source's: expected "
                    f"{settings.get(key)}, found {found.get(key)}",
                    hint="The copy is there under its name, with all its data.",
                )


@contextmanager
def open_restore(
    target: Source, options: RestoreOptions, entropy: Entropy
) -> Iterator[PostgresRestoration]:
    """Look at the target and choose a name beside it; leaving drops what has that name. What
    a restore to the same target left that died is dropped first."""
    goal = login_of_target(target)
    with ExitStack() as stack:
        with maintenance(goal) as connection:
            server = pinned(connection, goal.to(connection.info.dbname))
        with connected(server) as connection:
            sweep(connection, server, goal.database)
            exists = connection.execute(
                "SELECT FROM pg_database WHERE datname = %s", (goal.database,)
            ).fetchone()
        if exists is not None:
            require_empty(server.to(goal.database))
        name = beside(goal.database, "restoring", entropy.bytes(4).hex())
        claim = stack.enter_context(held(server))
        claim.take(name)
        place = Place(server, goal.database, server.to(name), exists is not None)
        folder = stack.enter_context(private_folder())
        restoration = PostgresRestoration(place, claim, folder, options)
        with removed_at_the_end(restoration.remove, name):
            yield restoration


def _to_come(found: Fingerprint, expected: Fingerprint) -> dict[str, str]:
    """The copy's settings, with what it gets when it is published as if it had it."""
    kept = {k: v for k, v in found.settings.items() if k not in _FINAL}
    return kept | {k: v for k, v in expected.settings.items() if k in _FINAL}


def _server(connection: Connection[Any]) -> Server:
    spaces = connection.execute("SELECT spcname FROM pg_tablespace").fetchall()
    versions: dict[str, set[str]] = {}
    for name, version in connection.execute(
        "SELECT name, version FROM pg_available_extension_versions"
    ):
        versions.setdefault(name, set()).add(version)
    defaults = connection.execute("SELECT name, default_version FROM pg_available_extensions")
    return Server(
        tablespaces=frozenset(row[0] for row in spaces),
        extensions={name: frozenset(found) for name, found in versions.items()},
        defaults=dict(defaults.fetchall()),
    )


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0
