"""A backup as a file: pg_dump's archive as it was taken, or plain SQL made of it.

The file has no name until it is whole and compared (Linux, open(2), O_TMPFILE): of a restore
that is killed nothing remains, and a file that is there is never overwritten.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from backups.engines.beside import refuse_owners
from backups.engines.postgres.archive import ArchiveParser, Event, Head
from backups.engines.postgres.content import ContentHasher
from backups.engines.postgres.partial import Part, of_part, part
from backups.engines.postgres.process import filtering
from backups.engines.postgres.structure import listed
from backups.engines.postgres.target import private_folder
from backups.engines.postgres.toc import Toc
from backups.engines.postgres.tool_errors import failure
from backups.engines.postgres.tools import choose
from backups.errors import DumpFailed, EnvironmentLacks, RestoreFailed, TargetRefused
from backups.model import Fingerprint, RestoreOptions, Source, Written
from backups.ports import Blocks, Progress

KINDS = {".dump": "pg_dump's archive, for pg_restore", ".sql": "plain SQL, for psql"}
"""By the end of the file's name."""


class FileRestoration:
    """A file that is being written; adapter of `ports.Restoration`."""

    def __init__(self, path: Path, out: int, options: RestoreOptions) -> None:
        self._path = path
        self._out = out
        self._options = options
        self._found: Fingerprint | None = None

    def lacks(self, expected: Fingerprint) -> tuple[str, ...]:
        """What a database will need that the file is given to."""
        roles = [self._options.owner] if self._options.owner else expected.roles
        return tuple(f"role {name!r} must be made before the file" for name in roles)

    def load(
        self, expected: Fingerprint, artifact: Callable[[str], Blocks], progress: Progress
    ) -> Written:
        """Write all of it, and hash the archive's contents as they pass."""
        passing = _Passing(artifact("archive"), progress)
        try:
            wanted = self._write(passing)
        except OSError as error:
            raise EnvironmentLacks(f"{self._path} can't be written: {error.strerror}") from None
        contents = passing.hasher.result()
        found = replace(
            expected,
            objects=contents.objects,
            tables=contents.tables,
            sequences=contents.sequences,
            large_objects=contents.large_objects,
        )
        notes = list(self.lacks(expected))
        if self._options.only:
            expected = of_part(expected, passing.toc, wanted.toc)
            found = of_part(found, passing.toc, wanted.toc)
            notes += wanted.notes
        self._found = found
        return Written(expected, tuple(notes))

    def fingerprint(self) -> Fingerprint:
        """What the archive was seen to contain. Call it after `load`."""
        if self._found is None:
            raise RestoreFailed("nothing was written yet")
        return self._found

    def definitions(self, _kind: str, _schema: str, _name: str, /) -> None:
        """See the port: no such texts are kept."""
        return None

    def publish(self) -> None:
        """Give the file its name."""
        os.fsync(self._out)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # With a folder's descriptor it is linkat(2), which follows the link in /proc.
            os.link(f"/proc/self/fd/{self._out}", self._path.name, dst_dir_fd=folder)
            os.fsync(folder)
        except FileExistsError:
            raise TargetRefused(f"{self._path} was made by somebody else meanwhile") from None
        finally:
            os.close(folder)

    def _write(self, passing: _Passing) -> Part:
        head = passing.head()
        wanted = Part(passing.toc, ())
        if self._options.only:
            wanted = part(passing.toc, self._options.only)
        if self._path.suffix == ".dump":
            for block in passing.blocks(head):
                view = memoryview(block)
                while view:
                    view = view[os.write(self._out, view) :]
            return wanted
        written_by = re.match(r"\d+", passing.toc.tool_version)
        tools = choose(int(written_by[0]) if written_by else 0)
        with private_folder() as folder:
            which = folder / "list"
            which.write_bytes(listed(wanted.toc.entries, rows=True))
            argv = [tools.path("pg_restore"), f"--use-list={which}", "--file=-"]
            if self._options.owner:  # the file then says SET ROLE
                argv += ["--no-owner", f"--role={self._options.owner}"]
            if self._options.no_privileges:
                argv.append("--no-privileges")
            with filtering(argv, self._out, [folder]) as child:
                taking = True
                for block in passing.blocks(head):  # to the end, though it may need no more
                    if taking and not child.give(block):
                        taking = False
                        if child.wait():
                            break
                child.end_of_input()
                if code := child.wait():
                    raise failure(child, code)
        return wanted


class _Passing:
    """The archive's stream, understood as it passes."""

    def __init__(self, blocks: Blocks, progress: Progress) -> None:
        self.hasher = ContentHasher()
        self._rest = blocks
        self._progress = progress
        self._parser = ArchiveParser()
        self._toc: Toc | None = None

    @property
    def toc(self) -> Toc:
        """Once the head has passed."""
        if self._toc is None:
            raise DumpFailed("the archive ends inside its table of contents")
        return self._toc

    def head(self) -> list[bytes]:
        """The blocks up to the end of the table of contents."""
        blocks = []
        for block in self._rest:
            blocks.append(block)
            self._take(self._parser.feed(block))
            if self._toc is not None:
                break
        return blocks

    def blocks(self, head: Iterable[bytes]) -> Iterator[bytes]:
        """All of them, `head` first. Raises DumpFailed unless the archive is complete."""
        done = 0
        for block in head:
            done += len(block)
            yield block
        for block in self._rest:
            self._take(self._parser.feed(block))
            yield block
            done += len(block)
            self._progress("writing the file", done, None)
        self._parser.finish()

    def _take(self, events: list[Event]) -> None:
        self.hasher.add(events)
        if events and isinstance(events[0], Head):
            self._toc = events[0].toc


@contextmanager
def open_file(target: Source, options: RestoreOptions) -> Iterator[FileRestoration]:
    """Look at the place and open a file without a name there. Raises TargetRefused,
    UsageError."""
    path = Path(unquote(urlsplit(target.url).path)).absolute()
    if path.suffix not in KINDS:
        known = "; ".join(f"{suffix}: {what}" for suffix, what in KINDS.items())
        raise TargetRefused(f"{path.name!r} does not say what kind of file it is", hint=known)
    if options.only and path.suffix == ".dump":
        raise TargetRefused(
            "an archive is written as it was taken, whole",
            hint="Write a part as .sql, or restore it into a database.",
        )
    if path.suffix == ".dump":
        refuse_owners(options, "an archive, which is written as it was taken,")
    if path.exists():
        raise TargetRefused(f"{path} exists already", hint="Nothing is overwritten.")
    try:
        out = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        raise TargetRefused(
            f"no file can be made in {path.parent}: {error.strerror}",
            hint="Name a local folder that exists and that you may write to.",
        ) from None
    try:
        yield FileRestoration(path, out, options)
    finally:
        os.close(out)
