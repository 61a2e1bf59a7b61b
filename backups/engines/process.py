"""A client tool as a child process that never outlives its context."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from backups.engines.sandbox import kept_in

PIPE_BYTES = 1 << 20
"""Of the pipe to or from a tool; the usual 64 KiB make it wait for us on every page."""
_KEPT = 64 << 10
_ERROR = re.compile(r"(?:ERROR|FATAL|PANIC|error|fatal): +(?!error)(.*)")
_VALUE = re.compile(r': "|=\(')
"""Where the server's message begins to quote what was in a row."""
_PRIVATE = re.compile(r"(?:DETAIL|CONTEXT|STATEMENT|QUERY|LINE \d+): ")
"""Lines of the server's that may quote rows."""


@dataclass(slots=True)
class Child:
    """A running tool."""

    name: str
    process: subprocess.Popen[bytes]
    _said: bytearray = field(default_factory=bytearray)
    _listener: threading.Thread | None = None
    keeps: int = _KEPT
    """Bytes of its complaints that are kept; what is beyond is read and dropped."""

    def blocks(self) -> Iterator[bytes]:
        """Its output, in blocks of 1 MiB. That it ends says nothing: see `wait`."""
        pipe = self.process.stdout
        while pipe and (block := pipe.read(PIPE_BYTES)):  # fills a block: it writes pages
            yield block

    def give(self, block: bytes) -> bool:
        """To its input; False when it takes no more: `wait` tells why."""
        try:
            self._input().write(block)
        except BrokenPipeError:
            return False
        return True

    def end_of_input(self) -> None:
        """There is no more."""
        with suppress(BrokenPipeError):
            self._input().close()

    def _input(self) -> IO[bytes]:
        if self.process.stdin is None:
            raise ValueError("the tool was started without an input")
        return self.process.stdin

    def wait(self) -> int:
        """Its exit code, with all it said read; negative when a signal ended it."""
        code = self.process.wait()
        if self._listener:
            self._listener.join()
        return code

    def said(self) -> str:
        """What it complained of, with whatever of rows it quotes: never to be shown whole."""
        return self._said.decode("utf-8", "replace")

    @property
    def cut(self) -> bool:
        """Whether it said more than was kept."""
        return len(self._said) >= self.keeps

    def errors(self) -> list[str]:
        """The first lines of its complaints, never details or context: rows may be there."""
        found = [match[1] for line in self.said().split("\n") if (match := _ERROR.search(line))]
        return [_VALUE.split(words, maxsplit=1)[0] for words in found[:3]]

    def remarks(self) -> list[str]:
        """Every line that it said, without details and context of the server's: rows may be
        there. Lines that go on with a tab or spaces belong to the line before."""
        lines: list[str] = []
        kept = False
        for line in self.said().split("\n"):
            if line[:1] in (" ", "\t"):
                if kept:
                    lines[-1] += " " + line.strip()
            elif kept := bool(line.strip()) and not _PRIVATE.match(line):
                lines.append(_VALUE.split(line, maxsplit=1)[0])
        return lines + (["(the rest was not kept)"] if len(self._said) >= _KEPT else [])

    def end(self) -> None:
        """Kill it, and all that it started, if it is still there."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe:
                with suppress(BrokenPipeError):  # what it was not given any more
                    pipe.close()

    def listen(self) -> None:
        """Read its stderr, so that it never waits for us; the first `keeps` bytes are kept."""
        pipe = self.process.stderr
        while pipe and (block := pipe.read1(8192)):  # type: ignore[attr-defined]
            self._said += block[: self.keeps - len(self._said)]


@contextmanager
def started(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    name: str = "",
    fds: Sequence[int] = (),
    takes: bool = False,
    out: int = subprocess.PIPE,
    reads: Sequence[Path] | None = (),
) -> Iterator[Child]:
    """Start a tool, in its own process group; leaving the context ends the whole group. It is
    kept in, and sees `reads`; None: `argv` keeps it in already.

    `name` is what it is called in errors, where argv begins with another program. It inherits
    the descriptors `fds`, takes input from `Child.give` if it `takes` any, and
    writes to `Child.blocks` or to the descriptor `out`."""
    inside = argv if reads is None else kept_in(argv, reads)
    process = subprocess.Popen(
        inside,
        env=environment,
        pass_fds=fds,
        stdin=subprocess.PIPE if takes else subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with _child(name or argv[0], process) as child:
        yield child


@contextmanager
def _child(program: str, process: subprocess.Popen[bytes]) -> Iterator[Child]:
    child = Child(os.path.basename(program), process)
    try:
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with suppress(OSError):  # above the user's limit of pages: slower, not wrong
                    fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        child._listener = threading.Thread(target=child.listen, daemon=True)
        child._listener.start()
        yield child
    finally:
        child.end()
