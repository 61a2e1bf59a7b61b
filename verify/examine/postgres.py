"""A copy on PostgreSQL, examined: pages, constraints, sequences, assertions, rights.

Each check has a session of its own: what one leaves behind can't colour the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from backups.engines.postgres import create
from backups.engines.postgres.server import translated
from backups.model import Fingerprint, Source
from backups.ports import Clock
from backups.proving import Check
from verify.examine.pg_answers import assertions, newest_row, usable
from verify.examine.pg_pages import full_read, pages
from verify.examine.pg_rules import constraints, sequences_ahead
from verify.examine.pg_session import Session, session
from verify.ports import Questions


class PostgresExaminer:
    """Adapter of `verify.ports.Examiner`; the server itself keeps to the limits."""

    def __init__(self, _clock: Clock) -> None: ...

    def examine(
        self, target: Source, expected: Fingerprint, questions: Questions
    ) -> Iterator[Check]:
        """Levels 9 to 11. Raises Unreachable, AccessDenied, EngineError."""
        steps: list[Callable[[Session], Iterator[Check]]] = [
            pages,
            full_read,
            constraints,
            partial(sequences_ahead, fingerprint=expected),
            newest_row,
            partial(assertions, asked=questions.assertions, expected=expected),
            partial(usable, wanted=questions.role, expected=expected),
        ]
        path = create.search_path(expected.settings)
        for step in steps:
            with translated(), session(target, questions.limit, path) as opened:
                found = list(step(opened))
            yield from found
