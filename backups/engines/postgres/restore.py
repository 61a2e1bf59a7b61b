"""Making a copy beside its target: new database, load, compare, rename."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection

from backups.engines.beside import removed_at_the_end
from backups.engines.postgres import around, create, dump, preflight, readback
from backups.engines.postgres.load import ArchiveRows, loader
from backups.engines.postgres.partial import Part, of_part, part
from backups.engines.postgres.process import running
from backups.engines.postgres.remove import beside, claim, drop_database, sweep
from backups.engines.postgres.server import (
    Login,
    connected,
    login,
    pinned,
    quoted,
)
from backups.engines.postgres.toc import Toc
from backups.engines.postgres.tools import Tools, choose
from backups.engines.process import Child
from backups.errors import (
    AccessDenied,
    BackupsError,
    EnvironmentLacks,
    RestoreFailed,
    TargetRefused,
    Unreachable,
    UsageError,
)
from backups.model import Fingerprint, RestoreOptions, Source, Written
from backups.ports import Blocks, Entropy, Progress

SESSION = (
    "-c synchronous_commit=off -c maintenance_work_mem=256MB"
    " -c default_transaction_read_only=off"
)
"""Of the sessions that load. A copy that a crash of the server loses is just made again;
the rename that publishes it is another session's, and is flushed."""

_NOT_EMPTY = """
    SELECT (SELECT count(*) FROM pg_class WHERE oid >= 16384)
         + (SELECT count(*) FROM pg_proc WHERE oid >= 16384)
         + (SELECT count(*) FROM pg_type WHERE oid >= 16384)
         + (SELECT count(*) FROM pg_namespace WHERE oid >= 16384)
         + (SELECT count(*) FROM pg_extension WHERE oid >= 16384)
         + (SELECT count(*) FROM pg_event_trigger)
         + (SELECT count(*) FROM pg_publication)
         + (SELECT count(*) FROM pg_largeobject_metadata)"""  # 16384: FirstNormalObjectId
