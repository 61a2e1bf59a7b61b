"""What pg_dump says on its error output, in our words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from backups.engines.postgres.long_rows import row_too_long
from backups.engines.postgres.server import Login
from backups.engines.postgres.tool_errors import dump_failure
from backups.engines.process import Child
from backups.errors import BackupsError, DumpFailed

# pg_dump sets statement_timeout for its LOCK TABLE, whatever its option is called.
_WAITED = ("statement timeout", "lock timeout", "could not obtain lock")
_LOCKED = re.compile(r"LOCK TABLE (?:ONLY )?(.{1,400}?) IN ACCESS SHARE MODE", re.DOTALL)
_PREFIX = re.compile(r"^pg_dump: (?:warning: )?|^(?:WARNING|NOTICE|INFO|LOG): +")
_SUBSCRIPTIONS = "subscriptions not dumped"
_CIRCLE = "circular foreign-key constraints"
_OF_CIRCLE = re.compile(r"^(?:detail|hint): ")
_LEFT_OUT = re.compile(r"not dumped|skipp|omit|ignor|could not|cannot|unable|appears|bogus")


@dataclass(frozen=True, slots=True)
class Remarks:
    """What pg_dump said though it ended well."""

    warnings: tuple[str, ...] = ()
    """In words without names: they go into the manifest, which is not encrypted."""
    not_backed_up: tuple[str, ...] = ()
    """Lines that say something was left out, as they are."""
    others: tuple[str, ...] = ()
    """All other lines that we have no words for, as they are."""


def failure(child: Child, code: int, login: Login | None = None) -> BackupsError:
    """Why pg_dump failed, in our words and its first complaints; `login` is where it was."""
    found = dump_failure(child, code, login)
    said = child.said()
    if (too_long := row_too_long(said)) is not None:
        return too_long
    # A server that speaks another language than ours names the lock all the same.
    waited = any(phrase in said for phrase in _WAITED) or "ERROR: " not in said
    if isinstance(found, DumpFailed) and waited and (table := _LOCKED.search(said)):
        return DumpFailed(
            f"{child.name} waited in vain for the lock of a table: another session holds one "
            f"that excludes reading ({table[1]})",
            hint="See pg_locks and pg_stat_activity for who holds it, and run the backup when "
            "that work is done.",
        )
    return found


def remarks(lines: Iterable[str]) -> Remarks:
    """Sort what pg_dump said (`Child.remarks`): known lines in our words, others as it is."""
    warnings: list[str] = []
    left_out: list[str] = []
    others: list[str] = []
    in_circle = False
    for line in lines:
        words = _PREFIX.sub("", line).strip()
        in_circle = _CIRCLE in words or (in_circle and bool(_OF_CIRCLE.match(words)))
        if _SUBSCRIPTIONS in words:
            continue  # the inventory names each of them
        if in_circle:
            if _CIRCLE in words:
                warnings.append(
                    "foreign keys form a circle: loading rows by hand needs them off"
                )
            others.append(f"pg_dump says: {words}")
        elif _LEFT_OUT.search(words):
            left_out.append(f"pg_dump says: {words}")
        else:
            others.append(f"pg_dump says: {words}")
    unknown = sum(line.startswith("pg_dump says") for line in left_out)
    if unknown:
        warnings.append(
            f"not backed up: {unknown} thing{'s' * (unknown > 1)} that pg_dump names"
            " (see `backups show`)"
        )
    if others:
        warnings.append(f"pg_dump made {len(others)} remarks (see `backups show`)")
    return Remarks(tuple(warnings), tuple(left_out), tuple(others))
