"""What somebody asked for over the API, and how far it is: done by another process, so that
it goes on when the API's own ends. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Kind = Literal["restore", "plan", "rehearse", "start", "undo", "cancel"]


@dataclass(frozen=True, slots=True)
class Request:
    """One piece of work that was asked for."""

    id: str
    customer: str
    database: str
    kind: Kind
    by: str
    """Who asked: the subject of a token, or a login."""
    created_at: datetime
    arguments: Mapping[str, str] = field(default_factory=dict)
    state: Literal["queued", "running", "done", "failed"] = "queued"
    started_at: datetime | None = None
    ended_at: datetime | None = None
    doing: str = ""
    """What it is at, in words."""
    bytes: int = 0
    """How far it is with that."""
    result: str = ""
    """The id of the replacement, or the name of the database that was made."""
    exceptions: tuple[str, ...] = ()
    """What could not be made as the source has it, in words: it is done, but for that."""
    error: str = ""
    hint: str = ""
    """What to do next, where there was an error."""
    exit_code: int = 0
    """Of the command line, for that error."""
