"""PostgreSQL's client tools as child processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from backups.engines.postgres.pins import READING
from backups.engines.postgres.server import Login, learned
from backups.engines.postgres.tool_session import of_tool
from backups.engines.process import Child, started


@contextmanager
def running(
    argv: Sequence[str],
    login: Login,
    *,
    options: str = "",
    pins: Mapping[str, str] = READING,
    reads: Sequence[Path] = (),
    takes: bool = False,
) -> Iterator[Child]:
    """A tool that speaks with a server. It reads nothing from us but the folders `reads`, and
    what it is given by `Child.give` if it `takes` any.

    `pins`: the settings of its session; `options` (`-c name=value`) are more, and outrank them.
    It is kept in where the server is one that asks for it. Raises what `connected` raises, and
    EngineError where its settings can't be pinned.
    """
    login, facts = learned(login)
    session, first = of_tool(facts, pins, options, Path(argv[0]).name)
    argv = [argv[0], *first, *argv[1:]]
    whole = [*argv, "--no-password", "--dbname", login.conninfo()]
    with ExitStack() as stack:
        environment, fd = stack.enter_context(login.environment(session))
        confined = login.confine(whole, reads) if login.confine else whole
        seen = None if login.confine else [*reads, *login.files()]
        yield stack.enter_context(
            started(confined, environment, fds=[fd], takes=takes, name=argv[0], reads=seen)
        )


@contextmanager
def filtering(argv: Sequence[str], out: int, reads: Sequence[Path] = ()) -> Iterator[Child]:
    """A tool that speaks with no server: from `Child.give` to the descriptor `out`."""
    environment = {"PATH": os.defpath, "LC_ALL": "C"}
    with started(argv, environment, takes=True, out=out, reads=reads) as child:
        yield child