_OTHERS = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()"""
_LACKING = re.compile(
    r'extension "[^"]+" is not available|extension "[^"]+" has no (installation|update)'
    r"|could not open extension control file|could not access file"
    r'|(role|tablespace|collation|language|access method) "[^"]+"( for encoding .*)? '
    r"does not exist|unrecognized configuration parameter|No space left on device"
    r"|out of memory|must be (superuser|owner|member|able)|permission denied",
)


class PostgresRestoration:
    """A copy under a temporary name; adapter of `ports.Restoration`."""

    def __init__(
        self, server: Login, target: str, name: str, options: RestoreOptions, exists: bool
    ) -> None:
        self._server = server
        self._target = target
        self._copy = server.to(name)
        self._options = options
        self._exists = exists
        self._jobs = max(1, options.jobs)
        self._loaded: tuple[Tools, Toc] | None = None
        self._made_roles: list[str] = []
        self._joined: list[str] = []
        self.leftover: str | None = name
        """A database of ours that is to be dropped at the end."""

    def lacks(self, expected: Fingerprint) -> tuple[str, ...]:
        """See the port."""
        with connected(self._server) as connection:
            return around.lacks(connection, expected)

    def load(
        self, expected: Fingerprint, artifact: Callable[[str], Blocks], progress: Progress
    ) -> Written:
        """Make the database and its roles, then structure, rows, indexes and properties."""
        name = self._copy.database
        with connected(self._server) as connection:
            notes = self._make_roles(connection, expected.roles)
            major = preflight.major(connection)
            connection.execute(create.create_database(name, expected.settings, major))
            connection.execute(quoted("REVOKE CONNECT ON DATABASE {d} FROM PUBLIC", d=name))
            tablespaces = {
                r[0] for r in connection.execute("SELECT spcname FROM pg_tablespace")
            }
        if expected.settings.get("public schema") == "absent":
            with connected(self._copy) as connection:
                connection.execute("DROP SCHEMA public")
        with private_folder() as folder:
            archive = ArchiveRows(artifact("archive"))
            tools = choose(major, _major(archive.head.toc.tool_version))
            notes.extend(tools.warnings())
            wanted = Part(archive.head.toc, ())
            if self._options.only:
                wanted = part(archive.head.toc, self._options.only)
                expected = of_part(expected, archive.head.toc, wanted.toc)
            notes.extend(wanted.notes)
            options = ["--exit-on-error"]
            missing = {e.tablespace for e in wanted.toc.entries} - tablespaces - {""}
            if missing:
                options.append("--no-tablespaces")
                notes.append("tablespaces that the server lacks were left out")
            # The table of contents is an archive without rows, as small as the schema: what
            # comes before and after the rows is restored from it, indexes in parallel.
            toc = folder / "toc"
            toc.write_bytes(archive.head.raw)
            which, jobs = folder / "list", self._jobs
            which.write_bytes(listed(wanted.toc))
            options.append(f"--use-list={which}")
            progress("creating the structure", 0, None)
            before = ["--section=pre-data", "--section=data", str(toc)]
            self._restore(tools, [*options, *before], folder)
            encoding = expected.settings["encoding"]
            with loader(self._copy, encoding, jobs) as target:
                archive.load(target, wanted.toc, progress)
            progress("building indexes and constraints", 0, None)
            after = ["--section=post-data", f"--jobs={jobs}", str(toc)]
            self._restore(tools, [*options, *after], folder)
        with connected(self._copy) as connection:
            create.apply(connection, name, expected.settings)
        self._loaded = tools, wanted.toc
        return Written(expected, tuple(notes))

    def fingerprint(self) -> Fingerprint:
        """What the copy contains, read back over several sessions. Call it after `load`."""
        if self._loaded is None:
            raise RestoreFailed("nothing was loaded yet")
        tools, toc = self._loaded
        with private_folder() as folder:
            found = readback.fingerprint(self._copy, tools, toc, folder, self._jobs)
        return replace(found, roles=()) if self._options.only else found

    def definitions(self, _kind: str, _schema: str, _name: str, /) -> None:
        """See the port: no such texts are kept."""
        return None

    def publish(self) -> None:
        """Rename; an empty database of that name leaves in the same transaction."""
        name, target = self._copy.database, self._target
        aside = beside(target, "replaced", name[-8:])
        with connected(self._server) as connection:
            for role in self._joined:
                connection.execute(quoted("REVOKE {role} FROM CURRENT_USER", role=role))
            if self._exists:
                require_empty(self._server.to(target))
            try:
                with connection.transaction():
                    if self._exists:
                        connection.execute(_rename(target, aside))
                    connection.execute(_rename(name, target))
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.ObjectInUse) as error:
                raise TargetRefused(
                    f"the database {target!r} was taken or is in use by now: "
                    f"{error.diag.message_primary}"
                ) from None
            self.leftover = aside if self._exists else None
            self._made_roles = []
            self._copy = self._server.to(target)
            if self._exists:
                connection.execute(quoted("DROP DATABASE {d}", d=aside))
                self.leftover = None

    def remove(self) -> None:
        """Drop what was not published. Raises Unreachable, AccessDenied."""
        if self.leftover is None:
            return
        with connected(self._server) as connection:
            drop_database(connection, self._server, self.leftover)
            for role in self._made_roles:
                connection.execute(quoted("DROP ROLE IF EXISTS {role}", role=role))
        self.leftover = None

    def _make_roles(self, connection: Connection[Any], wanted: tuple[str, ...]) -> list[str]:
        present = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        missing = [role for role in wanted if role not in present]
        if missing and not self._options.create_roles:
            raise EnvironmentLacks(
                f"the server lacks the roles {', '.join(map(repr, missing))}",
                hint="Create them, or let the restore do it.",
            )
        for role in missing:
            connection.execute(quoted("CREATE ROLE {role} NOLOGIN", role=role))
            self._made_roles.append(role)
        self._act_for(connection, wanted)
        return [
            f"role {role!r} was created without login, password, attributes and memberships"
            for role in missing
        ]

    def _act_for(self, connection: Connection[Any], wanted: tuple[str, ...]) -> None:
        """Who is no superuser must be a member of a role to make it an object's owner."""
        strangers = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) AND NOT (SELECT rolsuper"
            " FROM pg_roles WHERE rolname = current_user) AND NOT EXISTS (SELECT FROM"
            " pg_auth_members m WHERE m.roleid = pg_roles.oid AND m.member = (SELECT oid FROM"
            " pg_roles WHERE rolname = current_user) AND (to_jsonb(m)->>'set_option')"
            " IS DISTINCT FROM 'false') AND rolname <> current_user",
            (list(wanted),),
        ).fetchall()
        for (role,) in strangers:
            connection.execute(quoted("GRANT {role} TO CURRENT_USER", role=role))
            self._joined.append(role)

    def _restore(self, tools: Tools, arguments: list[str], folder: Path) -> None:
        argv = [tools.path("pg_restore"), *arguments]
        with running(argv, self._copy, options=SESSION, reads=[folder]) as child:
            for _ in child.blocks():
                pass
            _require_success(child)


