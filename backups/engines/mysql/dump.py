"""Reading a MariaDB or MySQL database: its own dump tool in one snapshot, hashed as it passes.

No other session can share that snapshot (there is nothing like PostgreSQL's exported ones), so
everything that is known of the rows is told by the dump itself. Source: MariaDB's
documentation, mariadb-dump, --single-transaction; MySQL's says the same.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC
from functools import cache
from typing import Any

from pymysql.connections import Connection

from backups.engines.mysql.family import Family
from backups.engines.mysql.rights import require_rights
from backups.engines.mysql.server import (
    Login,
    code_in,
    connected,
    login,
    of_code,
    version_of,
)
from backups.engines.mysql.sessions import quoted, rows
from backups.engines.mysql.text import Reader
from backups.engines.process import Child
from backups.errors import DumpFailed, ToolError, Unreachable, UsageError
from backups.model import Fingerprint, Preflight, Snapshot, Source
from backups.ports import Blocks

_OPTIONS = (
    "--single-transaction", "--quick", "--routines", "--triggers", "--events", "--hex-blob",
    "--skip-dump-date", "--skip-add-drop-table", "--skip-add-locks", "--skip-disable-keys",
    "--no-tablespaces", "--default-character-set=utf8mb4",
)  # fmt: skip
_SOMETHING_FAILED = 2
"""Exit code with --force (client/mysqldump.cc, EX_MYSQLERR)."""
_SIZE = """
    SELECT coalesce(sum(data_length + index_length), 0) FROM information_schema.tables
     WHERE table_schema = %s"""
_OTHERS = """
    SELECT count(*) FROM information_schema.tables WHERE table_schema = %s
       AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND engine <> 'InnoDB'"""
_FLOATS = """
    SELECT count(*) FROM information_schema.columns
     WHERE table_schema = %s AND data_type = 'float'"""
_DATABASE = """
    SELECT default_character_set_name, default_collation_name
      FROM information_schema.schemata WHERE schema_name = %s"""
_GRANTS = """
    SELECT grantee, privilege_type, is_grantable, '' FROM information_schema.schema_privileges
     WHERE table_schema = %s
    UNION ALL
    SELECT grantee, privilege_type, is_grantable, table_name
      FROM information_schema.table_privileges WHERE table_schema = %s
     ORDER BY 1, 4, 2"""


class MysqlDump:
    """Adapter of `ports.Dump`."""

    def __init__(
        self,
        opened: Login,
        preflight: Preflight,
        snapshot: Snapshot,
        settings: dict[str, str],
        grants: bytes,
        broken: bool,
    ) -> None:
        self.preflight = preflight
        self.snapshot = snapshot
        self._login = opened
        self._settings = settings
        self._grants = grants
        self._broken = broken
        self._reader = Reader()
        self._complete = False

    def artifacts(self) -> Iterator[tuple[str, Blocks]]:
        """`dump`: SQL. `grants`: SQL, for people."""
        yield "dump", self._text()
        yield "grants", iter([self._grants])

    def finish(self) -> Fingerprint:
        """What the snapshot contained. Raises DumpFailed unless the dump ended well."""
        if not self._complete:
            raise DumpFailed("the dump was not read to its end")
        seen = self._reader.contents
        return Fingerprint(
            engine=self._login.family.engine,
            server_version=self.preflight.server_version,
            settings=self._settings,
            extensions={},
            roles=(),
            objects=seen.digests(),
            tables=seen.contents(),
            sequences=seen.sequences(),
        )

    def _text(self) -> Blocks:
        force = ("--force",) if self._broken else ()
        family, name = self._login.family, self._login.database
        ignored = family.mark.ignored(name) if self._broken else ()
        arguments = (*_OPTIONS, *family.dump_options, *ignored, *force, "--", name)
        with self._login.running(tool(family, family.dump), *arguments) as child:
            try:
                for block in child.blocks():
                    self._reader.feed(block)
                    yield block
            except DumpFailed:
                child.process.terminate()
                if child.wait() > 0:
                    raise failure(child) from None
                raise
            code = child.wait()
            if code and not (self._broken and code == _SOMETHING_FAILED):
                raise failure(child)
        self._reader.finish()
        self._complete = True


def look(source: Source) -> Preflight:
    """Raises Unreachable, AccessDenied, ToolError."""
    opened = _login(source)
    with connected(opened) as connection:
        return _look(connection, opened)


@contextmanager
def open_dump(source: Source, *, broken: bool = False) -> Iterator[MysqlDump]:
    """Look, and be ready to dump: the snapshot is taken when the first byte is asked for.

    Its instant is told by the server just before: what is newer may be in it too. Of a copy
    that may be `broken`, what can't be dumped (a view of a table that is gone) is left out, for
    the comparison to miss it."""
    opened = _login(source)
    with ExitStack() as stack:
        connection = stack.enter_context(connected(opened))
        preflight = _look(connection, opened)
        query = f"SELECT UTC_TIMESTAMP(6), {opened.family.position}"
        now, binlog = rows(connection, query)[0]
        snapshot = Snapshot(taken_at=now.replace(tzinfo=UTC), position=str(binlog or ""))
        settings = settings_of(connection, opened.database)
        yield MysqlDump(
            opened, preflight, snapshot, settings, _grants(connection, opened.database), broken
        )


def fingerprint(source: Source, *, broken: bool = False) -> Fingerprint:
    """By a dump that is read and thrown away; see `open_dump`."""
    with open_dump(source, broken=broken) as opened:
        for _, blocks in opened.artifacts():
            for _ in blocks:
                pass
        return opened.finish()


def settings_of(connection: Connection[Any], database: str) -> dict[str, str]:
    """The database's own properties."""
    charset, collation = rows(connection, _DATABASE, database)[0]
    return {"charset": str(charset), "collation": str(collation)}


