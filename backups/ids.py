"""Identifiers: what they may look like and how new ones are made. Pure."""

from __future__ import annotations

import re
import uuid
from datetime import datetime

from backups.errors import UsageError

ID = re.compile(r"[a-z0-9-]{1,64}")


def check_id(value: str, what: str) -> str:
    """Return `value` if it is a well-formed id; `what` names it in the error.

    Ids become object keys and file names, so nothing else is let through.
    """
    if not ID.fullmatch(value):
        raise UsageError(
            f"{what} id {value[:80]!r} is not valid",
            hint="An id has 1 to 64 characters of a-z, 0-9 and '-'.",
        )
    return value


def uuid7(now: datetime, random: bytes) -> str:
    """A UUID version 7 (RFC 9562 section 5.7): sorts by `now`, to the millisecond.

    `random` is ten bytes from `Entropy`.
    """
    millis = int(now.timestamp() * 1000)
    value = (millis << 80) | int.from_bytes(random[:10], "big")
    value &= ~(0xF << 76) & ~(0x3 << 62)
    value |= (0x7 << 76) | (0x2 << 62)
    return str(uuid.UUID(int=value))


def lease_name(database: str) -> str:
    """Of the lease that a run of `database` holds; no id has a `/`."""
    return f"backup/{database}"
