"""Making what an archive defines in a copy: pg_restore first, then what it could not make.

pg_restore goes on after an error, and names the entry. Each of those is tried again by itself
with the search path of the source's sessions: a function that names a table without its schema
works there, and not under the empty path of pg_restore. A constraint that the source's own rows
break becomes NOT VALID. What remains is told, with the server's reason.
Source of the messages: PostgreSQL, src/bin/pg_dump/pg_backup_archiver.c, warn_or_exit_horribly.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from backups.engines.postgres.content import object_key
from backups.engines.postgres.pins import LOADING
from backups.engines.postgres.process import running
from backups.engines.postgres.server import Login, connected
from backups.engines.postgres.toc import TocEntry
from backups.engines.postgres.tool_errors import failure
from backups.engines.postgres.tools import Tools
from backups.engines.process import Child, started
from backups.errors import EnvironmentLacks, RestoreFailed
from backups.model import Unrestored

SESSION = (
    "-c synchronous_commit=off -c maintenance_work_mem=256MB"
    " -c default_transaction_read_only=off"
)
"""Of the sessions that load. A copy that a crash of the server loses is just made again;
the rename that publishes it is another session's, and is flushed."""

_MAKING = {name: value for name, value in LOADING.items() if name != "search_path"}
"""Extensions' scripts (PostGIS topology, its geocoder) look up the path that a session began
with, and add to it, for the database too. pg_restore and our scripts set their own at once."""
_TOLD = 32 << 20
"""Bytes of what pg_restore may say: with --verbose, which names the entry of an error, a line
for each entry."""
_FAILED = re.compile(r"^pg_restore: (?:\[[^]]*\] )?from TOC entry (\d+);", re.MULTILINE)
_META = re.compile(rb"^\\(?:un)?restrict [A-Za-z0-9]+\n", re.MULTILINE)
_PATH = b"SELECT pg_catalog.set_config('search_path', '', false);\n"
_CONSTRAINTS = frozenset({"FK CONSTRAINT", "CHECK CONSTRAINT"})
_THERE_ALREADY = ("42P06", "42P07", "42710", "42723")
"""A schema, relation, object or function of that name exists."""
_LACKING = ("58P01", "58P02", "53100", "53200", "54000")
_ONE_DATABASE = ("55000", "P0001")
"""Of an extension that may live in one database only (pg_cron's own script raises P0001)."""
_OF_THE_SOURCE = ("22", "23", "P0", "08", "HV")
"""Classes of errors that the source's own rows, code or other servers cause."""


@dataclass(frozen=True, slots=True)
class Job:
    """A copy that is being made, and where its archive's table of contents lies."""

    copy: Login
    tools: Tools
    toc: Path
    """An archive without rows."""
    encoding: str
    """Of the database."""
    search_path: str
    """Of the source's sessions."""
    no_tablespaces: bool = False


@dataclass(frozen=True, slots=True)
class Unmade:
    """An entry that is not in the copy as the archive has it."""

    entry: TocEntry
    what: Unrestored
    sqlstate: str


def make(job: Job, entries: Sequence[TocEntry], section: str, jobs: int) -> list[Unmade]:
    """Make these entries of `section` (pre-data, data or post-data); gives what could not be.

    Raises EnvironmentLacks for what the server lacks, Unreachable, RestoreFailed.
    """
    chosen = job.toc.with_name(f"{section}.list")
    chosen.write_bytes(listed(entries))
    argv = [job.tools.path("pg_restore"), "--verbose"]
    argv += [f"--use-list={chosen}", f"--section={section}"]
    argv += [f"--jobs={jobs}"] if jobs > 1 else []
    argv += ["--no-tablespaces"] if job.no_tablespaces else []
    argv.append(str(job.toc))
    folders = [job.toc.parent]
    with running(argv, job.copy, options=SESSION, pins=_MAKING, reads=folders) as child:
        child.keeps = _TOLD
        for _ in child.blocks():
            pass
        failed = _failed(job, child, child.wait())
    return again(job, [entry for entry in entries if entry.dump_id in failed])


def listed(entries: Iterable[TocEntry], *, rows: bool = False) -> bytes:
    """A list for pg_restore, in the archive's order: what has no data, or with `rows` all."""
    return b"".join(b"%d;\n" % e.dump_id for e in entries if rows or not e.had_data)


def subject(entry: TocEntry) -> str:
    """Kind and name of an entry, for people."""
    where = f"{entry.namespace}." if entry.namespace else ""
    return f"{entry.desc.lower()} {where}{entry.tag}"