@contextmanager
def private_folder() -> Iterator[Path]:
    """For lists and a table of contents, never rows; only we may enter (mode 0700). It lies in
    another such folder, so that it may be opened to a tool that is kept in."""
    with tempfile.TemporaryDirectory(prefix="backups-") as outer:
        folder = Path(outer, "read")
        folder.mkdir(mode=0o700)
        yield folder


@contextmanager
def open_restore(
    target: Source, options: RestoreOptions, entropy: Entropy
) -> Iterator[PostgresRestoration]:
    """Look at the target and choose a name beside it; leaving drops what has that name. What
    a restore to the same target left that died is dropped first."""
    wanted = _login_of_target(target)
    with maintenance(wanted) as connection:
        server = pinned(connection, wanted.to(connection.info.dbname))
        exists = connection.execute(
            "SELECT FROM pg_database WHERE datname = %s", (wanted.database,)
        ).fetchone()
    if exists is not None:
        require_empty(server.to(wanted.database))
    with connected(server) as guard:
        sweep(guard, server, wanted.database)
        name = beside(wanted.database, "restoring", entropy.bytes(4).hex())
        claim(guard, name)
        restoration = PostgresRestoration(
            server, wanted.database, name, options, exists is not None
        )
        with removed_at_the_end(restoration.remove, name):
            yield restoration


def require_empty(opened: Login) -> None:
    """Raises TargetRefused when the database has anything of a user's, or a session."""
    with connected(opened) as connection:
        found = connection.execute(_NOT_EMPTY).fetchone()
        others = connection.execute(_OTHERS).fetchone()
    if found != (0,):
        raise TargetRefused(f"the database {opened.database!r} is not empty")
    if others != (0,):
        raise TargetRefused(f"somebody is connected to the database {opened.database!r}")


def failure(child: Child, code: int) -> BackupsError:
    """Why a tool that loads failed, in our words and its first complaints."""
    words = "; ".join(child.errors()) or f"exit code {code}"
    if _LACKING.search(words):
        return EnvironmentLacks(f"the target server lacks something: {words}")
    if any(phrase in words for phrase in dump.GONE):
        return Unreachable(f"{child.name} failed: {words}")
    return RestoreFailed(f"{child.name} failed: {words}")


def listed(toc: Toc, *, rows: bool = False) -> bytes:
    """A list for pg_restore, in the archive's order: what has no data, or with `rows` all."""
    return b"".join(b"%d;\n" % e.dump_id for e in toc.entries if rows or not e.had_data)


def _require_success(child: Child) -> None:
    code = child.wait()
    if code:
        raise failure(child, code)


def _login_of_target(target: Source) -> Login:
    try:
        return login(target)
    except UsageError as error:
        raise TargetRefused(str(error), hint=error.hint) from None


@contextmanager
def maintenance(wanted: Login) -> Iterator[Connection[Any]]:
    """A session beside the target: in `postgres`, or where that is missing in `template1`."""
    first = wanted.to("postgres")
    try:
        with connected(first):
            pass
    except AccessDenied:
        first = wanted.to("template1")
    with connected(first) as connection:
        yield connection


def _rename(name: str, to: str) -> Any:
    return quoted("ALTER DATABASE {name} RENAME TO {to}", name=name, to=to)


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0