def failure(child: Child) -> Exception:
    """Why a tool failed; what it quotes of rows is not repeated."""
    code = code_in(child.said())
    error = of_code(code, child.name)
    if code or not child.process.returncode:
        return error
    return DumpFailed(f"{child.name} ended with code {child.process.returncode}")


@cache
def tool(family: Family, name: str) -> str:
    """The path of the first of that name in PATH that is the family's own. Raises ToolError."""
    for folder in f"{os.environ.get('PATH', '')}:{os.defpath}".split(":"):
        found = os.path.join(folder, name)
        if folder and os.access(found, os.X_OK) and family.wrote(_version_text(found)):
            return found
    raise ToolError(f"{name} is not installed", hint=f"Install {family.package}.")


@cache
def tool_version(family: Family) -> str:
    """Of its dump tool. Raises ToolError."""
    said = _version_text(tool(family, family.dump))
    # "mariadb-dump  Ver 10.19 Distrib 10.11.6-MariaDB", "mysqldump  Ver 8.0.28 for Linux"
    found = re.search(r"(?:Distrib|from|Ver) (\d+\.\d+\.\d+)", said)
    if found is None:
        raise ToolError(f"{family.dump} does not tell its version")
    return found[1]


def _version_text(path: str) -> str:
    done = subprocess.run([path, "--version"], capture_output=True, check=False, text=True)
    return done.stdout


def _look(connection: Connection[Any], opened: Login) -> Preflight:
    version = version_of(connection, opened.family)
    ours = tool_version(opened.family)
    if _numbers(ours)[:2] < _numbers(version)[:2]:
        raise ToolError(
            f"{opened.family.dump} {ours} is older than the server, {version}",
            hint="Install the client tools of the server's version.",
        )
    warnings = [*require_rights(connection, opened.database)]
    if others := rows(connection, _OTHERS, opened.database)[0][0]:
        warnings.append(f"{others} tables are not InnoDB: their rows may be of later instants")
    if floats := rows(connection, _FLOATS, opened.database)[0][0]:
        warnings.append(f"{floats} columns are FLOAT: the dump carries six of their digits")
    if "socket" not in opened.options and "ssl-ca" not in opened.options:
        warnings.append("the server's certificate is not verified")
    size = int(rows(connection, _SIZE, opened.database)[0][0])
    return Preflight(version, ours, size, tuple(warnings))


def _grants(connection: Connection[Any], database: str) -> bytes:
    """For people: who may do what, without passwords."""
    lines = ["-- Rights on this database and its tables; users must exist, with passwords."]
    for grantee, right, grantable, table in rows(connection, _GRANTS, database, database):
        on = f"{quoted(database)}.{quoted(table) if table else '*'}"
        option = " WITH GRANT OPTION" if grantable == "YES" else ""
        lines.append(f"GRANT {right} ON {on} TO {grantee}{option};")
    return ("\n".join(lines) + "\n").encode()


def _login(source: Source) -> Login:
    try:
        return login(source)
    except UsageError as error:
        raise Unreachable(str(error), hint=error.hint) from None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