def _failed(job: Job, child: Child, code: int) -> set[int]:
    """Dump ids of the entries that pg_restore names in its errors."""
    if code == 0:
        return set()
    found = {int(number) for number in _FAILED.findall(child.said())}
    if not found or code != 1 or child.cut:
        raise failure(child, code, job.copy)
    return found


def again(job: Job, entries: Sequence[TocEntry]) -> list[Unmade]:
    """Try each of these entries by itself; gives what still could not be made."""
    if not entries:
        return []
    unmade = []
    with connected(job.copy, _MAKING) as connection:
        encoding = "SELECT pg_catalog.set_config('client_encoding', %s, false)"
        connection.execute(encoding, (job.encoding,))
        for entry in entries:
            error = _try(job, connection, entry)
            if error is not None:
                unmade.append(_told(job, connection, entry, error))
    return unmade


def _try(
    job: Job, connection: psycopg.Connection[object], entry: TocEntry, more: bytes = b""
) -> psycopg.Error | None:
    """Execute what pg_restore would for one entry; `more` goes before its last semicolon.

    Where pg_restore made the object, only what follows its definition is executed: who is no
    superuser can give it to its owner once the owner has rights on the schema.
    """
    script = _script(job, entry)
    defn = entry.defn.encode("utf-8", "surrogateescape")
    if more:
        without = defn.rstrip().removesuffix(b";")
        script = script.replace(without, without + more)
    error = _execute(connection, script)
    if error is not None and error.sqlstate in _THERE_ALREADY:
        error = _execute(connection, script.replace(defn, b"", 1))
    return error


def _execute(connection: psycopg.Connection[object], script: bytes) -> psycopg.Error | None:
    try:
        with connection.transaction():
            connection.execute(script)
    except psycopg.Error as error:
        if connection.closed:
            raise
        return error
    return None


def _told(
    job: Job, connection: psycopg.Connection[object], entry: TocEntry, error: psycopg.Error
) -> Unmade:
    state = error.sqlstate or ""
    reason = _words(error)
    if state in _LACKING or (entry.desc == "EXTENSION" and state not in _ONE_DATABASE):
        raise EnvironmentLacks(f"the target server lacks something: {reason}")
    if state == "42704" and re.match(r'(role|tablespace) "', reason):
        raise EnvironmentLacks(f"the target server lacks something: {reason}")
    if entry.desc in _CONSTRAINTS and state in ("23503", "23514"):
        if _try(job, connection, entry, b" NOT VALID") is None:
            reason = f"the source's own rows break it; it is NOT VALID in the copy ({reason})"
        return Unmade(entry, Unrestored(subject(entry), reason, True), state)
    if entry.desc == "MATERIALIZED VIEW DATA":
        reason = f"it could not be refreshed and has no rows: {reason}"
    at_source = state[:2] in _OF_THE_SOURCE
    return Unmade(entry, Unrestored(subject(entry), reason, at_source), state)


def _words(error: psycopg.Error) -> str:
    """The server's message without what it quotes of rows."""
    message = error.diag.message_primary or type(error).__name__
    return re.split(r': "|=\(', message, maxsplit=1)[0]


def _script(job: Job, entry: TocEntry) -> bytes:
    """What pg_restore would say for one entry, its owner included, as SQL."""
    chosen = job.toc.with_name("one.list")
    chosen.write_bytes(listed([replace(entry, had_data=False)]))
    argv = [job.tools.path("pg_restore"), "--file=-", f"--use-list={chosen}", str(job.toc)]
    environment = {"PATH": os.defpath, "LC_ALL": "C"}
    with started(argv, environment, reads=[job.toc.parent]) as child:
        said = b"".join(child.blocks())
        if code := child.wait():
            raise failure(child, code)
    path = job.search_path.replace("'", "''").encode()
    wanted = b"SELECT pg_catalog.set_config('search_path', '%s', false);\n" % path
    found = _META.sub(b"", said)
    if found.count(_PATH) != 1:
        raise RestoreFailed(f"pg_restore gives no usable SQL for {subject(entry)}")
    if entry.desc == "MATERIALIZED VIEW DATA":
        # Its owner reads through the policies on the tables, as in the source.
        found = found.replace(b"SET row_security = off;", b"SET row_security = on;")
    return found.replace(_PATH, wanted)


def names(unmade: Iterable[Unmade]) -> set[tuple[str, str, str]]:
    """Kind, schema and name of what is not in the copy as the archive has it."""
    return {object_key(each.entry) for each in unmade}
